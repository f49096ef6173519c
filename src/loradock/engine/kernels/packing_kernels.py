"""Putting an adapter's numbers where kernels read them, in one call without the interpreter's lock: see `kernels`."""

import numpy as np
from numba import carray, njit, types
from numba.extending import overload

from loradock.engine.kernels.kernels import FAST, FLOAT32, itemsize, narrow, pointer

HALF, BFLOAT16 = np.int16(0), np.uint16(0)
KINDS = ("F16", "BF16", "F32")
"""A tensor's type in a move is its place in here."""

_BLOCK = 256
_kernel = njit(nogil=True, fastmath=FAST, cache=True, error_model="numpy")
_part = njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


def number(x):
    """Return the number as float32, when it is finite."""


@overload(number)
def _number_of(x):
    if x == types.int16:

        def half(x):
            bits = np.uint32(np.uint16(x))
            # The exponent's bias is 15 there and 127 here.
            size = np.uint32((bits & np.uint32(0x7FFF)) << np.uint32(13)).view(np.float32) * np.float32(2.0**112)
            sign = np.uint32((bits & np.uint32(0x8000)) << np.uint32(16))
            return np.uint32(np.float32(size).view(np.uint32) | sign).view(np.float32)

        return half
    if isinstance(x, types.Integer):
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)
    return lambda x: x


def exponent(x):
    """Return the exponent's bits; all of them are set (`highest`) in what is not finite."""


@overload(exponent)
def _exponent_of(x):
    if x == types.int16:
        return lambda x: np.int32(x) & np.int32(0x7C00)
    if isinstance(x, types.Integer):
        return lambda x: np.int32(x) & np.int32(0x7F80)
    return lambda x: np.int32(np.float32(x).view(np.uint32) & np.uint32(0x7F800000))


def highest(like):
    """The `exponent` of what is not finite."""


@overload(highest)
def _highest_of(like):
    if like == types.int16:
        return lambda like: np.int32(0x7C00)
    if isinstance(like, types.Integer):
        return lambda like: np.int32(0x7F80)
    return lambda like: np.int32(0x7F800000)


@_kernel
def pack(like, moves, scales, file_at, out_at):
    """Copy every pair of A `[rank, into]` and B `[width, rank]` from a file to rows `[rank, into + width]`: one row of
    A and the same of B^T times its scale.

    `moves` int64 `[pairs, 8]`: where A lies (in bytes from `file_at`), its kind, where B lies, its kind, rank, into,
    width, where the rows begin (in numbers from `out_at`). Returns the first tensor that holds a number that is not
    finite, 2 * pair for an A and one more for a B; -1 when there is none.
    """
    for n in range(moves.shape[0]):
        a_at, a_kind, b_at, b_kind, rank, into, width, start = moves[n]
        both = carray(pointer(out_at + start * itemsize(like), like), (rank, into + width))
        a_at, b_at = file_at + a_at, file_at + b_at
        scale = scales[n]
        if a_kind == 0:
            sound = _copy(carray(pointer(a_at, HALF), (rank, into)), both, HALF, like)
        elif a_kind == 1:
            sound = _copy(carray(pointer(a_at, BFLOAT16), (rank, into)), both, BFLOAT16, like)
        else:
            sound = _copy(carray(pointer(a_at, FLOAT32), (rank, into)), both, FLOAT32, like)
        if not sound:
            return 2 * n
        if b_kind == 0:
            sound = _turn(carray(pointer(b_at, HALF), (width, rank)), both, into, scale, HALF, like)
        elif b_kind == 1:
            sound = _turn(carray(pointer(b_at, BFLOAT16), (width, rank)), both, into, scale, BFLOAT16, like)
        else:
            sound = _turn(carray(pointer(b_at, FLOAT32), (width, rank)), both, into, scale, FLOAT32, like)
        if not sound:
            return 2 * n + 1
    return -1


@_kernel
def finite(numbers):
    """Whether none of these bfloat16, uint16 `[n]`, is infinite or no number."""
    most = np.uint16(0)
    for n in range(numbers.size):
        most = max(most, numbers[n] & np.uint16(0x7F80))
    return most < np.uint16(0x7F80)


@_part
def _copy(source, rows, source_like, like):
    """Copy into the first columns; return whether all was finite."""
    most = np.int32(0)
    for i in range(source.shape[0]):
        line, to = source[i], rows[i, : source.shape[1]]
        for j in range(line.size):
            most = max(most, exponent(line[j]))
            to[j] = narrow(number(line[j]), like)
    return most < highest(source_like)


@_part
def _turn(source, rows, into, scale, source_like, like):
    """The transpose, scaled, into the columns from `into` on, in blocks that stay in the nearest cache; whether all was
    finite."""
    most, rank = np.int32(0), source.shape[1]
    wide = np.empty(_BLOCK * rank, np.float32)
    columns = wide.reshape(_BLOCK, rank)
    for start in range(0, source.shape[0], _BLOCK):
        block = source[start : start + _BLOCK].reshape(-1)
        for j in range(block.size):
            most = max(most, exponent(block[j]))
            wide[j] = number(block[j]) * scale
        for i in range(rank):
            column = columns[:, i]
            to = rows[i, into + start : into + start + block.size // rank]
            for j in range(to.size):
                to[j] = narrow(column[j], like)
    return most < highest(source_like)
