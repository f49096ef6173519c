"""A pytest plugin that lets the compiled decoder believe in another processor than there is.

`pytest -p tests.engine.pretending` with PRETEND=avx512: the shapes and paths of AVX-512, its instructions spelled out;
PRETEND=avx2: those of AVX2. It has to be loaded before anything of the decoder.
"""

import os

from loradock.engine.compiled import machine


def _spelled_out(builder, name, total, left, right):
    """What AVX-512's two dot products compute."""
    if name == "vdpbf16ps":
        for part in (machine.low_half, machine.high_half):
            total = machine.multiply_add(builder, part(builder, left), part(builder, right), total)
        return total
    for n in range(4):
        unsigned = builder.and_(
            builder.lshr(left, machine.all_lanes(machine.INTS, 8 * n)), machine.all_lanes(machine.INTS, 255)
        )
        signed = builder.shl(right, machine.all_lanes(machine.INTS, 24 - 8 * n))
        signed = builder.ashr(signed, machine.all_lanes(machine.INTS, 24))
        total = builder.add(total, builder.mul(unsigned, signed))
    return total


if os.environ["PRETEND"] == "avx512":
    if not machine.MANY_REGISTERS:
        machine._instruction = _spelled_out
    machine.LOOKS_UP_AT_ONCE = machine.MANY_REGISTERS
    machine.MANY_REGISTERS = machine.DOTS_BFLOAT16 = machine.DOTS_BYTES = True
else:
    machine.LOOKS_UP_AT_ONCE = machine.MANY_REGISTERS = machine.DOTS_BFLOAT16 = machine.DOTS_BYTES = False
