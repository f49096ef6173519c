"""Sampling: chooses tokens from logits, for a whole batch of differently configured rows."""

from typing import Any

import numpy as np

from loradock.engine.core import SamplingParams, Sequence
from loradock.engine.errors import NothingLeft
from loradock.engine.generation.logprobs import log_sum_exp, top
from loradock.engine.generation.penalties import Penalties
from loradock.engine.kernels.sampling import draw

Array = np.ndarray[Any, Any]

_CANDIDATES = 256
_COLDEST = 1e-5
"""Divided by less, logits leave float32; this is cold enough for the largest alone to be drawn."""


class Sampler:
    """Holds each sequence's random numbers, so that a seed gives the same draws whoever shares the batch."""

    def __init__(self) -> None:
        self._random: dict[int, np.random.Generator] = {}
        self._penalties: dict[int, Penalties] = {}
        self._biases: dict[int, _Biases] = {}

    def forget(self, sequence: Sequence) -> None:
        self._random.pop(sequence.id, None)
        self._penalties.pop(sequence.id, None)
        self._biases.pop(id(sequence.params.logit_bias), None)

    def penalize(self, logits: Array, sequence: Sequence) -> None:
        """Change a row `[vocab]` in place by the sequence's penalties and biases."""
        params = sequence.params
        if params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty:
            if sequence.id not in self._penalties:
                self._penalties[sequence.id] = Penalties(sequence, logits)
            self._penalties[sequence.id].apply(logits)
        if params.logit_bias:
            # Of all choices of a request it is the same object; of a whole vocabulary it takes a while to read.
            biases = self._biases.get(id(params.logit_bias))
            if biases is None:
                biases = self._biases[id(params.logit_bias)] = _Biases(params.logit_bias)
            logits[biases.tokens] += biases.values

    def sample(self, logits: Array, sequences: list[Sequence], chances: list[float]) -> list[int]:
        """Return one token per row of float32 `[rows, vocab]`; the row's largest logit where temperature is 0. Raises
        NothingLeft when some row has no token with a finite logit to choose.
        """
        tokens = logits.argmax(axis=1)
        if not np.isfinite(np.take_along_axis(logits, tokens[:, None], axis=1)).all():
            raise NothingLeft
        drawn = [i for i, sequence in enumerate(sequences) if sequence.params.temperature > 0]
        if drawn:
            params = [sequences[i].params for i in drawn]
            uniform = np.array([chances[i] for i in drawn], np.float32)
            temperatures = np.array([max(float(p.temperature), _COLDEST) for p in params], np.float32)
            tokens[drawn] = _draw(logits[drawn], temperatures, params, uniform)
        return [int(token) for token in tokens.tolist()]

    def chance(self, sequence: Sequence) -> float:
        """Return the random number from 0 to 1 that the sequence's next token is drawn by."""
        if sequence.params.temperature == 0:
            return 0.0
        if sequence.id not in self._random:
            seed = sequence.params.seed
            self._random[sequence.id] = np.random.default_rng(None if seed is None else seed % 2**64)
        return float(self._random[sequence.id].random())


class _Biases:
    """A request's `logit_bias` as arrays. `given` is kept, so that no other object takes its place in memory."""

    def __init__(self, given: dict[int, float]) -> None:
        self.given = given
        self.tokens = np.fromiter(given, np.int64, len(given))
        self.values = np.fromiter(given.values(), np.float32, len(given))


def largest(logits: Array) -> tuple[list[int], list[bool]]:
    """Return for each row `[vocab]` the token with the largest logit, and whether the row can be used: it has no NaN,
    and that logit is finite.
    """
    best = logits.argmax(axis=1)  # NaN is the largest
    usable = np.isfinite(np.take_along_axis(logits, best[:, None], axis=1)[:, 0])
    return best.tolist(), usable.tolist()


def _draw(logits: Array, temperatures: Array, params: list[SamplingParams], uniform: Array) -> Array:
    """Tokens `[rows]` by inverting each row's cumulative distribution at `uniform`."""
    tokens = np.empty(len(params), np.int64)
    cut = [i for i, p in enumerate(params) if p.top_k > 0 or p.top_p < 1 or p.min_p > 0]
    whole = sorted(set(range(len(params))) - set(cut))
    if whole:
        tokens[whole] = draw(logits[whole], temperatures[whole], uniform[whole])
    if cut:
        scaled = logits[cut] / temperatures[cut][:, None]
        tokens[cut] = _draw_cut(scaled, [params[i] for i in cut], uniform[cut])
    return tokens


def _draw_cut(logits: Array, params: list[SamplingParams], uniform: Array) -> Array:
    """Draw, sorting only the likeliest candidates; rows whose cut may lie beyond them are sorted whole."""
    width = min(logits.shape[1], max(_CANDIDATES, *(p.top_k for p in params)))
    ids, values = top(logits, width)
    kept, complete = _truncate(np.exp(values - log_sum_exp(logits)[:, None]), params)
    tokens = np.take_along_axis(ids, _invert(kept, uniform)[:, None], axis=1)[:, 0]
    beyond = [i for i, done in enumerate(complete.tolist()) if not done] if width < logits.shape[1] else []
    for i in beyond:
        order = np.argsort(-logits[i], kind="stable")
        row = logits[i : i + 1, order]
        kept, _ = _truncate(np.exp(row - log_sum_exp(row)[:, None]), [params[i]])
        tokens[i] = order[_invert(kept, uniform[i : i + 1])[0]]
    return tokens


def _truncate(p: Array, params: list[SamplingParams]) -> tuple[Array, Array]:
    """Descending probabilities `[rows, width]` after top_k, top_p and min_p; which rows need no more than `width`."""
    width = p.shape[1]
    top_k = np.array([x.top_k if x.top_k > 0 else 2**31 for x in params], np.int64)[:, None]
    top_p = np.array([x.top_p for x in params], np.float32)[:, None]
    min_p = np.array([x.min_p for x in params], np.float32)[:, None] * p[:, :1]
    p = p * (np.arange(width) < top_k)
    p = np.where(top_k <= width, p / p.sum(axis=1, keepdims=True), p)
    before = p.cumsum(axis=1) - p
    keep = (before < top_p) & (p >= min_p)
    keep[:, 0] = True
    complete = (top_k <= width) | (before[:, -1:] >= top_p) | (p[:, -1:] < min_p)
    return p * keep, complete[:, 0]


def _invert(p: Array, uniform: Array) -> Array:
    """Indices `[rows]` drawn from unnormalised probabilities `[rows, width]`."""
    cumulative = p.astype(np.float64).cumsum(axis=1)
    target = uniform.astype(np.float64) * cumulative[:, -1]
    index = np.array([np.searchsorted(row, at, side="right") for row, at in zip(cumulative, target, strict=True)])
    # Rounding may put the target on the very end, where no probability is left.
    last = p.shape[1] - 1 - np.argmax((p > 0)[:, ::-1], axis=1)
    found: Array = np.minimum(index, last)
    return found
