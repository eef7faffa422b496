"""CUDA graphs of a packed forward: for a small batch, launching the kernels takes longer than running them.

A graph replays fixed sizes, so batches are packed into a few rounded ones; what is left of a bucket is pairs of no
tokens. A graph is captured when a bucket comes for the second time, and kept while it is used.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from biorerank_plugins.scoring.packed.packing import Layout, Places, bucket_of

if TYPE_CHECKING:
    from biorerank_plugins.scoring.packed.lanes import CudaLane

logger = logging.getLogger(__name__)

__all__ = ["Capture", "GraphCache", "Replay", "captured_on"]

Replay: TypeAlias = Callable[[Tensor], Tensor]
"""From a packed buffer in pinned memory to logits on the device, valid until the next replay; nothing is waited for."""

Capture: TypeAlias = Callable[[Layout, Tensor, int], Replay]
"""From a layout, a first buffer and the number of its pairs to a graph."""


class GraphCache:
    """The graphs in use; not safe for threads: its backend holds a lock.

    :param capture: makes a graph.
    :param places: how the model counts.
    :param max_tokens: larger batches get no graph.
    :param limit: graphs that are kept.
    """

    def __init__(self, capture: Capture, places: Places, *, max_tokens: int, limit: int) -> None:
        self._capture = capture
        self._places = places
        self._max_tokens = max_tokens
        self._limit = limit
        self._graphs: OrderedDict[Layout, Replay] = OrderedDict()
        self._seen: OrderedDict[Layout, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._graphs)

    def layout(self, exact: Layout) -> Layout:
        """Return the layout to pack a batch in: rounded where there may be a graph for it."""
        return bucket_of(exact, self._places) if exact.tokens <= self._max_tokens else exact

    def find(self, exact: Layout, host: Tensor) -> Replay | None:
        """Return the graph for a batch, captured now if its layout was seen before; ``None`` if there is none.

        :param exact: sizes of the batch.
        :param host: the batch, packed in what :meth:`layout` gives.
        """
        if exact.tokens > self._max_tokens:
            return None
        layout = self.layout(exact)
        if layout in self._graphs:
            self._graphs.move_to_end(layout)
            return self._graphs[layout]
        # Capturing takes a hundred times as long as a batch: not for sizes that come once.
        if layout not in self._seen:
            _remember(self._seen, layout, None, 8 * self._limit)
            return None
        return self._captured(layout, host, exact.pairs)

    def _captured(self, layout: Layout, host: Tensor, pairs: int) -> Replay | None:
        try:
            graph = self._capture(layout, host, pairs)
        except RuntimeError as error:  # memory, or a driver or kernel that cannot be captured
            logger.warning("No CUDA graphs: %s", str(error).strip().split("\n")[0])
            self._graphs.clear()
            self._max_tokens = 0
            return None
        del self._seen[layout]
        _remember(self._graphs, layout, graph, self._limit)
        return graph


def captured_on(lane: CudaLane, network: Any) -> Capture:
    """Return a function that captures graphs of a network.

    All graphs share one pool of memory: they run one after the other, and a result is copied before the next replay.

    :param lane: way to the device; it is entered where graphs are captured and replayed.
    :param network: :class:`~biorerank_plugins.scoring.packed.bert.PackedBert`.
    """
    pool: Any = None

    def capture(layout: Layout, host: Tensor, pairs: int) -> Replay:
        nonlocal pool
        pool = pool or torch.cuda.graph_pool_handle()
        flat = host.to(lane.stream.device, non_blocking=True)
        for _ in range(2):  # libraries allocate their workspace when they are first called
            eager = network(*layout.split(flat), layout.longest)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile: only what this one does must be fit for a graph.
        with torch.cuda.graph(graph, pool=pool, stream=lane.stream, capture_error_mode="thread_local"):
            logits: Tensor = network(*layout.split(flat), layout.longest)
        graph.replay()
        # Only of the batch's own pairs: others hold anything.
        if not torch.allclose(logits[:pairs], eager[:pairs], atol=2e-2, rtol=1e-2, equal_nan=True):
            raise RuntimeError("a replayed graph gave other logits than the same kernels without it.")

        def replay(packed: Tensor) -> Tensor:
            flat.copy_(packed, non_blocking=True)
            graph.replay()
            return logits

        return replay

    return capture


def _remember(store: OrderedDict[Layout, Any], layout: Layout, value: Any, limit: int) -> None:
    store[layout] = value
    while len(store) > limit:
        store.popitem(last=False)
