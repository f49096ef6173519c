"""The processor's words that the kernels are written in: vectors of 16, and dot products that add pairs or fours.

Numba compiles what it is given through LLVM; these build LLVM's own instructions, because loops that say the same are
not made into them. Where the processor has no instruction for a dot product, it is spelled out in simpler ones.
"""

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils

LANES = 16
"""Columns of a panel: what one vector holds of float32."""
LINE = 64
"""Bytes of a vector, and of a cache line."""
FLOAT, HALF, INT, LONG, BYTE = ir.FloatType(), ir.HalfType(), ir.IntType(32), ir.IntType(64), ir.IntType(8)
FLOATS, HALVES, INTS = (ir.VectorType(kind, LANES) for kind in (FLOAT, HALF, INT))
SHORTS, BYTES = ir.VectorType(ir.IntType(16), LANES), ir.VectorType(BYTE, LANES)
_FAST = ("contract", "nsz")

llvm.initialize_native_asmparser()
_features = llvm.get_host_cpu_features()
DOTS_BFLOAT16 = bool(_features.get("avx512bf16") and _features.get("avx512vl"))
DOTS_BYTES = bool(_features.get("avx512vnni") and _features.get("avx512vl"))


def number(value):
    return ir.Constant(LONG, value)


def add(builder, base, *offsets):
    """`base` plus factors multiplied: an offset is an address or a pair of factors."""
    for offset in offsets:
        factors = [number(f) if isinstance(f, int) else f for f in (offset if isinstance(offset, tuple) else (offset,))]
        base = builder.add(base, builder.mul(*factors) if len(factors) == 2 else factors[0])
    return base


def load(builder, address, kind):
    loaded = builder.load(builder.inttoptr(address, kind.as_pointer()))
    loaded.align = 1
    return loaded


def store(builder, value, address):
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = 1


def splat(builder, value):
    """One number in all lanes."""
    kind = ir.VectorType(value.type, LANES)
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(INT, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(INT, LANES), [0] * LANES))


def all_lanes(kind, value):
    return ir.Constant(kind, [value] * LANES)


def multiply_add(builder, a, b, c):
    signature = ir.FunctionType(FLOATS, [FLOATS] * 3)
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.fma.v{LANES}f32")
    return builder.call(function, [a, b, c])


def multiply(builder, a, b):
    return builder.fmul(a, b, flags=_FAST)


def widen(builder, shorts):
    """bfloat16 as float32."""
    return builder.bitcast(builder.shl(builder.zext(shorts, INTS), all_lanes(INTS, 16)), FLOATS)


def sum_of_lanes(builder, vector):
    signature = ir.FunctionType(FLOAT, [FLOAT, FLOATS])
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.vector.reduce.fadd.v{LANES}f32")
    return builder.call(function, [ir.Constant(FLOAT, 0.0), vector], fastmath=("reassoc",))


def largest_size(builder, vectors):
    """The largest absolute value of two vectors, NaN if there is one: sizes have the order of their bits."""
    bits = [builder.and_(builder.bitcast(vector, INTS), all_lanes(INTS, 0x7FFFFFFF)) for vector in vectors]
    larger = builder.select(builder.icmp_signed(">", *bits), *bits)
    signature = ir.FunctionType(INT, [INTS])
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.vector.reduce.smax.v{LANES}i32")
    return builder.bitcast(builder.call(function, [larger]), FLOAT)


def whole_sum_of_lanes(builder, vector):
    signature = ir.FunctionType(INT, [INTS])
    name = f"llvm.vector.reduce.add.v{LANES}i32"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [vector])


def on_lanes(builder, name, *vectors):
    """One of LLVM's functions of float32 numbers, on all lanes."""
    function = ir.FunctionType(FLOATS, [FLOATS] * len(vectors))
    return builder.call(
        cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.v{LANES}f32"), list(vectors)
    )


def prefetch(builder, address):
    """Ask for a line that will be read soon, into the second cache: the first is full of what is read now."""
    pointer = BYTE.as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [pointer, INT, INT, INT])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    builder.call(function, [builder.inttoptr(address, pointer), *(ir.Constant(INT, n) for n in (0, 2, 1))])


def unpacked(builder, address, uppers):
    """A line of `twelve` as 16 pairs of bfloat16."""
    lower = load(builder, address, ir.VectorType(BYTE, 2 * LANES))
    numbers = builder.zext(load(builder, add(builder, address, 2 * LANES), BYTES), INTS)
    # Each number comes to stand in an upper byte; 0x80 makes the byte below 0.
    spread = builder.or_(builder.shl(numbers, all_lanes(INTS, 8)), builder.shl(numbers, all_lanes(INTS, 20)))
    spread = builder.or_(builder.and_(spread, all_lanes(INTS, 0x0F000F00)), all_lanes(INTS, 0x00800080))
    table = ir.VectorType(BYTE, LINE)
    signature = ir.FunctionType(table, [table, table])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.x86.avx512.pshuf.b.512")
    upper = builder.bitcast(builder.call(function, [uppers, builder.bitcast(spread, table)]), INTS)
    shorts = builder.zext(lower, ir.VectorType(ir.IntType(16), 2 * LANES))
    return builder.or_(builder.bitcast(shorts, INTS), upper)


def four_times(builder, address):
    """16 bytes in each quarter of a vector."""
    quarter = load(builder, address, BYTES)
    order = ir.Constant(ir.VectorType(INT, LINE), [n % LANES for n in range(LINE)])
    return builder.shuffle_vector(quarter, ir.Constant(BYTES, ir.Undefined), order)


def dot_bfloat16(builder, total, x, weights):
    """total `[16]` float32 += the products of two bfloat16 in each lane."""
    if DOTS_BFLOAT16:
        return _instruction(builder, "vdpbf16ps", total, x, weights)
    for part in (_low_half, _high_half):
        total = multiply_add(builder, part(builder, x), part(builder, weights), total)
    return total


def dot_bytes(builder, total, weights, x):
    """total `[16]` int32 += the products of four unsigned weights and four signed x in each lane."""
    if DOTS_BYTES:
        return _instruction(builder, "vpdpbusd", total, weights, x)
    for n in range(4):
        unsigned = builder.and_(builder.lshr(weights, all_lanes(INTS, 8 * n)), all_lanes(INTS, 255))
        signed = builder.ashr(builder.shl(x, all_lanes(INTS, 24 - 8 * n)), all_lanes(INTS, 24))
        total = builder.add(total, builder.mul(unsigned, signed))
    return total


def _instruction(builder, name, total, left, right):
    # Assembly, since LLVM's versions disagree about the types of the intrinsics.
    signature = ir.FunctionType(total.type, [total.type, INTS, INTS])
    return builder.asm(signature, f"{name} $3, $2, $0", "=v,0,v,v", [total, left, right], False)


def _low_half(builder, pairs):
    return builder.bitcast(builder.shl(pairs, all_lanes(INTS, 16)), FLOATS)


def _high_half(builder, pairs):
    return builder.bitcast(builder.and_(pairs, all_lanes(INTS, -65536)), FLOATS)
