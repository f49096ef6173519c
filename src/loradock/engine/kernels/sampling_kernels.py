"""Kernels that go through whole rows of logits: see `kernels`."""

import numpy as np
from numba import carray, njit

from loradock.engine.kernels.kernels import FAST, FLOAT32, exp, pointer

_kernel = njit(nogil=True, fastmath=FAST, cache=True, error_model="numpy")
_INDEX = np.int64(0)
_SHARE = 256


@_kernel
def largest_bfloat16(logits_at, tokens_at, finite_at, rows, width):
    """Each row's first largest logit, and whether it is finite and no logit is NaN. Compared as integers of the same
    order, which become vectors where floats, because of NaN, would not.
    """
    logits = carray(pointer(logits_at, np.int16(0)), (rows, width))
    tokens, finite = carray(pointer(tokens_at, _INDEX), (rows,)), carray(pointer(finite_at, np.uint8(0)), (rows,))
    infinity = np.int16(0x7F80)
    for i in range(rows):
        top, size = np.int16(-0x8000), np.int16(0)
        for j in range(width):
            bits = logits[i, j]
            absolute = np.int16(bits & np.int16(0x7FFF))
            top = max(top, np.int16(bits ^ ((bits >> np.int16(15)) & np.int16(0x7FFF))))
            size = max(size, absolute)
        finite[i] = np.uint8(size <= infinity and top < infinity)
        wanted = np.int16(top ^ ((top >> np.int16(15)) & np.int16(0x7FFF)))
        tokens[i] = 0
        for j in range(width):
            if logits[i, j] == wanted:
                tokens[i] = j
                break


@_kernel
def draw(logits_at, temperatures_at, uniform_at, tokens_at, rows, width):
    """Tokens drawn from softmax(logits / temperature), float32 `[rows, width]`, by inverting the cumulative
    distribution at `uniform`, in [0, 1). Probabilities are summed in shares first, so that only one is searched.
    """
    logits = carray(pointer(logits_at, FLOAT32), (rows, width))
    temperatures, uniform = (
        carray(pointer(temperatures_at, FLOAT32), (rows,)),
        carray(pointer(uniform_at, FLOAT32), (rows,)),
    )
    tokens = carray(pointer(tokens_at, _INDEX), (rows,))
    weights = np.empty(width, np.float32)
    sums = np.empty((width + _SHARE - 1) // _SHARE, np.float64)
    for i in range(rows):
        row, inverse = logits[i], np.float32(1) / temperatures[i]
        largest = _largest(row)
        for j in range(width):
            # Beyond the exponential's range the probability is none, rather than the smallest there is.
            distance = (row[j] - largest) * inverse
            weights[j] = exp(distance) if distance > np.float32(-80) else np.float32(0)
        for b in range(sums.size):
            share, total = weights[b * _SHARE : (b + 1) * _SHARE], np.float32(0)
            for j in range(share.size):
                total += share[j]
            sums[b] = total
        tokens[i] = _search(weights, sums, np.float64(uniform[i]) * sums.sum())


@njit(fastmath={*FAST, "nnan"}, error_model="numpy")
def _largest(row):
    largest = row[0]
    for j in range(row.size):
        largest = max(largest, row[j])
    return largest


@njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _search(weights, sums, target):
    """The first index at which the running sum is above `target`; the last one with any weight if rounding leaves
    none.
    """
    found, passed = -1, 0.0
    for b in range(sums.size):
        if passed + sums[b] <= target and b + 1 < sums.size:
            passed += sums[b]
            continue
        for j in range(b * _SHARE, min(weights.size, (b + 1) * _SHARE)):
            passed += weights[j]
            if weights[j] > 0:
                found = j
                if passed > target:
                    return found
    if found < 0:
        for j in range(weights.size):
            if weights[j] > 0:
                found = j
    return found
