"""Giving memory back to the system."""

import ctypes
import gc
import mmap
import sys

import torch

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_DONT_NEED = 4
"""MADV_DONTNEED: on Linux the pages are gone, and read as zeros when they are touched again (madvise(2))."""


def trim_heap() -> None:
    """Return freed memory (copies of weights while they were packed, say) to the system, which the C library keeps
    until it is told; only glibc can be."""
    gc.collect()
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


class Droppable:
    """A tensor whose parts can be given back; what was in them reads as zeros afterwards."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._begin = tensor.data_ptr()
        self._bytes = tensor.numel() * tensor.element_size()
        self._advise = getattr(_libc, "madvise", None) if tensor.device.type == "cpu" else None

    def drop(self, first: int, end: int) -> int:
        """The whole pages between two byte offsets. Returns how many bytes went."""
        begin = -(-(self._begin + first) // mmap.PAGESIZE) * mmap.PAGESIZE
        size = (self._begin + min(end, self._bytes)) // mmap.PAGESIZE * mmap.PAGESIZE - begin
        if self._advise is None or size <= 0:
            return 0
        failed = self._advise(ctypes.c_void_p(begin), ctypes.c_size_t(size), _DONT_NEED)
        return 0 if failed else size
