"""A pytest plugin that lets the compiled decoder believe in another processor than there is.

`pytest -p tests.engine.pretending` with PRETEND=avx512: the shapes and paths of AVX-512, its instructions spelled out
where they are missing; PRETEND=avx2: those of AVX2. It has to be loaded before anything else of the decoder.
"""

import os

from loradock.engine.kernels.compiled import simd as machine

_SPELLED_OUT = {"vdpbf16ps": machine.spelled_out_bfloat16, "vpdpbusd": machine.spelled_out_bytes}
_missing = not (machine.DOTS_BFLOAT16 and machine.DOTS_BYTES)
_wide = os.environ["PRETEND"] == "avx512"

if _wide and _missing:
    machine._instruction = lambda builder, name, *vectors: _SPELLED_OUT[name](builder, *vectors)
machine.LOOKS_UP_AT_ONCE = _wide and machine.MANY_REGISTERS
machine.MANY_REGISTERS = machine.DOTS_BFLOAT16 = machine.DOTS_BYTES = _wide
