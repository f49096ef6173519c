"""Log probabilities of tokens, as the model gave them: before penalties, temperature and cuts."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from loradock.engine.kernels.sampling import likeliest

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token's log probability, and the likeliest tokens as (id, log probability), best first."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


def token_logprobs(logits: list[Array], tokens: list[int], counts: list[int]) -> list[TokenLogprobs]:
    """Of each row, float32 `[vocab]`, those of the chosen token and of as many alternatives as are wanted."""
    best, values, log_sums = likeliest(logits, max(counts))
    ranked = zip(best.tolist(), (values - log_sums[:, None]).tolist(), strict=True)
    chosen = (np.array([row[token] for row, token in zip(logits, tokens, strict=True)]) - log_sums).tolist()
    return [
        TokenLogprobs(token, _finite(logprob), [(t, _finite(v)) for t, v in zip(ids[:n], values[:n], strict=True)])
        for token, logprob, n, (ids, values) in zip(tokens, chosen, counts, ranked, strict=True)
    ]


def _finite(value: float) -> float:
    # JSON knows no infinity.
    return value if math.isfinite(value) else -9999.0
