"""States without padding are those of the model's own forward, for every family and way to pool."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from support.packed import CPU, FAMILIES, SIZES, WORDS

from biorerank_plugins.errors import ModelError
from biorerank_plugins.first_stage.embedding_model import PackedStates, PaddedStates, token_states

BATCH_LENGTHS = (3, 40, 1, 17, 17)


class Padding:
    pad_token_id, pad_token_type_id = 1, 0


def encoder(family: str) -> torch.nn.Module:
    name, own = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **own})
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def batch(types: int) -> list[dict[str, list[int]]]:
    draw = np.random.default_rng(0)
    texts = []
    for length in BATCH_LENGTHS:
        text = {"input_ids": draw.integers(2, WORDS, length).tolist()}
        if types > 1:
            text["token_type_ids"] = np.sort(draw.integers(0, types, length)).tolist()
        texts.append(text)
    return texts


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_states_are_those_of_the_padded_batch(family: str):
    texts = batch(2 if family in ("bert", "electra") else 1)
    model = encoder(family)
    ours = token_states(model, Padding, CPU, torch.float32)
    assert isinstance(ours, PackedStates)
    states, expected = ours(texts), PaddedStates(model, Padding, CPU, torch.float32)(texts)
    assert states.shape == (sum(BATCH_LENGTHS), SIZES["hidden_size"])
    torch.testing.assert_close(states, expected, atol=2e-5, rtol=1e-4)
    alone = torch.cat([ours([text]) for text in texts])
    torch.testing.assert_close(states, alone, atol=2e-5, rtol=1e-4)


def test_what_is_not_covered_runs_padded():
    config = transformers.DistilBertConfig(vocab_size=WORDS, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    assert isinstance(
        token_states(transformers.DistilBertModel(config).eval(), Padding, CPU, torch.float32), PaddedStates
    )


def test_what_is_not_covered_is_refused_in_int8():
    config = transformers.DistilBertConfig(vocab_size=WORDS, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    with pytest.raises(ModelError, match="not possible for this bi-encoder: DistilBertModel is none of"):
        token_states(transformers.DistilBertModel(config).eval(), Padding, CPU, torch.int8)
