"""The processor's words that the kernels are written in: vectors of 16, and dot products that add pairs or fours.

Numba compiles what it is given through LLVM; these build LLVM's own instructions, because loops that say the same are
not made into them. Where the processor has no instruction for a dot product, it is spelled out in simpler ones. A
vector of 16 is one register with AVX-512, two with AVX2.
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
SHORT = ir.IntType(16)
SHORTS, BYTES = ir.VectorType(SHORT, LANES), ir.VectorType(BYTE, LANES)
_FAST = ("contract", "nsz")

llvm.initialize_native_asmparser()
_features = llvm.get_host_cpu_features()
DOTS_BFLOAT16 = bool(_features.get("avx512bf16") and _features.get("avx512vl"))
DOTS_BYTES = bool(_features.get("avx512vnni") and _features.get("avx512vl"))
ADDS_PAIRS = bool(_features.get("avx2"))
"""Instructions that multiply 16-bit numbers, or unsigned bytes and signed ones, and add two neighbours."""
LOOKS_UP = ADDS_PAIRS
"""An instruction that looks bytes up in a table of sixteen."""
MANY_REGISTERS = bool(_features.get("avx512f") and _features.get("avx512bw"))
"""32 of 16 numbers; otherwise a vector of 16 is two registers of 16."""
LOOKS_UP_AT_ONCE = MANY_REGISTERS
"""LOOKS_UP for a whole vector."""


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
    """Return a vector with one number in all lanes."""
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


def larger(builder, left, right):
    """Return the larger number of each lane; NaN is never larger."""
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


def largest_lane(builder, vector):
    signature = ir.FunctionType(FLOAT, [FLOATS])
    name = f"llvm.vector.reduce.fmax.v{LANES}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [vector])


def exponential(builder, x):
    """Return e^x of each lane, for x below 88; 0 where it would be less than 1e-37. Uses Cephes' polynomial."""

    def every(value):
        return all_lanes(FLOATS, value)

    n = on_lanes(builder, "rint", multiply(builder, x, every(1.4426950408889634)))
    f = multiply_add(builder, n, every(-0.693359375), x)
    f = multiply_add(builder, n, every(2.12194440e-4), f)
    p = every(1.9875691500e-4)
    for factor in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = multiply_add(builder, p, f, every(factor))
    p = multiply_add(builder, multiply(builder, p, f), f, builder.fadd(f, every(1.0)))
    exponent = builder.shl(builder.add(builder.fptosi(n, INTS), all_lanes(INTS, 127)), all_lanes(INTS, 23))
    found = multiply(builder, p, builder.bitcast(exponent, FLOATS))
    # NaN stays.
    return builder.select(builder.fcmp_ordered("<", x, every(-85.0)), every(0.0), found)


def whole_sum_of_lanes(builder, vector):
    signature = ir.FunctionType(INT, [INTS])
    name = f"llvm.vector.reduce.add.v{LANES}i32"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [vector])


def on_lanes(builder, name, *vectors):
    """Apply one of LLVM's functions of float32 numbers to all lanes."""
    function = ir.FunctionType(FLOATS, [FLOATS] * len(vectors))
    return builder.call(
        cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.v{LANES}f32"), list(vectors)
    )


def prefetch(builder, address):
    """Ask for a line that will be read once, soon: it shall not push out of the caches what is read again."""
    pointer = BYTE.as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [pointer, INT, INT, INT])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    builder.call(function, [builder.inttoptr(address, pointer), *(ir.Constant(INT, n) for n in (0, 0, 1))])


def unpacked(builder, address, uppers):
    """A line of `twelve` as 16 pairs of bfloat16."""
    lower = load(builder, address, ir.VectorType(BYTE, 2 * LANES))
    numbers = builder.zext(load(builder, add(builder, address, 2 * LANES), BYTES), INTS)
    # Each number comes to stand in an upper byte; 0x80 makes the byte below 0.
    spread = builder.or_(builder.shl(numbers, all_lanes(INTS, 8)), builder.shl(numbers, all_lanes(INTS, 20)))
    spread = builder.or_(builder.and_(spread, all_lanes(INTS, 0x0F000F00)), all_lanes(INTS, 0x00800080))
    upper = builder.bitcast(_looked_up(builder, uppers, builder.bitcast(spread, ir.VectorType(BYTE, LINE))), INTS)
    shorts = builder.zext(lower, ir.VectorType(SHORT, 2 * LANES))
    return builder.or_(builder.bitcast(shorts, INTS), upper)


