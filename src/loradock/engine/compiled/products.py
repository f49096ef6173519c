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

_p82, _p42, _p22, _p12, _p11 = (tile(12, r, c) for r, c in ((8, 2), (4, 2), (2, 2), (1, 2), (1, 1)))
_b82, _b42, _b12, _b11 = (tile(16, r, c) for r, c in ((8, 2), (4, 2), (1, 2), (1, 1)))
_e82, _e81, _e42, _e41, _e21, _e11 = (tile(8, r, c) for r, c in ((8, 2), (8, 1), (4, 2), (4, 1), (2, 1), (1, 1)))
_f42, _f41, _f21, _f11 = (tile(4, r, c) for r, c in ((4, 2), (4, 1), (2, 1), (1, 1)))


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
    size, x = depth // 2 * LINE, inputs[ROWS]
    first = rows if rows < MANY else FIRST
    for p in range(0, panels, 2):
        pair = p + 2 <= panels
        weight, uppers, into = line[WEIGHT] + p * size, line[SCALES] + p * NUMBERED, out + p * PANEL * 4
        _multiply_packed(weight, size, uppers, x, step, first, into, out_stride, depth, add, pair)
        if first < rows:
            for c in range(2 if pair else 1):
                unpack(weight + c * size, uppers + c * NUMBERED, depth // 2, inputs[UNPACKED] + c * depth * PANEL * 2)
            others, below = x + first * step, into + first * out_stride
            _multiply_unpacked(inputs[UNPACKED], others, step, rows - first, below, out_stride, depth, add, pair)
    add_rare(line[RARE], line[RARES], x, step, depth, rows, out, out_stride)


@_part
def _multiply_packed(weight, size, uppers, first, step, rows, out, out_stride, depth, add, pair):
    i = 0
    while i < rows:
        x, to, left = first + i * step, out + i * out_stride, rows - i
        if not pair:
            _p11(x, step, 0, 0, weight, size, uppers, to, out_stride, depth, add)
            i += 1
        elif left >= 8:
            _p82(x, step, 0, 0, weight, size, uppers, to, out_stride, depth, add)
            i += 8
        elif left >= 4:
            _p42(x, step, 0, 0, weight, size, uppers, to, out_stride, depth, add)
            i += 4
        elif left >= 2:
            _p22(x, step, 0, 0, weight, size, uppers, to, out_stride, depth, add)
            i += 2
        else:
            _p12(x, step, 0, 0, weight, size, uppers, to, out_stride, depth, add)
            i += 1


@_part
def _multiply_unpacked(weight, first, step, rows, out, out_stride, depth, add, pair):
    i, size = 0, depth * PANEL * 2
    while i < rows:
        x, to, left = first + i * step, out + i * out_stride, rows - i
        if not pair:
            _b11(x, step, 0, 0, weight, size, 0, to, out_stride, depth, add)
            i += 1
        elif left >= 8:
            _b82(x, step, 0, 0, weight, size, 0, to, out_stride, depth, add)
            i += 8
        elif left >= 4:
            _b42(x, step, 0, 0, weight, size, 0, to, out_stride, depth, add)
            i += 4
        else:
            _b12(x, step, 0, 0, weight, size, 0, to, out_stride, depth, add)
            i += 1


@_part
def _multiply_8(line, inputs, rows, out, out_stride, add):
    depth, panels = line[INPUTS], line[OUTPUTS] // PANEL
    step, jump = inputs[BYTES_STRIDE], inputs[FACTORS_STRIDE]
    size, of_scales, p = depth * PANEL, depth // GROUP * PANEL * 2, 0
    while p < panels:
        many = rows >= 4 and p + 2 <= panels
        weight, scales, into, i = line[WEIGHT] + p * size, line[SCALES] + p * of_scales, out + p * PANEL * 4, 0
        while i < rows:
            x, s, to, left = inputs[BYTES] + i * step, inputs[FACTORS] + i * jump, into + i * out_stride, rows - i
            if left >= 8:
                if many:
                    _e82(x, step, s, jump, weight, size, scales, to, out_stride, depth, add)
                else:
                    _e81(x, step, s, jump, weight, size, scales, to, out_stride, depth, add)
                i += 8
            elif left >= 4:
                if many:
                    _e42(x, step, s, jump, weight, size, scales, to, out_stride, depth, add)
                else:
                    _e41(x, step, s, jump, weight, size, scales, to, out_stride, depth, add)
                i += 4
            else:
                for c in range(2 if many else 1):
                    at, there, by = weight + c * size, to + c * PANEL * 4, scales + c * of_scales
                    if left >= 2:
                        _e21(x, step, s, jump, at, size, by, there, out_stride, depth, add)
                    else:
                        _e11(x, step, s, jump, at, size, by, there, out_stride, depth, add)
                i += 2 if left >= 2 else 1
        p += 2 if many else 1


@_part
def _multiply_4(line, inputs, rows, out, out_stride, add):
    depth, panels = line[INPUTS], line[OUTPUTS] // PANEL
    step, jump = inputs[BYTES_STRIDE], inputs[FACTORS_STRIDE]
    size, of_scales, p = depth * PANEL // 2, depth // GROUP * PANEL * 4, 0
    while p < panels:
        many = rows >= 4 and p + 2 <= panels
        weight, scales, into, i = line[WEIGHT] + p * size, line[SCALES] + p * of_scales, out + p * PANEL * 4, 0
        while i < rows:
            x, s, to, left = inputs[BYTES] + i * step, inputs[FACTORS] + i * jump, into + i * out_stride, rows - i
            if left >= 4:
                if many:
                    _f42(x, step, s, jump, weight, size, scales, to, out_stride, depth, add)
                else:
                    _f41(x, step, s, jump, weight, size, scales, to, out_stride, depth, add)
                i += 4
            else:
                for c in range(2 if many else 1):
                    at, there, by = weight + c * size, to + c * PANEL * 4, scales + c * of_scales
                    if left >= 2:
                        _f21(x, step, s, jump, at, size, by, there, out_stride, depth, add)
                    else:
                        _f11(x, step, s, jump, at, size, by, there, out_stride, depth, add)
                i += 2 if left >= 2 else 1
        p += 2 if many else 1


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
