"""Sums of bfloat16 vectors, each with its own weight, in registers: an adapter's B, the values of a cache block."""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from loradock.engine.kernels.compiled import simd as m


def weighted(rows, vectors, *, asks=False):
    """An intrinsic `(weights, stride, count, terms, terms_stride, ahead, columns, out, out_stride)`.

    out float32 `[rows, columns]` += weights float32 `[rows, count]` · terms bfloat16 `[count, columns]`, the columns in
    runs of so many vectors. Strides in bytes. `asks`: the same terms `ahead` bytes on are asked for.
    """

    @intrinsic
    def sums(typingctx, weights, stride, count, terms, terms_stride, ahead, columns, out, out_stride):
        def generate(context, builder, signature, arguments):
            weights, stride, count, terms, terms_stride, ahead, columns, out, out_stride = arguments
            with cgutils.for_range(builder, builder.udiv(columns, m.number(vectors * m.LANES))) as run:
                places = [
                    [
                        m.add(builder, out, (out_stride, r), (run.index, vectors * m.LINE), m.LINE * v)
                        for v in range(vectors)
                    ]
                    for r in range(rows)
                ]
                totals = [[cgutils.alloca_once(builder, m.FLOATS) for _ in row] for row in places]
                _each(places, totals, lambda place, total: builder.store(m.load(builder, place, m.FLOATS), total))
                with cgutils.for_range(builder, count) as loop:
                    at = m.add(builder, terms, (terms_stride, loop.index), (run.index, vectors * m.LINE // 2))
                    for line in range(0, vectors if asks else 0, 2):
                        m.prefetch(builder, m.add(builder, at, ahead, line * m.LINE // 2))
                    shorts = [m.load(builder, m.add(builder, at, m.LINE // 2 * v), m.SHORTS) for v in range(vectors)]
                    wide = [m.widen(builder, part) for part in shorts]
                    for r, row in enumerate(totals):
                        weight = m.load(builder, m.add(builder, weights, (stride, r), (loop.index, 4)), m.FLOAT)
                        weight = m.splat(builder, weight)
                        for vector, total in zip(wide, row, strict=True):
                            builder.store(m.multiply_add(builder, weight, vector, builder.load(total)), total)
                _each(places, totals, lambda place, total: m.store(builder, builder.load(total), place))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), generate

    return sums


def _each(places, totals, do):
    for row, sums in zip(places, totals, strict=True):
        for place, total in zip(row, sums, strict=True):
            do(place, total)
