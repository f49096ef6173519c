"""Repetition, presence and frequency penalties of one sequence."""

import torch

from loradock.engine.core import Sequence

_SMALLEST = 1e-6
"""Logits times the inverse of less leave float32."""


class Penalties:
    """Keeps what the sequence has said so far as `[vocab]` tensors, brought up to date at every use."""

    def __init__(self, sequence: Sequence, logits: torch.Tensor) -> None:
        self._sequence = sequence
        self._seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
        self._seen[torch.tensor(sequence.prompt, device=logits.device)] = True
        self._counts = torch.zeros_like(logits)
        self._read = 0

    def apply(self, logits: torch.Tensor) -> None:
        """Change `[vocab]` in place. Repetition counts prompt and output, as in CTRL; the others only the output."""
        params = self._sequence.params
        for token in self._sequence.output[self._read :]:
            self._seen[token] = True
            self._counts[token] += 1
        self._read = len(self._sequence.output)
        if params.repetition_penalty != 1:
            penalty = max(params.repetition_penalty, _SMALLEST)
            factor = torch.where(logits > 0, 1 / penalty, penalty)
            logits.copy_(torch.where(self._seen, logits * factor, logits))
        logits -= params.frequency_penalty * self._counts + params.presence_penalty * (self._counts > 0)
