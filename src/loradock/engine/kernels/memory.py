"""Arrays that begin a cache line: two threads that write their own parts of one do not then share a line."""

import math
from typing import Any

import numpy as np

from loradock.engine.kernels.structures import LINE

Array = np.ndarray[Any, Any]


def aligned(shape: int | tuple[int, ...], dtype: type) -> Array:
    """An array whose contents are whatever the memory held."""
    count = shape if isinstance(shape, int) else math.prod(shape)
    size = count * np.dtype(dtype).itemsize
    room = np.empty(size + LINE, np.uint8)
    begin = -room.ctypes.data % LINE
    return room[begin : begin + size].view(dtype).reshape(shape)


def whole_lines(size: int) -> int:
    """Return the bytes of the lines that hold `size` bytes."""
    return -(-size // LINE) * LINE


def padded(count: int, unit: int) -> int:
    """Return the smallest multiple of `unit` that is not below `count`."""
    return -(-count // unit) * unit
