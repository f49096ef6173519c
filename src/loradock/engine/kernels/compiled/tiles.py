"""Matrix products of a few rows with a few panels of weights, all sums in the processor's registers.

A panel is 16 columns of a weight (16 of its outputs), its numbers in the order in which they are read: for bfloat16
two inputs of each column beside each other (packed, see `twelve`), for bytes four. While a tile is computed, the lines
of the panels that come next are asked for: at sixteen rows that takes a third off the time, since neither reading nor
computing then waits for the other.
"""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from loradock.engine.kernels.compiled import simd as m
from loradock.engine.kernels.compiled.bf16_codec import LINE, NUMBERED

GROUP = 32
"""The number of inputs that share a scale, in weights and in activations."""
_STEPS = 2
SHORT_NUMBERS = m.ADDS_PAIRS and not m.DOTS_BYTES
"""Sums of bytes are made of 16-bit numbers, two of which the processor multiplies and adds at once."""
_FINITE = ((">", 0.0), ("<", math.inf))


def tile(kind, rows, panels):
    """An intrinsic `(x, x_stride, scales, scales_stride, weights, panel_bytes, weight_scales, out, out_stride, depth,
    add)`: the product of `rows` rows and `panels` panels, stored or (`add`) added to float32 at `out`.

    Strides in bytes. `kind` 12: x are bfloat16 rows, `weight_scales` the panels' upper bytes; 16: the same with
    unpacked weights. 8 and 4: bytes; `scales` of a row holds one float32 per group, and behind all of them
    (`scales_stride` / 2) what its sum contributes. Where the processor has no dot product, x are float32, or with
    8 bits 16-bit numbers (see `_put_shorts`).
    """
    body = {16: _bfloat16, 12: _packed, 8: _bytes, 4: _nibbles}[kind]

    @intrinsic
    def product(
        typingctx, x, x_stride, scales, scales_stride, weights, panel, weight_scales, out, out_stride, depth, add
    ):
        def generate(context, builder, signature, arguments):
            x, x_stride, scales, scales_stride, weights, panel, weight_scales, out, out_stride, depth, add = arguments
            sums = body(
                builder,
                [m.add(builder, x, (x_stride, r)) for r in range(rows)],
                [m.add(builder, scales, (scales_stride, r)) for r in range(rows)],
                builder.udiv(scales_stride, m.number(2)),
                [m.add(builder, weights, (panel, c)) for c in range(panels)],
                builder.mul(panel, m.number(panels)),
                weight_scales,
                depth,
            )
            _put(builder, sums, out, out_stride, add)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 11), generate

    return product


def _quantize(put):
    """An intrinsic: a group of float32 at `values` as the nearest of 255 steps between minus and plus the largest, put
    at `numbers`. Gives (scale, sum of the numbers).
    """

    @intrinsic
    def quantize(typingctx, values, numbers):
        def generate(context, builder, signature, arguments):
            values, numbers = arguments
            parts = [m.load(builder, m.add(builder, values, 4 * n), m.FLOATS) for n in range(0, GROUP, m.LANES)]
            largest = m.largest_size(builder, parts)
            scale = builder.fmul(largest, ir.Constant(m.FLOAT, 1 / 127))
            inverse = builder.fdiv(ir.Constant(m.FLOAT, 127.0), largest)
            # Bytes know no NaN: what is not finite makes the scale so, and with it all sums.
            usable = builder.and_(*(builder.fcmp_ordered(op, largest, ir.Constant(m.FLOAT, n)) for op, n in _FINITE))
            inverse = m.splat(builder, builder.select(usable, inverse, ir.Constant(m.FLOAT, 0.0)))
            parts = [builder.select(usable, part, ir.Constant(m.FLOATS, [0.0] * m.LANES)) for part in parts]
            steps = [m.on_lanes(builder, "rint", m.multiply(builder, part, inverse)) for part in parts]
            whole = [builder.fptosi(part, m.INTS) for part in steps]
            for n, part in enumerate(whole):
                put(builder, part, numbers, m.LANES * n)
            total = m.whole_sum_of_lanes(builder, builder.add(*whole))
            return context.make_tuple(builder, signature.return_type, (scale, total))

        return types.Tuple((types.float32, types.int32))(types.int64, types.int64), generate

    return quantize


