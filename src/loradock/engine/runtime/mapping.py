"""Files mapped into memory, and memory of our own in whole pages."""

import ctypes
import mmap
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
HUGE = 2 * 2**20
"""The bytes of a huge page, which the system gives at once where a program begins to use one."""
_FAILED = ctypes.c_void_p(-1).value


def mapped(file: Path, size: int) -> Array:
    """The first `size` bytes, uint8, private to who writes to them. Raises OSError.

    On Linux without keeping the file open, as Python's own maps do: an engine has hundreds of them.
    """
    with file.open("rb") as opened:
        if _libc is None:
            return np.frombuffer(mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_COPY), np.uint8)
        address = _mmap(opened.fileno(), size)
    buffer = (ctypes.c_uint8 * size).from_address(address)
    content: Array = np.frombuffer(buffer, np.uint8)  # type: ignore[call-overload]
    weakref.finalize(buffer, _unmap, address, size)
    return content


def zeros(size: int) -> Array:
    """Return zeros, uint8, that take memory where they are first touched, from the beginning of a huge page on."""
    room = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    content: Array = np.frombuffer(room, np.uint8)
    begin = -content.ctypes.data % HUGE
    return content[begin : begin + size]


def _mmap(file: int, size: int) -> int:
    assert _libc is not None
    _libc.mmap.restype = ctypes.c_void_p
    _libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    address: int = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, file, 0)
    if address == _FAILED:
        raise OSError(ctypes.get_errno(), "a file cannot be mapped")
    return address


def _unmap(address: int, size: int) -> None:
    assert _libc is not None
    _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
