"""The families of models that run without padding, and where they differ from BERT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biorerank_plugins.runtime.packed.packing import Places


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family of models differs from BERT."""

    base: str  # attribute that holds embeddings and layers
    pooled: bool  # whether the head is BERT's pooler and a linear layer; else it is a ``classifier`` with both
    activation: Any  # between the two linear layers of the head
    after_padding: bool = False  # whether positions are counted from behind the padding token's id
    # In a layer, what makes queries, keys, values and output of the attention, and the norm after it.
    attention: tuple[str, str, str, str, str] = (
        *("attention.self.query", "attention.self.key", "attention.self.value"),
        *("attention.output.dense", "attention.output.LayerNorm"),
    )
    segments: bool = True
    distances: bool = False  # whether attention adds a bias for the distance of two tokens


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
            *("attention.attn.q", "attention.attn.k", "attention.attn.v"),
            *("attention.attn.o", "attention.LayerNorm"),
        ),
        segments=False,
        distances=True,
    ),
}


def family_name(model: Any) -> str:
    """Return the name under which :data:`FAMILIES` would have a model, with a head or without."""
    name = getattr(model, "architecture", type(model).__name__)
    return name if name in FAMILIES else f"{name.removesuffix('Model')}ForSequenceClassification"


def family_of(model: Any) -> Family:
    """Return the family of a model, with a head (``BertForSequenceClassification``) or without (``BertModel``)."""
    return FAMILIES[family_name(model)]


def base_of(model: Any) -> Any:
    """Return what of a model holds embeddings and layers: a model without a head is its own base."""
    return getattr(model, family_of(model).base, model)


def has_head(model: Any) -> bool:
    """Return whether a model of one of the families gives logits."""
    return base_of(model) is not model


def places_of(model: Any, *, has_types: bool) -> Places:
    """Return how a model of one of the :data:`FAMILIES` counts positions and segments."""
    family, tables = family_of(model), base_of(model).embeddings
    return Places(
        n_words=tables.word_embeddings.num_embeddings,
        n_positions=tables.position_embeddings.num_embeddings,
        n_types=tables.token_type_embeddings.num_embeddings if family.segments else 1,
        has_types=has_types and family.segments,
        padding=tables.padding_idx if family.after_padding else None,
    )


class DistanceBias:
    """The bias for all distances up to a length, in fp32 on the CPU.

    :param encoder: transformers' encoder, which has ``relative_attention_bias`` and says which row a distance has.
    :param longest: tokens of the longest pair, those of its padding included.
    """

    def __init__(self, encoder: Any, longest: int) -> None:
        self._longest = longest
        distances = torch.arange(1 - longest, longest)  # from query to key
        table = encoder.relative_attention_bias.weight.detach().float().cpu()
        self._of_distance = table[encoder.relative_position_bucket(distances)].t().contiguous()

    def between(self, queries: int, keys: int) -> Tensor:
        """Return what is added for the first so many queries and keys of a pair, [heads, queries, keys]."""
        start = self._longest - queries
        # A row begins one distance before the row above it.
        rows: Tensor = self._of_distance[:, start : start + queries + keys - 1].unfold(1, keys, 1)
        return rows.flip(1)
