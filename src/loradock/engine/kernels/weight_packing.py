"""A base model's weights, as files hold them, laid out in panels: see native/packing.c."""

import ctypes
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from loradock.engine.kernels.border import Array, pointer
from loradock.engine.kernels.library import kernels
from loradock.engine.kernels.memory import padded
from loradock.engine.kernels.structures import GROUP, PANEL, Format, Matrix


class Kind(IntEnum):
    """The kinds of numbers in files; those after F32 are GGUF's blocks."""

    F16 = 0
    BF16 = 1
    F32 = 2
    Q8_0 = 3
    Q4_0 = 4
    Q4_1 = 5
    Q4_K = 6


_KINDS = {np.dtype(np.float16): Kind.F16, np.dtype(np.uint16): Kind.BF16, np.dtype(np.float32): Kind.F32}
_BLOCKS = {Kind.Q8_0: (32, 34), Kind.Q4_0: (32, 18), Kind.Q4_1: (32, 20), Kind.Q4_K: (256, 144)}
"""How many numbers a block has, and how many bytes."""
_SCALES = {Format.INT4: 4, Format.INT8: 2}
"""Bytes of scales (and offsets) that a group of an output has."""


@dataclass(frozen=True)
class Blocks:
    """Rows in GGUF's blocks: `content` uint8 `[rows, bytes of a row]`."""

    kind: Kind
    content: Array

    @property
    def shape(self) -> tuple[int, int]:
        """The rows and their numbers."""
        numbers, size = _BLOCKS[self.kind]
        return len(self.content), self.content.shape[1] // size * numbers


@dataclass(frozen=True)
class Ordered:
    """Rows in another order than the file's: `order` int64 `[rows]`, the row that comes in each place."""

    rows: "Array | Blocks"
    order: Array


Rows = Array | Blocks | Ordered
"""A tensor `[rows, columns]`: float32, float16, bfloat16 as uint16, or blocks."""


def pack(rows: Rows, format_: Format, numbers: Array, scales: Array, rare: Array, *, first: int = 0) -> int:
    """Lay rows out as panels of a weight, from panel `first` on; what they leave of the last one is zeros.

    `numbers`, `scales`: uint8, those of the whole weight (`panel_bytes` for each panel). `rare` int32 `[room, 3]` takes
    the input, output and bits of weights that a CODED weight has not in its panels, as long as there is room. Returns
    how many they are: more than the room, and the panels are of no use.
    """
    source = _Source(rows)
    panels = first + padded(source.rows, PANEL) // PANEL
    lines, beside = panel_bytes(source.columns, format_)
    if first < 0 or (format_ <= Format.INT8 and source.columns % GROUP):
        raise ValueError(f"panel {first} and {source.columns} columns cannot be packed as {format_.name}")
    if numbers.size < panels * lines or scales.size < panels * beside:
        raise ValueError(f"{panels} panels need {panels * lines} and {panels * beside} bytes")
    return int(
        kernels().pack(
            ctypes.byref(source.matrix),
            format_,
            first,
            pointer(numbers, np.uint8, numbers.shape, written=True),
            pointer(scales, np.uint8, scales.shape, written=True),
            pointer(rare, np.int32, (len(rare), 3), written=True),
            len(rare),
        )
    )


def panel_bytes(columns: int, format_: Format) -> tuple[int, int]:
    """Return the sizes of a panel's numbers and of its scales."""
    inputs = padded(columns, GROUP)
    scales = PANEL if format_ is Format.CODED else PANEL * (inputs // GROUP) * _SCALES.get(format_, 0)
    return PANEL * inputs * format_ // 8, scales


def convert(rows: Rows, dtype: type) -> Array:
    """Return the rows as float32, or as bfloat16 (uint16) rounded to the nearest, ties to even."""
    source = _Source(rows)
    out = np.empty((source.rows, source.columns), dtype)
    floats = out.dtype == np.float32
    at = pointer(out, np.float32 if floats else np.uint16, out.shape, written=True)
    kernels().convert(ctypes.byref(source.matrix), floats, at)
    return out


class _Source:
    """What compiled code needs to know of rows; it keeps them."""

    def __init__(self, rows: Rows) -> None:
        order = rows.order if isinstance(rows, Ordered) else None
        tensor = rows.rows if isinstance(rows, Ordered) else rows
        blocks = isinstance(tensor, Blocks)
        content = tensor.content if isinstance(tensor, Blocks) else tensor
        kind = tensor.kind if isinstance(tensor, Blocks) else _KINDS.get(content.dtype)
        if kind is None or content.ndim != 2:
            raise ValueError(f"{content.dtype} {list(content.shape)} are no rows of a weight")
        numbers, size = _BLOCKS[kind] if blocks else (1, 1)
        if content.shape[1] % size:
            raise ValueError(f"rows of {content.shape[1]} bytes are not whole blocks of {kind.name}")
        self.rows, self.columns = len(content), content.shape[1] // size * numbers
        if order is not None:
            self.rows = len(order)
            if self.rows and not 0 <= order.min() <= order.max() < len(content):
                raise ValueError(f"an order names rows that are none of {len(content)}")
        self._kept = content, order
        self.matrix = Matrix(
            numbers=pointer(content, np.uint8 if blocks else content.dtype, content.shape),
            order=None if order is None else pointer(order, np.int64, (self.rows,)),
            kind=kind,
            rows=self.rows,
            columns=self.columns,
        )
