"""The small steps between the matrix products on a CPU, compiled by Numba: no compiler is needed on the machine.

Tensors come as addresses (`Tensor.data_ptr()`), so that a call costs a microsecond; `like` gives their type:
`BFLOAT16` (their bits as integers) or `FLOAT32`. All arithmetic is in float32. Every kernel runs on the calling
thread and without the interpreter's lock. The machine code is kept on disk (`kernel_cache`).
"""

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from loradock.engine.kernels import kernel_cache
from loradock.engine.kernels.constants import BLOCK_SIZE

kernel_cache.use()
BFLOAT16, FLOAT32 = np.uint16(0), np.float32(0)
# Sums may be reordered (that is what makes them vectors), but infinities and NaN keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}
LANES = 16
_CHAINS = 4
VECTOR = ir.VectorType(ir.FloatType(), LANES)
_LOWEST = np.float32(-87.0)
_INDEX = np.int64(0)
LORA_SCRATCH = 4
_kernel = njit(nogil=True, fastmath=FAST, cache=True, error_model="numpy")
_part = njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@intrinsic
def pointer(typingctx, address, like):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.intp, like), generate


@intrinsic
def address(typingctx, array):
    """Return the address of an array as int64: `ctypes.data` is unsigned, and sums of it with signed numbers are
    float64."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), generate


def value(x):
    """Return the number as float32."""


@overload(value)
def _value_of(x):
    if isinstance(x, types.Integer):
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)
    return lambda x: x


def narrow(x, like):
    """float32 in the type of `like`, bfloat16 rounded to nearest even."""


@overload(narrow)
def _narrow_to(x, like):
    if isinstance(like, types.Integer):

        def to_bfloat16(x, like):
            bits = np.float32(x).view(np.uint32)
            rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
            # Rounding must not carry a NaN over into infinity.
            return np.uint16((rounded if x == x else bits | np.uint32(0x400000)) >> np.uint32(16))

        return to_bfloat16
    return lambda x, like: np.float32(x)


@_part
def exp(x):
    """Cephes' polynomial, for -87 < x < 88; the library's own would not become vectors."""
    x = max(x, _LOWEST)
    n = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
    f = (x - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4) * f + np.float32(1.3981999507e-3)
    p = p * f + np.float32(8.3334519073e-3)
    p = p * f + np.float32(4.1665795894e-2)
    p = p * f + np.float32(1.6666665459e-1)
    p = p * f + np.float32(5.0000001201e-1)
    power = np.uint32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * f * f + f + np.float32(1)) * power


def itemsize(like):
    """Return the size in bytes."""


@overload(itemsize)
def _itemsize_of(like):
    return (lambda like: 2) if isinstance(like, types.Integer) else (lambda like: 4)


@intrinsic
def combine(typingctx, out, weights, terms, stride, count, like):
    """out[:LANES] += sum over t < count of weights[t] * terms[t * stride : t * stride + LANES].

    `out` and `weights` are float32 arrays, `terms` a pointer. Written in the processor's terms, since the loops that
    say the same are not made into vectors.
    """

    def generate(context, builder, signature, arguments):
        out, weights = (
            context.make_array(kind)(context, builder, array).data
            for kind, array in zip(signature.args[:2], arguments[:2], strict=True)
        )
        terms, stride, count = arguments[2:5]
        target = builder.bitcast(out, VECTOR.as_pointer())
        sums = [cgutils.alloca_once_value(builder, ir.Constant(VECTOR, [0.0] * LANES)) for _ in range(_CHAINS)]

        def add(t, total):
            vector = _load(builder, builder.gep(terms, [builder.mul(t, stride)]), like)
            weight = splat(builder, builder.load(builder.gep(weights, [t])))
            product = builder.call(fma(builder.module), [weight, vector, builder.load(total)])
            builder.store(product, total)

        chains = ir.Constant(count.type, _CHAINS)
        whole = builder.udiv(count, chains)
        # Several sums, since each addition waits for the one before it.
        with cgutils.for_range(builder, whole) as loop:
            for n, total in enumerate(sums):
                add(builder.add(builder.mul(loop.index, chains), ir.Constant(count.type, n)), total)
        with cgutils.for_range(builder, count, start=builder.mul(whole, chains)) as loop:
            add(loop.index, sums[0])
        loaded = [builder.load(total) for total in sums]
        while len(loaded) > 1:
            loaded = [builder.fadd(loaded[n], loaded[n + 1]) for n in range(0, len(loaded), 2)]
        before = builder.load(target)
        before.align = 4
        stored = builder.store(builder.fadd(before, loaded[0]), target)
        stored.align = 4
        return context.get_dummy_value()

    return types.void(out, weights, terms, types.intp, types.intp, like), generate


def _load(builder, address, like):
    """LANES values as a float32 vector."""
    if isinstance(like, types.Integer):
        bits = builder.load(builder.bitcast(address, ir.VectorType(ir.IntType(16), LANES).as_pointer()))
        bits.align = 2
        wide = ir.VectorType(ir.IntType(32), LANES)
        return builder.bitcast(builder.shl(builder.zext(bits, wide), ir.Constant(wide, [16] * LANES)), VECTOR)
    vector = builder.load(builder.bitcast(address, VECTOR.as_pointer()))
    vector.align = 4
    return vector


def splat(builder, number):
    index = ir.IntType(32)
    nothing = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(index, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(index, LANES), [0] * LANES))


def fma(module):
    signature = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return cgutils.get_or_insert_function(module, signature, f"llvm.fma.v{LANES}f32")


@_kernel
def add_norm(like, x_at, delta_at, weight_at, out_at, rows, width, eps):
    """x += delta (an address of 0: nothing), then out = rms_norm(x) * weight; `[rows, width]`."""
    x = carray(pointer(x_at, like), (rows, width))
    out = carray(pointer(out_at, like), (rows, width))
    weight = carray(pointer(weight_at, like), (width,))
    for i in range(rows):
        if delta_at != 0:
            delta = carray(pointer(delta_at, like), (rows, width))
            for j in range(width):
                x[i, j] = narrow(value(x[i, j]) + value(delta[i, j]), like)
        squares = np.float32(0)
        for j in range(width):
            squares += value(x[i, j]) * value(x[i, j])
        scale = np.float32(1) / np.sqrt(squares / np.float32(width) + np.float32(eps))
        for j in range(width):
            out[i, j] = narrow(value(x[i, j]) * scale * value(weight[j]), like)


@_kernel
def silu_multiply(like, gate_up_at, out_at, rows, width):
    """silu(gate) * up of `[rows, 2 * width]`."""
    both = carray(pointer(gate_up_at, like), (rows, 2 * width))
    out = carray(pointer(out_at, like), (rows, width))
    for i in range(rows):
        for j in range(width):
            gate = value(both[i, j])
            silu = gate / (np.float32(1) + exp(min(-gate, np.float32(87))))
            out[i, j] = narrow(silu * value(both[i, width + j]), like)


@_kernel
def rotate_and_store(like, qkv_at, cos_at, sin_at, slots_at, keys_at, values_at, rows, heads, kv_heads, dim, blocks):
    """Rotate q in place; put rotated k and v into the rows' slots of the cache. cos and sin: float32 `[rows, dim]`."""
    half = dim // 2
    qkv = carray(pointer(qkv_at, like), (rows, heads + 2 * kv_heads, dim))
    cos = carray(pointer(cos_at, FLOAT32), (rows, dim))
    sin = carray(pointer(sin_at, FLOAT32), (rows, dim))
    slots = carray(pointer(slots_at, _INDEX), (rows,))
    keys = carray(pointer(keys_at, like), (blocks, kv_heads, dim, BLOCK_SIZE))
    values = carray(pointer(values_at, like), (blocks, kv_heads, BLOCK_SIZE, dim))
    for i in range(rows):
        block, place = slots[i] // BLOCK_SIZE, slots[i] % BLOCK_SIZE
        for h in range(heads + kv_heads):
            for j in range(half):
                first, second = value(qkv[i, h, j]), value(qkv[i, h, half + j])
                qkv[i, h, j] = narrow(first * cos[i, j] - second * sin[i, j], like)
                qkv[i, h, half + j] = narrow(second * cos[i, half + j] + first * sin[i, half + j], like)
        for g in range(kv_heads):
            for j in range(dim):
                keys[block, g, j, place] = qkv[i, heads + g, j]
                values[block, g, place, j] = qkv[i, heads + kv_heads + g, j]


