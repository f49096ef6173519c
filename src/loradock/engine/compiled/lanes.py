"""Lanes through a `CompiledDecoder`: each has one thread, and runs compiled from the embedding to the logits."""

import threading

import numpy as np
import torch

from loradock.engine.attention import attend_prefill, plan_prefill, slots_of
from loradock.engine.compiled import layers
from loradock.engine.compiled.decoder import CompiledDecoder
from loradock.engine.compiled.mixed import MODULE
from loradock.engine.core import BLOCK_SIZE, Logits, Row
from loradock.engine.kv import KVCache
from loradock.engine.lanes import LANE_TOKENS, Lane, wanted_of
from loradock.engine.mixing import KernelTables

SHORT = 64
"""Chunks that see no more keys than this attend row by row like decoding rows; longer ones by PyTorch's attention."""


class CompiledLanes:
    """As many as threads, the same number of tokens in each."""

    def __init__(self, model: CompiledDecoder, cache: KVCache, threads: int) -> None:
        self.mixing = KernelTables(model.dtype)
        self._rooms = [Room(model, cache, self.mixing) for _ in range(threads)]

    def split(self, rows: list[Row]) -> list[Lane]:
        tokens = sum(row.count for row in rows)
        lanes: list[CompiledLane] = []
        parts = divided(rows, min(len(self._rooms), max(1, tokens // LANE_TOKENS)))
        for room, part in zip(self._rooms, parts, strict=False):
            lanes.append(CompiledLane(room, part, lanes[-1] if part[0].skipped else None))
        return list(lanes)

    def warm_up(self) -> None:
        """Nothing: a step with adapters runs the same code."""


class Room:
    """What the lanes of a thread share from step to step."""

    def __init__(self, model: CompiledDecoder, cache: KVCache, mixing: KernelTables) -> None:
        self.model, self.cache, self.mixing = model, cache, mixing
        self.scratch = model.scratch()
        model.plan.shape[layers.BLOCKS] = cache.blocks

    def hold(self, adapters: np.ndarray) -> None:
        """Make room for the largest rank in a table of adapters."""
        rank = int(adapters[..., 1::MODULE].max()) if adapters.size else 0
        if self.scratch.sums.size < 4 * rank:
            self.scratch = self.scratch._replace(sums=np.empty(4 * rank, np.float32))


class CompiledLane:
    """Made ready by the compute thread, run by any. `ahead`: the lane in which the chunk began that goes on here."""

    def __init__(self, room: Room, rows: list[Row], ahead: "CompiledLane | None" = None) -> None:
        self._room, self._ahead, self._followed = room, ahead, False
        self._entered: list[threading.Event] = []
        if ahead:
            ahead.be_followed()
        a, cache = room.model.architecture, room.cache
        positions = np.array([p for row in rows for p in range(row.start, row.start + row.count)], np.int64)
        short = all(row.count == 1 or row.start + row.count <= SHORT for row in rows)
        self._prefills = [] if short else plan_prefill(rows, a.sliding_window, cache.keys.device)
        tables, lengths = _alone(rows if short else [row for row in rows if row.count == 1])
        owners, adapters = room.mixing.lines([row.sequence.adapter for row in rows for _ in range(row.count)])
        room.hold(adapters.numpy())
        wanted = np.array(wanted_of(rows), np.int64)
        width, count = (a.heads + 2 * a.kv_heads) * a.head_dim, len(positions)
        self._lane = layers.Lane(
            tokens=np.array([token for row in rows for token in row.tokens], np.int64),
            x=np.empty((count, a.hidden_size), np.float32),
            qkv=np.empty((count, width), np.uint16),
            attended=np.empty((count, a.heads * a.head_dim), np.uint16),
            cos=room.model.cos.numpy()[positions],
            sin=room.model.sin.numpy()[positions],
            slots=np.array(slots_of(rows), np.int64),
            tables=tables,
            lengths=lengths,
            keys=cache.keys.data_ptr(),
            values=cache.values.data_ptr(),
            layer_bytes=cache.keys.stride(0) * cache.keys.element_size(),
            owners=owners.numpy(),
            adapters=adapters.numpy(),
            wanted=wanted,
            logits=np.empty((len(wanted), a.vocab_size), np.float32),
            best=np.empty(len(wanted), np.int64),
            usable=np.empty(len(wanted), np.bool_),
        )

    def be_followed(self) -> None:
        """Say after each layer's first half that its keys and values are in the cache."""
        self._followed = True
        self._entered = [threading.Event() for _ in range(self._room.model.architecture.layers)]

    def run(self, threads: int = 1) -> Logits:
        """Of `sum of row.logits` rows, float32. A lane has one thread, the calling one."""
        if not (self._prefills or self._ahead or self._followed):
            self._run(layers.WHOLE)
            return self._logits()
        try:
            for layer in range(self._room.model.architecture.layers):
                if self._ahead:
                    self._ahead.wait(layer)
                self._run(layers.ENTER, layer)
                if self._followed:
                    self._entered[layer].set()
                self._attend(layer)
                self._run(layers.LEAVE, layer)
        finally:
            for event in self._entered:
                event.set()
        return self._logits()

    def _logits(self) -> Logits:
        lane = self._lane
        return Logits([torch.from_numpy(lane.logits)], lane.best.tolist(), lane.usable.tolist())

    def wait(self, layer: int) -> None:
        """Until this layer's keys and values are there, or will never be."""
        self._entered[layer].wait()

    def _run(self, part: int, layer: int = 0) -> None:
        model = self._room.model
        layers.run(*model.kinds, model.plan, self._lane, self._room.scratch, part, layer)

    def _attend(self, layer: int) -> None:
        a, cache = self._room.model.architecture, self._room.cache
        keys, values = cache.keys[layer], cache.values[layer]
        qkv = torch.from_numpy(self._lane.qkv).view(torch.bfloat16).view(len(self._lane.qkv), -1, a.head_dim)
        out = torch.from_numpy(self._lane.attended).view(torch.bfloat16).view(len(qkv), a.heads, a.head_dim)
        for part in self._prefills:
            rows = slice(part.start, part.stop)
            out[rows] = attend_prefill(part, keys, values, qkv[rows, : a.heads])


def _alone(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """(block tables, number of keys) of each token of rows that attend by themselves."""
    lengths = [p + 1 for row in rows for p in range(row.start, row.start + row.count)]
    width = -(-max(lengths, default=0) // BLOCK_SIZE)
    tables = np.zeros((len(lengths), width), np.int64)
    at = 0
    for row in rows:
        blocks = row.sequence.blocks[:width]
        tables[at : at + row.count, : len(blocks)] = blocks
        at += row.count
    return tables, np.array(lengths, np.int64)


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
            parts[-1].append(Row(row.sequence, count, logits, done))
            done, room = done + count, room - count
    return parts
