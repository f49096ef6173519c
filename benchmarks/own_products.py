"""The engine's own compiled matrix products and nothing else, on random weights: what its steps could reach at best."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit

from loradock.engine.kernels.compiled import packing, products
from loradock.engine.kernels.compiled.memory import aligned
from loradock.engine.kernels.compiled.simd import LOOKS_UP
from loradock.engine.kernels.compiled.team import meet, share, team_of
from loradock.engine.kernels.kernels import FAST

WORTH_IT = LOOKS_UP
"""Elsewhere the engine leaves bfloat16 products to PyTorch."""


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def _all(kind, lines, inputs, rows, out, team):
    for n in range(len(lines)):
        line = lines[n]
        first, end = share(line[products.OUTPUTS] // products.PANEL // 2, team)
        stride = line[products.OUTPUTS] * 4
        products.multiply(kind, line, inputs, rows, out.ctypes.data, stride, 0, 2 * first, 2 * end)
        meet(team)


@njit(error_model="numpy")
def _prepare(kind, x, inputs):
    for i in range(len(x)):
        products.prepare(kind, x[i], inputs, i)


class OwnProducts:
    """Calling it multiplies `rows` bfloat16 rows with each weight `[out, in]`: in lanes of one thread each, which share
    the rows, or (`together`) by threads that share the panels. Multiples of 32 outputs.
    """

    def __init__(self, weights: Sequence[torch.Tensor], rows: int, threads: int, *, together: bool) -> None:
        lines = [packing.packed_bytes(*weight.shape, 16) + 64 for weight in weights]
        self._arena = packing.Arena(sum(lines))
        self._lines = np.array([packing.pack(self._arena, weight, 16) for weight in weights])
        outputs, inputs = (max(weight.shape[axis] for weight in weights) for axis in (0, 1))
        each = rows if together else -(-rows // threads)
        teams = team_of(threads) if together else [team_of(1)[0] for _ in range(threads)]
        rows_of = (
            [_Rows(each, inputs, outputs)] * threads if together else [_Rows(each, inputs, outputs) for _ in teams]
        )
        self.parts = list(zip(teams, rows_of, strict=True))
        self._threads = ThreadPoolExecutor(threads)
        self()  # compiles

    def __call__(self) -> None:
        list(self._threads.map(self._run, self.parts))

    def _run(self, part: "tuple[object, _Rows]") -> None:
        team, rows = part
        _all(products.KINDS[16], self._lines, rows.inputs, rows.count, rows.out, team)


class _Rows:
    """Random rows as the tiles read them, and room for what becomes of them."""

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        self.x, self.count, self.out = torch.randn(count, inputs), count, aligned((count, outputs), np.float32)
        strides = 2 * inputs, products.TILED_BYTES[16] * inputs
        self._kept = [aligned(max(1, count * stride), np.uint8) for stride in strides]
        self._kept.append(aligned(2 * inputs * products.PANEL * 2, np.uint8))
        rows, tiled, unpacked = (part.ctypes.data for part in self._kept)
        self.inputs = np.array([rows, strides[0], tiled, strides[1], 0, 0, unpacked])
        _prepare(products.KINDS[16], self.x.numpy(), self.inputs)
