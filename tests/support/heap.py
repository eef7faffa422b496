"""How much memory the C library has given out: what tracemalloc does not see, such as lxml's trees."""

from __future__ import annotations

import ctypes

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
