"""Kernels on weights in blocks of 32 numbers with a scale, as GGUF has them: see `kernels`."""

import numpy as np
from llvmlite import ir
from numba import carray, njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from loradock.engine.kernels import FAST, FLOAT32, LANES, VECTOR, fma, narrow, pointer, splat, value

BLOCK = 32
_kernel = njit(nogil=True, fastmath=FAST, cache=True, error_model="numpy")
_parallel = njit(nogil=True, fastmath=FAST, cache=True, error_model="numpy", parallel=True)
_BYTE = np.uint8(0)


@_kernel
def dequantize_4(like, nibbles, scales, offsets, out_at):
    """GGUF's Q4_0 and Q4_1: `nibbles` `[blocks, 16]` hold 32 numbers, the low halves first; number * scale + offset."""
    out = carray(pointer(out_at, like), (nibbles.shape[0], 32))
    for i in range(nibbles.shape[0]):
        for j in range(16):
            byte = nibbles[i, j]
            out[i, j] = narrow(np.float32(byte & 15) * scales[i] + offsets[i], like)
            out[i, 16 + j] = narrow(np.float32(byte >> 4) * scales[i] + offsets[i], like)


@_kernel
def dequantize_8(like, numbers, scales, out_at):
    """GGUF's Q8_0: `numbers` int8 `[blocks, 32]`."""
    out = carray(pointer(out_at, like), numbers.shape)
    for i in range(numbers.shape[0]):
        for j in range(numbers.shape[1]):
            out[i, j] = narrow(np.float32(numbers[i, j]) * scales[i], like)


@_kernel
def quantize_4(weight, nibbles, scales, offsets):
    """float32 `[rows, columns]` as GGUF's Q4_1: nearest of 16 steps between a block's smallest and largest number."""
    for i in range(weight.shape[0]):
        for b in range(scales.shape[1]):
            block = weight[i, b * BLOCK : (b + 1) * BLOCK]
            low, high = block.min(), block.max()
            scale = (high - low) / np.float32(15)
            inverse = np.float32(1) / scale if scale > 0 else np.float32(0)
            scales[i, b], offsets[i, b] = scale, low
            for j in range(LANES):
                first = np.uint8(min(np.float32(15), (block[j] - low) * inverse + np.float32(0.5)))
                second = np.uint8(min(np.float32(15), (block[LANES + j] - low) * inverse + np.float32(0.5)))
                nibbles[i, b, j] = first | (second << np.uint8(4))


@_kernel
def quantize_8(weight, numbers, scales):
    """float32 `[rows, columns]` as GGUF's Q8_0."""
    for i in range(weight.shape[0]):
        for b in range(scales.shape[1]):
            block = weight[i, b * BLOCK : (b + 1) * BLOCK]
            scale = max(-block.min(), block.max()) / np.float32(127)
            inverse = np.float32(1) / scale if scale > 0 else np.float32(0)
            scales[i, b] = scale
            for j in range(BLOCK):
                numbers[i, b, j] = np.int8(np.round(block[j] * inverse))


@_parallel
def multiply_4(like, x_at, nibbles_at, scales_at, offsets_at, out_at, rows, columns, out_width, threads):
    """x `[rows, columns]` times the transpose of blocks as `quantize_4` gives them → `[rows, out_width]`."""
    blocks = columns // BLOCK
    x, sums = _wide(like, x_at, rows, columns)
    out = carray(pointer(out_at, like), (rows, out_width))
    share = (out_width + threads - 1) // threads
    for part in prange(threads):
        for r in range(part * share, min(out_width, (part + 1) * share)):
            at = r * blocks
            for i in range(rows):
                total = dot_4(
                    pointer(x.ctypes.data + i * columns * 4, FLOAT32),
                    pointer(sums.ctypes.data + i * blocks * 4, FLOAT32),
                    pointer(nibbles_at + at * LANES, _BYTE),
                    pointer(scales_at + at * 4, FLOAT32),
                    pointer(offsets_at + at * 4, FLOAT32),
                    blocks,
                )
                out[i, r] = narrow(total, like)


@_parallel
def multiply_8(like, x_at, numbers_at, scales_at, out_at, rows, columns, out_width, threads):
    """The same for blocks as `quantize_8` gives them."""
    blocks = columns // BLOCK
    x, _ = _wide(like, x_at, rows, columns)
    out = carray(pointer(out_at, like), (rows, out_width))
    share = (out_width + threads - 1) // threads
    for part in prange(threads):
        for r in range(part * share, min(out_width, (part + 1) * share)):
            at = r * blocks
            for i in range(rows):
                total = dot_8(
                    pointer(x.ctypes.data + i * columns * 4, FLOAT32),
                    pointer(numbers_at + at * BLOCK, _BYTE),
                    pointer(scales_at + at * 4, FLOAT32),
                    blocks,
                )
                out[i, r] = narrow(total, like)


