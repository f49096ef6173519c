"""Kernels on weights in blocks of 32 numbers with a scale, as GGUF has them: see `kernels`."""

import numpy as np
from numba import carray, njit

from loradock.engine.kernels.kernels import FAST, narrow, pointer

_kernel = njit(nogil=True, fastmath=FAST, cache=True, error_model="numpy")


@_kernel
def dequantize_4(like, nibbles, scales, offsets, out_at):
    """GGUF's Q4_0 and Q4_1: `nibbles` `[blocks, 16]` hold 32 numbers, the low halves first; number * scale + offset."""
    out = carray(pointer(out_at, like), (nibbles.shape[0], 32))
    for i in range(nibbles.shape[0]):
        for j in range(16):
            byte = nibbles[i, j]
            out[i, j] = narrow(np.float32(byte & 15) * scales[i] + offsets[i], like)
            out[i, 16 + j] = narrow(np.float32(byte >> 4) * scales[i] + offsets[i], like)


@_kernel
def dequantize_8(like, numbers, scales, out_at):
    """GGUF's Q8_0: `numbers` int8 `[blocks, 32]`."""
    out = carray(pointer(out_at, like), numbers.shape)
    for i in range(numbers.shape[0]):
        for j in range(numbers.shape[1]):
            out[i, j] = narrow(np.float32(numbers[i, j]) * scales[i], like)
