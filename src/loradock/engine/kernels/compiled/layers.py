"""A decoder's layers over the rows of a lane, in one call: nothing of Python runs between two operations.

What rows have in common (`Model`) and what a lane has of its own (`Lane`) come as tuples of arrays and addresses. The
members of a team share every operation: those on rows by rows, products by columns. They meet where one needs what
another has written. Hidden states, and sums of every kind, are float32; what goes into a product is rounded to bfloat16
or to bytes.
"""

from typing import NamedTuple

import numpy as np
from numba import carray, njit

from loradock.engine.kernels.compiled.argmax import SHARE, begin_looking, decide, look_through
from loradock.engine.kernels.compiled.attention import attend
from loradock.engine.kernels.compiled.bf16_codec import decode, rare_of
from loradock.engine.kernels.compiled.lora_kernels import expand_adapters, shrink_adapters
from loradock.engine.kernels.compiled.products import (
    BITS,
    INPUTS,
    OUTPUTS,
    PANEL,
    RARE,
    RARES,
    SCALES,
    WEIGHT,
    multiply,
    prepare,
)
from loradock.engine.kernels.compiled.team import announce, await_number, meet, share
from loradock.engine.kernels.compiled.tiles import GROUP, half
from loradock.engine.kernels.kernels import (
    BFLOAT16,
    FAST,
    FLOAT32,
    address,
    exp,
    narrow,
    pointer,
    rotate_and_store,
    value,
)

QKV, OUT, GATE_UP, DOWN = map(np.int64, range(4))
ATTENTION_NORM, MLP_NORM, Q_NORM, K_NORM = map(np.int64, range(4))
STORE, ADD = map(np.int64, range(2))
"""The modes of a product. (All of these have a type: for plain numbers Numba compiles a function once for each of
them.)
"""
HEADS, KV_HEADS, DIM, WINDOW, BLOCKS = range(5)
WHOLE, ENTER, LEAVE = range(3)
CHUNK = 64
"""Rows that go through a layer together: what they need in between stays in the second cache."""
_kernel = njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
_part = njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
_once = njit(inline="always")
"""Decorates functions that are called from one place. A function of its own would be optimised and compiled once more
for each function around it."""
_BYTE = np.uint8(0)


class Model(NamedTuple):
    """`products` int64 `[layers, 4, 8]` (see `products`), `head` int64 `[8]`, `norms` int64 `[layers, 4]` (addresses of
    float32 vectors, 0: none), `last_norm` float32 `[hidden]`, `shape` int64 `[5]`; `embedding`: address of bfloat16
    `[vocab, hidden]`, 0 where the head serves as such.
    """

    products: np.ndarray
    head: np.ndarray
    norms: np.ndarray
    last_norm: np.ndarray
    shape: np.ndarray
    embedding: int
    eps: float


class Scratch(NamedTuple):
    """Room for CHUNK rows on the way through a layer.

    The team's: `inputs` int64 `[7]` (see `products`), `wide` float32 `[CHUNK, widest output]`, `sums` float32
    `[CHUNK, ranks of an adapter's modules that share an input]`, `tops` float32 `[members, CHUNK, 2]` and `places`
    int64 `[members, CHUNK]` (see `likeliest`). The member's own: in `inputs` the room for unpacking, `row` float32
    `[widest input]`, `scores` float32 `[heads per key head, keys]`, `room` float32 `[2, heads per key head,
    dim]`, `seen` float32 `[CHUNK, SHARE]`.
    """

    inputs: np.ndarray
    wide: np.ndarray
    sums: np.ndarray
    tops: np.ndarray
    places: np.ndarray
    row: np.ndarray
    scores: np.ndarray
    room: np.ndarray
    seen: np.ndarray


