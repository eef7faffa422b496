"""Which models, devices and precisions run without padding, and why not the others."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn

from biorerank_plugins.runtime.devices import overflows_fp16
from biorerank_plugins.runtime.packed.bert import PackedBert, PackedLayers
from biorerank_plugins.runtime.packed.byte_kernels import why_no_bytes
from biorerank_plugins.runtime.packed.cpu_kernels import CpuAttention
from biorerank_plugins.runtime.packed.families import FAMILIES, base_of, family_name, family_of, has_head, places_of
from biorerank_plugins.runtime.packed.packing import Layout, packed
from biorerank_plugins.runtime.packed.plain_bert import PlainBert
from biorerank_plugins.runtime.tokens import EncodedPair, padded_inputs

_HALF = (torch.float16, torch.bfloat16)


def why_not_packed(model: Any, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why a model cannot run without padding, as a sentence; ``None`` if it can.

    Beside architecture, device and precision, it compares the packed forward with the model's own one on three small
    pairs, in fp32 on the CPU: a release of transformers that computes something else is not run in the old way.

    >>> why_not_packed(torch.nn.Linear(1, 1), torch.device("cpu"), torch.float32)
    'Linear is none of BertForSequenceClassification, ... .'
    """
    return cannot_be_packed(model, device, dtype) or _difference(model)


def cannot_be_packed(model: Any, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return what :func:`why_not_packed` does, without running the model."""
    return _wrong_architecture(model) or _wrong_device(device, dtype) or _wrong_sizes(model, device, dtype)


def _wrong_architecture(model: Any) -> str | None:
    kind = type(model)
    known = kind is PlainBert or kind.__module__.startswith("transformers.models.")
    if not known or family_name(model) not in FAMILIES:
        return f"{kind.__name__} is none of {', '.join(FAMILIES)}."
    config: Any = model.config
    if getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        return f"its positions are {config.position_embedding_type}, not absolute."
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        return "it is a decoder."
    if has_head(model) and getattr(config, "num_labels", 1) != 1:
        return f"it has {config.num_labels} labels."
    if not isinstance(config.hidden_act, str):
        return "its activation is a function of its own."
    return _foreign_part(model)


def _foreign_part(model: Any) -> str | None:
    """Name what is not a plain layer: quantised, adapted and watched ones compute more than their weights say."""
    for name, kind in _parts(model).items():
        try:
            part = model.get_submodule(name)
        except AttributeError:
            return f"it has no {name}."
        if type(part) is not kind or getattr(part, "bias", part) is None:
            return f"{name} is no plain {kind.__name__} with a bias."
    if any(part._forward_hooks or part._forward_pre_hooks for part in model.modules()):
        return "a hook watches its layers."
    return None


def _parts(model: Any) -> dict[str, type[nn.Module]]:
    family, base = family_of(model), base_of(model)
    *linear, norm = family.attention
    tables = ("word", "position", "token_type") if family.segments else ("word", "position")
    parts: dict[str, type[nn.Module]] = {f"embeddings.{name}_embeddings": nn.Embedding for name in tables}
    parts["embeddings.LayerNorm"] = nn.LayerNorm
    for number in range(len(base.encoder.layer)):
        parts |= {
            f"encoder.layer.{number}.{name}": nn.Linear for name in (*linear, "intermediate.dense", "output.dense")
        }
        parts |= {f"encoder.layer.{number}.{name}": nn.LayerNorm for name in (norm, "output.LayerNorm")}
    if family.distances:
        parts["encoder.relative_attention_bias"] = nn.Embedding
    if hasattr(base, "embeddings_project"):
        parts["embeddings_project"] = nn.Linear
    if not has_head(model):
        return parts
    if family.pooled:
        parts["pooler.dense"] = nn.Linear
    head = ("classifier",) if family.pooled else ("classifier.dense", "classifier.out_proj")
    return {f"{family.base}.{name}": kind for name, kind in parts.items()} | dict.fromkeys(head, nn.Linear)


def _wrong_device(device: torch.device, dtype: torch.dtype) -> str | None:
    name = str(dtype).removeprefix("torch.")
    if device.type == "cpu":
        if dtype == torch.int8:
            return why_no_bytes()
        if dtype not in (torch.float32, torch.bfloat16):
            return f"on a CPU it computes in fp32, bf16 or int8, not {name}."
        return None
    if device.type != "cuda":
        return f"it runs on CUDA and CPU, not on {device.type}."
    if torch.version.hip is not None:
        return "it runs on CUDA and CPU, not on ROCm."
    if dtype not in _HALF:
        return f"attention without padding computes in fp16 or bf16, not {name}."
    if find_spec("torch.nn.attention.varlen") is None:
        return f"torch {torch.__version__} has no torch.nn.attention.varlen; 2.10 has."
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        return f"the GPU has compute capability {'.'.join(map(str, capability))}; attention without padding needs 8.0."
    return None


def _wrong_sizes(model: Any, device: torch.device, dtype: torch.dtype) -> str | None:
    family = family_of(model)
    if device.type == "cuda" and family.distances:
        return "its attention adds a bias for distances, which the kernel for CUDA does not."
    first = base_of(model).encoder.layer[0]
    size = first.get_submodule(family.attention[0].rpartition(".")[0]).attention_head_size
    if device.type == "cuda" and (size % 8 or size > 256):
        return f"its heads have {size} dimensions; the kernel takes multiples of 8 up to 256."
    return "a weight does not fit into fp16." if dtype == torch.float16 and overflows_fp16(model) else None


@torch.inference_mode()
def _difference(model: Any) -> str | None:
    if any(weight.device.type != "cpu" or weight.dtype != torch.float32 for weight in model.parameters()):
        model = copy.deepcopy(model).float().cpu()
    places = places_of(model, has_types=True)
    draw = np.random.default_rng(0)
    pairs = []
    for length in (5, 12, 2):
        size = max(1, min(length, places.longest))
        ids, types = draw.integers(0, places.n_words, size), draw.integers(0, places.n_types, size)
        pairs.append(EncodedPair(ids.astype(np.int32), types.astype(np.uint8), False, False))
    layout = Layout.of(pairs)
    parts = layout.split(torch.from_numpy(packed(pairs, places, layout)))
    kind = PackedBert if has_head(model) else PackedLayers
    ours = kind(model, torch.device("cpu"), torch.float32, CpuAttention())(*parts, layout.longest)
    theirs = _own_forward(model, pairs)
    furthest = float((ours - theirs).abs().max())
    if not furthest <= 1e-4 * max(1.0, float(theirs.abs().max())):
        return f"without padding it is up to {furthest:.2g} off what {type(model).__name__} gives."
    return None


def _own_forward(model: Any, pairs: list[EncodedPair]) -> torch.Tensor:
    padded = padded_inputs(pairs, model.config.pad_token_id or 0)
    inputs = {name: torch.from_numpy(values) for name, values in padded.items()}
    if not family_of(model).segments:
        del inputs["token_type_ids"]
    trained, _ = model.training, model.eval()
    try:
        given = model(**inputs)
    finally:
        model.train(trained)
    real = inputs["attention_mask"] == 1
    own: torch.Tensor = given.logits.reshape(-1) if has_head(model) else given.last_hidden_state[real]
    return own
