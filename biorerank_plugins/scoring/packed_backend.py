"""Batches without padding through BERT: token ids in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biorerank_plugins.runtime.packed.bert import PackedBert, attention_for
from biorerank_plugins.runtime.packed.cpu_kernels import can_prepare
from biorerank_plugins.runtime.packed.families import places_of
from biorerank_plugins.runtime.packed.packing import Layout, packed, rounded
from biorerank_plugins.runtime.packed.support import cannot_be_packed
from biorerank_plugins.runtime.tokens import EncodedPair
from biorerank_plugins.scoring.torch_backend import Backend, TorchBackend


class PackedBackend(Backend):
    """Runs a model without padding, on a CPU or on CUDA; ask :func:`why_not_packed` first.

    :param model: a model of one of the covered architectures, not used by anyone else.
    :param dtype: ``torch.int8`` quantises the linear layers.
    :param pad_id: token id that pads where a batch is computed again in fp32.
    :raises ValueError: if it cannot be run here; the message says why, and what to do.
    """

    padded = False

    def __init__(self, model: Any, *, device: torch.device, dtype: torch.dtype, pad_id: int, has_types: bool) -> None:
        reason = cannot_be_packed(model, device, dtype)
        if reason is not None:
            raise ValueError(f"backend='packed' is not possible here: {reason} Choose backend='auto' or 'torch'.")
        super().__init__(device, dtype)
        self.places = places_of(model, has_types=has_types)
        in_bytes = dtype == torch.int8
        network = PackedBert(model, device, torch.float32 if in_bytes else dtype, attention_for(device)).eval()
        if in_bytes or (device.type == "cpu" and can_prepare(dtype)):
            network.prepare(in_bytes=in_bytes)
        self._network: Any = network
        # In fp32 there is nothing more exact to keep the model for.
        self._model = None if dtype == torch.float32 else model.to("cpu")
        self._pad_id, self._has_types = pad_id, has_types

    def _run(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        exact = Layout.of(pairs)
        layout = rounded(exact) if self.device.type == "cpu" else exact
        flat = packed(pairs, self.places, layout)
        with torch.inference_mode():
            logits = self._network(*layout.split(torch.from_numpy(flat).to(self.device)), layout.longest)
        found: NDArray[np.float32] = logits[: len(pairs)].cpu().numpy()
        return found

    def _in_fp32(self) -> Backend:
        return TorchBackend(
            self._model, device=self.device, dtype=torch.float32, pad_id=self._pad_id, has_types=self._has_types
        )
