"""The border between Python and compiled code: nothing goes over it by its address that was not looked at."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def pointer(array: Array, dtype: Any, shape: tuple[int, ...], *, written: bool = False) -> int:
    """Return the address of an array's first number. The caller keeps the array as long as the address is used.

    Raises ValueError for another type or shape, for numbers that do not follow each other in memory, and where compiled
    code would write (`written`) to what must not be changed.
    """
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(
            f"{np.dtype(dtype)} {list(shape)} is wanted in one piece, not {array.dtype} {list(array.shape)}"
        )
    if written and not array.flags.writeable:
        raise ValueError("an array that must not be changed cannot be written to")
    return array.ctypes.data
