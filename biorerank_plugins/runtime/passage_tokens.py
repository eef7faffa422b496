"""How a reranker reads passages, as text and as token ids: all that is needed to tokenise a corpus beforehand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins import models
from biorerank_plugins.errors import ModelError
from biorerank_plugins.models.folders import resolve_folder
from biorerank_plugins.models.stored import stored_template
from biorerank_plugins.passages import Passage
from biorerank_plugins.runtime.text_ids import TextIds, UnsupportedTokenizerError
from biorerank_plugins.text.templates import Template, check_template, passage_text

if TYPE_CHECKING:
    from typing import Self

__all__ = ["PassageTokens"]


@dataclass(frozen=True, slots=True)
class PassageTokens:
    """What a reranker makes of a passage before its model comes in.

    :param ids: its tokenizer.
    :param template: how title, text and metadata become one text.
    :param prefix: text before each passage.
    :param model: name or folder that the tokenizer can be loaded from again; ``None`` if there is none.

    >>> PassageTokens.load().text(Passage("1", "It suppresses tumours.", title="TP53"))
    'TP53. It suppresses tumours.'
    """

    ids: TextIds
    template: Template
    prefix: str
    model: str | None

    @classmethod
    def load(cls, model: object = None, *, template: Template | None = None, prefix: str = "") -> Self:
        """Load the tokenizer of a model; its weights stay where they are, and the hub is not asked.

        :param model: name of an embedded model (``None``: the default one), a folder, or a name on the hub whose files
            are here already.
        :param template: ``None`` for what is stored with the model, else the default.
        :param prefix: text before each passage.
        :raises ModelError: if the tokenizer cannot be loaded, or works in a way that token ids cannot be kept for.
        """
        from transformers import AutoTokenizer

        name = _reference(model)
        if name is None:
            raise TypeError(f"Expected the name or the folder of a model, got {type(model).__name__}: {model!r:.80}")
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                resolve_folder(name) or name, local_files_only=True, trust_remote_code=False
            )
            ids = TextIds(tokenizer)
        except (OSError, ValueError, KeyError, UnsupportedTokenizerError) as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            raise ModelError(
                f"Cannot load a tokenizer for token ids from {name!r}: {type(error).__name__}: {reason}"
            ) from error
        return cls(ids, check_template(stored_template(name) if template is None else template), prefix, name)

    @classmethod
    def of(cls, ids: TextIds, template: Template, prefix: str, model: object) -> Self:
        """Return how a loaded reranker reads passages.

        :param ids: its tokenizer.
        :param template: its template.
        :param prefix: its text before each passage.
        :param model: what it was given as model.
        """
        return cls(ids, template, prefix, _reference(model))

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> Self:
        """Load what :meth:`notes` describes.

        :raises ModelError: if that is not possible.
        """
        template, prefix, model = (notes.get(name) for name in ("template", "prefix", "model"))
        if not all(isinstance(value, str) for value in (template, prefix, model)):
            raise ModelError("The reranker that its token ids were made for cannot be loaded by name.")
        return cls.load(model, template=template, prefix=str(prefix))

    def text(self, passage: Passage) -> str:
        """Return a passage as one text, as the reranker reads it."""
        return self.prefix + passage_text(passage, self.template)

    def notes(self) -> dict[str, Any]:
        """Return what :meth:`from_notes` needs, as JSON types; a function cannot be written down as a template."""
        template = self.template if isinstance(self.template, str) else None
        return {"template": template, "prefix": self.prefix, "model": self.model}


def _reference(model: object) -> str | None:
    """Return a name that means the same in another process and another folder."""
    if model is None:
        return models.DEFAULT_RERANKER
    if not isinstance(model, (str, os.PathLike)):
        return None
    name = os.fspath(model)
    path = Path(name).expanduser()
    return str(path.absolute()) if name not in models.names() and path.is_dir() else name
