"""Attention against NumPy, and rows to the last bit against themselves, few or many."""

import ctypes

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loradock.checkpoints.architecture import Architecture
from loradock.engine.dtypes import Dtype
from loradock.engine.kernels import structures as c
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kv_cache.layout import KVLayout
from tests.native import numbers as plain

fuzzed = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 2**32 - 1)
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 6), st.sampled_from([16, 32, 48, 64, 128]))
"""Key heads, queries for each of them, and a head's size."""


class Case:
    """A sequence's keys, values and last queries; what the cache holds beside them is not finite.

    `cached`: keys and values float32 `[2, length, kv_heads, dim]` as they are in the cache.
    """

    def __init__(self, dice, shape, start, rows, window, floats, int8):
        self.kv_heads, self.group, self.dim = shape
        self.start, self.rows, self.window, self.floats = start, rows, window, floats
        length, heads = start + rows, self.kv_heads * self.group
        kind = (lambda values: values.astype(np.float32)) if floats else plain.bits_of
        architecture = Architecture("llama", 10, 10, 10, 1, heads, self.kv_heads, self.dim, 1e4, 1e-5, 64)
        self.layout = KVLayout(architecture, Dtype.FLOAT32 if floats else Dtype.BFLOAT16, int8)
        numbers = dice.standard_normal((2, length, self.kv_heads, self.dim)).astype(np.float32)
        self.qkv = kind(dice.standard_normal((rows, heads + 2 * self.kv_heads, self.dim)).astype(np.float32) * 2)
        count = -(-length // BLOCK_SIZE)
        self.blocks = dice.permutation(count + 2)[:count].astype(np.int64)
        self.cache = np.zeros((count + 2, *self.layout.shape), np.uint8)
        self.cache.view(np.uint16)[:] = 0x7FC0
        if int8:
            scales = plain.rounded(dice.uniform(0.005, 0.02, (2, length, self.kv_heads, 1)))
            stored = np.clip(np.rint(numbers / scales), -127, 127).astype(np.int8)
            self.cached = stored * scales
            self._put_scales(plain.bits_of(scales[..., 0]))
        else:
            stored = kind(numbers)
            self.cached = stored if floats else plain.floats_of(stored)
        block, place = self.blocks[np.arange(length) // BLOCK_SIZE], np.arange(length) % BLOCK_SIZE
        self.layout.keys(self.cache)[block, 0, :, :, place] = stored[0]
        self.layout.values(self.cache)[block, 0, :, place] = stored[1]

    def _put_scales(self, scales):
        """`scales`: bfloat16 `[2, length, kv_heads]`."""
        for position in range(scales.shape[1]):
            block, place = self.blocks[position // BLOCK_SIZE], position % BLOCK_SIZE
            heads = self.cache[block, 0, :, -4 * BLOCK_SIZE :].view(np.uint16)
            heads[:, [place, BLOCK_SIZE + place]] = scales[:, position].T

    def attended(self, table, low=0, high=None):
        """float32 `[rows, heads, dim]` of rows `low` to `high` in one run."""
        high = self.rows if high is None else high
        heads = self.kv_heads * self.group
        qkv = np.ascontiguousarray(self.qkv[low:high])
        out = np.zeros((high - low, heads, self.dim), qkv.dtype)
        room = np.zeros(table.attention_room(heads, self.kv_heads, self.dim), np.uint8)
        attention = c.Attention(
            cache=self.cache.ctypes.data,
            block_bytes=self.layout.block_bytes,
            kept=self.layout.itemsize,
            qkv=qkv.ctypes.data,
            out=out.ctypes.data,
            heads=heads,
            kv_heads=self.kv_heads,
            dim=self.dim,
            window=self.window,
            room=room.ctypes.data,
            floats=self.floats,
        )
        run = c.Run(blocks=self.blocks.ctypes.data, row=0, rows=high - low, start=self.start + low)
        table.attend(ctypes.byref(attention), ctypes.byref(run))
        return out

    def wanted(self):
        keys, values = self.cached.astype(np.float64)
        read = (lambda numbers: numbers) if self.floats else plain.floats_of
        queries = read(self.qkv)[:, : self.kv_heads * self.group].astype(np.float64)
        out = np.zeros(queries.shape)
        for row in range(self.rows):
            end = self.start + row + 1
            seen = slice(max(0, end - self.window) if self.window else 0, end)
            for head in range(queries.shape[1]):
                scores = keys[seen, head // self.group] @ queries[row, head] / np.sqrt(self.dim)
                weights = np.exp(scores - scores.max())
                out[row, head] = weights / weights.sum() @ values[seen, head // self.group]
        return out


windows = st.one_of(st.just(0), st.integers(1, 300))


@fuzzed
@given(SHAPES, st.integers(0, 400), st.integers(1, c.CHUNK), windows, st.booleans(), st.booleans(), seeds)
def test_rows_attend_as_in_numpy(table, shape, start, rows, window, floats, int8, seed):
    case = Case(np.random.default_rng(seed), shape, start, rows, window, floats, int8)
    found = case.attended(table)
    found = found if floats else plain.floats_of(found)
    assert (np.abs(found - case.wanted()) < (2e-5 if floats else 0.04)).all()


@fuzzed
@given(SHAPES, st.integers(0, 400), st.integers(2, c.CHUNK), windows, st.booleans(), st.booleans(), seeds)
def test_a_row_attends_alike_alone_and_in_a_chunk(table, shape, start, rows, window, floats, int8, seed):
    dice = np.random.default_rng(seed)
    case = Case(dice, shape, start, rows, window, floats, int8)
    together, cut = case.attended(table), int(dice.integers(1, rows))
    for low, high in [(0, cut), (cut, rows), *((i, i + 1) for i in range(rows))]:
        assert case.attended(table, low, high).tobytes() == together[low:high].tobytes()
