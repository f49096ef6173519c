"""Lanes through a `Decoder`: groups of a step's rows that go through the model side by side."""

from typing import Protocol

import torch

from loradock.engine.adapters.multi_lora import Mixing, PagedLora, StackedLora
from loradock.engine.core import Logits, Row
from loradock.engine.generation.sampling import largest
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.attention import AttentionBatch, KernelAttentionBatch
from loradock.engine.models.model import Decoder

LANE_TOKENS = 8
"""A lane with fewer tokens would read all weights for little work."""
UNEVEN = 1.5
"""The ratio of the longest lane to the average above which all threads share one lane."""


class Lane(Protocol):
    """Some of a step's rows, made ready before any lane begins."""

    def run(self, threads: int) -> Logits:
        """Compute the lane and return the logits of `[sum of row.logits]` rows."""


class Lanes(Protocol):
    """A way to split a decoder's steps."""

    @property
    def mixing(self) -> Mixing:
        """The way adapters are applied."""

    small: int
    """A step of fewer tokens may be faster on fewer threads."""
    share_processors: bool
    """Threads that wait for each other let others have the processor: steps are usually faster on all of them."""

    def split(self, rows: list[Row], threads: int) -> list[Lane]:
        """Split rows for so many threads at most. The lanes' logits follow each other as the rows' do."""

    def warm_up(self) -> None:
        """Do what the first step with adapters would have to wait for."""


class DecoderLanes:
    """Splits a step into as many lanes as threads where there are kernels, else into one."""

    share_processors = False

    def __init__(self, model: Decoder, cache: KVCache) -> None:
        self.model = model
        self.cache = cache
        self.small = 2 * LANE_TOKENS if model.kernels else 0
        self.mixing: Mixing
        if model.kernels:
            self.mixing = PagedLora(model.dtype)
        else:
            self.mixing = StackedLora(model.architecture.layers, model.dtype, model.device)

    def split(self, rows: list[Row], threads: int) -> list[Lane]:
        tokens = sum(row.count for row in rows)
        parts = _split(rows, min(threads if self.model.kernels else 1, max(1, tokens // LANE_TOKENS)))
        # Beside one long chunk the other lanes would soon have nothing to do.
        longest = max(sum(row.count for row in part) for part in parts)
        parts = parts if longest * len(parts) < UNEVEN * tokens else [rows]
        return [_DecoderLane(self.model, self.cache, self.mixing, part) for part in parts]

    def warm_up(self) -> None:
        self.mixing.warm_up()


class _DecoderLane:
    def __init__(self, model: Decoder, cache: KVCache, mixing: Mixing, rows: list[Row]) -> None:
        self._model = model
        self._rows = rows
        device = self._model.device
        self._tokens = torch.tensor([t for row in rows for t in row.tokens], device=device)
        positions = torch.tensor([p for row in rows for p in range(row.start, row.start + row.count)], device=device)
        rotary = self._model.cos[positions], self._model.sin[positions]
        kind = KernelAttentionBatch if self._model.kernels else AttentionBatch
        self._attention = kind(self._model.architecture, cache, rows, *rotary)
        self._lora = mixing.batch([row.sequence.adapter for row in rows for _ in range(row.count)])

    @torch.inference_mode()
    def run(self, threads: int) -> Logits:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        hidden = self._model.forward(self._tokens, self._attention, self._lora)
        decoding = all(row.count == row.logits == 1 for row in self._rows)
        logits = self._model.logits(hidden if decoding else hidden[wanted_of(self._rows)])
        return Logits([logits], *largest(logits))


def _split(rows: list[Row], lanes: int) -> list[list[Row]]:
    """Consecutive rows, so that the lanes' logits follow each other; of about equal numbers of tokens."""
    share = sum(row.count for row in rows) / lanes
    parts: list[list[Row]] = [[]]
    tokens = 0
    for row in rows:
        if parts[-1] and len(parts) < lanes and tokens + row.count / 2 > share * len(parts):
            parts.append([])
        parts[-1].append(row)
        tokens += row.count
    return parts


def wanted_of(rows: list[Row]) -> list[int]:
    """The numbers, among the rows' tokens, of those whose logits are wanted."""
    wanted: list[int] = []
    end = 0
    for row in rows:
        end += row.count
        wanted.extend(range(end - row.logits, end))
    return wanted
