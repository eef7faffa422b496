"""Small models and rows for the tests of training."""

from __future__ import annotations

from pathlib import Path

from biorerank_plugins.training.rows import TrainingPair

ROWS = [
    TrainingPair(
        f"does aspirin work {i}", "aspirin inhibits platelets" if i % 2 else "insulin lowers glucose", float(i % 2), "t"
    )
    for i in range(24)
]
"""Rows that the tiny models learn in a few steps; every question is another one."""


def make_cased_bert(folder: Path) -> Path:
    """Save a BERT as the hub has BioBERT: weights, configuration and a cased ``vocab.txt``, nothing about casing."""
    import torch
    from transformers import BertConfig, BertModel

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    words = "does aspirin work inhibits platelets insulin lowers glucose EGFR Homo sapiens Aspirin".split()
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *words]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    return folder
