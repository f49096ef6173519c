"""Log probabilities of tokens, as the model gave them: before penalties, temperature and cuts."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token's log probability, and the likeliest tokens as (id, log probability), best first."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


def token_logprobs(logits: torch.Tensor, tokens: list[int], counts: list[int]) -> list[TokenLogprobs]:
    """float32 `[rows, vocab]`, the chosen token and the number of alternatives wanted per row."""
    normalizer = torch.logsumexp(logits, dim=-1, keepdim=True)
    chosen = logits.gather(1, torch.tensor(tokens, device=logits.device).unsqueeze(1)) - normalizer
    top = torch.topk(logits, min(max(counts), logits.shape[-1]))
    ranked = zip(top.indices.tolist(), (top.values - normalizer).tolist(), strict=True)
    rows = zip(tokens, chosen.squeeze(1).tolist(), counts, ranked, strict=True)
    return [
        TokenLogprobs(token, _finite(logprob), [(t, _finite(v)) for t, v in zip(ids[:n], values[:n], strict=True)])
        for token, logprob, n, (ids, values) in rows
    ]


def _finite(value: float) -> float:
    # JSON knows no infinity.
    return value if math.isfinite(value) else -9999.0