class Lane(NamedTuple):
    """`tokens` int64 `[rows]`; `x` float32 `[rows, hidden]`; `qkv` and `attended` bfloat16 (as uint16); rotary `cos`,
    `sin` float32 `[rows, dim]`; `slots` int64 `[rows]` in the cache, whose first layer is at `keys`, `values` and whose
    layers are `layer_bytes` apart; `tables` int64 `[decoding, width]` and `lengths` of the rows that attend by
    themselves, `alone`: all rows, and none to another. `stored` int64 `[1]`: in how many layers the keys and values of
    this lane and those ahead are in the cache, `ahead` the same of the lane in which its first chunk began. `owners`
    int64 `[rows]`; `adapters` int64 `[layers, 4, adapters, entry]`, empty without any. Of the rows numbered in
    `wanted`: `logits` float32 `[wanted, vocab]`, empty where nobody reads them, `best` int64 and `usable` bool as in
    `core.Logits`.
    """

    tokens: np.ndarray
    x: np.ndarray
    qkv: np.ndarray
    attended: np.ndarray
    cos: np.ndarray
    sin: np.ndarray
    slots: np.ndarray
    tables: np.ndarray
    lengths: np.ndarray
    alone: bool
    stored: np.ndarray
    ahead: np.ndarray
    keys: int
    values: int
    layer_bytes: int
    owners: np.ndarray
    adapters: np.ndarray
    wanted: np.ndarray
    logits: np.ndarray
    best: np.ndarray
    usable: np.ndarray


@_kernel
def run(kind, head_kind, model, lane, scratch, team, part, layer):
    """All layers (WHOLE), or, for a team of one, one of them up to attention or from there: between them PyTorch
    attends for long chunks.

    One function, since everything it needs is compiled again for each. `kind` and `head_kind`: see `products.KINDS`.
    """
    count = model.norms.shape[0]
    first, end = (0, count) if part == WHOLE else (layer, layer + 1)
    if part != LEAVE and first == 0:
        _embed_all(model, lane, team)
    for n in range(first, end):
        if part != LEAVE:
            _enter(kind, model, lane, scratch, team, n)
        if part != ENTER:
            _leave(kind, model, lane, scratch, team, n)
    if part != ENTER and end == count:
        _logits(head_kind, model, lane, scratch, team)


@_once
def _embed_all(model, lane, team):
    first, end = share(lane.tokens.size, team)
    for i in range(first, end):
        _embed(model, lane.tokens[i], lane.x[i])
    meet(team)


@_once
def _logits(kind, model, lane, scratch, team):
    hidden, rows = lane.x.shape[1], lane.wanted
    tops, places = scratch.tops[team.number], scratch.places[team.number]
    for low in range(0, rows.size, CHUNK):
        count = min(CHUNK, rows.size - low)
        first, end = share(count, team)
        for i in range(first, end):
            _norm(lane.x[rows[low + i]], model.last_norm, scratch.row[:hidden], model.eps)
            prepare(kind, scratch.row[:hidden], scratch.inputs, i)
        meet(team)
        begin_looking(tops, places)
        _look(kind, model, lane, scratch, team, low, count)
        meet(team)
        for i in range(first, end):
            lane.best[low + i], lane.usable[low + i] = decide(scratch.tops, scratch.places, team.size, i)
        meet(team)


