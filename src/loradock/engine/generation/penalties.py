"""Repetition, presence and frequency penalties of one sequence."""

from typing import Any

import numpy as np

from loradock.engine.core import Sequence

Array = np.ndarray[Any, Any]
_SMALLEST = 1e-6
"""Logits times the inverse of less leave float32."""


class Penalties:
    """Keeps what the sequence has said so far as `[vocab]` arrays, brought up to date at every use."""

    def __init__(self, sequence: Sequence, logits: Array) -> None:
        self._sequence = sequence
        self._seen = np.zeros(logits.shape, np.bool_)
        self._seen[sequence.prompt] = True
        self._counts = np.zeros_like(logits)
        self._read = 0

    def apply(self, logits: Array) -> None:
        """Change `[vocab]` in place. Repetition counts prompt and output, as in CTRL; the others only the output."""
        params = self._sequence.params
        for token in self._sequence.output[self._read :]:
            self._seen[token] = True
            self._counts[token] += 1
        self._read = len(self._sequence.output)
        if params.repetition_penalty != 1:
            penalty = max(params.repetition_penalty, _SMALLEST)
            seen = logits[self._seen]
            logits[self._seen] = seen * np.where(seen > 0, np.float32(1 / penalty), np.float32(penalty))
        if params.frequency_penalty or params.presence_penalty:
            said = np.flatnonzero(self._counts)
            less = np.float32(params.frequency_penalty) * self._counts[said] + np.float32(params.presence_penalty)
            logits[said] -= less
