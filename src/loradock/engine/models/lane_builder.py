"""The input of a lane's compiled run, made of rows."""

from dataclasses import dataclass, field

import numpy as np

from loradock.engine.adapters.multi_lora import PagedLora
from loradock.engine.core import Row
from loradock.engine.kernels import structures as c
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kernels.memory import Array, aligned
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.kv_cache.layout import KVLayout
from loradock.engine.models.lanes import wanted_of
from loradock.engine.models.native_decoder import NativeDecoder


@dataclass(frozen=True, slots=True)
class LaneTask:
    """A lane, and the arrays behind the addresses in it.

    `ranks`: of an adapter's modules that share an input, together. `logits` float32 `[wanted, vocab]`, empty where
    nobody reads them; `best` int64 and `usable` bool as in `Logits`. `stored` int64 `[1]`: in how many layers the
    lane's keys and values are in the cache.
    """

    lane: c.Lane
    ranks: int
    logits: Array
    best: Array
    usable: Array
    stored: Array
    kept: list[object] = field(default_factory=list)


class LaneBuilder:
    """Makes the lanes of a step through `model` and `cache`."""

    def __init__(self, model: NativeDecoder, cache: KVCache, mixing: PagedLora) -> None:
        a = model.architecture
        layout = KVLayout(a, model.dtype, cache.layout.int8)
        if cache.memory.shape != (cache.blocks, *layout.shape) or cache.layout.itemsize != layout.itemsize:
            raise ValueError(f"this cache {list(cache.memory.shape)} is not of the model's {list(layout.shape)}")
        self.model = model
        self.cache = cache
        self._mixing = mixing

    def prepare(self, rows: list[Row], members: int, *, reads: bool, ahead: Array | None = None) -> LaneTask:
        """For a team of so many members. `reads`: logits are kept; `ahead`: the announcements of the lane in which the
        chunk began that goes on here.
        """
        a, number = self.model.architecture, self.model.dtype.numpy
        positions = np.array([p for row in rows for p in range(row.start, row.start + row.count)], np.int64)
        if not 0 <= positions.min() <= positions.max() < a.max_positions:
            raise ValueError(f"positions up to {positions.max()} in a context of {a.max_positions}")
        tokens = np.array([token for row in rows for token in row.tokens], np.int64)
        if not 0 <= tokens.min() <= tokens.max() < a.vocab_size:
            raise ValueError(f"tokens from {tokens.min()} to {tokens.max()} of {a.vocab_size}")
        owners, adapters = self._mixing.lines([row.sequence.adapter for row in rows for _ in range(row.count)])
        cos, sin = self.model.rotary.at(positions)
        wanted = np.array(wanted_of(rows), np.int64)
        count, width = len(positions), (a.heads + 2 * a.kv_heads) * a.head_dim
        x = aligned((count, a.hidden_size), np.float32)
        qkv, attended = aligned((count, width), number), aligned((count, a.heads * a.head_dim), number)
        runs, slots, blocks = self._runs(rows, members)
        run = (c.Run * len(runs))(*runs)
        stored = np.zeros(1, np.int64)
        logits = np.empty((len(wanted) if reads else 0, a.vocab_size), np.float32)
        best, usable = np.empty(len(wanted), np.int64), np.empty(len(wanted), np.bool_)
        lane = c.Lane(
            rows=count,
            runs=len(runs),
            tokens=_at(tokens),
            cos=_at(cos),
            sin=_at(sin),
            slots=_at(slots),
            run=run,
            alone=all(row.count == 1 for row in rows),
            x=_at(x),
            qkv=_at(qkv),
            attended=_at(attended),
            cache=_at(self.cache.memory),
            block_bytes=self.cache.layout.block_bytes,
            kept=self.cache.layout.itemsize,
            stored=_at(stored),
            ahead=None if ahead is None else _at(ahead),
            owners=_at(owners),
            adapters=_at(adapters) if adapters.size else None,
            adapter_count=adapters.shape[2] if adapters.size else 0,
            modules=adapters.shape[3] // 4 if adapters.size else 0,
            wanted=_at(wanted),
            wanted_rows=len(wanted),
            logits=_at(logits) if reads else None,
            best=_at(best),
            usable=_at(usable),
        )
        ranks = int(adapters[..., 1::4].sum(axis=3).max()) if adapters.size else 0
        kept: list[object] = [tokens, cos, sin, slots, run, blocks, x, qkv, attended, owners, adapters, wanted, ahead]
        return LaneTask(lane, ranks, logits, best, usable, stored, kept)

    def _runs(self, rows: list[Row], members: int) -> tuple[list[c.Run], Array, list[Array]]:
        """(runs of rows, each row's slot in the cache, the block numbers that runs refer to).

        What a chunk's rows have in common is done once for a run: it is as long as can be, but each member of a team
        gets some.
        """
        runs, slots, kept = [], [], []
        at = 0
        for row in rows:
            end = row.start + row.count
            blocks = np.array(row.sequence.blocks[: -(-end // BLOCK_SIZE)], np.int64)
            if len(blocks) * BLOCK_SIZE < end or not 0 <= blocks.min() <= blocks.max() < self.cache.blocks:
                raise ValueError(f"{end} tokens of a sequence in blocks {blocks} of {self.cache.blocks}")
            kept.append(blocks)
            if row.count == 1:
                slots.append(np.array([blocks[-1] * BLOCK_SIZE + row.start % BLOCK_SIZE]))
            else:
                positions = np.arange(row.start, end)
                slots.append(blocks[positions // BLOCK_SIZE] * BLOCK_SIZE + positions % BLOCK_SIZE)
            longest = min(c.CHUNK, -(-row.count // members))
            for done in range(0, row.count, longest):
                runs.append(c.Run(_at(blocks), at + done, min(longest, row.count - done), row.start + done))
            at += row.count
        return runs, np.concatenate(slots), kept


def _at(array: Array) -> int:
    return array.ctypes.data
