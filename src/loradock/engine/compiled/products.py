"""Products of many rows with a whole weight, made of tiles; and the rows' activations in the form that tiles read."""

import numpy as np
from numba import carray, njit, types
from numba.extending import overload

from loradock.engine.compiled.tiles import GROUP, quantize, tile, unpack
from loradock.engine.compiled.twelve import LINE, NUMBERED, add_rare
from loradock.engine.kernels import BFLOAT16, FAST, FLOAT32, narrow, pointer

PANEL = 16
WEIGHT, SCALES, BIAS, BITS, OUTPUTS, INPUTS, RARE, RARES = range(8)
"""A product's line in the plan: addresses (SCALES of bfloat16: the upper bytes; BIAS 0: none), 16, 8 or 4 bits, its
size, and where and how many are the weights that are not in the panels (`twelve`)."""
KINDS = {16: np.uint16(0), 8: np.uint8(0), 4: np.int8(0)}
"""What tells the compiled code, by its type, in how many bits the weights are."""
FIRST, MANY = 8, 25
"""How many rows panels are unpacked for once more in the registers, and from how many rows on."""
ROWS, ROWS_STRIDE, BYTES, BYTES_STRIDE, FACTORS, FACTORS_STRIDE, UNPACKED = range(7)
"""Where activations lie: bfloat16 rows; the same in bytes; per row the groups' scales and behind them their sums;
and room for two panels unpacked."""
_part = njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
_INT = np.int32(0)


def _rows_through(eight, four, two, one):
    """Rows through a pair of panels (`of`: the bytes from the first's scales to the second's), as many at a time as the
    tiles take. One row goes through one panel after the other: reading is then a single stream.
    """

    @_part
    def through(weight, size, by, of, x, step, s, jump, rows, out, out_stride, depth, add, pair):
        i = 0
        while i < rows:
            row, scales, to, left = x + i * step, s + i * jump, out + i * out_stride, rows - i
            if pair and left >= 8:
                eight(row, step, scales, jump, weight, size, by, to, out_stride, depth, add)
                i += 8
            elif pair and left >= 4:
                four(row, step, scales, jump, weight, size, by, to, out_stride, depth, add)
                i += 4
            elif pair and left >= 2:
                two(row, step, scales, jump, weight, size, by, to, out_stride, depth, add)
                i += 2
            else:
                for c in range(2 if pair else 1):
                    at, there = weight + c * size, to + c * PANEL * 4
                    one(row, step, scales, jump, at, size, by + c * of, there, out_stride, depth, add)
                i += 1

    return through


_SHAPES = ((8, 2), (4, 2), (2, 2), (1, 1))
_packed, _unpacked, _in_8_bits, _in_4_bits = (
    _rows_through(*(tile(kind, rows, panels) for rows, panels in _SHAPES)) for kind in (12, 16, 8, 4)
)


@_part
def multiply(kind, line, inputs, rows, out, out_stride, add):
    """The activations of `rows` rows times a weight; float32 at `out`, `out_stride` bytes from row to row."""
    _product(kind, line, inputs, rows, out, out_stride, add)
    if line[BIAS] != 0:
        _add_bias(line, rows, out, out_stride)


def _product(kind, line, inputs, rows, out, out_stride, add):
    """By kind, so that only what a model needs is compiled."""


@overload(_product)
def _product_of(kind, line, inputs, rows, out, out_stride, add):
    chosen = {16: _multiply_bfloat16, 8: _multiply_8, 4: _multiply_4}[_bits(kind)]

    def product(kind, line, inputs, rows, out, out_stride, add):
        chosen(line, inputs, rows, out, out_stride, add)

    return product


def _bits(kind):
    return {types.uint16: 16, types.uint8: 8, types.int8: 4}[kind]


@_part
def _add_bias(line, rows, out, out_stride):
    bias = carray(pointer(line[BIAS], FLOAT32), (line[OUTPUTS],))
    for i in range(rows):
        row = carray(pointer(out + i * out_stride, FLOAT32), (line[OUTPUTS],))
        for j in range(row.size):
            row[j] += bias[j]


