"""The way of a batch to a GPU and back: a stream of its own, pinned memory, and the moment when it is done."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CudaLane", "Lane", "Moment", "Slot"]

_cuda: Any = torch.cuda  # whose constructors have no types


class Moment(Protocol):
    """A place in the order of what a device does."""

    def synchronize(self) -> None:
        """Wait until the device got there."""
        ...


class Lane(Protocol):
    """What a backend needs of a device to compute while the host goes on."""

    def __enter__(self) -> None:
        """Send what follows in this thread down this lane."""
        ...

    def __exit__(self, *error: object) -> None:
        """Stop that."""
        ...

    def host_memory(self, size: int, dtype: torch.dtype) -> Tensor:
        """Return memory of the host that the device copies from and to by itself."""
        ...

    def moment(self) -> Moment:
        """Return the moment when all that was sent so far is done."""
        ...


class CudaLane:
    """A stream of a CUDA device, beside whatever else the process does on it; one thread at a time enters it.

    :param device: the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream: torch.cuda.Stream = _cuda.Stream(device)
        self.stream.wait_stream(torch.cuda.current_stream(device))  # weights may still be on their way
        self._entered: AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        self._entered = _cuda.stream(self.stream)
        self._entered.__enter__()

    def __exit__(self, *error: object) -> None:
        assert self._entered is not None
        self._entered.__exit__(None, None, None)

    def host_memory(self, size: int, dtype: torch.dtype) -> Tensor:
        """Return pinned memory."""
        return torch.empty(size, dtype=dtype, pin_memory=True)

    def moment(self) -> Moment:
        """Return an event; waiting for it leaves the core to others, such as the tokenizer."""
        event: torch.cuda.Event = _cuda.Event(blocking=True)
        event.record(self.stream)
        return event


class Slot:
    """Memory of the host for one batch on its way, in both directions; copies from and to it are not waited for.

    :param lane: the way.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._inputs = self._outputs = torch.empty(0)
        self._received: Tensor | None = None
        self._done: Moment | None = None

    def inputs(self, size: int) -> Tensor:
        """Return room for a packed batch, int32 [size]."""
        if len(self._inputs) < size:
            self._inputs = self._lane.host_memory(_roomy(size), torch.int32)
        return self._inputs[:size]

    def receive(self, logits: Tensor) -> None:
        """Let logits, fp32 [n], be copied here when the device has them."""
        if len(self._outputs) < len(logits):
            self._outputs = self._lane.host_memory(_roomy(len(logits)), torch.float32)
        self._received = self._outputs[: len(logits)]
        self._received.copy_(logits, non_blocking=True)
        self._done = self._lane.moment()

    def result(self) -> NDArray[np.float32]:
        """Wait for the logits, float32 [n]; they are the caller's."""
        assert self._done is not None
        assert self._received is not None
        self._done.synchronize()
        logits: NDArray[np.float32] = self._received.numpy().copy()
        return logits


def _roomy(size: int) -> int:
    return 1 << (size - 1).bit_length()
