"""Products of many rows with a whole weight, made of tiles; and the rows' activations in the form that tiles read."""

import numpy as np
from numba import carray, njit, types
from numba.extending import overload

from loradock.engine.kernels.compiled.bf16_codec import LINE, NUMBERED, add_rare
from loradock.engine.kernels.compiled.jit import part_named
from loradock.engine.kernels.compiled.simd import DOTS_BFLOAT16, MANY_REGISTERS
from loradock.engine.kernels.compiled.tiles import GROUP, SHORT_NUMBERS, quantize, quantize_shorts, tile, unpack
from loradock.engine.kernels.kernels import BFLOAT16, FAST, FLOAT32, address, narrow, pointer, value

PANEL = 16
WEIGHT, SCALES, BIAS, BITS, OUTPUTS, INPUTS, RARE, RARES = range(8)
"""A product's line in the plan: addresses (SCALES of bfloat16: the upper bytes; BIAS 0: none), 16, 8 or 4 bits, its
size, and where and how many are the weights that are not in the panels (`twelve`)."""
KINDS = {16: np.uint16(0), 8: np.uint8(0), 4: np.int8(0)}
"""A value whose type tells the compiled code how many bits the weights have."""
FIRST, MANY = 8, 25 if MANY_REGISTERS else 9
"""From MANY rows on, those after the FIRST share unpacked panels; the others unpack them in the registers."""
ROWS, ROWS_STRIDE, TILED, TILED_STRIDE, FACTORS, FACTORS_STRIDE, UNPACKED = range(7)
"""The addresses of activations: bfloat16 rows; the same as tiles read them, where that is something else; per row the
groups' scales and behind them their sums; and room for two panels unpacked."""
TILED_BYTES = {16: 0 if DOTS_BFLOAT16 else 4, 8: 2 if SHORT_NUMBERS else 1, 4: 1}
"""The bytes that a number of TILED takes."""
_part = njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
_INT = np.int32(0)
_READ = ROWS if DOTS_BFLOAT16 else TILED


def _rows_through(name, eight, four, two, one):
    """Rows through a pair of panels (`of`: the bytes from the first's scales to the second's), as many at a time as the
    tiles take. One row goes through one panel after the other: reading is then a single stream.
    """

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

    return part_named(name, through)


def _rows_through_one(name, four, three, two, one):
    """The same through one panel after the other, for processors with few registers."""

    def through(weight, size, by, of, x, step, s, jump, rows, out, out_stride, depth, add, pair):
        for c in range(2 if pair else 1):
            at, factors, there = weight + c * size, by + c * of, out + c * PANEL * 4
            i = 0
            while i < rows:
                row, scales, to, left = x + i * step, s + i * jump, there + i * out_stride, rows - i
                if left >= 4:
                    four(row, step, scales, jump, at, size, factors, to, out_stride, depth, add)
                    i += 4
                elif left == 3:
                    three(row, step, scales, jump, at, size, factors, to, out_stride, depth, add)
                    i += 3
                elif left == 2:
                    two(row, step, scales, jump, at, size, factors, to, out_stride, depth, add)
                    i += 2
                else:
                    one(row, step, scales, jump, at, size, factors, to, out_stride, depth, add)
                    i += 1

    return part_named(name, through)


def _through(kind):
    name = f"through_{kind}"
    if MANY_REGISTERS:
        return _rows_through(name, *(tile(kind, rows, panels) for rows, panels in ((8, 2), (4, 2), (2, 2), (1, 1))))
    return _rows_through_one(name, *(tile(kind, rows, 1) for rows in (4, 3, 2, 1)))


_packed, _unpacked, _in_8_bits, _in_4_bits = (_through(kind) for kind in (12, 16, 8, 4))


@_part
def multiply(kind, line, inputs, rows, out, out_stride, add, first, end):
    """The activations of `rows` rows times panels `first:end` of a weight; float32 at `out`, where its first column
    is, `out_stride` bytes from row to row.
    """
    _product(kind, line, inputs, rows, out, out_stride, add, first, end)
    if line[BIAS] != 0:
        _add_bias(line, rows, out, out_stride, first * PANEL, end * PANEL)


def _product(kind, line, inputs, rows, out, out_stride, add, first, end):
    """Multiply by the function for this kind of weights, so that only what a model needs is compiled."""


@overload(_product)
def _product_of(kind, line, inputs, rows, out, out_stride, add, first, end):
    chosen = {16: _multiply_bfloat16, 8: _multiply_8, 4: _multiply_4}[_bits(kind)]

    def product(kind, line, inputs, rows, out, out_stride, add, first, end):
        chosen(line, inputs, rows, out, out_stride, add, first, end)

    return product


def _bits(kind):
    return {types.uint16: 16, types.uint8: 8, types.int8: 4}[kind]


@_part
def _add_bias(line, rows, out, out_stride, low, high):
    bias = carray(pointer(line[BIAS], FLOAT32), (line[OUTPUTS],))
    for i in range(rows):
        row = carray(pointer(out + i * out_stride, FLOAT32), (line[OUTPUTS],))
        for j in range(low, high):
            row[j] += bias[j]


