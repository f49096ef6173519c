"""Weights in 4 or 8 bits, for steps of few rows: those take as long as it takes to read the weights."""

import numpy as np
import torch

from loradock.engine.elementwise import like

BLOCK = 32


class Blocks:
    """A weight `[out, in]` in blocks of 32 numbers, as in GGUF's Q4_1 (4 bits) or Q8_0 (8 bits).

    Sums are in float32 and activations stay as they are, so that no row's numbers depend on another's.
    """

    def __init__(self, weight: torch.Tensor, bits: int, threads: int) -> None:
        from loradock.engine import block_kernels

        self._kernels, self._bits, self._threads = block_kernels, bits, threads
        self._out, self._in = weight.shape
        groups = self._in // BLOCK
        self._scales = np.empty((self._out, groups), np.float32)
        self._offsets = np.empty((self._out, groups) if bits == 4 else (0, 0), np.float32)
        dense = weight.float().contiguous().numpy()
        if bits == 4:
            self._numbers = np.empty((self._out, groups, 16), np.uint8)
            block_kernels.quantize_4(dense, self._numbers, self._scales, self._offsets)
        else:
            self._numbers = np.empty((self._out, groups, 32), np.int8)
            block_kernels.quantize_8(dense, self._numbers, self._scales)
        arrays = (self._numbers, self._scales, self._offsets) if bits == 4 else (self._numbers, self._scales)
        self._addresses = [array.ctypes.data for array in arrays]

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """x `[rows, in]`, contiguous → `[rows, out]`."""
        out = x.new_empty(x.shape[0], self._out)
        multiply = self._kernels.multiply_4 if self._bits == 4 else self._kernels.multiply_8
        shape = (x.shape[0], self._in, self._out, self._threads)
        multiply(like(x.dtype), x.data_ptr(), *self._addresses, out.data_ptr(), *shape)
        return out


def set_threads(threads: int) -> None:
    """How many threads the calling thread's products use."""
    import numba

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
