"""Every row through its own adapter, whatever the mix: rows of one adapter four at a time, sums in registers."""

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from loradock.engine.compiled import machine as m
from loradock.engine.compiled.products import ROWS, ROWS_STRIDE
from loradock.engine.kernels import FAST, pointer

MODULE = 4
"""A module's entry in a table's line: the address of its rows, the rank, first and end column of the output."""
RANKS_AT_ONCE = 4
_part = njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
_INDEX = np.int64(0)


def _shrink(rows, ranks):
    """An intrinsic: `sums` float32 `[rows, ranks]` (`stride` bytes apart) = x · A of so many rows and ranks."""

    @intrinsic
    def shrink(typingctx, x, x_stride, a, a_stride, depth, sums, stride):
        def generate(context, builder, signature, arguments):
            x, x_stride, a, a_stride, depth, sums, stride = arguments
            totals = [
                [cgutils.alloca_once_value(builder, ir.Constant(m.FLOATS, [0.0] * 16)) for _ in range(ranks)]
                for _ in range(rows)
            ]
            with cgutils.for_range(builder, builder.udiv(depth, m.number(32))) as loop:
                left = [
                    m.load(builder, m.add(builder, x, (x_stride, r), (loop.index, m.LINE)), m.INTS) for r in range(rows)
                ]
                for k in range(ranks):
                    right = m.load(builder, m.add(builder, a, (a_stride, k), (loop.index, m.LINE)), m.INTS)
                    for r in range(rows):
                        total = totals[r][k]
                        builder.store(m.dot_bfloat16(builder, builder.load(total), left[r], right), total)
            for r in range(rows):
                for k in range(ranks):
                    total = m.sum_of_lanes(builder, builder.load(totals[r][k]))
                    m.store(builder, total, m.add(builder, sums, (stride, r), 4 * k))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), generate

    return shrink


def _expand(rows, vectors):
    """An intrinsic: out float32 `[rows, columns]` += sums `[rows, rank]` · B^T `[rank, columns]`, the columns in runs
    of so many vectors.
    """

    @intrinsic
    def expand(typingctx, sums, stride, rank, b, b_stride, columns, out, out_stride):
        def generate(context, builder, signature, arguments):
            sums, stride, rank, b, b_stride, columns, out, out_stride = arguments
            with cgutils.for_range(builder, builder.udiv(columns, m.number(vectors * m.LANES))) as block:
                run = (block.index, vectors * m.LINE)
                places = [
                    [m.add(builder, out, (out_stride, r), run, m.LINE * v) for v in range(vectors)] for r in range(rows)
                ]
                totals = [[cgutils.alloca_once(builder, m.FLOATS) for _ in row] for row in places]
                _each(places, totals, lambda place, total: builder.store(m.load(builder, place, m.FLOATS), total))
                with cgutils.for_range(builder, rank) as loop:
                    at = m.add(builder, b, (b_stride, loop.index), (block.index, vectors * m.LINE // 2))
                    shorts = [m.load(builder, m.add(builder, at, m.LINE // 2 * v), m.SHORTS) for v in range(vectors)]
                    wide = [m.widen(builder, part) for part in shorts]
                    for r, row in enumerate(totals):
                        factor = m.load(builder, m.add(builder, sums, (stride, r), (loop.index, 4)), m.FLOAT)
                        factor = m.splat(builder, factor)
                        for vector, total in zip(wide, row, strict=True):
                            builder.store(m.multiply_add(builder, factor, vector, builder.load(total)), total)
                _each(places, totals, lambda place, total: m.store(builder, builder.load(total), place))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), generate

    return expand


def _each(places, totals, do):
    for row, sums in zip(places, totals, strict=True):
        for place, total in zip(row, sums, strict=True):
            do(place, total)


_shrink_44, _shrink_41, _shrink_14, _shrink_11 = (_shrink(r, k) for r, k in ((4, 4), (4, 1), (1, 4), (1, 1)))
_expand_44, _expand_41, _expand_11 = (_expand(r, v) for r, v in ((4, 4), (4, 1), (1, 1)))
_LONG = 4 * 16


@_part
def add_adapters(table, entry, owners, inputs, depth, rows, out, out_stride, sums):
    """Add the adapters of `rows` rows to float32 at `out`.

    `owners` int64 `[rows]`: a row's line in the table at `table`, of `entry` numbers each; -1 for the base model.
    `sums` float32 `[4, rank]`, room for the largest rank.
    """
    i = 0
    while i < rows:
        owner, count = owners[i], 1
        while count < 4 and i + count < rows and owners[i + count] == owner:
            count += 1
        count = count if count == 4 else 1
        if owner >= 0:
            line = carray(pointer(table + owner * entry * 8, _INDEX), (entry,))
            x = inputs[ROWS] + i * inputs[ROWS_STRIDE]
            for part in range(0, entry, MODULE):
                if line[part + 1] > 0:
                    _add(
                        line[part : part + MODULE],
                        x,
                        inputs[ROWS_STRIDE],
                        depth,
                        count,
                        out + i * out_stride,
                        out_stride,
                        sums,
                    )
        i += count


@_part
def _add(line, x, x_stride, depth, count, out, out_stride, sums):
    at, rank, low, high = line[0], line[1], line[2], line[3]
    stride, length = rank * 4, (depth + high - low) * 2
    k = 0
    while k < rank:
        whole = k + RANKS_AT_ONCE <= rank
        a, s = at + k * length, sums + k * 4
        if count == 4:
            if whole:
                _shrink_44(x, x_stride, a, length, depth, s, stride)
            else:
                _shrink_41(x, x_stride, a, length, depth, s, stride)
        elif whole:
            _shrink_14(x, x_stride, a, length, depth, s, stride)
        else:
            _shrink_11(x, x_stride, a, length, depth, s, stride)
        k += RANKS_AT_ONCE if whole else 1
    b, into, columns = at + depth * 2, out + low * 4, high - low
    if count == 4:
        long = columns // _LONG * _LONG
        _expand_44(sums, stride, rank, b, length, long, into, out_stride)
        _expand_41(sums, stride, rank, b + long * 2, length, columns - long, into + long * 4, out_stride)
    else:
        _expand_11(sums, stride, rank, b, length, columns, into, out_stride)
