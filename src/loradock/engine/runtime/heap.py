"""Giving memory back to the system."""

import ctypes
import mmap
import sys
from typing import Any

import numpy as np

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_DONT_NEED = 4
"""MADV_DONTNEED: on Linux the pages are gone, and read as zeros when they are touched again (madvise(2))."""


def trim_heap() -> None:
    """Return freed memory (copies of weights while they were packed, say) to the system, which the C library keeps
    until it is told; only glibc can be."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


class Droppable:
    """An array whose parts can be given back; what was in them reads as zeros afterwards."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._begin = array.ctypes.data
        self._bytes = array.nbytes
        self._advise = getattr(_libc, "madvise", None)

    def drop(self, first: int, end: int) -> int:
        """The whole pages between two byte offsets. Returns how many bytes went."""
        begin = -(-(self._begin + first) // mmap.PAGESIZE) * mmap.PAGESIZE
        size = (self._begin + min(end, self._bytes)) // mmap.PAGESIZE * mmap.PAGESIZE - begin
        if self._advise is None or size <= 0:
            return 0
        failed = self._advise(ctypes.c_void_p(begin), ctypes.c_size_t(size), _DONT_NEED)
        return 0 if failed else size
