"""Lanes through a `CompiledDecoder`: they run compiled from the embedding to the logits.

A step of few rows goes through as one lane that all threads share: reading the weights is what takes its time, and each
thread reads its part. One of more rows is divided among lanes of one thread each, which need not wait for each other.
"""

import numpy as np
import torch

from loradock.engine.adapters.multi_lora import PagedLora
from loradock.engine.core import Logits, Row
from loradock.engine.kernels.compiled import layers
from loradock.engine.kernels.compiled.lora_kernels import MODULE
from loradock.engine.kernels.compiled.memory import Array, aligned
from loradock.engine.kernels.compiled.team import GONE, Team, leave, team_of
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.attention import attend_prefill
from loradock.engine.models.compiled_decoder import CompiledDecoder
from loradock.engine.models.compiled_work import LaneBuilder, LaneTask
from loradock.engine.models.lanes import Lane

LANE_ROWS = 16
"""A lane with fewer rows would read all weights for little work."""


class CompiledLanes:
    """Splits a step into one lane for all threads, or into as many lanes as threads with equally many tokens."""

    share_processors = True

    def __init__(self, model: CompiledDecoder, cache: KVCache, threads: int) -> None:
        self.small = LANE_ROWS * max(2, threads)
        self.mixing = PagedLora(model.dtype)
        model.plan.shape[layers.BLOCKS] = cache.blocks
        self._workshop = LaneBuilder(model, cache, self.mixing)
        self._together = Workspace(model, threads)
        self._apart = [Workspace(model, 1) for _ in range(threads)]

    def split(self, rows: list[Row], threads: int) -> list[Lane]:
        tokens = sum(row.count for row in rows)
        reads = any(row.sequence.reads_logits for row in rows)
        if tokens < self.small:
            work = self._workshop.prepare(rows, short=True, reads=reads)
            return list(self._members(self._together, work, threads))
        members: list[LaneInput] = []
        for room, part in zip(self._apart, divided(rows, threads), strict=False):
            ahead = members[-1].stored if part[0].skipped else None
            members += self._members(room, self._workshop.prepare(part, short=False, reads=reads, ahead=ahead), 1)
        return list(members)

    def _members(self, room: "Workspace", work: LaneTask, threads: int) -> "list[LaneInput]":
        room.hold(work.lane.adapters, work.lane.tables.shape[1] * BLOCK_SIZE)
        teams = zip(room.scratches, team_of(threads), strict=False)
        return [LaneInput(self._workshop, work, scratch, team) for scratch, team in teams]

    def warm_up(self) -> None:
        """Do nothing: a step with adapters runs the same code."""


class Workspace:
    """Memory that the lanes of a team share from step to step."""

    def __init__(self, model: CompiledDecoder, members: int) -> None:
        self.scratches = model.scratch(members)

    def hold(self, adapters: Array, keys: int) -> None:
        """Make room for the ranks in a table of adapters, and for so many keys of a row."""
        sums, scores = self.scratches[0].sums, self.scratches[0].scores
        ranks = int(adapters[..., 1::MODULE].sum(axis=3).max()) if adapters.size else 0
        if sums.shape[1] < ranks:
            sums = aligned((len(sums), ranks), np.float32)
            self.scratches = [scratch._replace(sums=sums) for scratch in self.scratches]
        if scores.shape[1] < keys:
            shape = len(scores), 2 * keys
            self.scratches = [scratch._replace(scores=aligned(shape, np.float32)) for scratch in self.scratches]


class LaneInput:
    """A thread's part in a lane. The compute thread prepares it, any thread runs it."""

    def __init__(self, workshop: LaneBuilder, work: LaneTask, scratch: layers.Scratch, team: Team) -> None:
        self._model = workshop.model
        self._cache = workshop.cache
        self._work = work
        self._scratch = scratch
        self._team = team

    @property
    def stored(self) -> Array:
        """The number of layers whose keys and values of the lane are in the cache."""
        return self._work.lane.stored

    def run(self, threads: int = 1) -> Logits:
        """The first member gives the lane's logits, float32 rows; the others give none."""
        try:
            self._go()
        except BaseException:
            # Nobody shall wait for what will never be.
            leave(self._team)
            self.stored[0] = GONE
            raise
        lane = self._work.lane
        if self._team.number > 0:
            return Logits([], [], [])
        parts = [torch.from_numpy(lane.logits)] if len(lane.logits) == len(lane.wanted) else []
        return Logits(parts, lane.best.tolist(), lane.usable.tolist())

    def _go(self) -> None:
        if not self._work.prefills:
            self._run(layers.WHOLE)
            return
        for layer in range(self._model.architecture.layers):
            self._run(layers.ENTER, layer)
            self._attend(layer)
            self._run(layers.LEAVE, layer)

    def _run(self, part: int, layer: int = 0) -> None:
        model = self._model
        layers.run(*model.kinds, model.plan, self._work.lane, self._scratch, self._team, part, layer)

    def _attend(self, layer: int) -> None:
        a, cache, lane = self._model.architecture, self._cache, self._work.lane
        keys, values = cache.keys[layer], cache.values[layer]
        qkv = torch.from_numpy(lane.qkv).view(torch.bfloat16).view(len(lane.qkv), -1, a.head_dim)
        out = torch.from_numpy(lane.attended).view(torch.bfloat16).view(len(qkv), a.heads, a.head_dim)
        for part in self._work.prefills:
            rows = slice(part.start, part.stop)
            out[rows] = attend_prefill(part, keys, values, qkv[rows, : a.heads])


def divided(rows: list[Row], lanes: int) -> list[list[Row]]:
    """The rows in parts of as many tokens, give or take one: a chunk may begin in one and end in the next. No part ends
    with just the first token of a chunk: rows of one token, which attend by themselves, come first in a lane.
    """
    share = -(-sum(row.count for row in rows) // lanes)
    parts: list[list[Row]] = [[]]
    room = share
    for row in rows:
        done = 0
        while done < row.count:
            if room <= 0:
                parts.append([])
                room = share
            count = min(max(room, 2), row.count - done)
            left = row.count - done - count
            logits = min(count, max(0, row.logits - left))
            parts[-1].append(Row(row.sequence, count, logits, done, row.drafts))
            done, room = done + count, room - count
    return parts
