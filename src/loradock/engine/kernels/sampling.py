"""Tokens chosen from whole rows of logits: see native/sampling.c."""

import numpy as np

from loradock.engine.kernels.border import Array, pointer
from loradock.engine.kernels.library import kernels
from loradock.engine.kernels.memory import padded
from loradock.engine.kernels.structures import PANEL, SHARE


def draw(logits: Array, temperatures: Array, uniform: Array) -> Array:
    """Return tokens int64 `[rows]` drawn from softmax(logits / temperature) of float32 `[rows, vocabulary]`, by
    inverting the cumulative distribution at `uniform`, in [0, 1); float32 `[rows]` both.
    """
    rows, width = logits.shape
    tokens = np.empty(rows, np.int64)
    weights, sums = np.empty(padded(width, PANEL), np.float32), np.empty(padded(width, SHARE) // SHARE, np.float64)
    kernels().draw(
        pointer(logits, np.float32, (rows, width)),
        pointer(temperatures, np.float32, (rows,)),
        pointer(uniform, np.float32, (rows,)),
        rows,
        width,
        weights.ctypes.data,
        sums.ctypes.data,
        tokens.ctypes.data,
    )
    return tokens


def largest(logits: Array) -> tuple[Array, Array]:
    """Return for each row of float32 `[rows, vocabulary]` the first token with the largest logit, int64 `[rows]`, and
    whether the row can be used, bool `[rows]`: it has no NaN, and that logit is finite.
    """
    rows, width = logits.shape
    tokens, usable = np.empty(rows, np.int64), np.empty(rows, np.bool_)
    kernels().largest(pointer(logits, np.float32, (rows, width)), rows, width, tokens.ctypes.data, usable.ctypes.data)
    return tokens, usable
