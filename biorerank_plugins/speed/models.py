"""The model whose weights every system runs, as a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from biorerank_plugins import models
from biorerank_plugins.models.folders import resolve_folder
from biorerank_plugins.speed.counting import Architecture

__all__ = ["SHAPES", "folder_of", "random_model"]

SHAPES = {
    "minilm-l6": Architecture(layers=6, hidden=384, intermediate=1536, heads=12),
    "minilm-l12": Architecture(layers=12, hidden=384, intermediate=1536, heads=12),
    "bert-base": Architecture(layers=12, hidden=768, intermediate=3072, heads=12),
    "bert-large": Architecture(layers=24, hidden=1024, intermediate=4096, heads=16),
}
"""Sizes of well-known models, for models with random weights: good for times, never for quality."""


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


def random_model(shape: Architecture, work: Path, *, tokenizer: Path | None = None) -> Path:
    """Make a BERT cross-encoder with random weights, and return its folder.

    :param shape: its sizes.
    :param work: an existing folder.
    :param tokenizer: folder of the model whose tokenizer it gets; the embedded reranker's if ``None``.
    """
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    raw, folder = work / "raw-weights", work / "random-weights"
    words = AutoTokenizer.from_pretrained(tokenizer or models.path(models.DEFAULT_RERANKER))
    words.save_pretrained(raw)
    config_class: Any = BertConfig  # its type hints know of BERT's own options only
    config = config_class(
        vocab_size=len(words),
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_attention_heads=shape.heads,
        num_labels=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = BertForSequenceClassification(config)
    network.save_pretrained(raw)
    CrossEncoder(str(raw), device="cpu").save_pretrained(str(folder))
    return folder
