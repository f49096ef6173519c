"""Attention of single queries over the paged cache, sums in registers: decoding rows, and the rows of short chunks.

A block's keys lie as `[dim, positions]`, so that a line holds two numbers of sixteen positions; interleaved they are
what the processor's dot product of bfloat16 pairs takes, and the scores of sixteen positions grow in one register. Its
values lie as `[positions, dim]`. Reading the cache is what takes the time: while one query is at work, the blocks of
the next are asked for.
"""

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from loradock.engine.kernels.compiled import simd as m
from loradock.engine.kernels.compiled.jit import part_named
from loradock.engine.kernels.compiled.weighted_sum import weighted
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kernels.kernels import BFLOAT16, FAST, address, narrow, pointer, value

_part = njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
_SIZE = 2
"""Bytes of a number in the cache."""
_QUERY = 2 if m.DOTS_BFLOAT16 else 4
"""Bytes of a number of a query."""
_PAIRS = ir.VectorType(ir.IntType(16), 2 * m.LANES)
_BESIDE = [n // 2 + n % 2 * m.LANES for n in range(2 * m.LANES)]


def _add_pairs(builder, keys, queries, totals):
    """Sixteen positions' products of two numbers."""
    line = m.load(builder, keys, _PAIRS)
    pairs = builder.bitcast(m.mixed(builder, line, line, _BESIDE), m.INTS)
    for at, total in zip(queries, totals, strict=True):
        query = m.splat(builder, m.load(builder, at, m.INT))
        builder.store(m.dot_bfloat16(builder, builder.load(total), query, pairs), total)


def _add_one_by_one(builder, keys, queries, totals):
    """The same where the processor has no dot product: the queries are float32."""
    for second in range(2):
        vector = m.widen(builder, m.load(builder, m.add(builder, keys, second * m.LINE // 2), m.SHORTS))
        for at, total in zip(queries, totals, strict=True):
            number = m.splat(builder, m.load(builder, m.add(builder, at, second * _QUERY), m.FLOAT))
            builder.store(m.multiply_add(builder, number, vector, builder.load(total)), total)


def _score(heads):
    """An intrinsic: `scores` float32 `[heads, 16]` (`stride` bytes apart) = queries `[heads, dim]`, bfloat16 or, where
    the processor has no dot product, float32, times a block of keys. The same line `ahead` bytes on is asked for.
    """
    add_line = _add_pairs if m.DOTS_BFLOAT16 else _add_one_by_one

    @intrinsic
    def score(typingctx, queries, dim, keys, ahead, scores, stride):
        def generate(context, builder, signature, arguments):
            queries, dim, keys, ahead, scores, stride = arguments
            nothing = ir.Constant(m.FLOATS, [0.0] * m.LANES)
            chains = 2 if m.MANY_REGISTERS or heads == 1 else 1
            totals = [[cgutils.alloca_once_value(builder, nothing) for _ in range(chains)] for _ in range(heads)]
            with cgutils.for_range(builder, builder.udiv(dim, m.number(4))) as loop:
                for line in range(2):
                    at = m.add(builder, keys, (loop.index, 2 * m.LINE), line * m.LINE)
                    m.prefetch(builder, m.add(builder, at, ahead))
                    places = [
                        m.add(builder, queries, (dim, _QUERY * h), (loop.index, 4 * _QUERY), line * 2 * _QUERY)
                        for h in range(heads)
                    ]
                    add_line(builder, at, places, [total[line % chains] for total in totals])
            for h in range(heads):
                total, *others = [builder.load(chain) for chain in totals[h]]
                for other in others:
                    total = builder.fadd(total, other)
                m.store(builder, total, m.add(builder, scores, (stride, h)))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return score


_RUN = 4 if m.MANY_REGISTERS else 2
"""Vectors of a value that are summed at once."""
_LONG = _RUN * m.LANES


def _heads_through(heads):
    """Some heads' queries through a block of keys, and their weights through a block of values.

    One head takes its values vector by vector (docs/performance.md).
    """
    long_runs, short_runs = weighted(heads, _RUN if heads > 1 else 1, asks=True), weighted(heads, 1, asks=True)

    def gather(weights, stride, count, values, ahead, dim, out):
        long, size = dim // _LONG * _LONG, dim * _SIZE
        long_runs(weights, stride, count, values, size, ahead, long, out, dim * 4)
        rest, below = values + long * _SIZE, out + long * 4
        short_runs(weights, stride, count, rest, size, ahead, dim - long, below, dim * 4)

    return _score(heads), part_named(f"gather_{heads}", gather)


(_score_4, _gather_4), (_score_3, _gather_3), (_score_2, _gather_2), (_score_1, _gather_1) = (
    _heads_through(heads) for heads in (4, 3, 2, 1)
)


@intrinsic
def _weigh(typingctx, scores, blocks, scale):
    """Make of scores, float32 `[16 * blocks]`, the softmax of `scale` times them; minus infinity becomes 0."""

    def generate(context, builder, signature, arguments):
        scores, blocks, scale = arguments
        lowest = m.all_lanes(m.FLOATS, -np.inf)
        top = cgutils.alloca_once_value(builder, lowest)
        with cgutils.for_range(builder, blocks) as loop:
            vector = m.load(builder, m.add(builder, scores, (loop.index, m.LINE)), m.FLOATS)
            builder.store(m.larger(builder, vector, builder.load(top)), top)
        largest = m.splat(builder, m.largest_lane(builder, builder.load(top)))
        total = cgutils.alloca_once_value(builder, m.all_lanes(m.FLOATS, 0.0))
        scale = m.splat(builder, scale)
        with cgutils.for_range(builder, blocks) as loop:
            at = m.add(builder, scores, (loop.index, m.LINE))
            distance = builder.fsub(m.load(builder, at, m.FLOATS), largest)
            weight = m.exponential(builder, m.multiply(builder, distance, scale))
            m.store(builder, weight, at)
            builder.store(builder.fadd(builder.load(total), weight), total)
        one = ir.Constant(m.FLOAT, 1.0)
        share = m.splat(builder, builder.fdiv(one, m.sum_of_lanes(builder, builder.load(total))))
        with cgutils.for_range(builder, blocks) as loop:
            at = m.add(builder, scores, (loop.index, m.LINE))
            m.store(builder, m.multiply(builder, m.load(builder, at, m.FLOATS), share), at)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), generate


@_part
def attend(qkv, keys_at, values_at, tables, lengths, window, kv_heads, first, end, scores, room, out):
    """Items `first:end`, an item being a row's heads that share a key head.

    `qkv` uint16 `[rows, (heads + 2 * kv_heads) * dim]`, rotated; a layer's keys and values at `keys_at`, `values_at`;
    `tables` int64 `[rows, width]`; `lengths` int64 `[rows]`: how many keys a row sees, the last `window` of them
    unless that is 0. `scores` float32 `[heads per key head, 16 * width]` and `room` float32 `[2, heads per key head,
    dim]` are room. `out` uint16 `[rows, heads * dim]`.
    """
    group, dim = room.shape[1:]
    for item in range(first, end):
        i, g = item // kv_heads, item % kv_heads
        low, high = _blocks_of(lengths[i], window)
        queries = _queries(address(qkv[i]) + g * group * dim * _SIZE, room[1])
        for b in range(low, high):
            at, ahead = _block(tables, lengths, kv_heads, dim, item, end, b)
            _score_block(queries, group, dim, keys_at + at, ahead, scores, b * BLOCK_SIZE)
        _mask(scores, low * BLOCK_SIZE, lengths[i] - window if window > 0 else 0)
        _mask(scores, lengths[i], high * BLOCK_SIZE)
        for h in range(group):
            seen = scores[h, low * BLOCK_SIZE : high * BLOCK_SIZE]
            _weigh(address(seen), high - low, np.float32(1) / np.sqrt(np.float32(dim)))
        room[0] = np.float32(0)
        for b in range(low, high):
            at, ahead = _block(tables, lengths, kv_heads, dim, item, end, b)
            # What lies behind the last position may be another's, even not finite.
            count = min(BLOCK_SIZE, lengths[i] - b * BLOCK_SIZE)
            _gather_block(scores, b * BLOCK_SIZE, values_at + at, count, ahead, room[0])
        answer = carray(pointer(address(out[i]) + g * group * dim * _SIZE, BFLOAT16), (group, dim))
        for h in range(group):
            for j in range(dim):
                answer[h, j] = narrow(room[0, h, j], BFLOAT16)


@_part
def _blocks_of(length, window):
    """The first and the end of the blocks a row sees."""
    start = max(0, length - window) if window > 0 else 0
    return start // BLOCK_SIZE, (length + BLOCK_SIZE - 1) // BLOCK_SIZE


@_part
def _block(tables, lengths, kv_heads, dim, item, end, b):
    """Return where an item's block `b` lies, and how far ahead the next item's is, 0 if it has none."""
    size = dim * BLOCK_SIZE * _SIZE
    at = (tables[item // kv_heads, b] * kv_heads + item % kv_heads) * size
    following = item + 1
    if following >= end or b * BLOCK_SIZE >= lengths[following // kv_heads]:
        return at, 0
    return at, (tables[following // kv_heads, b] * kv_heads + following % kv_heads) * size - at


@_part
def _queries(at, room):
    """An item's queries as they are read: where they lie, or where they were put as float32."""
    if _QUERY == _SIZE:
        return at
    queries = carray(pointer(at, BFLOAT16), room.shape)
    for h in range(room.shape[0]):
        for j in range(room.shape[1]):
            room[h, j] = value(queries[h, j])
    return address(room)


@_part
def _mask(scores, low, high):
    for h in range(scores.shape[0]):
        for p in range(low, high):
            scores[h, p] = -np.inf


@_part
def _score_block(queries, group, dim, keys, ahead, scores, at):
    stride = scores.shape[1] * 4
    for h in range(0, group, 4):
        query, place, heads = queries + h * dim * _QUERY, address(scores[h, at:]), min(4, group - h)
        if heads == 4:
            _score_4(query, dim, keys, ahead, place, stride)
        elif heads == 3:
            _score_3(query, dim, keys, ahead, place, stride)
        elif heads == 2:
            _score_2(query, dim, keys, ahead, place, stride)
        else:
            _score_1(query, dim, keys, ahead, place, stride)


@_part
def _gather_block(scores, at, values, count, ahead, result):
    group, dim = result.shape
    stride = scores.shape[1] * 4
    for h in range(0, group, 4):
        weights, out, heads = address(scores[h, at:]), address(result[h]), min(4, group - h)
        if heads == 4:
            _gather_4(weights, stride, count, values, ahead, dim, out)
        elif heads == 3:
            _gather_3(weights, stride, count, values, ahead, dim, out)
        elif heads == 2:
            _gather_2(weights, stride, count, values, ahead, dim, out)
        else:
            _gather_1(weights, stride, count, values, ahead, dim, out)
