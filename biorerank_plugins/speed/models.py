"""The model whose weights every system runs: its folder, its tokenizer, and how many tokens it reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins import models
from biorerank_plugins.errors import ModelError
from biorerank_plugins.models.folders import resolve_folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["folder_of", "token_limit", "tokenizer_of"]


def folder_of(model: str | os.PathLike[str] | None, work: Path) -> Path:
    """Return the folder of a model; one from the hub is saved in ``work`` first, as fp32.

    :param model: name of an embedded model (``None``: the default one), a folder, or a name on the hub.
    :param work: an existing folder.
    :raises ModelError: if it is none of them.
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
    """Return how many tokens all systems read of a pair: no more than the model takes.

    :param folder: the model.
    :param wanted: tokens.
    """
    from transformers import AutoConfig, AutoTokenizer

    from biorerank_plugins.scoring.choose_scorer import position_limit

    stated = AutoTokenizer.from_pretrained(folder, local_files_only=True).model_max_length
    positions = position_limit(AutoConfig.from_pretrained(folder, local_files_only=True))
    return min(limit for limit in (wanted, stated, positions) if limit is not None)