@_part
def _multiply_bfloat16(line, inputs, rows, out, out_stride, add):
    """Two panels at a time. Where rows are many, those after the first share the work of unpacking them."""
    depth, panels, step = line[INPUTS], line[OUTPUTS] // PANEL, inputs[ROWS_STRIDE]
    size, x, room = depth // 2 * LINE, inputs[ROWS], inputs[UNPACKED]
    first = rows if rows < MANY else FIRST
    for p in range(0, panels, 2):
        pair = p + 2 <= panels
        weight, uppers, into = line[WEIGHT] + p * size, line[SCALES] + p * NUMBERED, out + p * PANEL * 4
        _packed(weight, size, uppers, NUMBERED, x, step, 0, 0, first, into, out_stride, depth, add, pair)
        if first < rows:
            for c in range(2 if pair else 1):
                unpack(weight + c * size, uppers + c * NUMBERED, depth // 2, room + c * depth * PANEL * 2)
            others, below, whole = x + first * step, into + first * out_stride, depth * PANEL * 2
            _unpacked(room, whole, 0, 0, others, step, 0, 0, rows - first, below, out_stride, depth, add, pair)
    add_rare(line[RARE], line[RARES], x, step, depth, rows, out, out_stride)


def _in_bytes_through(through, numbers, factors):
    """A product whose activations are bytes: `numbers` weights in a byte, `factors` bytes of scales and offsets for
    each group of a column.
    """

    @_part
    def multiply(line, inputs, rows, out, out_stride, add):
        x, step, s, jump = inputs[BYTES], inputs[BYTES_STRIDE], inputs[FACTORS], inputs[FACTORS_STRIDE]
        depth, panels = line[INPUTS], line[OUTPUTS] // PANEL
        size, of = depth * PANEL // numbers, depth // GROUP * PANEL * factors
        for p in range(0, panels, 2):
            weight, by, into = line[WEIGHT] + p * size, line[SCALES] + p * of, out + p * PANEL * 4
            through(weight, size, by, of, x, step, s, jump, rows, into, out_stride, depth, add, p + 2 <= panels)

    return multiply


_multiply_8, _multiply_4 = _in_bytes_through(_in_8_bits, 1, 2), _in_bytes_through(_in_4_bits, 2, 4)


@_part
def prepare(kind, row, inputs, i):
    """Put a float32 row where tiles of this kind read row `i`, and as bfloat16 for the adapters."""
    rounded = carray(pointer(inputs[ROWS] + i * inputs[ROWS_STRIDE], BFLOAT16), (row.size,))
    for j in range(row.size):
        rounded[j] = narrow(row[j], BFLOAT16)
    _in_bytes(kind, row, inputs, i)


def _in_bytes(kind, row, inputs, i):
    """The row in bytes, where the kind wants that."""


@overload(_in_bytes)
def _in_bytes_of(kind, row, inputs, i):
    bits = _bits(kind)
    if bits == 16:
        return lambda kind, row, inputs, i: None

    def in_bytes(kind, row, inputs, i):
        groups = row.size // GROUP
        values, numbers = row.ctypes.data, inputs[BYTES] + i * inputs[BYTES_STRIDE]
        factors = inputs[FACTORS] + i * inputs[FACTORS_STRIDE]
        scales = carray(pointer(factors, FLOAT32), (groups,))
        whole = carray(pointer(factors + inputs[FACTORS_STRIDE] // 2, _INT), (groups,))
        sums = carray(pointer(factors + inputs[FACTORS_STRIDE] // 2, FLOAT32), (groups,))
        for g in range(groups):
            scale, total = quantize(values + g * GROUP * 4, numbers + g * GROUP)
            scales[g] = scale
            if bits == 8:
                whole[g] = -128 * total
            else:
                sums[g] = scale * np.float32(total)

    return in_bytes
