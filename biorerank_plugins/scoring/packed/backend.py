"""Batches without padding through BERT: token ids in, logits out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from biorerank_plugins import telemetry
from biorerank_plugins.runtime.tokens import EncodedPair
from biorerank_plugins.scoring.packed.attention import attention_for
from biorerank_plugins.scoring.packed.bert import PackedBert, places_of
from biorerank_plugins.scoring.packed.cpu_kernels import can_prepare
from biorerank_plugins.scoring.packed.cuda_graphs import Capture, GraphCache, captured_on
from biorerank_plugins.scoring.packed.fused import AddNorm, add_norm, fused_add_norm
from biorerank_plugins.scoring.packed.lanes import CudaLane, Lane, Slot
from biorerank_plugins.scoring.packed.packing import Layout, pack, rounded
from biorerank_plugins.scoring.packed.support import cannot_be_packed, why_not_packed
from biorerank_plugins.scoring.torch_backend import TorchBackend

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

__all__ = ["PackedBackend", "PipelinedPackedBackend", "packed_backend", "why_not_packed"]


def packed_backend(
    model: Any, *, device: torch.device, dtype: torch.dtype, pad_id: int, has_types: bool, **options: Any
) -> PackedBackend:
    """Return the packed backend for a device: on CUDA the one that computes while the host goes on.

    Ask :func:`why_not_packed` first.

    :param model: a model of one of the covered architectures, not used by anyone else.
    :param device: where to run.
    :param dtype: precision of the layers; the head computes in fp32.
    :param pad_id: token id that pads where a batch is computed again in fp32.
    :param has_types: whether the model takes segment ids.
    :param options: on CUDA, those of :class:`PipelinedPackedBackend`.
    :raises ValueError: if it cannot be run here; the message says why, and what to do.

    >>> backend = packed_backend(  # doctest: +SKIP
    ...     network, device=torch.device("cuda"), dtype=torch.float16, pad_id=0, has_types=True
    ... )
    >>> backend.forward(pairs)  # doctest: +SKIP
    array([3.1, -7.4], dtype=float32)
    """
    kind = PipelinedPackedBackend if device.type == "cuda" else PackedBackend
    return kind(model, device=device, dtype=dtype, pad_id=pad_id, has_types=has_types, **options)


class PackedBackend:
    """Runs a model without padding.

    The parameters are those of :func:`packed_backend`, and:

    :param norm: layer norm of a sum.
    """

    padded = False
    """A batch counts as many tokens as its pairs have."""

    def __init__(
        self,
        model: Any,
        *,
        device: torch.device,
        dtype: torch.dtype,
        pad_id: int,
        has_types: bool,
        norm: AddNorm = add_norm,
    ) -> None:
        reason = cannot_be_packed(model, device, dtype)
        if reason is not None:
            raise ValueError(f"backend='packed' is not possible here: {reason} Choose backend='auto' or 'torch'.")
        self.device = device
        self.dtype = dtype
        self.places = places_of(model, has_types=has_types)
        network = PackedBert(model, device, dtype, attention_for(device), norm).eval()
        if device.type == "cpu" and can_prepare(dtype):
            network.prepare()
        self._network: Any = network
        self._exact_backend: TorchBackend | None = None
        self._exact: Callable[[], TorchBackend] | None = None
        if dtype != torch.float32:  # in fp32 there is nothing more exact to keep the model for
            self._exact = partial(
                TorchBackend, model, device=device, dtype=torch.float32, pad_id=pad_id, has_types=has_types
            )
        self._exact_lock = threading.Lock()

    def forward(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        """Return the logits of one batch, float32 [n]. A logit that is not finite is computed again in fp32.

        :param pairs: the batch, at least one pair.
        :raises ValueError: if a pair does not fit the model.
        """
        layout = rounded(Layout.of(pairs))
        flat = np.empty(layout.size, np.int32)
        pack(pairs, self.places, layout, flat)
        with torch.inference_mode():
            logits = self._network(*layout.split(torch.from_numpy(flat).to(self.device)), layout.longest)
        return self._checked(pairs, logits[: len(pairs)].cpu().numpy())

    def _checked(self, pairs: Sequence[EncodedPair], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._exact is None or np.isfinite(logits).all():
            return logits
        logger.warning("A logit was not finite in %s; the batch is computed again in fp32.", self.dtype)
        telemetry.count("fallbacks")
        with self._exact_lock:
            if self._exact_backend is None:
                self._exact_backend = self._exact()
        return self._exact_backend.forward(pairs)


class PipelinedPackedBackend(PackedBackend):
    """Runs a model on a GPU without padding.

    A batch is packed on the host, copied, computed and copied back without waiting; the caller waits for it when it
    wants the logits, and may have packed the next one meanwhile. Small batches, whose kernels are shorter than the time
    Python takes to launch them, are replayed as CUDA graphs of rounded sizes.

    :param fused: let one Triton kernel add and normalise; where that does not work, torch does.
    :param compiled: let ``torch.compile`` make the kernels: the first batches then take many seconds.
    :param lane: the way to the device.
    :param capture: makes a graph of the network on that way.
    :param graph_tokens: batches of more tokens are launched kernel by kernel; 0 never captures a graph.
    :param max_graphs: graphs that are kept; the one not used for longest goes first.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: torch.device,
        dtype: torch.dtype,
        pad_id: int,
        has_types: bool,
        fused: bool = False,
        compiled: bool = False,
        lane: Callable[[torch.device], Lane] = CudaLane,
        capture: Callable[[Any, Any], Capture] = captured_on,
        graph_tokens: int = 32_768,
        max_graphs: int = 32,
    ) -> None:
        norm = fused_add_norm(device) if fused and not compiled else add_norm
        super().__init__(model, device=device, dtype=dtype, pad_id=pad_id, has_types=has_types, norm=norm)
        if compiled:
            self._network = torch.compile(self._network, dynamic=True)
        model.to("cpu")  # kept for what must be computed again
        self._lane = lane(device)
        self._graphs = GraphCache(
            capture(self._lane, self._network), self.places, max_tokens=graph_tokens, limit=max_graphs
        )
        self._slots: list[Slot] = []
        self._lock = threading.Lock()

    def forward(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        """Return the logits of one batch; see :class:`PackedBackend`."""
        return self.start(pairs)()

    def start(self, pairs: Sequence[EncodedPair]) -> Callable[[], NDArray[np.float32]]:
        """Send one batch on its way and return a function that waits for its logits.

        :param pairs: the batch, at least one pair.
        :raises ValueError: if a pair does not fit the model.
        :raises RuntimeError: if memory runs out.
        """
        exact = Layout.of(pairs)
        with self._lock, torch.inference_mode(), self._lane:
            slot = self._slots.pop() if self._slots else Slot(self._lane)
            layout = self._graphs.layout(exact)
            host = slot.inputs(layout.size)
            pack(pairs, self.places, layout, host.numpy())
            slot.receive(self._launch(host, layout, exact)[: len(pairs)])
        return partial(self._finish, slot, pairs)

    def _launch(self, host: Tensor, layout: Layout, exact: Layout) -> Tensor:
        graph = self._graphs.find(exact, host)
        if graph is not None:
            return graph(host)
        device = host.to(self.device, non_blocking=True)
        logits: Tensor = self._network(*layout.split(device), exact.longest)
        return logits

    def _finish(self, slot: Slot, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        logits = slot.result()
        with self._lock:
            self._slots.append(slot)
        return self._checked(pairs, logits)
