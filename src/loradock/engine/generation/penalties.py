"""Repetition, presence and frequency penalties of one sequence."""

import itertools
from array import array
from collections import Counter
from typing import Any

import numpy as np

from loradock.engine.core import Sequence

Array = np.ndarray[Any, Any]
_SMALLEST = 1e-6
"""Logits times the inverse of less leave float32."""


class Penalties:
    """Keeps which tokens the sequence has said so far, brought up to date at every use; so only their logits are
    looked at."""

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        self._seen = _Tokens(sequence.prompt)
        self._said = _Tokens([])
        self._read = 0

    def apply(self, logits: Array) -> None:
        """Change `[vocab]` in place. Repetition counts prompt and output, as in CTRL; the others only the output."""
        params = self._sequence.params
        for token in self._sequence.output[self._read :]:
            self._seen.add(token)
            self._said.add(token)
        self._read = len(self._sequence.output)
        if params.repetition_penalty != 1:
            penalty = max(params.repetition_penalty, _SMALLEST)
            seen, _ = self._seen.arrays()
            found = logits[seen]
            logits[seen] = found * np.where(found > 0, np.float32(1 / penalty), np.float32(penalty))
        if params.frequency_penalty or params.presence_penalty:
            said, times = self._said.arrays()
            logits[said] -= np.float32(params.frequency_penalty) * times + np.float32(params.presence_penalty)


class _Tokens:
    """Tokens, each once, and how often each came."""

    def __init__(self, begin: list[int]) -> None:
        counted = Counter(begin)
        self._places = dict(zip(counted, itertools.count(), strict=False))
        self._tokens = array("q", counted)
        self._times = array("f", counted.values())

    def add(self, token: int) -> None:
        place = self._places.setdefault(token, len(self._tokens))
        if place == len(self._tokens):
            self._tokens.append(token)
            self._times.append(0)
        self._times[place] += 1

    def arrays(self) -> tuple[Array, Array]:
        return np.array(self._tokens), np.array(self._times)
