"""Computes every row through its own adapter, whatever the mix: rows of one adapter four at a time, sums in
registers."""

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from loradock.engine.kernels.compiled import simd as m
from loradock.engine.kernels.compiled.products import ROWS, ROWS_STRIDE
from loradock.engine.kernels.compiled.weighted_sum import weighted
from loradock.engine.kernels.kernels import FAST, address, pointer

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


_shrink_44, _shrink_41, _shrink_14, _shrink_11 = (_shrink(r, k) for r, k in ((4, 4), (4, 1), (1, 4), (1, 1)))
_expand_44, _expand_41, _expand_11 = (weighted(r, v) for r, v in ((4, 4), (4, 1), (1, 1)))
_LONG = 4 * 16


@_part
def shrink_adapters(table, entry, owners, inputs, depth, first, end, sums):
    """x · A of rows `first:end`, of every module one behind the other, into float32 `sums` `[rows, ranks]`.

    `owners` int64 `[rows]`: a row's line in the table at `table`, of `entry` numbers each; -1 for the base model.
    """
    i = first
    while i < end:
        count = _alike(owners, i, end)
        if owners[i] >= 0:
            line = carray(pointer(table + owners[i] * entry * 8, _INDEX), (entry,))
            x, place, stride = inputs[ROWS] + i * inputs[ROWS_STRIDE], address(sums[i]), sums.shape[1] * 4
            for part in range(0, entry, MODULE):
                _shrink_rows(line[part : part + MODULE], x, inputs[ROWS_STRIDE], depth, count, place, stride)
                place += line[part + 1] * 4
        i += count


@_part
def expand_adapters(table, entry, owners, depth, rows, first, end, out, out_stride, sums):
    """Add the sums times B to columns `first:end` of float32 `[rows, …]` at `out`."""
    i = np.int64(0)
    while i < rows:
        count = _alike(owners, i, rows)
        if owners[i] >= 0:
            line = carray(pointer(table + owners[i] * entry * 8, _INDEX), (entry,))
            place, stride = address(sums[i]), sums.shape[1] * 4
            for part in range(0, entry, MODULE):
                module = line[part : part + MODULE]
                _expand_rows(module, place, stride, depth, first, end, count, out + i * out_stride, out_stride)
                place += module[1] * 4
        i += count


@_part
def _alike(owners, i, end):
    """Return how many rows from `i` on are taken together: four of one adapter, or one."""
    count = 1
    while count < 4 and i + count < end and owners[i + count] == owners[i]:
        count += 1
    return count if count == 4 else 1


@_part
def _shrink_rows(module, x, x_stride, depth, count, sums, stride):
    at, rank = module[0], module[1]
    length = (depth + module[3] - module[2]) * 2
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


@_part
def _expand_rows(module, sums, stride, depth, first, end, count, out, out_stride):
    at, rank, low, high = module[0], module[1], module[2], module[3]
    begin, columns = max(first, low), min(end, high) - max(first, low)
    if rank == 0 or columns <= 0:
        return
    length = (depth + high - low) * 2
    b, into = at + (depth + begin - low) * 2, out + begin * 4
    if count == 4:
        long = columns // _LONG * _LONG
        _expand_44(sums, stride, rank, b, length, 0, long, into, out_stride)
        _expand_41(sums, stride, rank, b + long * 2, length, 0, columns - long, into + long * 4, out_stride)
    else:
        _expand_11(sums, stride, rank, b, length, 0, columns, into, out_stride)
