"""The engine's own compiled matrix products and nothing else, on random weights: what its steps could reach at best."""

import ctypes
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.models.checkpoint import bfloat16, float32
from loradock.engine.kernels import structures as c
from loradock.engine.kernels.library import kernels
from loradock.engine.kernels.memory import aligned
from loradock.engine.kernels.structures import Format
from loradock.engine.kernels.weight_packing import pack, panel_bytes


def random_bits(rows: int, columns: int, seed: int) -> np.ndarray:
    """bfloat16."""
    return bfloat16(np.random.default_rng(seed).standard_normal((rows, columns), np.float32))


class OwnProducts:
    """Calling it multiplies `rows` bfloat16 rows with each weight `[out, in]`: in lanes of one thread each, which share
    the rows, or (`together`) by threads that share the panels. Multiples of 32 outputs. `weights`: as bits.
    """

    def __init__(self, weights: Iterable[np.ndarray], rows: int, threads: int, *, together: bool) -> None:
        self._weights = [_Packed(weight) for weight in weights]
        outputs = max(weight.view.outputs for weight in self._weights)
        inputs = max(weight.view.inputs for weight in self._weights)
        each = rows if together else -(-rows // threads)
        shared = _Rows(each, inputs)
        shares = threads if together else 1
        self.parts = [
            _Part(n % shares, shares, shared if together else _Rows(each, inputs), outputs) for n in range(threads)
        ]
        self._threads = ThreadPoolExecutor(threads)
        self()

    def __call__(self) -> None:
        list(self._threads.map(self._run, self.parts))

    def _run(self, part: "_Part") -> None:
        for weight in self._weights:
            first, end = part.panels(weight.view.outputs // c.PANEL)
            arguments = ctypes.byref(weight.view), ctypes.byref(part.rows.inputs), None, part.rows.count
            kernels().product(*arguments, part.out.ctypes.data, part.out.strides[0], 0, first, end)


class _Part:
    """A thread's rows, its share of each weight's panels, and room for its columns."""

    def __init__(self, number: int, shares: int, rows: "_Rows", outputs: int) -> None:
        self._number, self._shares = number, shares
        self.rows = rows
        self.out = aligned((rows.count, outputs), np.float32)

    def panels(self, count: int) -> tuple[int, int]:
        """(first, end) of so many, in pairs."""
        pairs = (count + 1) // 2
        first, end = (2 * (pairs * n // self._shares) for n in (self._number, self._number + 1))
        return first, min(end, count)


class _Packed:
    def __init__(self, numbers: np.ndarray) -> None:
        panels = len(numbers) // c.PANEL
        lines, scales = panel_bytes(numbers.shape[1], Format.CODED)
        self._numbers, self._scales = aligned(panels * lines, np.uint8), aligned(panels * scales, np.uint8)
        self._rare = np.empty((numbers.size // 10 + 100, 3), np.int32)
        rares = pack(numbers, Format.CODED, self._numbers, self._scales, self._rare)
        self.view = c.Weight(
            numbers=self._numbers.ctypes.data,
            scales=self._scales.ctypes.data,
            rare=self._rare.ctypes.data,
            rares=rares,
            format=Format.CODED,
            outputs=len(numbers),
            inputs=numbers.shape[1],
        )


class _Rows:
    """Random rows as the tiles read them."""

    def __init__(self, count: int, inputs: int) -> None:
        self.count = count
        rows = aligned((count, inputs), np.uint16)
        rows[:] = random_bits(count, inputs, seed=count)
        self.x = tiled = aligned((count, inputs), np.float32)
        tiled[:] = float32(rows)
        unpacked = aligned(2 * c.UNPACKED * c.PANEL * 2, np.uint8)
        self._kept = rows, tiled, unpacked
        self.inputs = c.Inputs(
            rows=rows.ctypes.data,
            rows_step=rows.strides[0],
            tiled=tiled.ctypes.data,
            tiled_step=tiled.strides[0],
            unpacked=unpacked.ctypes.data,
        )
