"""From logits to tokens, for a whole batch of differently configured rows."""

import math
from dataclasses import dataclass

import torch

from loradock.engine.core import SamplingParams, Sequence


@dataclass(frozen=True)
class TokenLogprobs:
    """A token's log probability and the `top` most likely ones, as (token id, log probability)."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


class Sampler:
    """Holds each sequence's random generator, so that a seed gives the same text whoever shares the batch."""

    def __init__(self) -> None:
        self._generators: dict[int, torch.Generator] = {}

    def forget(self, sequence: Sequence) -> None:
        self._generators.pop(sequence.id, None)

    def sample(self, logits: torch.Tensor, sequences: list[Sequence]) -> list[int]:
        """One token per row of `logits` float32 `[rows, vocab]` (changed in place)."""
        greedy = logits.argmax(dim=-1).tolist() if all(_plain(s.params) for s in sequences) else None
        if greedy is not None:
            return [int(token) for token in greedy]
        return [self._sample_row(row, sequence) for row, sequence in zip(logits, sequences, strict=True)]

    def _sample_row(self, logits: torch.Tensor, sequence: Sequence) -> int:
        params = sequence.params
        _penalize(logits, sequence)
        if params.temperature == 0:
            return int(logits.argmax())
        logits = logits / params.temperature
        values, tokens = _keep(logits, params)
        probabilities = torch.softmax(values, dim=-1)
        if params.min_p > 0:
            probabilities = probabilities * (probabilities >= params.min_p * probabilities.max())
        choice = torch.multinomial(probabilities, 1, generator=self._generator(sequence))
        return int(tokens[choice] if tokens is not None else choice)

    def _generator(self, sequence: Sequence) -> torch.Generator:
        generator = self._generators.get(sequence.id)
        if generator is None:
            generator = torch.Generator()
            if sequence.params.seed is None:
                generator.seed()
            else:
                generator.manual_seed(sequence.params.seed % 2**63)
            self._generators[sequence.id] = generator
        return generator


def _plain(params: SamplingParams) -> bool:
    penalties = params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty
    return params.temperature == 0 and not penalties and not params.logit_bias


def _penalize(logits: torch.Tensor, sequence: Sequence) -> None:
    params = sequence.params
    if params.repetition_penalty != 1:
        seen = torch.tensor(sorted(set(sequence.tokens)))
        values = logits[seen]
        logits[seen] = torch.where(values > 0, values / params.repetition_penalty, values * params.repetition_penalty)
    if sequence.output and (params.presence_penalty or params.frequency_penalty):
        tokens, counts = torch.unique(torch.tensor(sequence.output), return_counts=True)
        logits[tokens] -= params.presence_penalty + params.frequency_penalty * counts
    for token, bias in params.logit_bias.items():
        logits[token] += bias


def _keep(logits: torch.Tensor, params: SamplingParams) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The logits that top_k and top_p leave, and their token ids (None: all, in order)."""
    if params.top_k <= 0 and params.top_p >= 1:
        return logits, None
    count = params.top_k if params.top_k > 0 else logits.numel()
    values, tokens = torch.topk(logits, min(count, logits.numel()))
    if params.top_p < 1:
        before = torch.softmax(values, dim=-1).cumsum(dim=-1) - torch.softmax(values, dim=-1)
        kept = max(1, int((before < params.top_p).sum()))
        values, tokens = values[:kept], tokens[:kept]
    return values, tokens


def token_logprobs(logits: torch.Tensor, token: int, top: int) -> TokenLogprobs:
    """`logits` float32 `[vocab]` as the model gave them, before sampling settings."""
    logprobs = torch.log_softmax(logits, dim=-1)
    values, tokens = torch.topk(logprobs, min(top, logprobs.numel())) if top else (logprobs[:0], logprobs[:0])
    ranked = [(int(t), _finite(v)) for t, v in zip(tokens.tolist(), values.tolist(), strict=True)]
    return TokenLogprobs(token, _finite(float(logprobs[token])), ranked)


def _finite(value: float) -> float:
    # JSON knows no infinity; a masked token's log probability is reported as "very unlikely".
    return value if math.isfinite(value) else -9999.0