@_part
def _multiply_in_pairs(line, inputs, rows, out, out_stride, add, begin, end):
    """Two panels at a time. Where rows are many, those after the first share the work of unpacking them."""
    depth, size, room = line[INPUTS], line[INPUTS] // 2 * LINE, inputs[UNPACKED]
    x, step = inputs[_READ], inputs[_READ + 1]
    first = rows if rows < MANY else FIRST
    for p in range(begin, end, 2):
        pair = p + 2 <= end
        weight, uppers, into = line[WEIGHT] + p * size, line[SCALES] + p * NUMBERED, out + p * PANEL * 4
        _packed(weight, size, uppers, NUMBERED, x, step, 0, 0, first, into, out_stride, depth, add, pair)
        if first < rows:
            for c in range(2 if pair else 1):
                unpack(weight + c * size, uppers + c * NUMBERED, depth // 2, 0, room + c * depth * PANEL * 2)
            others, below, whole = x + first * step, into + first * out_stride, depth * PANEL * 2
            _unpacked(room, whole, 0, 0, others, step, 0, 0, rows - first, below, out_stride, depth, add, pair)
    _add_rare(line, inputs, rows, out, out_stride, begin, end)


@_part
def _multiply_one_by_one(line, inputs, rows, out, out_stride, add, begin, end):
    """A panel at a time. Where rows are many, they share the work of unpacking it."""
    depth, size, room = line[INPUTS], line[INPUTS] // 2 * LINE, inputs[UNPACKED]
    x, step = inputs[_READ], inputs[_READ + 1]
    for p in range(begin, end):
        weight, uppers, into = line[WEIGHT] + p * size, line[SCALES] + p * NUMBERED, out + p * PANEL * 4
        if rows < MANY:
            _packed(weight, size, uppers, 0, x, step, 0, 0, rows, into, out_stride, depth, add, False)
        else:
            unpack(weight, uppers, depth // 2, size, room)
            _unpacked(room, 0, 0, 0, x, step, 0, 0, rows, into, out_stride, depth, add, False)
    _add_rare(line, inputs, rows, out, out_stride, begin, end)


@_part
def _add_rare(line, inputs, rows, out, out_stride, begin, end):
    x, step, low, high = inputs[ROWS], inputs[ROWS_STRIDE], begin * PANEL, end * PANEL
    add_rare(line[RARE], line[RARES], x, step, line[INPUTS], rows, out, out_stride, low, high)


_multiply_bfloat16 = _multiply_in_pairs if MANY_REGISTERS else _multiply_one_by_one


def _in_bytes_through(through, numbers, factors):
    """A product whose activations are bytes: `numbers` weights in a byte, `factors` bytes of scales and offsets for
    each group of a column.
    """

    def multiply(line, inputs, rows, out, out_stride, add, first, end):
        x, step, s, jump = inputs[TILED], inputs[TILED_STRIDE], inputs[FACTORS], inputs[FACTORS_STRIDE]
        depth = line[INPUTS]
        size, of = depth * PANEL // numbers, depth // GROUP * PANEL * factors
        for p in range(first, end, 2):
            weight, by, into = line[WEIGHT] + p * size, line[SCALES] + p * of, out + p * PANEL * 4
            through(weight, size, by, of, x, step, s, jump, rows, into, out_stride, depth, add, p + 2 <= end)

    return part_named(f"multiply_{8 // numbers}", multiply)


_multiply_8, _multiply_4 = _in_bytes_through(_in_8_bits, 1, 2), _in_bytes_through(_in_4_bits, 2, 4)


@_part
def prepare(kind, row, inputs, i):
    """Put a float32 row where tiles of this kind read row `i`, and as bfloat16 for the adapters."""
    rounded = carray(pointer(inputs[ROWS] + i * inputs[ROWS_STRIDE], BFLOAT16), (row.size,))
    for j in range(row.size):
        rounded[j] = narrow(row[j], BFLOAT16)
    _form(kind, row, inputs, i)


def _form(kind, row, inputs, i):
    """The row as the tiles of this kind read it, where that is not bfloat16."""


@overload(_form)
def _form_of(kind, row, inputs, i):
    bits = _bits(kind)
    if bits == 16:
        return _leave if DOTS_BFLOAT16 else _copy
    quantized, size = (quantize_shorts, 2) if bits == 8 and SHORT_NUMBERS else (quantize, 1)

    def in_groups(kind, row, inputs, i):
        groups = row.size // GROUP
        values, numbers = address(row), inputs[TILED] + i * inputs[TILED_STRIDE]
        factors = inputs[FACTORS] + i * inputs[FACTORS_STRIDE]
        scales = carray(pointer(factors, FLOAT32), (groups,))
        whole = carray(pointer(factors + inputs[FACTORS_STRIDE] // 2, _INT), (groups,))
        sums = carray(pointer(factors + inputs[FACTORS_STRIDE] // 2, FLOAT32), (groups,))
        for g in range(groups):
            scale, total = quantized(values + g * GROUP * 4, numbers + g * GROUP * size)
            scales[g] = scale
            if bits == 8:
                whole[g] = -128 * total
            else:
                sums[g] = scale * np.float32(total)

    return in_groups


def _leave(kind, row, inputs, i):
    return None


def _copy(kind, row, inputs, i):
    rounded = carray(pointer(inputs[ROWS] + i * inputs[ROWS_STRIDE], BFLOAT16), (row.size,))
    seen = carray(pointer(inputs[TILED] + i * inputs[TILED_STRIDE], FLOAT32), (row.size,))
    for j in range(row.size):
        seen[j] = value(rounded[j])
