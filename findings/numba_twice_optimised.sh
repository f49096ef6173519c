#!/usr/bin/env bash
# numba 0.68.1 + llvmlite 0.50.0 (LLVM 22.1), x86-64 and others: a function that adds integers up to addresses is right
# when its caller was just compiled, and wrong when the same caller is read from the on-disk cache.
# Numba links callees into callers after LLVM has made machine code of them, and that changes their module: a sum of
# integers becomes an offset to one of them, as a pointer. Compiled again inside the caller, an offset of 0 is a null
# pointer, and the access is dropped. Seen: first process "vectors written: 2 of 2", second "vectors written: 1 of 2".
# With LLVM's option addr-sink-using-gep switched off both say 2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check numba==0.68.1 llvmlite==0.50.0
cat > "$folder/program.py" <<'PY'
import sys

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

if "whole" in sys.argv:
    llvm.set_option("finding", "-addr-sink-using-gep=false")
I64, FLOATS = ir.IntType(64), ir.VectorType(ir.FloatType(), 16)


def number(value):
    return ir.Constant(I64, value)


@intrinsic
def add_up(typingctx, weights, count, terms, width, columns, out):
    """`out` += weights times the rows of `terms`, sixteen columns at a time; all places are integers."""

    def generate(context, builder, signature, arguments):
        weights, count, terms, width, columns, out = arguments

        def pointer(first, second, kind=FLOATS):
            return builder.inttoptr(builder.add(first, second), kind.as_pointer())

        def load(place):
            value = builder.load(place)
            value.align = 1
            return value

        with cgutils.for_range(builder, builder.udiv(columns, number(16))) as run:
            offset = builder.mul(run.index, number(64))
            place = pointer(out, offset)
            total = cgutils.alloca_once(builder, FLOATS)
            builder.store(load(place), total)
            with cgutils.for_range(builder, count) as loop:
                term = load(pointer(builder.add(terms, builder.mul(width, loop.index)), offset))
                weight = load(pointer(weights, builder.mul(loop.index, number(4)), ir.FloatType()))
                spread = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), weight, ir.Constant(ir.IntType(32), 0))
                order = ir.Constant(ir.VectorType(ir.IntType(32), 16), [0] * 16)
                spread = builder.shuffle_vector(spread, spread, order)
                builder.store(builder.fadd(builder.load(total), builder.fmul(spread, term)), total)
            builder.store(builder.load(total), place).align = 1
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def inner(weights, count, terms, columns, out):
    whole = columns // 64 * 64
    rest, below = terms + whole * 4, out + whole * 4
    add_up(weights, count, rest, columns * 4, columns - whole, below)


@njit(cache=True)
def outer(weights, count, terms, columns, out):
    inner(weights, count, terms, columns, out)


weights, terms, out = np.ones(16, np.float32), np.ones((16, 32), np.float32), np.zeros(32, np.float32)
outer(weights.ctypes.data, 16, terms.ctypes.data, 32, out.ctypes.data)
print("vectors written:", int((out == 16).reshape(2, 16).all(axis=1).sum()), "of 2")
PY
run() { NUMBA_CACHE_DIR="$folder/$1" "$folder/env/bin/python" "$folder/program.py" "$1"; }
fresh=$(run split) kept=$(run split) whole=$(run whole) whole_kept=$(run whole)
printf 'fresh: %s\nkept: %s\ngep sinking off, fresh: %s\ngep sinking off, kept: %s\n' "$fresh" "$kept" "$whole" "$whole_kept"
[ "$fresh" = "vectors written: 2 of 2" ] && [ "$kept" != "$fresh" ]
[ "$whole" = "$fresh" ] && [ "$whole_kept" = "$fresh" ]
