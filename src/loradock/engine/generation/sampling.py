"""Sampling: chooses tokens from logits, for a whole batch of differently configured rows."""

from typing import Any

import numpy as np

from loradock.engine.core import SamplingParams, Sequence
from loradock.engine.errors import NothingLeft
from loradock.engine.generation.penalties import Penalties
from loradock.engine.kernels.sampling import Draw, choose

Array = np.ndarray[Any, Any]

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
                self._penalties[sequence.id] = Penalties(sequence)
            self._penalties[sequence.id].apply(logits)
        if params.logit_bias:
            # Of all choices of a request it is the same object; of a whole vocabulary it takes a while to read.
            biases = self._biases.get(id(params.logit_bias))
            if biases is None:
                biases = self._biases[id(params.logit_bias)] = _Biases(params.logit_bias)
            logits[biases.tokens] += biases.values

    def sample(self, logits: list[Array], sequences: list[Sequence], chances: list[float]) -> list[int]:
        """Return one token per row, float32 `[vocab]`; the row's largest logit where temperature is 0. Raises
        NothingLeft when some row has no token with a finite logit to choose.
        """
        draws = [_how(sequence.params, chance) for sequence, chance in zip(sequences, chances, strict=True)]
        tokens = choose(logits, draws)
        if min(tokens) < 0:
            raise NothingLeft
        return tokens

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
    """Return for each row of float32 `[rows, vocab]` the token with the largest logit, and whether the row can be used:
    it has no NaN, and that logit is finite.
    """
    best = logits.argmax(axis=1)  # NaN is the largest
    usable = np.isfinite(np.take_along_axis(logits, best[:, None], axis=1)[:, 0])
    return best.tolist(), usable.tolist()


def _how(params: SamplingParams, chance: float) -> Draw:
    temperature = max(params.temperature, _COLDEST) if params.temperature > 0 else 0.0
    return Draw(temperature, chance, max(params.top_k, 0), params.top_p, params.min_p)
