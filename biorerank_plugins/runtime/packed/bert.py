"""BERT over packed texts or pairs, with a classification head or without: a transformers model without its padding.

Only the first token of a pair is read by the head, so its last layer computes queries, output and feed-forward for that
token alone: the same logits for a seventh less work with six layers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, layer_norm, linear

from biorerank_plugins.runtime.packed.attention import Attention
from biorerank_plugins.runtime.packed.byte_kernels import ByteLinear
from biorerank_plugins.runtime.packed.cpu_kernels import Memory, PreparedLinear
from biorerank_plugins.runtime.packed.families import DistanceBias, Family, base_of, family_of

_MOST_ADDED = 32
"""Tokens that attention on a CPU may add to the longest pair."""


class PackedLayers(nn.Module):
    """Embeddings and layers: the states of all tokens.

    :param model: a model of one of the families, with a head or without; its weights are shared where neither device
        nor precision changes, and it is not changed itself.
    :param device: where to run.
    :param dtype: precision of the layers.
    :param attention: see :data:`~biorerank_plugins.runtime.packed.attention.Attention`.

    >>> network = PackedLayers(model, device, torch.bfloat16, attention_for(device))  # doctest: +SKIP
    >>> states = network(*layout.split(buffer), layout.longest)  # doctest: +SKIP
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
        _keep(self, device, dtype, words=tables.word_embeddings.weight, places=places.flatten(0, 1))
        self.norm = _Norm(tables.LayerNorm, device, dtype)
        project = getattr(base, "embeddings_project", None)
        self.project = None if project is None else _linear(project, device, dtype)
        if family.distances:
            longest = tables.position_embeddings.num_embeddings + _MOST_ADDED
            with_bias: Any = attention
            attention = partial(with_bias, bias=DistanceBias(base.encoder, longest))
        *layers, last = base.encoder.layer
        self.layers = nn.ModuleList(_Layer(layer, family, device, dtype, attention) for layer in layers)
        kind = _LastLayer if self.reads_first_only else _Layer
        self.last_layer = kind(last, family, device, dtype, attention)

    def prepare(self, *, in_bytes: bool = False) -> None:
        """Lay the weights out for oneDNN, on a CPU.

        :param in_bytes: whether to quantise them to int8; the precision of the layers is fp32 then.
        """
        memory = Memory() if in_bytes else None
        for layer in (*self.layers, self.last_layer):
            layer.prepare(memory)

    def forward(self, ids: Tensor, places: Tensor, offsets: Tensor, rows: Tensor, longest: int) -> Tensor:
        """Return the states of all tokens [T, dimension]; of tokens that belong to no text they are anything.

        :param ids: token ids, int32 [T].
        :param places: rows of the table of segments and positions, int32 [T].
        :param offsets: where texts begin and end, int32 [N + 1].
        :param rows: the same for one token a text, int32 [N + 1].
        :param longest: tokens of the longest text, or more.
        """
        x: Tensor = self.norm(embedding(ids, self.words) + embedding(places, self.places))
        if self.project is not None:
            x = self.project(x)
        for layer in (*self.layers, self.last_layer):
            x = layer(x, offsets, rows, longest)
        return x


class PackedBert(PackedLayers):
    """The forward pass with a classification head, which computes in fp32 whatever the precision of the layers.

    :param model: a model with a head; the other parameters are those of :class:`PackedLayers`.

    >>> network = PackedBert(model, device, torch.float16, attention_for(device))  # doctest: +SKIP
    >>> logits = network(*layout.split(buffer), layout.longest)  # doctest: +SKIP
    """

    reads_first_only = True

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype, attention: Attention) -> None:
        super().__init__(model, device, dtype, attention)
        family = family_of(model)
        dense, out = (
            (base_of(model).pooler.dense, model.classifier)
            if family.pooled
            else (model.classifier.dense, model.classifier.out_proj)
        )
        self.dense, self.out = _linear(dense, device, torch.float32), _linear(out, device, torch.float32)
        self.activation = family.activation

    def forward(self, ids: Tensor, places: Tensor, offsets: Tensor, rows: Tensor, longest: int) -> Tensor:
        """Return the logits of packed pairs, fp32 [N]; of pairs without tokens they are anything.

        The parameters are those of :meth:`PackedLayers.forward`.
        """
        first = super().forward(ids, places, offsets, rows, longest)
        logits: Tensor = self.out(self.activation(self.dense(first.float())))
        return logits.squeeze(-1)


class _Layer(nn.Module):
    def __init__(
        self, layer: Any, family: Family, device: torch.device, dtype: torch.dtype, attention: Attention
    ) -> None:
        super().__init__()
        *three, out, out_norm = map(layer.get_submodule, family.attention)
        own = layer.get_submodule(family.attention[0].rpartition(".")[0])
        weight, bias = torch.cat([one.weight for one in three]), torch.cat([one.bias for one in three])
        self.qkv = _Linear(weight, bias, device, dtype)
        self.heads, self.size = own.num_attention_heads, own.attention_head_size
        self.out, self.out_norm = _linear(out, device, dtype), _Norm(out_norm, device, dtype)
        self.up, self.down = (_linear(one.dense, device, dtype) for one in (layer.intermediate, layer.output))
        self.down_norm = _Norm(layer.output.LayerNorm, device, dtype)
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

    def __init__(
        self, layer: Any, family: Family, device: torch.device, dtype: torch.dtype, attention: Attention
    ) -> None:
        super().__init__(layer, family, device, dtype, attention)
        width = self.heads * self.size
        self.q, self.kv = (
            _Linear(self.qkv.weight[part], self.qkv.bias[part], device, dtype)
            for part in (slice(width), slice(width, None))
        )
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

    def __init__(self, weight: Tensor, bias: Tensor, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        _keep(self, device, dtype, weight=weight, bias=bias)
        self._prepared: PreparedLinear | ByteLinear | None = None

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias) if self._prepared is None else self._prepared(x)

    def prepare(self, memory: Memory | None, *, gelu: bool = False) -> None:
        self._prepared = (
            PreparedLinear(self.weight, self.bias, self.weight.dtype, gelu=gelu)
            if memory is None
            else ByteLinear(self.weight, self.bias, memory, gelu=gelu)
        )
        _keep(self, self.weight.device, self.weight.dtype, weight=self.weight.new_empty(0), bias=self.bias)


def _linear(source: nn.Linear, device: torch.device, dtype: torch.dtype) -> _Linear:
    return _Linear(source.weight, source.bias, device, dtype)


class _Norm(nn.Module):
    weight: Tensor
    bias: Tensor

    def __init__(self, source: nn.LayerNorm, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        _keep(self, device, dtype, weight=source.weight, bias=source.bias)
        self.epsilon = source.eps

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


def _keep(module: nn.Module, device: torch.device, dtype: torch.dtype, **weights: Tensor) -> None:
    for name, weight in weights.items():
        module.register_buffer(name, weight.detach().to(device=device, dtype=dtype))
