"""Attention over the paged cache for the packed tokens of one step."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from loradock.engine.core import Row
from loradock.engine.kv import BLOCK_SIZE, KVCache


@dataclass
class _Prefill:
    """One sequence's chunk: rows `start:stop` of the step, its blocks, and which keys each row may see."""

    start: int
    stop: int
    blocks: torch.Tensor
    keys: int
    mask: torch.Tensor | None


class AttentionBatch:
    """Where the step's new keys and values go, and what each row attends to.

    Rows must come decode first (one token each), then prefill chunks.
    """

    def __init__(self, cache: KVCache, rows: list[Row], window: int | None) -> None:
        self._cache, self._window, self._device = cache, window, cache.keys.device
        self._slots = torch.tensor(_slots(rows), device=self._device)
        self._decode = sum(row.count == 1 for row in rows)
        self._plan_decode([row for row in rows if row.count == 1])
        self._prefills = self._plan_prefill([row for row in rows if row.count > 1])

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """q `[tokens, heads, dim]`, k and v `[tokens, kv_heads, dim]` → `[tokens, heads, dim]`; stores k and v."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys.view(-1, *keys.shape[2:])[self._slots] = k
        values.view(-1, *values.shape[2:])[self._slots] = v
        if not self._prefills:
            return self._attend_decode(keys, values, q)
        out = torch.empty_like(q)
        if self._decode:
            out[: self._decode] = self._attend_decode(keys, values, q[: self._decode])
        for part in self._prefills:
            out[part.start : part.stop] = _attend_prefill(part, keys, values, q[part.start : part.stop])
        return out

    def _plan_decode(self, rows: list[Row]) -> None:
        if not rows:
            return
        lengths = [row.sequence.computed + 1 for row in rows]
        width = -(-max(lengths) // BLOCK_SIZE)
        tables = [row.sequence.blocks[:width] for row in rows]
        self._tables = torch.tensor([t + [0] * (width - len(t)) for t in tables], device=self._device).view(-1)
        positions = torch.arange(width * BLOCK_SIZE, device=self._device)
        ends = torch.tensor(lengths, device=self._device).unsqueeze(1)
        visible = positions < ends
        if self._window is not None:
            visible &= positions >= ends - self._window
        self._decode_mask = visible[:, None, None, :]

    def _attend_decode(self, keys: torch.Tensor, values: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        rows, heads, dim = q.shape
        kv_heads = keys.shape[2]
        k, v = (t.index_select(0, self._tables).view(rows, -1, kv_heads, dim).transpose(1, 2) for t in (keys, values))
        # The query heads of a kv head are taken as its queries: nothing is repeated for grouped attention.
        out = F.scaled_dot_product_attention(
            q.view(rows, kv_heads, heads // kv_heads, dim), k, v, attn_mask=self._decode_mask
        )
        return out.reshape(rows, heads, dim)

    def _plan_prefill(self, rows: list[Row]) -> list[_Prefill]:
        parts, start = [], self._decode
        for row in rows:
            sequence = row.sequence
            keys = sequence.computed + row.count
            blocks = torch.tensor(sequence.blocks[: -(-keys // BLOCK_SIZE)], device=self._device)
            parts.append(_Prefill(start, start + row.count, blocks, keys, self._prefill_mask(row, keys)))
            start += row.count
        return parts

    def _prefill_mask(self, row: Row, keys: int) -> torch.Tensor | None:
        if row.sequence.computed == 0 and (self._window is None or keys <= self._window):
            return None
        query = torch.arange(row.sequence.computed, keys, device=self._device).unsqueeze(1)
        key = torch.arange(keys, device=self._device)
        mask = key <= query
        return mask if self._window is None else mask & (key > query - self._window)


def _attend_prefill(part: _Prefill, keys: torch.Tensor, values: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    k, v = (t.index_select(0, part.blocks).view(-1, *t.shape[2:])[: part.keys] for t in (keys, values))
    q, k, v = (t.transpose(0, 1).unsqueeze(0) for t in (q, k, v))
    out = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=part.mask,
        is_causal=part.mask is None,
        enable_gqa=True,
    )
    return out.squeeze(0).transpose(0, 1)


def _slots(rows: list[Row]) -> list[int]:
    return [
        row.sequence.blocks[position // BLOCK_SIZE] * BLOCK_SIZE + position % BLOCK_SIZE
        for row in rows
        for position in range(row.sequence.computed, row.sequence.computed + row.count)
    ]
