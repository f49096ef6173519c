"""The engine's own compiled matrix products and nothing else, on random weights: what its steps could reach at best."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit

from loradock.engine.compiled import packing, products
from loradock.engine.compiled.machine import DOTS_BFLOAT16
from loradock.engine.kernels import FAST

WORTH_IT = DOTS_BFLOAT16
"""Without the processor's instruction for them the engine leaves bfloat16 products to PyTorch."""


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def _all(kind, lines, inputs, rows, out):
    for n in range(len(lines)):
        line = lines[n]
        products.multiply(kind, line, inputs, rows, out.ctypes.data, line[products.OUTPUTS] * 4, 0)


class OwnProducts:
    """Calling it multiplies `rows` bfloat16 rows with each weight `[out, in]`, in lanes of one thread each."""

    def __init__(self, weights: Sequence[torch.Tensor], rows: int, lanes: int) -> None:
        lines = [packing.packed_bytes(*weight.shape, 16) + 64 for weight in weights]
        self._arena = packing.Arena(sum(lines))
        self._lines = np.array([packing.pack(self._arena, weight, 16) for weight in weights])
        outputs, inputs = (max(weight.shape[axis] for weight in weights) for axis in (0, 1))
        self.lanes = [_Lane(-(-rows // lanes), inputs, outputs) for _ in range(lanes)]
        self._threads = ThreadPoolExecutor(lanes)
        self()  # compiles

    def __call__(self) -> None:
        list(self._threads.map(self._run, self.lanes))

    def _run(self, lane: "_Lane") -> None:
        _all(products.KINDS[16], self._lines, lane.inputs, lane.rows, lane.out)


class _Lane:
    def __init__(self, rows: int, inputs: int, outputs: int) -> None:
        self.rows, self.out = rows, np.empty(rows * outputs, np.float32)
        self.x = torch.randn(rows, inputs).bfloat16()
        self.unpacked = torch.empty(2 * inputs * products.PANEL).bfloat16()
        self.inputs = np.array([self.x.data_ptr(), 2 * inputs, 0, 0, 0, 0, self.unpacked.data_ptr()])
