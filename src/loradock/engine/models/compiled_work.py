"""The input of a lane's compiled run, made of rows."""

from dataclasses import dataclass

import numpy as np

from loradock.engine.adapters.multi_lora import PagedLora
from loradock.engine.core import Row
from loradock.engine.kernels.compiled.layers import Lane
from loradock.engine.kernels.compiled.memory import Array, aligned
from loradock.engine.kernels.compiled.team import GONE
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.attention import Prefill, plan_prefill, slots_of
from loradock.engine.models.compiled_decoder import CompiledDecoder
from loradock.engine.models.lanes import wanted_of

SHORT = 192
"""Chunks that see no more keys than this attend row by row like decoding rows; longer ones by PyTorch's attention."""
_NOBODY = np.array([GONE])


@dataclass(frozen=True, slots=True)
class LaneTask:
    """A lane, and the chunks in it for which PyTorch attends."""

    lane: Lane
    prefills: list[Prefill]


@dataclass(frozen=True, slots=True)
class LaneBuilder:
    """Makes the lanes of a step through `model` and `cache`."""

    model: CompiledDecoder
    cache: KVCache
    mixing: PagedLora

    def prepare(self, rows: list[Row], *, short: bool, reads: bool, ahead: Array | None = None) -> LaneTask:
        """`short`: all rows attend by themselves, however long their chunks; `reads`: logits are kept; `ahead`: the
        announcements of the lane in which the chunk began that goes on here.
        """
        a, cache = self.model.architecture, self.cache
        positions = np.array([p for row in rows for p in range(row.start, row.start + row.count)], np.int64)
        short = short or all(row.count == 1 or row.start + row.count <= SHORT for row in rows)
        tables, lengths = _alone(rows if short else [row for row in rows if row.count == 1])
        owners, adapters = self.mixing.lines([row.sequence.adapter for row in rows for _ in range(row.count)])
        wanted = np.array(wanted_of(rows), np.int64)
        width, count = (a.heads + 2 * a.kv_heads) * a.head_dim, len(positions)
        lane = Lane(
            tokens=np.array([token for row in rows for token in row.tokens], np.int64),
            x=aligned((count, a.hidden_size), np.float32),
            qkv=aligned((count, width), np.uint16),
            attended=aligned((count, a.heads * a.head_dim), np.uint16),
            cos=self.model.cos.numpy()[positions],
            sin=self.model.sin.numpy()[positions],
            slots=np.array(slots_of(rows), np.int64),
            tables=tables,
            lengths=lengths,
            alone=all(row.count == 1 for row in rows),
            stored=np.zeros(1, np.int64),
            ahead=_NOBODY if ahead is None else ahead,
            keys=cache.keys.data_ptr(),
            values=cache.values.data_ptr(),
            layer_bytes=cache.keys.stride(0) * cache.keys.element_size(),
            owners=owners.numpy(),
            adapters=adapters.numpy(),
            wanted=wanted,
            logits=np.empty((len(wanted) if reads else 0, a.vocab_size), np.float32),
            best=np.empty(len(wanted), np.int64),
            usable=np.empty(len(wanted), np.bool_),
        )
        return LaneTask(lane, [] if short else plan_prefill(rows, a.sliding_window, cache.keys.device))


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