def _put_bytes(builder, whole, numbers, at):
    m.store(builder, builder.trunc(whole, m.BYTES), m.add(builder, numbers, at))


def _put_shorts(builder, whole, numbers, at):
    """Store of each four numbers the first and third, then the others: the order that `_byte_parts` takes."""
    order = [four + n for four in range(0, m.LANES, 4) for n in (0, 2, 1, 3)]
    shorts = builder.trunc(whole, m.SHORTS)
    m.store(builder, m.mixed(builder, shorts, shorts, order), m.add(builder, numbers, 2 * at))


quantize, quantize_shorts = _quantize(_put_bytes), _quantize(_put_shorts)


@intrinsic
def half(typingctx, address):
    """The half-precision number there as float32: Numba has no such type."""

    def generate(context, builder, signature, arguments):
        return builder.fpext(m.load(builder, arguments[0], m.HALF), m.FLOAT)

    return types.float32(types.int64), generate


@intrinsic
def unpack(typingctx, weights, uppers, count, ahead, out):
    """`count` lines of a panel in 12 bits to as many of bfloat16 at `out`. Where no tile of packed panels asks for what
    comes next, this does, `ahead` bytes on.
    """

    def generate(context, builder, signature, arguments):
        weights, uppers, count, ahead, out = arguments
        table = m.four_times(builder, uppers)
        with cgutils.for_range(builder, count) as loop:
            at = m.add(builder, weights, (loop.index, LINE))
            if not m.MANY_REGISTERS:
                m.prefetch(builder, m.add(builder, at, ahead))
            m.store(builder, m.unpacked(builder, at, table), m.add(builder, out, (loop.index, m.LINE)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


def _packed(builder, x, scales, behind, weights, ahead, uppers, depth):
    tables = [m.four_times(builder, m.add(builder, uppers, NUMBERED * c)) for c in range(len(weights))]

    def vectors(step):
        addresses = [m.add(builder, panel, (step, LINE)) for panel in weights]
        for address in addresses:
            m.prefetch(builder, m.add(builder, address, ahead))
        return [m.unpacked(builder, at, table) for at, table in zip(addresses, tables, strict=True)]

    return _pairs(builder, x, len(weights), depth, vectors)


def _bfloat16(builder, x, scales, behind, weights, ahead, uppers, depth):
    def vectors(step):
        return [m.load(builder, m.add(builder, panel, (step, m.LINE)), m.INTS) for panel in weights]

    return _pairs(builder, x, len(weights), depth, vectors)


def _pairs(builder, x, panels, depth, vectors):
    """Every tile adds a row's products in the same order, one after the other: a row is computed
    alike whoever goes through with it. (In several chains a single row would wait less for its additions, but it waits
    for memory as long.)
    """
    sums = [[_zero(builder, m.FLOATS) for _ in range(panels)] for _ in x]
    with cgutils.for_range(builder, builder.udiv(depth, m.number(2 * _STEPS))) as loop:
        for u in range(_STEPS):
            step = m.add(builder, m.number(u), (loop.index, _STEPS))
            lines = vectors(step)
            for half in (None,) if m.DOTS_BFLOAT16 else (m.low_half, m.high_half):
                halves = lines if half is None else [half(builder, line) for line in lines]
                for r, row in enumerate(x):
                    number = _number_of(builder, row, step, half)
                    for c, vector in enumerate(halves):
                        total = sums[r][c]
                        add = m.dot_bfloat16 if half is None else _add_product
                        builder.store(add(builder, builder.load(total), number, vector), total)
    return [[builder.load(total) for total in row] for row in sums]


def _number_of(builder, row, step, half):
    """A row's two bfloat16 of a step, or one of its two float32."""
    if half is None:
        return m.splat(builder, m.load(builder, m.add(builder, row, (step, 4)), m.INT))
    second = 4 if half is m.high_half else 0
    return m.splat(builder, m.load(builder, m.add(builder, row, second, (step, 8)), m.FLOAT))


def _add_product(builder, total, number, vector):
    return m.multiply_add(builder, number, vector, total)


def _bytes(builder, x, scales, behind, weights, ahead, weight_scales, depth):
    """Unsigned weights are 128 too large: what that adds to a group's sum is taken off where the sum begins."""
    steps = GROUP // 4
    groups = builder.udiv(depth, m.number(GROUP))
    chains = 2 if len(x) * len(weights) < 4 else 1
    sums = [[_zero(builder, m.FLOATS) for _ in weights] for _ in x]
    with cgutils.for_range(builder, groups) as loop:
        group = builder.mul(loop.index, m.number(4))
        whole = [
            [[_whole(builder, chains, row, behind, group, n) for n in range(chains)] for _ in weights] for row in scales
        ]
        for step in range(steps):
            line = m.add(builder, m.number(m.LINE * step), (loop.index, m.LINE * steps))
            vectors = _lines(builder, weights, line, ahead)
            for pairs, part, of in _byte_parts(builder, vectors):
                for r, row in enumerate(x):
                    at = m.add(builder, row, of * step + part, (loop.index, of * GROUP // 4))
                    numbers = m.splat(builder, m.load(builder, at, m.INT))
                    for c, vector in enumerate(pairs):
                        total = whole[r][c][step % chains]
                        builder.store(_dot_of_bytes(builder, builder.load(total), vector, numbers), total)
        for c in range(len(weights)):
            at = m.add(builder, weight_scales, (groups, m.LINE // 2 * c), (loop.index, m.LINE // 2))
            scale = builder.fpext(m.load(builder, at, m.HALVES), m.FLOATS)
            for r, row in enumerate(scales):
                total = builder.sitofp(_sum(builder, whole[r][c], integers=True), m.FLOATS)
                both = m.multiply(builder, scale, _number_at(builder, row, group))
                builder.store(m.multiply_add(builder, total, both, builder.load(sums[r][c])), sums[r][c])
    return [[builder.load(total) for total in row] for row in sums]


def _nibbles(builder, x, scales, behind, weights, ahead, weight_scales, depth):
    """A line holds two steps, in the low and the high halves of its bytes; a weight is number * scale + offset."""
    groups = builder.udiv(depth, m.number(GROUP))
    lines = GROUP // 8
    sums = [[_zero(builder, m.FLOATS) for _ in weights] for _ in x]
    low = m.all_lanes(m.INTS, 0x0F0F0F0F)
    with cgutils.for_range(builder, groups) as loop:
        group = builder.mul(loop.index, m.number(4))
        whole = [[_zero(builder, m.INTS) for _ in weights] for _ in x]
        for step in range(lines):
            line = m.add(builder, m.number(m.LINE * step), (loop.index, m.LINE * lines))
            vectors = _lines(builder, weights, line, ahead)
            shifted = [builder.lshr(vector, m.all_lanes(m.INTS, 4)) for vector in vectors]
            for second, packed in enumerate((vectors, shifted)):
                part = [builder.and_(vector, low) for vector in packed]
                for r, row in enumerate(x):
                    at = m.add(builder, row, 8 * step + 4 * second, (loop.index, GROUP))
                    four = m.splat(builder, m.load(builder, at, m.INT))
                    for c, vector in enumerate(part):
                        total = whole[r][c]
                        builder.store(_dot_of_nibbles(builder, builder.load(total), vector, four), total)
        for c in range(len(weights)):
            at = m.add(builder, weight_scales, (groups, m.LINE * c), (loop.index, m.LINE))
            scale = builder.fpext(m.load(builder, at, m.HALVES), m.FLOATS)
            offset = builder.fpext(m.load(builder, m.add(builder, at, m.LINE // 2), m.HALVES), m.FLOATS)
            for r, row in enumerate(scales):
                both = m.multiply(builder, scale, _number_at(builder, row, group))
                total = builder.sitofp(_whole_of_nibbles(builder, builder.load(whole[r][c])), m.FLOATS)
                total = m.multiply_add(builder, total, both, builder.load(sums[r][c]))
                of_row = _number_at(builder, m.add(builder, row, behind), group)
                builder.store(m.multiply_add(builder, offset, of_row, total), sums[r][c])
    return [[builder.load(total) for total in row] for row in sums]


def _byte_parts(builder, vectors):
    """(the weights, where a row's numbers for them begin, how many bytes a row has for a step) of each part that is
    multiplied by itself: all four weights of a step, or the first and third and then the others as 16-bit numbers.
    """
    if not SHORT_NUMBERS:
        return [(vectors, 0, 4)]
    first = [builder.and_(vector, m.all_lanes(m.INTS, 0x00FF00FF)) for vector in vectors]
    second = [builder.and_(builder.lshr(v, m.all_lanes(m.INTS, 8)), m.all_lanes(m.INTS, 0x00FF00FF)) for v in vectors]
    return [(first, 0, 8), (second, 4, 8)]


def _dot_of_bytes(builder, total, weights, numbers):
    if not SHORT_NUMBERS:
        return m.dot_bytes(builder, total, weights, numbers)
    return m.dot_shorts(builder, total, weights, numbers)


def _dot_of_nibbles(builder, total, weights, numbers):
    """Sums of 8 steps fit 16 bits: 16 * 15 * 127 is below 2**15."""
    if not SHORT_NUMBERS:
        return m.dot_bytes(builder, total, weights, numbers)
    return m.dot_bytes_in_shorts(builder, total, weights, numbers)


def _whole_of_nibbles(builder, total):
    if not SHORT_NUMBERS:
        return total
    return m.dot_shorts(builder, m.all_lanes(m.INTS, 0), total, m.all_lanes(m.INTS, 0x00010001))


def _zero(builder, kind):
    place = cgutils.alloca_once(builder, kind)
    builder.store(ir.Constant(kind, [0] * m.LANES), place)
    return place


def _whole(builder, chains, row, behind, group, number):
    """Return the start of a group's sum: for the first chain what the row contributes, for others 0."""
    place = cgutils.alloca_once(builder, m.INTS)
    start = m.load(builder, m.add(builder, row, behind, group), m.INT)
    builder.store(m.splat(builder, start) if number == 0 else ir.Constant(m.INTS, [0] * m.LANES), place)
    return place


def _lines(builder, weights, line, ahead):
    """The next line of every panel."""
    addresses = [m.add(builder, panel, line) for panel in weights]
    for address in addresses:
        m.prefetch(builder, m.add(builder, address, ahead))
    return [m.load(builder, address, m.INTS) for address in addresses]


def _number_at(builder, row, offset):
    return m.splat(builder, m.load(builder, m.add(builder, row, offset), m.FLOAT))


def _sum(builder, chain, *, integers=False):
    total, *others = [builder.load(place) for place in chain]
    for other in others:
        total = builder.add(total, other) if integers else builder.fadd(total, other)
    return total


def _put(builder, sums, out, out_stride, add):
    adding = builder.icmp_signed("!=", add, m.number(0))
    for r, row in enumerate(sums):
        for c, total in enumerate(row):
            at = m.add(builder, out, (out_stride, r), m.LINE * c)
            with builder.if_else(adding) as (yes, no):
                with yes:
                    m.store(builder, builder.fadd(m.load(builder, at, m.FLOATS), total), at)
                with no:
                    m.store(builder, total, at)
