"""What the packed backend refuses, and why: architectures, parts, devices, precisions, and other arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from support.packed import CPU, FAMILIES, SIZES, make_model
from torch import nn

from biorerank_plugins import models
from biorerank_plugins.runtime.packed.support import cannot_be_packed, why_not_packed

CUDA = torch.device("cuda")


def why_not(model, device=CPU, dtype=torch.float32) -> str | None:
    return why_not_packed(model, device, dtype)


@pytest.mark.parametrize("family", FAMILIES)
def test_covered_families(family):
    model = make_model(family)
    assert why_not(model) is None
    assert why_not(model, dtype=torch.bfloat16) is None
    assert not model.training


def test_a_model_in_half_precision_or_in_training_is_covered_and_left_as_it_is():
    model = make_model().bfloat16().train()
    assert why_not(model, dtype=torch.bfloat16) is None
    assert model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_the_embedded_reranker_is_covered():
    folder = models.path(models.DEFAULT_RERANKER)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    assert why_not(model) is None


def test_the_tiny_model_of_the_tests_is_covered(tiny_cross_encoder_dir: Path):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_cross_encoder_dir, dtype=torch.float32)
    assert why_not(model) is None


def other() -> nn.Module:
    class Other(transformers.BertForSequenceClassification):
        """A class of somebody else's, whose forward may do anything."""

    return Other(transformers.BertConfig(**SIZES))


def distil() -> nn.Module:
    config = transformers.DistilBertConfig(vocab_size=90, dim=32, n_layers=1, n_heads=2, hidden_dim=64, num_labels=1)
    return transformers.DistilBertForSequenceClassification(config)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: nn.Linear(1, 1), "Linear is none of BertForSequenceClassification"),
        (distil, "DistilBertForSequenceClassification is none of"),
        (other, "Other is none of"),
        (lambda: make_model(num_labels=3), "it has 3 labels"),
        (lambda: make_model(is_decoder=True), "it is a decoder"),
        (lambda: make_model(position_embedding_type="relative_key"), "positions are relative_key"),
    ],
)
def test_other_architectures(model, reason):
    assert reason in why_not(model())


class Adapted(nn.Linear):
    """Computes more than its weight says."""


@pytest.mark.parametrize(
    "name",
    ["bert.encoder.layer.1.attention.self.key", "bert.encoder.layer.2.output.dense", "bert.pooler.dense", "classifier"],
)
def test_an_adapted_layer(name):
    model = make_model()
    owner, _, last = name.rpartition(".")
    old = model.get_submodule(name)
    setattr(model.get_submodule(owner), last, Adapted(old.in_features, old.out_features))
    assert why_not(model) == f"{name} is no plain Linear with a bias."


def test_a_layer_without_bias_or_of_another_kind():
    model = make_model()
    model.bert.encoder.layer[0].output.LayerNorm = nn.RMSNorm(32)
    assert "output.LayerNorm is no plain LayerNorm" in why_not(model)
    model = make_model()
    model.bert.encoder.layer[0].intermediate.dense = nn.Linear(32, 64, bias=False)
    assert "intermediate.dense is no plain Linear with a bias" in why_not(model)


def test_a_part_that_is_missing():
    model = make_model()
    model.bert.pooler = None
    assert why_not(model) == "it has no bert.pooler.dense."


def test_a_hook():
    model = make_model()
    model.bert.encoder.layer[1].register_forward_hook(lambda *_: None)
    assert "hook" in why_not(model)


def test_arithmetic_that_transformers_does_in_another_way_is_noticed():
    """Here: scores of attention that are not divided by the root of the head's size."""
    model = make_model()
    model.bert.encoder.layer[1].attention.self.scaling = 1.0
    assert cannot_be_packed(model, CPU, torch.float32) is None
    assert "off what BertForSequenceClassification gives" in why_not(model)


def test_logits_that_are_not_finite_are_no_agreement():
    model = make_model()
    with torch.no_grad():
        model.classifier.bias.fill_(torch.nan)
    assert "without padding it is up to nan off" in why_not(model)


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a GPU; nothing is computed there."""

    def with_capability(*capability: int, hip: str | None = None) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.version, "hip", hip)

    return with_capability


def test_a_gpu_that_can(gpu):
    gpu(9, 0)
    for dtype in (torch.float16, torch.bfloat16):
        assert why_not(make_model(), CUDA, dtype) is None


def test_gpus_and_precisions_that_cannot(gpu):
    gpu(7, 5)
    assert "compute capability 7.5; attention without padding needs 8.0" in why_not(make_model(), CUDA, torch.float16)
    gpu(8, 0)
    assert "fp16 or bf16, not float32" in why_not(make_model(), CUDA, torch.float32)
    assert "heads have 4 dimensions" in why_not(make_model(num_attention_heads=8), CUDA, torch.float16)
    gpu(9, 4, hip="6.4")
    assert "not on ROCm" in why_not(make_model(), CUDA, torch.float16)
    assert "not on mps" in why_not(make_model(), torch.device("mps"), torch.float16)
    assert "on a CPU it computes in fp32, bf16 or int8, not float16" in why_not(make_model(), CPU, torch.float16)


def test_a_bias_for_distances_needs_a_cpu(gpu):
    gpu(9, 0)
    assert "bias for distances" in why_not(make_model("mpnet"), CUDA, torch.float16)


def test_weights_beyond_fp16(gpu):
    gpu(9, 0)
    model = make_model()
    with torch.no_grad():
        model.classifier.weight[0, 0] = 1e5
    assert why_not(model, CUDA, torch.float16) == "a weight does not fit into fp16."
    assert why_not(model, CUDA, torch.bfloat16) is None
