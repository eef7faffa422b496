"""How much memory the C library has given out: what tracemalloc does not see, such as lxml's trees."""

from __future__ import annotations

import ctypes
import gc
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


def c_heap() -> int:
    """Return the bytes in use, 0 where the library does not say (glibc does since 2.33)."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return 0
    ask.restype = _Mallinfo
    said = ask()
    return int(said.uordblks + said.hblkhd)


def most_used(items: Iterable[object], expected: int) -> tuple[int, int]:
    """Return the most memory while items are taken: Python's, and the C library's."""
    gc.collect()
    before = most = c_heap()
    tracemalloc.start()
    try:
        for count, _ in enumerate(items, start=1):
            if count % 50 == 0:
                most = max(most, c_heap())
        assert count == expected
        return tracemalloc.get_traced_memory()[1], most - before
    finally:
        tracemalloc.stop()


def most_used_by_reading(path: Path, format_: Any, expected: int) -> tuple[int, int]:
    """The same while a file's passages are read, for a process of its own."""
    from biorerank_plugins.readers import read_passages

    return most_used(read_passages(path, format=format_, passages="whole"), expected)