@_kernel
def attend_decode(
    like, qkv_at, keys_at, values_at, tables_at, lengths_at, out_at, rows, heads, kv_heads, dim, blocks, width, window
):
    """Attend with one query per row to its blocks, read where they lie; `window` 0: all keys. out `[rows, heads *
    dim]`."""
    group, size = heads // kv_heads, itemsize(like)
    qkv = carray(pointer(qkv_at, like), (rows, heads + 2 * kv_heads, dim))
    tables = carray(pointer(tables_at, _INDEX), (rows, width))
    lengths = carray(pointer(lengths_at, _INDEX), (rows,))
    out = carray(pointer(out_at, like), (rows, heads, dim))
    query, result = np.empty((group, dim), np.float32), np.empty((group, dim), np.float32)
    scores = np.empty((group, width * BLOCK_SIZE), np.float32)
    scale = np.float32(1) / np.sqrt(np.float32(dim))
    for i in range(rows):
        length = lengths[i]
        start = max(0, length - window) if window > 0 else 0
        low, high = start // BLOCK_SIZE, (length + BLOCK_SIZE - 1) // BLOCK_SIZE
        for g in range(kv_heads):
            for h in range(group):
                for j in range(dim):
                    query[h, j] = value(qkv[i, g * group + h, j]) * scale
            scores[:] = np.float32(0)
            result[:] = np.float32(0)
            for b in range(low, high):
                block = keys_at + (tables[i, b] * kv_heads + g) * dim * BLOCK_SIZE * size
                _score(query, scores, pointer(block, like), b * BLOCK_SIZE, like)
            _softmax(scores, start, length)
            for b in range(low, high):
                block = values_at + (tables[i, b] * kv_heads + g) * dim * BLOCK_SIZE * size
                _gather(scores, result, block, b * BLOCK_SIZE, min(BLOCK_SIZE, length - b * BLOCK_SIZE), like)
            for h in range(group):
                for j in range(dim):
                    out[i, g * group + h, j] = narrow(result[h, j], like)