@_once
def _look(kind, model, lane, scratch, team, low, count):
    """A member's part of the logits, some panels at a time."""
    vocabulary, kept = model.head[OUTPUTS], lane.logits.shape[0] > 0
    begin, finish = share((vocabulary + SHARE - 1) // SHARE, team)
    for part in range(begin, finish):
        left, right = part * SHARE, min(vocabulary, (part + 1) * SHARE)
        out, stride = address(scratch.seen) - left * 4, SHARE * 4
        if kept:
            out, stride = address(lane.logits[low]), vocabulary * 4
        multiply(kind, model.head, scratch.inputs, count, out, stride, STORE, left // PANEL, right // PANEL)
        for i in range(count):
            seen = lane.logits[low + i, left:right] if kept else scratch.seen[i, : right - left]
            look_through(seen, left, scratch.tops[team.number, i], scratch.places[team.number], i)


@_once
def _embed(model, token, x):
    if model.embedding != 0:
        row = carray(pointer(model.embedding + token * x.size * 2, BFLOAT16), (x.size,))
        for j in range(x.size):
            x[j] = value(row[j])
        return
    panel, column = token // PANEL, token % PANEL
    if model.head[BITS] == 16:
        decode(model.head[WEIGHT], model.head[SCALES], panel, column, x)
        rare_of(model.head[RARE], model.head[RARES], token, x)
    else:
        groups = x.size // GROUP
        fours = carray(pointer(model.head[WEIGHT] + panel * x.size * PANEL, _BYTE), (x.size // 4, PANEL, 4))
        scales = model.head[SCALES] + (panel * groups * PANEL + column) * 2
        for j in range(x.size):
            x[j] = (np.float32(fours[j // 4, column, j % 4]) - np.float32(128)) * half(scales + j // GROUP * PANEL * 2)


@_part
def _norm(x, weight, out, eps):
    squares = np.float32(0)
    for j in range(x.size):
        squares += x[j] * x[j]
    # Numbers too large to be squared must not pass for zeros.
    mean = squares / np.float32(x.size) if squares < np.float32(np.inf) else np.float32(np.nan)
    scale = np.float32(1) / np.sqrt(mean + np.float32(eps))
    for j in range(x.size):
        out[j] = x[j] * scale * weight[j]


@_part
def _down(model, lane, scratch, layer, which, low, first, end):
    """Multiply a product's input by the A matrices of the adapters of rows `first:end`."""
    if lane.adapters.size > 0:
        table, entry = address(lane.adapters[layer, which]), lane.adapters.shape[3]
        owners, depth = lane.owners[low : low + end], model.products[layer, which, INPUTS]
        shrink_adapters(table, entry, owners, scratch.inputs, depth, first, end, scratch.sums)


@_part
def _project(kind, model, lane, scratch, team, layer, which, low, count, out, stride, add):
    """A member's columns of a product, and what the rows' adapters add to them."""
    line = model.products[layer, which]
    panels = line[OUTPUTS] // PANEL
    begin, finish = share((panels + 1) // 2, team)
    first, end = 2 * begin, min(panels, 2 * finish)
    multiply(kind, line, scratch.inputs, count, out, stride, add, first, end)
    if lane.adapters.size > 0:
        table, entry = address(lane.adapters[layer, which]), lane.adapters.shape[3]
        owners, sums = lane.owners[low : low + count], scratch.sums
        left, right = first * PANEL, end * PANEL
        expand_adapters(table, entry, owners, line[INPUTS], count, left, right, out, stride, sums)


@_part
def _normed(kind, model, lane, scratch, layer, norm, which, low, first, end):
    hidden = lane.x.shape[1]
    weight = carray(pointer(model.norms[layer, norm], FLOAT32), (hidden,))
    for i in range(first, end):
        _norm(lane.x[low + i], weight, scratch.row[:hidden], model.eps)
        prepare(kind, scratch.row[:hidden], scratch.inputs, i)
    _down(model, lane, scratch, layer, which, low, first, end)


@_once
def _enter(kind, model, lane, scratch, team, layer):
    rows, width = lane.qkv.shape
    heads, kv_heads, dim = model.shape[HEADS], model.shape[KV_HEADS], model.shape[DIM]
    wide = scratch.wide
    for low in range(0, rows, CHUNK):
        count = min(CHUNK, rows - low)
        first, end = share(count, team)
        _normed(kind, model, lane, scratch, layer, ATTENTION_NORM, QKV, low, first, end)
        meet(team)
        _project(kind, model, lane, scratch, team, layer, QKV, low, count, address(wide), wide.shape[1] * 4, STORE)
        meet(team)
        for i in range(first, end):
            if model.norms[layer, Q_NORM] != 0:
                _norm_heads(wide[i], model.norms[layer, Q_NORM], np.int64(0), heads, dim, model.eps)
                _norm_heads(wide[i], model.norms[layer, K_NORM], heads, kv_heads, dim, model.eps)
            row = lane.qkv[low + i]
            for j in range(width):
                row[j] = narrow(wide[i, j], BFLOAT16)
        _store(model, lane, layer, low + first, low + end)
    if lane.alone and team.size <= rows <= CHUNK:
        first, end = share(rows, team)
        first, end = first * kv_heads, end * kv_heads
    else:
        meet(team)
        await_number(lane.ahead, layer + 1)
        announce(lane.stored, layer + 1)
        first, end = share(lane.lengths.size * kv_heads, team)
    _attend(model, lane, scratch, layer, first, end)


@_once
def _store(model, lane, layer, first, end):
    offset = layer * lane.layer_bytes
    rotate_and_store(
        BFLOAT16,
        address(lane.qkv[first:end]),
        address(lane.cos[first:end]),
        address(lane.sin[first:end]),
        address(lane.slots[first:end]),
        lane.keys + offset,
        lane.values + offset,
        end - first,
        model.shape[HEADS],
        model.shape[KV_HEADS],
        model.shape[DIM],
        model.shape[BLOCKS],
    )


@_part
def _norm_heads(row, weight_at, first, count, dim, eps):
    weight = carray(pointer(weight_at, FLOAT32), (dim,))
    for h in range(first, first + count):
        head = row[h * dim : (h + 1) * dim]
        _norm(head, weight, head, eps)


@_once
def _attend(model, lane, scratch, layer, first, end):
    offset = layer * lane.layer_bytes
    attend(
        lane.qkv,
        lane.keys + offset,
        lane.values + offset,
        lane.tables,
        lane.lengths,
        model.shape[WINDOW],
        model.shape[KV_HEADS],
        first,
        end,
        scratch.scores,
        scratch.room,
        lane.attended,
    )


@_once
def _leave(kind, model, lane, scratch, team, layer):
    rows, hidden = lane.x.shape
    wide = scratch.wide
    for low in range(0, rows, CHUNK):
        count = min(CHUNK, rows - low)
        first, end = share(count, team)
        x_at = address(lane.x[low])
        meet(team)
        _attended(kind, model, lane, scratch, layer, low, first, end)
        meet(team)
        _project(kind, model, lane, scratch, team, layer, OUT, low, count, x_at, hidden * 4, ADD)
        meet(team)
        _normed(kind, model, lane, scratch, layer, MLP_NORM, GATE_UP, low, first, end)
        meet(team)
        _project(kind, model, lane, scratch, team, layer, GATE_UP, low, count, address(wide), wide.shape[1] * 4, STORE)
        meet(team)
        _activated(kind, model, lane, scratch, layer, low, first, end)
        meet(team)
        _project(kind, model, lane, scratch, team, layer, DOWN, low, count, x_at, hidden * 4, ADD)
        meet(team)


@_once
def _attended(kind, model, lane, scratch, layer, low, first, end):
    row = scratch.row[: lane.attended.shape[1]]
    for i in range(first, end):
        for j in range(row.size):
            row[j] = value(lane.attended[low + i, j])
        prepare(kind, row, scratch.inputs, i)
    _down(model, lane, scratch, layer, OUT, low, first, end)


@_once
def _activated(kind, model, lane, scratch, layer, low, first, end):
    inner = model.products[layer, GATE_UP, OUTPUTS] // 2
    row, wide = scratch.row[:inner], scratch.wide
    for i in range(first, end):
        for j in range(inner):
            gate = wide[i, j]
            silu = gate / (np.float32(1) + exp(min(-gate, np.float32(87))))
            row[j] = silu * wide[i, inner + j]
        prepare(kind, row, scratch.inputs, i)
    _down(model, lane, scratch, layer, DOWN, low, first, end)
