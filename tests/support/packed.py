"""Small random models of the families that are covered, pairs for them, and what transformers itself gives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from biorerank_plugins.runtime.packed.byte_kernels import why_no_bytes
from biorerank_plugins.runtime.packed.families import DistanceBias
from biorerank_plugins.runtime.tokens import EncodedPair

CPU = torch.device("cpu")
needs_bytes = pytest.mark.skipif(why_no_bytes() is not None, reason=f"no int8 here: {why_no_bytes()}")
WORDS = 90
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "num_labels": 1,
    "initializer_range": 0.3,  # large enough that different pairs get clearly different logits
}
FAMILIES = {
    "bert": ("Bert", {"type_vocab_size": 2}),
    "bert-relu": ("Bert", {"type_vocab_size": 2, "hidden_act": "relu"}),
    "bert-new-gelu": ("Bert", {"type_vocab_size": 3, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5}),
    "one-layer": ("Bert", {"num_hidden_layers": 1}),
    "electra": ("Electra", {"embedding_size": 16, "type_vocab_size": 2}),
    "roberta": ("Roberta", {"type_vocab_size": 1, "pad_token_id": 1}),
    "xlm-roberta": ("XLMRoberta", {"type_vocab_size": 1, "pad_token_id": 1}),
    "mpnet": ("MPNet", {"pad_token_id": 1}),
}
HAVE_TYPES = ("bert", "bert-relu", "bert-new-gelu", "one-layer", "electra")


def make_model(family: str = "bert", seed: int = 0, **options: object) -> Any:
    import transformers

    name, own = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **own, **options})
    torch.manual_seed(seed)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too: a lost one must show
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def make_pairs(*lengths: int, seed: int = 0, least: int = 2, types: int = 2) -> list[EncodedPair]:
    draw = np.random.default_rng(seed)
    return [
        EncodedPair(
            draw.integers(least, WORDS, length).astype(np.int32),
            np.sort(draw.integers(0, types, length)).astype(np.uint8),
            False,
            False,
        )
        for length in lengths
    ]


@torch.inference_mode()
def padded_logits(model: Any, pairs: Sequence[EncodedPair], *, has_types: bool = True) -> np.ndarray:
    """What the model's own forward gives for one padded batch."""
    longest = max(len(pair.ids) for pair in pairs)
    ids = torch.full((len(pairs), longest), model.config.pad_token_id)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, pair in enumerate(pairs):
        ids[row, : len(pair.ids)] = torch.from_numpy(pair.ids)
        types[row, : len(pair.ids)] = torch.from_numpy(pair.types)
        mask[row, : len(pair.ids)] = 1
    more = {"token_type_ids": types} if has_types else {}
    return model(input_ids=ids, attention_mask=mask, **more).logits.reshape(-1).float().numpy()


def reference_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    in_q: Tensor,
    in_k: Tensor,
    most_q: int,
    most_k: int,
    bias: DistanceBias | None = None,
) -> Tensor:
    """Attend pair by pair: slow, and the oracle of the others."""
    read = q.new_zeros(q.shape)
    spans = ([slice(*ends) for ends in pairwise(offsets.tolist())] for offsets in (in_q, in_k))
    for of_q, of_k in zip(*spans, strict=True):
        if of_q.start < of_q.stop:
            queries, keys, values = (part.transpose(0, 1).unsqueeze(0) for part in (q[of_q], k[of_k], v[of_k]))
            added = None if bias is None else bias.between(queries.shape[2], keys.shape[2]).to(q.dtype)
            one = scaled_dot_product_attention(queries, keys, values, attn_mask=added)
            read[of_q] = one.squeeze(0).transpose(0, 1)
    return read