@njit(fastmath=FAST, error_model="numpy")
def _wide(like, x_at, rows, columns):
    """x in float32, and the sums of its blocks."""
    x = carray(pointer(x_at, like), (rows, columns))
    wide, sums = np.empty((rows, columns), np.float32), np.zeros((rows, columns // BLOCK), np.float32)
    for i in range(rows):
        for j in range(columns):
            wide[i, j] = value(x[i, j])
        for b in range(columns // BLOCK):
            total = np.float32(0)
            for j in range(BLOCK):
                total += wide[i, b * BLOCK + j]
            sums[i, b] = total
    return wide, sums


@intrinsic
def dot_4(typingctx, x, sums, nibbles, scales, offsets, blocks):
    """The sum over blocks of scale * (x · numbers) + offset * (sum of x)."""

    def generate(context, builder, signature, arguments):
        x, sums, nibbles, scales, offsets, blocks = arguments
        total = cgutils.alloca_once_value(builder, ir.Constant(VECTOR, [0.0] * LANES))
        constant = cgutils.alloca_once_value(builder, ir.Constant(ir.FloatType(), 0.0))
        with cgutils.for_range(builder, blocks) as loop:
            packed = _bytes(builder, nibbles, loop.index, LANES, 0)
            low = builder.and_(packed, ir.Constant(packed.type, [15] * LANES))
            high = builder.lshr(packed, ir.Constant(packed.type, [4] * LANES))
            _accumulate(builder, total, x, scales, loop.index, [_floats(builder, part) for part in (low, high)])
            offset, part = (builder.load(builder.gep(values, [loop.index])) for values in (offsets, sums))
            builder.store(builder.fadd(builder.load(constant), builder.fmul(offset, part)), constant)
        return _reduce(builder, builder.load(constant), builder.load(total))

    return types.float32(x, sums, nibbles, scales, offsets, types.intp), generate


@intrinsic
def dot_8(typingctx, x, numbers, scales, blocks):
    """The sum over blocks of scale * (x · numbers)."""

    def generate(context, builder, signature, arguments):
        x, numbers, scales, blocks = arguments
        total = cgutils.alloca_once_value(builder, ir.Constant(VECTOR, [0.0] * LANES))
        with cgutils.for_range(builder, blocks) as loop:
            halves = [_bytes(builder, numbers, loop.index, BLOCK, at) for at in (0, LANES)]
            parts = [_floats(builder, half, signed=True) for half in halves]
            _accumulate(builder, total, x, scales, loop.index, parts)
        return _reduce(builder, ir.Constant(ir.FloatType(), 0.0), builder.load(total))

    return types.float32(x, numbers, scales, types.intp), generate


def _bytes(builder, address, block, size, offset):
    at = builder.add(builder.mul(block, ir.Constant(block.type, size)), ir.Constant(block.type, offset))
    kind = ir.VectorType(ir.IntType(8), LANES).as_pointer()
    loaded = builder.load(builder.bitcast(builder.gep(address, [at]), kind))
    loaded.align = 1
    return loaded


def _floats(builder, numbers, *, signed=False):
    wide = ir.VectorType(ir.IntType(32), LANES)
    extended = builder.sext(numbers, wide) if signed else builder.zext(numbers, wide)
    return builder.sitofp(extended, VECTOR)


def _accumulate(builder, total, x, scales, block, halves):
    """total += scale * (x · the block), as a vector whose lanes are added at the very end."""
    product = None
    for number, half in enumerate(halves):
        at = builder.add(builder.mul(block, ir.Constant(block.type, BLOCK)), ir.Constant(block.type, number * LANES))
        vector = builder.load(builder.bitcast(builder.gep(x, [at]), VECTOR.as_pointer()))
        vector.align = 4
        if product is None:
            product = builder.fmul(half, vector)
        else:
            product = builder.call(fma(builder.module), [half, vector, product])
    scale = splat(builder, builder.load(builder.gep(scales, [block])))
    builder.store(builder.call(fma(builder.module), [scale, product, builder.load(total)]), total)


def _reduce(builder, start, vector):
    signature = ir.FunctionType(ir.FloatType(), [ir.FloatType(), VECTOR])
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.vector.reduce.fadd.v{LANES}f32")
    return builder.call(function, [start, vector], fastmath=("reassoc",))
