"""Finds each row's largest logit while the logits are in the cache: hardly any step needs to keep them."""

import numpy as np
from numba import njit

from loradock.engine.kernels.kernels import FAST

SHARE = 256
"""Columns that are looked through together, some panels' worth."""
_part = njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@_part
def begin_looking(tops, places):
    """`tops` float32 `[rows, 2]`: a row's largest logit so far, and whether one was not finite (then it is NaN);
    `places` int64 `[rows]`: where the first largest one is.
    """
    tops[:, 0], tops[:, 1] = np.float32(-np.inf), np.float32(0)
    places[:] = -1


@_part
def look_through(logits, low, top, places, i):
    """Row `i`'s next logits, of columns from `low` on."""
    largest, spoilt = logits[0], np.float32(0)
    for j in range(logits.size):
        largest = max(largest, logits[j])
        spoilt += logits[j] * np.float32(0)
    top[1] += spoilt
    if largest > top[0]:
        at = 0
        while at < logits.size - 1 and logits[at] != largest:
            at += 1
        top[0], places[i] = largest, low + at


@_part
def decide(tops, places, members, i):
    """Row `i`'s place and whether it can be used, from what each of so many members saw: `[members, rows, …]`."""
    best, largest, spoilt = places[0, i], tops[0, i, 0], tops[0, i, 1]
    for member in range(1, members):
        spoilt += tops[member, i, 1]
        if tops[member, i, 0] > largest:
            best, largest = places[member, i], tops[member, i, 0]
    return max(best, 0), spoilt == 0 and largest > np.float32(-np.inf)
