"""BERT over packed texts or pairs, with a classification head or without: a transformers model without its padding.

Only the first token of a pair is read by the head, so its last layer computes queries, output and feed-forward for that
token alone: the same logits for a seventh less work with six layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, layer_norm, linear

from biorerank_plugins.runtime.packed.byte_kernels import ByteLinear
from biorerank_plugins.runtime.packed.cpu_kernels import CpuAttention, Memory, PreparedLinear
from biorerank_plugins.runtime.packed.families import DistanceBias, Family, base_of, family_of

Attention: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int], Tensor]
"""From queries, keys and values [tokens, heads, size], the offsets of the pairs in queries and in keys (int32 [N + 1])
and the longest pair in both, to what the queries read [tokens, heads, size]. Rows outside of all pairs may hold
anything: nothing that is read depends on them. Those for a CPU also take a
:class:`~biorerank_plugins.runtime.packed.families.DistanceBias` as ``bias``."""

_MOST_ADDED = 32
"""Tokens that attention on a CPU may add to the longest pair."""


def attention_for(device: torch.device) -> Attention:
    """Return the attention to use on a device."""
    if device.type != "cuda":
        return CpuAttention()
    from torch.nn.attention import varlen

    # Asked only for what all versions since 2.10 take in the same way; in all of them the default is full attention.
    return cast(Attention, varlen.varlen_attn)


class PackedLayers(nn.Module):
    """Embeddings and layers: the states of all tokens.

    :param model: a model of one of the families, with a head or without; its weights are shared where neither device
        nor precision changes, and it is not changed itself.
    """

    words: Tensor
    places: Tensor
    reads_first_only = False
    """Whether the last layer gives the first token of each text only."""

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype, attention: Attention) -> None:
        super().__init__()
        family = family_of(model)
        base = base_of(model)
        tables = base.embeddings
        # One table for segment and position, summed before it is rounded: two rows to fetch for a token, not three.
        places = tables.position_embeddings.weight.float().unsqueeze(0)
        if family.segments:
            places = tables.token_type_embeddings.weight.float().unsqueeze(1) + places
        _keep(self, words=tables.word_embeddings.weight, places=places.flatten(0, 1))
        self.norm = _Norm(tables.LayerNorm)
        project = getattr(base, "embeddings_project", None)
        self.project = None if project is None else _linear(project)
        if family.distances:
            longest = tables.position_embeddings.num_embeddings + _MOST_ADDED
            with_bias: Any = attention
            attention = partial(with_bias, bias=DistanceBias(base.encoder, longest))
        *layers, last = base.encoder.layer
        self.layers = nn.ModuleList(_Layer(layer, family, attention) for layer in layers)
        self.last_layer = (_LastLayer if self.reads_first_only else _Layer)(last, family, attention)
        self.to(device, dtype)

    def prepare(self, *, in_bytes: bool = False) -> None:
        """Lay the weights out for oneDNN, on a CPU, or quantise them to int8 from layers that are fp32."""
        memory = Memory() if in_bytes else None
        for layer in (*self.layers, self.last_layer):
            layer.prepare(memory)

    def forward(self, ids: Tensor, places: Tensor, offsets: Tensor, rows: Tensor, longest: int) -> Tensor:
        """Return the states of all tokens [T, dimension]; of tokens that belong to no text they are anything.

        :param ids: with the next three, what :meth:`Layout.split` gives.
        :param longest: tokens of the longest text, or more.
        """
        x: Tensor = self.norm(embedding(ids, self.words) + embedding(places, self.places))
        if self.project is not None:
            x = self.project(x)
        for layer in (*self.layers, self.last_layer):
            x = layer(x, offsets, rows, longest)
        return x


class PackedBert(PackedLayers):
    """The same with a classification head, which computes in fp32 whatever the precision of the layers."""

    reads_first_only = True

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype, attention: Attention) -> None:
        super().__init__(model, device, dtype, attention)
        family = family_of(model)
        dense, out = (
            (base_of(model).pooler.dense, model.classifier)
            if family.pooled
            else (model.classifier.dense, model.classifier.out_proj)
        )
        self.dense, self.out = (_linear(one).to(device, torch.float32) for one in (dense, out))
        self.activation = family.activation

    def forward(self, ids: Tensor, places: Tensor, offsets: Tensor, rows: Tensor, longest: int) -> Tensor:
        """Return the logits of packed pairs, fp32 [N]; of pairs without tokens they are anything."""
        first = super().forward(ids, places, offsets, rows, longest)
        logits: Tensor = self.out(self.activation(self.dense(first.float())))
        return logits.squeeze(-1)


class _Layer(nn.Module):
    def __init__(self, layer: Any, family: Family, attention: Attention) -> None:
        super().__init__()
        *three, out, out_norm = map(layer.get_submodule, family.attention)
        own = layer.get_submodule(family.attention[0].rpartition(".")[0])
        self.qkv = _Linear(torch.cat([one.weight for one in three]), torch.cat([one.bias for one in three]))
        self.heads, self.size = own.num_attention_heads, own.attention_head_size
        self.out, self.out_norm = _linear(out), _Norm(out_norm)
        self.up, self.down = _linear(layer.intermediate.dense), _linear(layer.output.dense)
        self.down_norm = _Norm(layer.output.LayerNorm)
        self.activation = layer.intermediate.intermediate_act_fn
        self.attention = attention

    def forward(self, x: Tensor, offsets: Tensor, rows: Tensor, longest: int) -> Tensor:
        q, k, v = self.qkv(x).view(-1, 3, self.heads, self.size).unbind(1)
        return self._after(x, self.attention(q, k, v, offsets, offsets, longest, longest))

    def prepare(self, memory: Memory | None) -> None:
        """Lay the weights out for oneDNN, in int8 where there is memory for its inputs."""
        gelu = (
            type(self.activation).__name__ == "GELUActivation" or getattr(self.activation, "approximate", "") == "none"
        )
        for one in self.children():
            if isinstance(one, _Linear):
                one.prepare(memory, gelu=gelu and one is self.up)
        if gelu:
            self.activation = nn.Identity()

    def _after(self, x: Tensor, read: Tensor) -> Tensor:
        x = self.out_norm(self.out(read.flatten(1)) + x)
        x = self.down_norm(self.down(self.activation(self.up(x))) + x)
        return x


class _LastLayer(_Layer):
    """Gives the first token of each pair only: its queries meet the keys and values of all tokens."""

    def __init__(self, layer: Any, family: Family, attention: Attention) -> None:
        super().__init__(layer, family, attention)
        width = self.heads * self.size
        parts = slice(width), slice(width, None)
        self.q, self.kv = (_Linear(self.qkv.weight[part], self.qkv.bias[part]) for part in parts)
        del self.qkv

    def forward(self, x: Tensor, offsets: Tensor, rows: Tensor, longest: int) -> Tensor:
        # Pairs without tokens, at the end of a bucket, begin where the buffer may end.
        first = x.index_select(0, offsets[:-1].clamp(max=len(x) - 1))
        q = self.q(first).view(-1, self.heads, self.size)
        k, v = self.kv(x).view(-1, 2, self.heads, self.size).unbind(1)
        return self._after(first, self.attention(q, k, v, rows, offsets, 1, longest))


class _Linear(nn.Module):
    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        _keep(self, weight=weight, bias=bias)
        self._prepared: PreparedLinear | ByteLinear | None = None

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias) if self._prepared is None else self._prepared(x)

    def prepare(self, memory: Memory | None, *, gelu: bool = False) -> None:
        self._prepared = (
            PreparedLinear(self.weight, self.bias, self.weight.dtype, gelu=gelu)
            if memory is None
            else ByteLinear(self.weight, self.bias, memory, gelu=gelu)
        )
        self.weight = self.weight.new_empty(0)


def _linear(source: nn.Linear) -> _Linear:
    return _Linear(source.weight, source.bias)


class _Norm(nn.Module):
    weight: Tensor
    bias: Tensor

    def __init__(self, source: nn.LayerNorm) -> None:
        super().__init__()
        _keep(self, weight=source.weight, bias=source.bias)
        self.epsilon = source.eps

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


def _keep(module: nn.Module, **weights: Tensor) -> None:
    for name, weight in weights.items():
        module.register_buffer(name, weight.detach())
