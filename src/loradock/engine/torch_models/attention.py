"""Attention over the paged cache for the packed tokens of one step."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from loradock.checkpoints.architecture import Architecture
from loradock.engine.core import Row
from loradock.engine.kernels.constants import BLOCK_SIZE


@dataclass
class TorchCache:
    """Keys `[layers, blocks, kv_heads, dim, BLOCK_SIZE]` and values `[…, BLOCK_SIZE, dim]`."""

    keys: torch.Tensor
    values: torch.Tensor


@dataclass
class Prefill:
    """A chunk of one sequence: rows `start:stop` of the step, its blocks, and which keys each row may see."""

    start: int
    stop: int
    blocks: torch.Tensor
    keys: int
    mask: torch.Tensor | None


class AttentionBatch:
    """Writes the step's new keys and values and attends with each row; in torch, for any device.

    Rows must come decode first (one token each), then prefill chunks. `cos` and `sin` are float32
    `[tokens, head_dim]` for the rows' positions.
    """

    def __init__(
        self,
        architecture: Architecture,
        cache: TorchCache,
        rows: list[Row],
        cos: torch.Tensor,
        sin: torch.Tensor,
    ) -> None:
        self._architecture = architecture
        self._cache = cache
        self._window = architecture.sliding_window
        self._device = cache.keys.device
        self._cos = cos
        self._sin = sin
        self._slots = torch.tensor(slots_of(rows), device=self._device)
        self._decode = sum(row.count == 1 for row in rows)
        self._plan_decode([row for row in rows if row.count == 1])
        self._prefills = plan_prefill(rows, self._window, self._device)

    def attend(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """qkv `[tokens, (heads + 2 * kv_heads) * dim]`, contiguous, may be changed → `[tokens, heads * dim]`."""
        a = self._architecture
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        q = self._store(qkv, keys, values)
        out = qkv.new_empty(len(qkv), a.heads, a.head_dim)
        if self._decode:
            self._attend_decode(keys, values, q[: self._decode], out[: self._decode])
        for part in self._prefills:
            out[part.start : part.stop] = attend_prefill(part, keys, values, q[part.start : part.stop])
        return out.view(len(qkv), -1)

    def _store(self, qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Put the new keys and values into the cache; gives the rotated queries `[tokens, heads, dim]`."""
        a = self._architecture
        q, k, v = torch.split(qkv.view(len(qkv), -1, a.head_dim), [a.heads, a.kv_heads, a.kv_heads], dim=1)
        cos, sin = (t.unsqueeze(1).to(qkv.dtype) for t in (self._cos, self._sin))
        blocks, places = self._slots // BLOCK_SIZE, self._slots % BLOCK_SIZE
        keys[blocks, :, :, places] = _rotate(k, cos, sin)
        values[blocks, :, places] = v
        return _rotate(q, cos, sin)

    def _plan_decode(self, rows: list[Row]) -> None:
        if not rows:
            return
        lengths = [row.start + 1 for row in rows]
        self._width = -(-max(lengths) // BLOCK_SIZE)
        tables = [row.sequence.blocks[: self._width] for row in rows]
        self._tables = torch.tensor([t + [0] * (self._width - len(t)) for t in tables], device=self._device)
        self._lengths = torch.tensor(lengths, device=self._device)

    def _attend_decode(self, keys: torch.Tensor, values: torch.Tensor, q: torch.Tensor, out: torch.Tensor) -> None:
        rows, heads, dim = q.shape
        positions = torch.arange(self._width * BLOCK_SIZE, device=self._device)
        ends = self._lengths.unsqueeze(1)
        visible = positions < ends
        if self._window is not None:
            visible &= positions >= ends - self._window
        k, v = (_gathered(t, self._tables.view(-1), rows) for t in _by_position(keys, values))
        # The query heads of a kv head are taken as its queries: nothing is repeated for grouped attention.
        grouped = q.reshape(rows, k.shape[1], heads // k.shape[1], dim)
        out[:] = F.scaled_dot_product_attention(grouped, k, v, attn_mask=visible[:, None, None, :]).view_as(out)


def plan_prefill(rows: list[Row], window: int | None, device: torch.device) -> list[Prefill]:
    """The chunks of more than one token among a step's rows."""
    parts, end = [], 0
    for row in rows:
        end += row.count
        if row.count > 1:
            keys = row.start + row.count
            blocks = torch.tensor(row.sequence.blocks[: -(-keys // BLOCK_SIZE)], device=device)
            parts.append(Prefill(end - row.count, end, blocks, keys, _mask(row.start, keys, window, device)))
    return parts


def _mask(start: int, keys: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    if start == 0 and (window is None or keys <= window):
        return None
    query = torch.arange(start, keys, device=device).unsqueeze(1)
    key = torch.arange(keys, device=device)
    mask = key <= query
    return mask if window is None else mask & (key > query - window)


def attend_prefill(part: Prefill, keys: torch.Tensor, values: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    k, v = (_gathered(t, part.blocks, 1)[:, :, : part.keys] for t in _by_position(keys, values))
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1).unsqueeze(0),
        k,
        v,
        attn_mask=part.mask,
        is_causal=part.mask is None,
        enable_gqa=True,
    )
    return out.squeeze(0).transpose(0, 1)


def _by_position(keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both `[blocks, kv_heads, BLOCK_SIZE, dim]`."""
    return keys.transpose(2, 3), values


def _gathered(cached: torch.Tensor, blocks: torch.Tensor, rows: int) -> torch.Tensor:
    """`[rows, kv_heads, positions, dim]` of the rows' blocks."""
    found = cached.index_select(0, blocks).view(rows, -1, *cached.shape[1:])
    return found.transpose(1, 2).reshape(rows, cached.shape[1], -1, cached.shape[3])


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def slots_of(rows: list[Row]) -> list[int]:
    return [
        row.sequence.blocks[position // BLOCK_SIZE] * BLOCK_SIZE + position % BLOCK_SIZE
        for row in rows
        for position in range(row.start, row.start + row.count)
    ]
