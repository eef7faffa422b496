"""Memory that runs out while a batch is computed."""

from __future__ import annotations

__all__ = ["is_out_of_memory", "release_cached_memory"]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a batch did not fit, on a CPU or a GPU."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def release_cached_memory() -> None:
    """Give back what torch keeps of a GPU's memory for later."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
