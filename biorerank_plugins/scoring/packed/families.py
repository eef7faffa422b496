"""The families of models that run without padding, and where they differ from BERT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from biorerank_plugins.scoring.packed.packing import Places


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family of models differs from BERT.

    :param base: attribute that holds embeddings and layers.
    :param pooled: whether the head is BERT's pooler and a linear layer; else it is a ``classifier`` with both.
    :param activation: between the two linear layers of the head.
    :param after_padding: whether positions are counted from behind the padding token's id.
    :param attention: in a layer, what makes queries, keys, values and output of the attention, and the norm after it.
    :param segments: whether tokens have segments.
    :param distances: whether attention adds a bias for the distance of two tokens.
    """

    base: str
    pooled: bool
    activation: Any
    after_padding: bool = False
    attention: tuple[str, str, str, str, str] = (
        *("attention.self.query", "attention.self.key", "attention.self.value"),
        *("attention.output.dense", "attention.output.LayerNorm"),
    )
    segments: bool = True
    distances: bool = False


FAMILIES = {
    "BertForSequenceClassification": Family("bert", True, torch.tanh),
    "ElectraForSequenceClassification": Family("electra", False, torch.nn.functional.gelu),
    "RobertaForSequenceClassification": Family("roberta", False, torch.tanh, after_padding=True),
    "XLMRobertaForSequenceClassification": Family("roberta", False, torch.tanh, after_padding=True),
    "MPNetForSequenceClassification": Family(
        "mpnet",
        False,
        torch.tanh,
        after_padding=True,
        attention=(
            "attention.attn.q",
            "attention.attn.k",
            "attention.attn.v",
            "attention.attn.o",
            "attention.LayerNorm",
        ),
        segments=False,
        distances=True,
    ),
}


def places_of(model: Any, *, has_types: bool) -> Places:
    """Return how a model counts positions and segments.

    :param model: a model of one of the :data:`FAMILIES`.
    :param has_types: whether it is given segment ids.
    """
    family = FAMILIES[type(model).__name__]
    tables = getattr(model, family.base).embeddings
    return Places(
        n_words=tables.word_embeddings.num_embeddings,
        n_positions=tables.position_embeddings.num_embeddings,
        n_types=tables.token_type_embeddings.num_embeddings if family.segments else 1,
        has_types=has_types and family.segments,
        padding=tables.padding_idx if family.after_padding else None,
    )
