"""Memory that runs out while a batch is computed: the batch is halved, and later ones are smaller."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from biorerank_plugins import telemetry
from biorerank_plugins.errors import ScoringError
from biorerank_plugins.runtime.tokens import EncodedPair, tokens_of

logger = logging.getLogger(__name__)

Logits: TypeAlias = NDArray[np.float32]
_SAYINGS = ("out of memory", "can't allocate memory", "alloc_failed", "bad_alloc", "memoryallocation")


def token_budget_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Group sequences so that each batch, padded to its longest, holds at most ``max_tokens`` tokens.

    Sequences are sorted by token count, longest first: little padding, and a batch that does not fit into memory fails
    at once rather than at the end. Equal lengths keep their order. A sequence above the budget is a batch by itself.

    :returns: positions, batch by batch; each position once.

    >>> list(token_budget_batches([3, 9, 4, 2], max_tokens=9))
    [[1], [2, 0], [3]]
    """
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    batch: list[int] = []
    for position in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > max_tokens:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a batch did not fit, on a CPU or a GPU.

    >>> is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    True
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(saying in text for saying in _SAYINGS)


def release_cached_memory() -> None:
    """Give back what torch keeps of a GPU's memory for later."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def trim_memory() -> None:
    """Give freed memory back to the system: glibc keeps what lies between pieces that are in use."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return
    trim(0)


class Budget:
    """Tokens a batch; halved, for good, when memory runs out.

    :param padded: whether all pairs of a batch count as long as its longest.
    """

    def __init__(self, forward: Callable[[Sequence[EncodedPair]], Logits], tokens: int, *, padded: bool) -> None:
        self.tokens = tokens
        self.forward = forward
        self._padded = padded

    def run(self, pairs: Sequence[EncodedPair]) -> Logits:
        """Return the logits of a batch; in halves, where it does not fit."""
        try:
            return self.forward(pairs)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(pairs) == 1:
                raise ScoringError(
                    f"Not even one pair of {len(pairs[0].ids)} tokens fits into memory: {error}"
                ) from error
        telemetry.count("memory.halvings")
        tried = tokens_of(pairs, padded=self._padded)
        smaller = max(1, tried // 2)
        if tried <= self.tokens:  # not the second half of a batch whose first half was too large already
            logger.warning(
                "Out of memory with %d tokens a batch; going on with %d. Set max_batch_tokens=%d to start there.",
                tried,
                smaller,
                smaller,
            )
            self.tokens = smaller
        release_cached_memory()
        middle = len(pairs) // 2
        return np.concatenate([self.run(pairs[:middle]), self.run(pairs[middle:])])
