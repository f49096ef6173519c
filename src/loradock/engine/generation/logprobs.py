"""Log probabilities of tokens, as the model gave them: before penalties, temperature and cuts."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token's log probability, and the likeliest tokens as (id, log probability), best first."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


def token_logprobs(logits: Array, tokens: list[int], counts: list[int]) -> list[TokenLogprobs]:
    """float32 `[rows, vocab]`, the chosen token and the number of alternatives wanted per row."""
    normalizer = log_sum_exp(logits)
    chosen = np.take_along_axis(logits, np.array(tokens)[:, None], axis=1)[:, 0] - normalizer
    ids, values = top(logits, max(counts))
    ranked = zip(ids.tolist(), (values - normalizer[:, None]).tolist(), strict=True)
    rows = zip(tokens, chosen.tolist(), counts, ranked, strict=True)
    return [
        TokenLogprobs(token, _finite(logprob), [(t, _finite(v)) for t, v in zip(ids[:n], values[:n], strict=True)])
        for token, logprob, n, (ids, values) in rows
    ]


def log_sum_exp(logits: Array) -> Array:
    """float32 `[rows]` of float32 `[rows, vocab]`."""
    largest = logits.max(axis=1, keepdims=True)
    sums = np.exp(logits - largest).sum(axis=1, dtype=np.float32)
    found: Array = largest[:, 0] + np.log(sums)
    return found


def top(logits: Array, count: int) -> tuple[Array, Array]:
    """The `count` largest logits of each row, best first, of equal ones the first: (their places, they themselves)."""
    count = min(count, logits.shape[1])
    if count == 0:
        return np.empty((len(logits), 0), np.int64), np.empty((len(logits), 0), np.float32)
    places = np.sort(np.argpartition(logits, logits.shape[1] - count, axis=1)[:, -count:], axis=1)
    order = np.argsort(-np.take_along_axis(logits, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    return places, np.take_along_axis(logits, places, axis=1)


def _finite(value: float) -> float:
    # JSON knows no infinity.
    return value if math.isfinite(value) else -9999.0
