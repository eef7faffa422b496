"""The systems that are compared, and which of them are possible here."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from biorerank_plugins import models
from biorerank_plugins.errors import ModelError
from biorerank_plugins.models.folders import resolve_folder
from biorerank_plugins.speed.rounds import reason_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from biorerank_plugins.speed.texts import Request

BASELINE = "predict"
"""Name of fp32 ``CrossEncoder.predict``, which all others are compared with."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all systems share.

    :param folder: the model.
    :param device: name of a torch device.
    :param threads: threads of each system on the CPU.
    :param max_length: tokens a pair.
    :param work: a folder for files that systems make.
    :param probe: what a system that has to choose its batch size tries sizes on.
    :param kept: what systems share, so that weights are loaded once.
    """

    folder: Path
    device: str
    threads: int
    max_length: int
    work: Path
    probe: Request
    kept: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class System:
    """A way to score the passages of a request.

    :param way: what is called, in words.
    :param dtype: precision of most of the arithmetic.
    :param prepare: makes the objects that the host has anyway, its documents; not timed.
    :param call: scores them; timed.
    :param values: from what the call gave to one number a passage, in the order of the request; not timed.
    :param are_logits: the numbers are logits, not their sigmoid.
    :param is_shared: several threads may call it at once; the others take turns.
    :param close: gives everything back.
    """

    way: str
    dtype: str
    prepare: Callable[[Request], Any]
    call: Callable[[Any], Any]
    values: Callable[[Any], NDArray[np.floating[Any]]]
    are_logits: bool = False
    is_shared: bool = False
    close: Callable[[], None] = lambda: None


_HERE = "biorerank_plugins.speed"
Known: TypeAlias = "Mapping[str, tuple[str, dict[str, Any]]]"
"""Systems by name: the module and the function that make each (``"module:function"``), and the function's options."""

_FLOATS = ("float32", "bfloat16", "float16")
SYSTEMS: Known = {
    BASELINE: (f"{_HERE}.rerankers:predict", {}),
    "st-best": (f"{_HERE}.rerankers:best", {}),
    **{
        f"ours-{backend}-{dtype}": (f"{_HERE}.rerankers:ours", {"backend": backend, "dtype": dtype})
        for backend, dtypes in (("torch", _FLOATS), ("packed", (*_FLOATS, "int8")))
        for dtype in dtypes
    },
    "ours-default": (f"{_HERE}.rerankers:ours", {"backend": "auto", "dtype": "auto"}),
}
"""What ``biorerank bench`` compares; no package is needed beyond this one's own."""


def choose_systems(wanted: Sequence[str], known: Known = SYSTEMS) -> list[str]:
    """Return the names of systems, the baseline first.

    :param wanted: names, or their beginnings (``"ours"``, ``"ours-torch"``, ``"st"``); all systems if empty.
    :param known: systems to choose from.
    :raises ValueError: if a name begins none; the message lists them.

    >>> choose_systems(["st", "ours-default"])
    ['predict', 'st-best', 'ours-default']
    """
    for name in wanted:
        if not any(_begins(name, one) for one in known):
            raise ValueError(f"There is no system {name!r}. Choose from: {', '.join(known)}; or a beginning: ours.")
    chosen = [one for one in known if not wanted or any(_begins(name, one) for name in wanted)]
    return [BASELINE, *(name for name in chosen if name != BASELINE)]


def _begins(name: str, known: str) -> bool:
    return known == name or known.startswith(f"{name}-")


def load_systems(
    names: Iterable[str], setting: Setting, *, known: Known = SYSTEMS, note: Callable[[str], None] = lambda _: None
) -> tuple[dict[str, System], dict[str, str]]:
    """Return the systems that are possible here, and for the others the reason why not.

    :param note: is told what is loaded.
    """
    systems: dict[str, System] = {}
    not_possible: dict[str, str] = {}
    for name in names:
        place, options = known[name]
        module, _, function = place.partition(":")
        note(f"Loading {name} …")
        try:
            systems[name] = getattr(importlib.import_module(module), function)(setting, **options)
        except Exception as error:  # whatever a library raises: it is not possible here
            not_possible[name] = reason_of(error)
    return systems, not_possible


def folder_of(model: str | os.PathLike[str] | None, work: Path) -> Path:
    """Return the folder of a model; one from the hub is saved in ``work`` first, as fp32.

    :raises ModelError: if it is neither an embedded model (``None``: the default one) nor a folder nor on the hub.
    """
    folder = resolve_folder(models.DEFAULT_RERANKER if model is None else model)
    if folder is not None:
        return folder
    import torch
    from sentence_transformers import CrossEncoder

    saved = work / "from-hub"
    CrossEncoder(os.fspath(str(model)), model_kwargs={"dtype": torch.float32}).save_pretrained(str(saved))
    return saved


def tokenizer_of(folder: Path) -> Tokenizer:
    """Return the tokenizer of a model folder, without truncation or padding.

    :raises ModelError: if it has no fast one.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    loaded: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if getattr(loaded, "backend_tokenizer", None) is None:
        raise ModelError(f"The tokenizer in {str(folder)!r} is no fast one; tokens cannot be counted.")
    tokenizer = Tokenizer.from_str(loaded.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def token_limit(folder: Path, wanted: int) -> int:
    """Return how many tokens all systems read of a pair: no more than the model takes."""
    from transformers import AutoConfig, AutoTokenizer

    from biorerank_plugins.scoring.backends import position_limit

    stated = AutoTokenizer.from_pretrained(folder, local_files_only=True).model_max_length
    positions = position_limit(AutoConfig.from_pretrained(folder, local_files_only=True))
    return min(limit for limit in (wanted, stated, positions) if limit is not None)
