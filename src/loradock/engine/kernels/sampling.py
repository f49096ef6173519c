"""Tokens chosen from whole rows of logits, and the likeliest in their order: see native/sampling.c, logits.c."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loradock.engine.kernels.border import Array, pointer
from loradock.engine.kernels.library import kernels
from loradock.engine.kernels.structures import LANES, Choice

_BELOW_ONE = 1 - 2**-24
"""The largest float32 below 1: a random number in float64 may round to 1, which no probability reaches."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How a token is chosen from a row: the first largest logit at temperature 0, otherwise by inverting the cumulative
    distribution of softmax(logits / temperature) at `uniform`, in [0, 1), after the cuts. `top_k` 0 and `top_p` 1 cut
    nothing.
    """

    temperature: float
    uniform: float
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


def choose(rows: Sequence[Array], draws: Sequence[Draw]) -> list[int]:
    """Return a token for each row, float32 `[vocabulary]`; -1 where the row cannot be used (see `largest`)."""
    width = len(rows[0])
    choices = (Choice * len(rows))(
        *(
            Choice(
                pointer(row, np.float32, (width,)),
                d.top_k,
                d.temperature,
                min(d.uniform, _BELOW_ONE),
                d.top_p,
                d.min_p,
            )
            for row, d in zip(rows, draws, strict=True)
        )
    )
    tokens, room = np.empty(len(rows), np.int64), _room(width)
    kernels().choose(choices, len(rows), width, room.ctypes.data, tokens.ctypes.data)
    found: list[int] = tokens.tolist()
    return found


def draw(logits: Array, temperatures: Array, uniform: Array) -> Array:
    """Return tokens int64 `[rows]` drawn from softmax(logits / temperature) of float32 `[rows, vocabulary]`."""
    pairs = zip(temperatures.tolist(), uniform.tolist(), strict=True)
    return np.array(choose(list(logits), [Draw(temperature, at) for temperature, at in pairs]))


def likeliest(rows: Sequence[Array], count: int) -> tuple[Array, Array, Array]:
    """Return of each row, float32 `[vocabulary]`, the tokens int64 `[rows, count]` with the largest logits, of equal
    ones the first token first, these logits float32 `[rows, count]`, and the logarithm of the sum of all exponentials
    float32 `[rows]`, NaN where the row cannot be used. A larger `count` than there are tokens is that of the tokens.
    """
    width = len(rows[0])
    count = min(count, width)
    at = (ctypes.c_void_p * len(rows))(*(pointer(row, np.float32, (width,)) for row in rows))
    tokens, logits = np.empty((len(rows), count), np.int64), np.empty((len(rows), count), np.float32)
    largest, sums, room = np.empty(len(rows), np.float32), np.empty(len(rows), np.float64), _room(width)
    kernels().likeliest(
        ctypes.addressof(at),
        len(rows),
        width,
        count,
        room.ctypes.data,
        tokens.ctypes.data,
        logits.ctypes.data,
        largest.ctypes.data,
        sums.ctypes.data,
    )
    return tokens, logits, (largest + np.log(sums)).astype(np.float32)


def largest(logits: Array) -> tuple[Array, Array]:
    """Return for each row of float32 `[rows, vocabulary]` the first token with the largest logit, int64 `[rows]`, and
    whether the row can be used, bool `[rows]`: it has no NaN, and that logit is finite.
    """
    rows, width = logits.shape
    tokens, usable = np.empty(rows, np.int64), np.empty(rows, np.bool_)
    kernels().largest(pointer(logits, np.float32, (rows, width)), rows, width, tokens.ctypes.data, usable.ctypes.data)
    return tokens, usable


def _room(width: int) -> Array:
    return np.empty(2 * (width + LANES), np.uint64)