def _looked_up(builder, table, numbers):
    """Return from each quarter of `table` the bytes that have these numbers; 0 for those above 127."""

    def look_up(table, numbers):
        function = ir.FunctionType(table.type, [table.type] * 2)
        name = {LINE: "llvm.x86.avx512.pshuf.b.512", LINE // 2: "llvm.x86.avx2.pshuf.b"}[table.type.count]
        return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [table, numbers])

    return look_up(table, numbers) if LOOKS_UP_AT_ONCE else in_halves(builder, look_up, table, numbers)


def mixed(builder, left, right, order):
    """The elements of two vectors, one behind the other, that have these numbers."""
    return builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(INT, len(order)), list(order)))


def in_halves(builder, work, *vectors):
    """Apply `work` to both halves of vectors and join the results."""
    size = vectors[0].type.count // 2
    low, high = ([mixed(builder, v, v, range(first, first + size)) for v in vectors] for first in (0, size))
    left, right = work(*low), work(*high)
    return mixed(builder, left, right, range(2 * left.type.count))


def four_times(builder, address):
    """16 bytes in each quarter of a vector."""
    quarter = load(builder, address, BYTES)
    return mixed(builder, quarter, quarter, [n % LANES for n in range(LINE)])


def dot_bfloat16(builder, total, x, weights):
    """total `[16]` float32 += the products of two bfloat16 in each lane."""
    if DOTS_BFLOAT16:
        return _instruction(builder, "vdpbf16ps", total, x, weights)
    return spelled_out_bfloat16(builder, total, x, weights)


def spelled_out_bfloat16(builder, total, x, weights):
    for part in (low_half, high_half):
        total = multiply_add(builder, part(builder, x), part(builder, weights), total)
    return total


def dot_bytes(builder, total, weights, x):
    """total `[16]` int32 += the products of four unsigned weights and four signed x in each lane."""
    if DOTS_BYTES:
        return _instruction(builder, "vpdpbusd", total, weights, x)
    return spelled_out_bytes(builder, total, weights, x)


def spelled_out_bytes(builder, total, weights, x):
    for n in range(4):
        unsigned = builder.and_(builder.lshr(weights, all_lanes(INTS, 8 * n)), all_lanes(INTS, 255))
        signed = builder.ashr(builder.shl(x, all_lanes(INTS, 24 - 8 * n)), all_lanes(INTS, 24))
        total = builder.add(total, builder.mul(unsigned, signed))
    return total


def dot_shorts(builder, total, left, right):
    """total `[16]` int32 += the products of two int16 in each lane."""
    return _in_two(builder, "vpmaddwd $3, $2, $1; vpaddd $1, $0, $0", total, left, right)


def dot_bytes_in_shorts(builder, total, unsigned, signed):
    """total `[32]` int16 (given as `[16]` int32) += the products of two unsigned and two signed bytes in each."""
    return _in_two(builder, "vpmaddubsw $3, $2, $1; vpaddw $1, $0, $0", total, unsigned, signed)


def _in_two(builder, words, *vectors):
    # Both instructions at once: LLVM would otherwise order the additions anew, and run out of registers.
    half = ir.VectorType(INT, LANES // 2)
    signature = ir.FunctionType(ir.LiteralStructType([half, half]), [half] * 3)

    def on_half(total, left, right):
        both = builder.asm(signature, words, "=&x,=&x,x,x,0", [left, right, total], False)
        return builder.extract_value(both, 0)

    return in_halves(builder, on_half, *vectors)


def _instruction(builder, name, total, left, right):
    # Assembly, since LLVM's versions disagree about the types of the intrinsics.
    signature = ir.FunctionType(total.type, [total.type, INTS, INTS])
    return builder.asm(signature, f"{name} $3, $2, $0", "=v,0,v,v", [total, left, right], False)


def low_half(builder, pairs):
    """The first of two bfloat16 as float32."""
    return builder.bitcast(builder.shl(pairs, all_lanes(INTS, 16)), FLOATS)


def high_half(builder, pairs):
    """The second of two bfloat16 as float32."""
    return builder.bitcast(builder.and_(pairs, all_lanes(INTS, -65536)), FLOATS)
