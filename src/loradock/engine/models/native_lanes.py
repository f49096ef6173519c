"""Lanes through a `NativeDecoder`: they run compiled from the embedding to the logits.

A step of few rows goes through as one lane that all threads share: reading the weights is what takes its time, and each
thread reads its part. One of more rows is divided among lanes of one thread each, which need not wait for each other.
"""

import ctypes

import numpy as np

from loradock.engine.adapters.multi_lora import PagedLora
from loradock.engine.core import Logits, Row
from loradock.engine.kernels import structures as c
from loradock.engine.kernels.library import kernels
from loradock.engine.kernels.memory import Array, aligned
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.lane_builder import LaneBuilder, LaneTask
from loradock.engine.models.lanes import Lane
from loradock.engine.models.native_decoder import NativeDecoder, Scratch

LANE_ROWS = 16
"""A lane with fewer rows would read all weights for little work."""


class NativeLanes:
    """Splits a step into one lane for all threads, or into as many lanes as threads with equally many tokens."""

    share_processors = True

    def __init__(self, model: NativeDecoder, cache: KVCache, threads: int) -> None:
        self.small = LANE_ROWS * max(2, threads)
        self.mixing = PagedLora()
        self._builder = LaneBuilder(model, cache, self.mixing)
        self._together = Workspace(model, threads)
        self._apart = [Workspace(model, 1) for _ in range(threads)]

    def split(self, rows: list[Row], threads: int) -> list[Lane]:
        tokens = sum(row.count for row in rows)
        reads = any(row.sequence.reads_logits for row in rows)
        if tokens < self.small:
            return list(self._together.members(self._builder.prepare(rows, threads, reads=reads), threads))
        lanes: list[NativeLane] = []
        for room, part in zip(self._apart, divided(rows, threads), strict=False):
            ahead = lanes[-1].stored if part[0].skipped else None
            lanes += room.members(self._builder.prepare(part, 1, reads=reads, ahead=ahead), 1)
        return list(lanes)

    def warm_up(self) -> None:
        """Do nothing: a step with adapters runs the same code."""


class Workspace:
    """Memory that the lanes of a team share from step to step."""

    def __init__(self, model: NativeDecoder, members: int) -> None:
        self._model = model
        self._scratches = model.scratch(members)
        self._ranks = 0

    def members(self, task: LaneTask, threads: int) -> "list[NativeLane]":
        """The lane, as each of so many threads runs it."""
        if task.ranks > self._ranks:
            self._ranks = task.ranks
            sums = aligned((c.CHUNK, task.ranks), np.float32)
            for scratch in self._scratches:
                scratch.use_sums(sums)
        gate = aligned(16, np.int64)
        gate[:] = 0
        return [
            NativeLane(self._model, task, scratch, gate, c.Team(number, threads, gate.ctypes.data))
            for number, scratch in enumerate(self._scratches[:threads])
        ]


class NativeLane:
    """A thread's part in a lane. The compute thread prepares it, any thread runs it."""

    def __init__(self, model: NativeDecoder, task: LaneTask, scratch: Scratch, gate: Array, team: c.Team) -> None:
        self._model = model
        self._task = task
        self._scratch = scratch
        self._gate = gate
        self._team = team

    @property
    def stored(self) -> Array:
        """The number of layers whose keys and values of the lane are in the cache."""
        return self._task.stored

    def run(self, threads: int = 1) -> Logits:
        """The first member gives the lane's logits, float32 rows; the others give none."""
        task = self._task
        parts = (self._model.plan, task.lane, self._scratch.view, self._team)
        kernels().run(*(ctypes.byref(part) for part in parts))
        if self._team.number > 0:
            return Logits([], [], [])
        kept = [task.logits] if len(task.logits) == len(task.best) else []
        return Logits(kept, task.best.tolist(), task.usable.tolist())


def divided(rows: list[Row], lanes: int) -> list[list[Row]]:
    """The rows in parts of as many tokens, give or take one: a chunk may begin in one and end in the next."""
    share = -(-sum(row.count for row in rows) // lanes)
    parts: list[list[Row]] = [[]]
    room = share
    for row in rows:
        done = 0
        while done < row.count:
            if room <= 0:
                parts.append([])
                room = share
            count = min(room, row.count - done)
            left = row.count - done - count
            logits = min(count, max(0, row.logits - left))
            parts[-1].append(Row(row.sequence, count, logits, done, row.drafts))
            done, room = done + count, room - count
    return parts
