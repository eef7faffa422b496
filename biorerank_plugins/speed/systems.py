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
    """What all systems share."""

    folder: Path  # of the model
    device: str
    threads: int  # of each system on the CPU
    max_length: int  # tokens a pair
    work: Path  # a folder for files that systems make
    probe: Request  # what a system that has to choose its batch size tries sizes on
    kept: dict[str, Any] = field(default_factory=dict)  # so that weights are loaded once


@dataclass(frozen=True, slots=True)
class System:
    """A way to score the passages of a request; only ``call`` is timed."""

    way: str  # what is called, in words
    dtype: str  # of most of the arithmetic
    prepare: Callable[[Request], Any]  # makes the objects that the host has anyway, its documents
    call: Callable[[Any], Any]  # scores them
    values: Callable[[Any], NDArray[np.floating[Any]]]  # what the call gave ► a number a passage, as in the request
    are_logits: bool = False  # the numbers, not their sigmoid
    is_shared: bool = False  # several threads may call it at once; the others take turns
    close: Callable[[], None] = lambda: None  # gives everything back


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
    """Return the systems that are possible here, and for the others the reason why not."""
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
    """Return the tokenizer of a model folder, without truncation or padding; raise ``ModelError`` for a slow one."""
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
