"""Models with random weights in the sizes of well-known ones: good for times, never for quality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.speed.counting import Architecture
from biorerank_plugins import models

__all__ = ["SHAPES", "random_model"]

SHAPES = {
    "minilm-l6": Architecture(layers=6, hidden=384, intermediate=1536, heads=12),
    "minilm-l12": Architecture(layers=12, hidden=384, intermediate=1536, heads=12),
    "bert-base": Architecture(layers=12, hidden=768, intermediate=3072, heads=12),
    "bert-large": Architecture(layers=24, hidden=1024, intermediate=4096, heads=16),
}


def random_model(shape: Architecture, folder: Path) -> Path:
    """Make a BERT cross-encoder with random weights and the embedded reranker's tokenizer, and return its folder.

    :param shape: its sizes.
    :param folder: where it shall be; the folder around it exists.
    """
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    raw = folder.with_name("raw-weights")
    words = AutoTokenizer.from_pretrained(models.path(models.DEFAULT_RERANKER))
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
