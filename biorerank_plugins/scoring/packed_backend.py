"""Batches without padding through BERT: token ids in, logits out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from biorerank_plugins import telemetry
from biorerank_plugins.runtime.packed.attention import attention_for
from biorerank_plugins.runtime.packed.bert import PackedBert
from biorerank_plugins.runtime.packed.cpu_kernels import can_prepare
from biorerank_plugins.runtime.packed.families import places_of
from biorerank_plugins.runtime.packed.packing import Layout, packed, rounded
from biorerank_plugins.runtime.packed.support import cannot_be_packed
from biorerank_plugins.runtime.tokens import EncodedPair
from biorerank_plugins.scoring.torch_backend import TorchBackend

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


class PackedBackend:
    """Runs a model without padding, on a CPU or on CUDA; ask :func:`why_not_packed` first.

    :param model: a model of one of the covered architectures, not used by anyone else.
    :param device: where to run.
    :param dtype: precision of the layers; the head computes in fp32. ``torch.int8`` quantises the linear layers.
    :param pad_id: token id that pads where a batch is computed again in fp32.
    :param has_types: whether the model takes segment ids.
    :raises ValueError: if it cannot be run here; the message says why, and what to do.

    >>> backend = PackedBackend(  # doctest: +SKIP
    ...     network, device=torch.device("cuda"), dtype=torch.float16, pad_id=0, has_types=True
    ... )
    >>> backend.forward(pairs)  # doctest: +SKIP
    array([3.1, -7.4], dtype=float32)
    """

    padded = False
    """A batch counts as many tokens as its pairs have."""

    def __init__(self, model: Any, *, device: torch.device, dtype: torch.dtype, pad_id: int, has_types: bool) -> None:
        reason = cannot_be_packed(model, device, dtype)
        if reason is not None:
            raise ValueError(f"backend='packed' is not possible here: {reason} Choose backend='auto' or 'torch'.")
        self.device = device
        self.dtype = dtype
        self.places = places_of(model, has_types=has_types)
        in_bytes = dtype == torch.int8
        network = PackedBert(model, device, torch.float32 if in_bytes else dtype, attention_for(device)).eval()
        if in_bytes or (device.type == "cpu" and can_prepare(dtype)):
            network.prepare(in_bytes=in_bytes)
        self._network: Any = network
        self._exact_backend: TorchBackend | None = None
        self._exact: Callable[[], TorchBackend] | None = None
        if dtype != torch.float32:  # in fp32 there is nothing more exact to keep the model for
            model.to("cpu")
            self._exact = partial(
                TorchBackend, model, device=device, dtype=torch.float32, pad_id=pad_id, has_types=has_types
            )
        self._exact_lock = threading.Lock()

    def forward(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        """Return the logits of one batch, float32 [n]. A logit that is not finite is computed again in fp32.

        :raises ValueError: if a pair does not fit the model.
        """
        exact = Layout.of(pairs)
        layout = rounded(exact) if self.device.type == "cpu" else exact
        flat = packed(pairs, self.places, layout)
        with torch.inference_mode():
            logits = self._network(*layout.split(torch.from_numpy(flat).to(self.device)), layout.longest)
        found: NDArray[np.float32] = logits[: len(pairs)].cpu().numpy()
        if self._exact is None or np.isfinite(found).all():
            return found
        logger.warning("A logit was not finite in %s; the batch is computed again in fp32.", self.dtype)
        telemetry.count("fallbacks")
        with self._exact_lock:
            if self._exact_backend is None:
                self._exact_backend = self._exact()
        return self._exact_backend.forward(pairs)
