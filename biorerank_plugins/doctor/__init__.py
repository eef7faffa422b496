"""Looks at an installation: versions, devices, models, caches, indexes; every problem in a sentence with what to do.

Nothing is changed, and nobody is asked over a network.

>>> from biorerank_plugins.doctor import examine
>>> examine(self_test=False).sections["versions"]["biorerank-plugins"]  # doctest: +SKIP
'0.1.0'
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biorerank_plugins.doctor.installation import PARTS, check_index, try_reranker
from biorerank_plugins.errors import BioRerankError

__all__ = ["Examination", "examine"]


@dataclass(slots=True)
class Examination:
    """What was found.

    :param sections: by name, each with what was found under it.
    :param problems: what keeps something from working, each with what to do.
    """

    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {**self.sections, "problems": self.problems}


def examine(
    *, model: str | None = None, indexes: Sequence[str | os.PathLike[str]] = (), self_test: bool = True
) -> Examination:
    """Look at everything; a part that fails is a problem, and the others are looked at all the same.

    :param model: reranker to load and try; ``None`` for the embedded one.
    :param indexes: folders of indexes to check wholly: every file's SHA-256, every part opened.
    :param self_test: whether to load the model and rank three passages.
    """
    found = Examination()
    parts = dict(PARTS)
    if self_test:
        parts["reranker"] = lambda into: try_reranker(model, into)
    for folder in indexes:
        parts[f"index {os.fspath(folder)}"] = lambda into, folder=folder: check_index(Path(folder), into)  # type: ignore[misc]
    for name, look in parts.items():
        try:
            found.sections[name] = look(found.problems)
        except BioRerankError as error:
            found.problems.append(f"{name}: {error}")
        except Exception as error:  # a broken installation fails anywhere; this is where it is told
            found.problems.append(f"{name}: {type(error).__name__}: {error}")
    return found
