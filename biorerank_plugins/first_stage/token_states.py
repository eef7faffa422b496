"""The states that a bi-encoder's transformer gives for the tokens of a batch of texts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import torch

from biorerank_plugins.errors import ModelError
from biorerank_plugins.runtime.packed.bert import PackedLayers, attention_for
from biorerank_plugins.runtime.packed.byte_kernels import bytes_if_possible
from biorerank_plugins.runtime.packed.cpu_kernels import can_prepare
from biorerank_plugins.runtime.packed.families import places_of
from biorerank_plugins.runtime.packed.packing import Layout, packed, rounded
from biorerank_plugins.runtime.packed.support import why_not_packed

logger = logging.getLogger(__name__)

Tokens: TypeAlias = dict[str, list[int]]
"""Token ids of one input, and whatever else its tokenizer gives for each token, by name."""


TokenStates: TypeAlias = Callable[[Sequence[Tokens]], torch.Tensor]
"""From texts, at least one, to the states of all their tokens, text after text, fp32 [sum of lengths, dimension]."""


def token_states(model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype) -> TokenStates:
    """Return the fastest way to run a model: without padding on a CPU, where its architecture is covered.

    :param model: a bi-encoder's transformer, not used by anyone else: it may be moved.
    :param dtype: precision of the layers.
    :raises ModelError: if it is int8, and the model cannot run without padding.
    """
    dtype = bytes_if_possible(dtype, device)
    why_not = why_not_packed(model, device, dtype) if device.type == "cpu" else f"it runs on {device}."
    if why_not is not None and dtype == torch.int8:
        raise ModelError(f"dtype='int8' is not possible for this bi-encoder: {why_not} Choose another dtype.")
    logger.info("%s runs %s.", type(model).__name__, "without padding" if why_not is None else f"padded: {why_not}")
    return PackedStates(model, dtype) if why_not is None else PaddedStates(model, tokenizer, device, dtype)


class PackedStates:
    """Texts one behind the other, on a CPU; ask :func:`~.why_not_packed` first."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        cpu = torch.device("cpu")
        self._places = places_of(model, has_types=True)
        in_bytes = dtype == torch.int8
        precision = torch.float32 if in_bytes else dtype
        self._network = PackedLayers(model, cpu, precision, attention_for(cpu)).eval()
        if in_bytes or can_prepare(dtype):
            self._network.prepare(in_bytes=in_bytes)

    def __call__(self, batch: Sequence[Tokens]) -> torch.Tensor:
        """Return the states of all tokens; see :data:`TokenStates`."""
        texts: Any = [
            SimpleNamespace(ids=np.array(one["input_ids"], np.int32), types=np.array(_types(one), np.uint8))
            for one in batch
        ]
        exact = Layout.of(texts)
        layout = rounded(exact)
        flat = packed(texts, self._places, layout)
        states: torch.Tensor = self._network(*layout.split(torch.from_numpy(flat)), layout.longest)
        return states[: exact.tokens].float()


def _types(one: Tokens) -> list[int]:
    return one.get("token_type_ids") or [0] * len(one["input_ids"])


class PaddedStates:
    """Texts as long as the longest, through the model's own forward."""

    def __init__(self, model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._model = model.to(device=device, dtype=dtype).eval()
        self._tokenizer = tokenizer
        self._device = device

    def __call__(self, batch: Sequence[Tokens]) -> torch.Tensor:
        """Return the states of all tokens; see :data:`TokenStates`."""
        lengths = np.array([len(item["input_ids"]) for item in batch])
        real = np.arange(lengths.max()) < lengths[:, None]
        features = {"attention_mask": real.astype(np.int64)}
        for name in batch[0]:
            fill = self._tokenizer.pad_token_id if name == "input_ids" else self._tokenizer.pad_token_type_id
            padded = np.full(real.shape, fill or 0, dtype=np.int64)
            padded[real] = np.concatenate([item[name] for item in batch])
            features[name] = padded
        given = self._model(**{name: torch.from_numpy(values).to(self._device) for name, values in features.items()})
        states: torch.Tensor = given.last_hidden_state[torch.from_numpy(real).to(self._device)]
        return states.float()