@_part
def _score(query, scores, block, at, like):
    """The scores of a block's positions: its keys, `[dim, positions]`, weighted by the query."""
    for h in range(query.shape[0]):
        combine(scores[h, at : at + BLOCK_SIZE], query[h], block, BLOCK_SIZE, query.shape[1], like)


@_part
def _softmax(scores, start, length):
    """Apply softmax over positions `start:length` of each head; zero elsewhere."""
    for h in range(scores.shape[0]):
        seen = scores[h, start:length]
        largest = np.float32(-np.inf)
        for p in range(seen.size):
            largest = max(largest, seen[p])
        total = np.float32(0)
        for p in range(seen.size):
            seen[p] = exp(seen[p] - largest)
            total += seen[p]
        total = np.float32(1) / total
        for p in range(seen.size):
            seen[p] *= total
        scores[h, :start] = np.float32(0)
        scores[h, length:] = np.float32(0)


@_part
def _gather(scores, result, block, at, count, like):
    """Add a block's first `count` values, weighted. What lies behind them may be another's, even not finite."""
    group, dim = result.shape
    for h in range(group):
        for j in range(0, dim, LANES):
            values = pointer(block + j * itemsize(like), like)
            combine(result[h, j : j + LANES], scores[h, at : at + BLOCK_SIZE], values, dim, count, like)


@_kernel
def add_lora(like, x_at, out_at, owners_at, table_at, scratch_at, rows, into, out_width, adapters, entry):
    """Add every row's own adapter to a projection's output, whatever the mix; fastest where an adapter's rows follow
    each other.

    `owners` `[rows]` is the row's line in `table` `[adapters, entry]`, -1 for the base model. A line is as in
    `LoadedAdapter.lines`. `scratch`: float32 `[LORA_SCRATCH, into + out_width]`.
    """
    x = carray(pointer(x_at, like), (rows, into))
    out = carray(pointer(out_at, like), (rows, out_width))
    owners = carray(pointer(owners_at, _INDEX), (rows,))
    table = carray(pointer(table_at, _INDEX), (adapters, entry))
    wide = carray(pointer(scratch_at, FLOAT32), (LORA_SCRATCH, into))
    total = carray(pointer(scratch_at + wide.nbytes, FLOAT32), (LORA_SCRATCH, out_width))
    i = 0
    while i < rows:
        owner, count = owners[i], 1
        while count < LORA_SCRATCH and i + count < rows and owners[i + count] == owner:
            count += 1
        count = count if count == LORA_SCRATCH else 1
        if owner >= 0:
            _widen(x[i : i + count], wide)
            line = table[owner]
            for part in range(0, entry, 4):
                rank, low, high = line[part + 1], line[part + 2], line[part + 3]
                if rank == 0:
                    continue
                both = carray(pointer(line[part], like), (rank, into + high - low))
                mine = out[i : i + count, low:high]
                _widen(mine, total)
                for r in range(rank):
                    if count == 1:
                        _add_rank(wide[0], total[0], both[r, :into], both[r, into:])
                    else:
                        _add_rank_together(wide, total, both[r, :into], both[r, into:])
                for n in range(count):
                    for j in range(high - low):
                        mine[n, j] = narrow(total[n, j], like)
        i += count


@_part
def _widen(rows, wide):
    for n in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            wide[n, j] = value(rows[n, j])


@_part
def _add_rank(wide, total, down, up):
    inner = np.float32(0)
    for j in range(down.size):
        inner += wide[j] * value(down[j])
    for j in range(up.size):
        total[j] += inner * value(up[j])


@_part
def _add_rank_together(wide, total, down, up):
    """Add the adapter's product for four rows: A and B are read and widened once."""
    s0, s1, s2, s3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    w0, w1, w2, w3 = wide[0], wide[1], wide[2], wide[3]
    for j in range(down.size):
        d = value(down[j])
        s0 += w0[j] * d
        s1 += w1[j] * d
        s2 += w2[j] * d
        s3 += w3[j] * d
    t0, t1, t2, t3 = total[0], total[1], total[2], total[3]
    for j in range(up.size):
        u = value(up[j])
        t0[j] += s0 * u
        t1[j] += s1 * u
        t2[j] += s2 * u
        t3[j] += s3 * u
