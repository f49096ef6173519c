"""A decoder's layers over the rows of a lane, in one call: nothing of Python runs between two operations.

What rows have in common (`Model`) and what a lane has of its own (`Lane`) come as tuples of arrays and addresses.
Hidden states, and sums of every kind, are float32; what goes into a product is rounded to bfloat16 or to bytes.
"""

from typing import NamedTuple

import numpy as np
from numba import carray, njit

from loradock.engine.compiled.mixed import add_adapters
from loradock.engine.compiled.products import (
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
from loradock.engine.compiled.tiles import GROUP, half
from loradock.engine.compiled.twelve import decode, rare_of
from loradock.engine.kernels import (
    BFLOAT16,
    FAST,
    FLOAT32,
    attend_decode,
    exp,
    narrow,
    pointer,
    rotate_and_store,
    value,
)
from loradock.engine.sampling_kernels import largest

QKV, OUT, GATE_UP, DOWN = range(4)
ATTENTION_NORM, MLP_NORM, Q_NORM, K_NORM = range(4)
HEADS, KV_HEADS, DIM, WINDOW, BLOCKS = range(5)
WHOLE, ENTER, LEAVE = range(3)
CHUNK = 64
"""Rows that go through a layer together: what they need in between stays in the second cache."""
_kernel = njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
_part = njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
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
    """Room for CHUNK rows on the way through a layer: `inputs` int64 `[7]` (see `products`), `wide` float32
    `[CHUNK, widest output]`, `row` float32 `[widest input]`, `sums` float32 `[4 * largest rank]`.
    """

    inputs: np.ndarray
    wide: np.ndarray
    row: np.ndarray
    sums: np.ndarray


class Lane(NamedTuple):
    """`tokens` int64 `[rows]`; `x` float32 `[rows, hidden]`; `qkv` and `attended` bfloat16 (as uint16); rotary `cos`,
    `sin` float32 `[rows, dim]`; `slots` int64 `[rows]` in the cache, whose first layer is at `keys`, `values` and whose
    layers are `layer_bytes` apart; `tables` int64 `[decoding, width]` and `lengths` of the rows that attend by
    themselves. `owners` int64 `[rows]`; `adapters` int64 `[layers, 4, adapters, entry]`, empty without any. `logits`
    float32 `[wanted, vocab]` of the rows numbered in `wanted`, `best` int64 and `usable` bool as in `core.Logits`.
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
def run(kind, head_kind, model, lane, scratch, part, layer):
    """All layers (WHOLE), or one of them up to attention or from there: between them PyTorch attends for long chunks.

    One function, since everything it needs is compiled again for each. `kind` and `head_kind`: see `products.KINDS`.
    """
    last = model.norms.shape[0] - 1
    if part == WHOLE:
        _embed_all(model, lane)
        for n in range(last + 1):
            _enter(kind, model, lane, scratch, n)
            _leave(kind, model, lane, scratch, n)
    elif part == ENTER:
        if layer == 0:
            _embed_all(model, lane)
        _enter(kind, model, lane, scratch, layer)
    else:
        _leave(kind, model, lane, scratch, layer)
    if part == WHOLE or (part == LEAVE and layer == last):
        _logits(head_kind, model, lane, scratch)


@_part
def _embed_all(model, lane):
    for i in range(lane.tokens.size):
        _embed(model, lane.tokens[i], lane.x[i])


@_part
def _logits(kind, model, lane, scratch):
    hidden, rows, out = lane.x.shape[1], lane.wanted, lane.logits
    for low in range(0, rows.size, CHUNK):
        count = min(CHUNK, rows.size - low)
        for i in range(count):
            _norm(lane.x[rows[low + i]], model.last_norm, scratch.row[:hidden], model.eps)
            prepare(kind, scratch.row[:hidden], scratch.inputs, i)
        multiply(kind, model.head, scratch.inputs, count, out[low].ctypes.data, out.shape[1] * 4, 0)
        for i in range(low, low + count):
            lane.best[i], lane.usable[i] = largest(out[i])


@_part
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
def _project(kind, model, lane, scratch, layer, which, low, count, out, stride, add):
    """A product and what the rows' adapters add to it."""
    line = model.products[layer, which]
    multiply(kind, line, scratch.inputs, count, out, stride, add)
    if lane.adapters.size > 0:
        table, entry = lane.adapters[layer, which].ctypes.data, lane.adapters.shape[3]
        owners = lane.owners[low : low + count]
        sums = scratch.sums.ctypes.data
        add_adapters(table, entry, owners, scratch.inputs, line[INPUTS], count, out, stride, sums)


@_part
def _normed(kind, model, lane, scratch, layer, norm, low, count):
    hidden = lane.x.shape[1]
    weight = carray(pointer(model.norms[layer, norm], FLOAT32), (hidden,))
    for i in range(count):
        _norm(lane.x[low + i], weight, scratch.row[:hidden], model.eps)
        prepare(kind, scratch.row[:hidden], scratch.inputs, i)


@_part
def _enter(kind, model, lane, scratch, layer):
    rows, width = lane.qkv.shape
    heads, kv_heads, dim = model.shape[HEADS], model.shape[KV_HEADS], model.shape[DIM]
    wide = scratch.wide
    for low in range(0, rows, CHUNK):
        count = min(CHUNK, rows - low)
        _normed(kind, model, lane, scratch, layer, ATTENTION_NORM, low, count)
        _project(kind, model, lane, scratch, layer, QKV, low, count, wide.ctypes.data, wide.shape[1] * 4, 0)
        if model.norms[layer, Q_NORM] != 0:
            for i in range(count):
                _norm_heads(wide[i], model.norms[layer, Q_NORM], 0, heads, dim, model.eps)
                _norm_heads(wide[i], model.norms[layer, K_NORM], heads, kv_heads, dim, model.eps)
        for i in range(count):
            row = lane.qkv[low + i]
            for j in range(width):
                row[j] = narrow(wide[i, j], BFLOAT16)
    offset = layer * lane.layer_bytes
    rotate_and_store(
        BFLOAT16,
        lane.qkv.ctypes.data,
        lane.cos.ctypes.data,
        lane.sin.ctypes.data,
        lane.slots.ctypes.data,
        lane.keys + offset,
        lane.values + offset,
        rows,
        heads,
        kv_heads,
        dim,
        model.shape[BLOCKS],
    )
    _attend(model, lane, layer)


@_part
def _norm_heads(row, weight_at, first, count, dim, eps):
    weight = carray(pointer(weight_at, FLOAT32), (dim,))
    for h in range(first, first + count):
        head = row[h * dim : (h + 1) * dim]
        _norm(head, weight, head, eps)


@_part
def _attend(model, lane, layer):
    if lane.lengths.size == 0:
        return
    offset = layer * lane.layer_bytes
    attend_decode(
        BFLOAT16,
        lane.qkv.ctypes.data,
        lane.keys + offset,
        lane.values + offset,
        lane.tables.ctypes.data,
        lane.lengths.ctypes.data,
        lane.attended.ctypes.data,
        lane.lengths.size,
        model.shape[HEADS],
        model.shape[KV_HEADS],
        model.shape[DIM],
        model.shape[BLOCKS],
        lane.tables.shape[1],
        model.shape[WINDOW],
    )


@_part
def _leave(kind, model, lane, scratch, layer):
    rows, hidden = lane.x.shape
    into = lane.attended.shape[1]
    wide, row = scratch.wide, scratch.row
    inner = model.products[layer, GATE_UP, OUTPUTS] // 2
    for low in range(0, rows, CHUNK):
        count = min(CHUNK, rows - low)
        x_at = lane.x[low].ctypes.data
        for i in range(count):
            for j in range(into):
                row[j] = value(lane.attended[low + i, j])
            prepare(kind, row[:into], scratch.inputs, i)
        _project(kind, model, lane, scratch, layer, OUT, low, count, x_at, hidden * 4, 1)
        _normed(kind, model, lane, scratch, layer, MLP_NORM, low, count)
        _project(kind, model, lane, scratch, layer, GATE_UP, low, count, wide.ctypes.data, wide.shape[1] * 4, 0)
        for i in range(count):
            for j in range(inner):
                gate = wide[i, j]
                silu = gate / (np.float32(1) + exp(min(-gate, np.float32(87))))
                row[j] = silu * wide[i, inner + j]
            prepare(kind, row[:inner], scratch.inputs, i)
        _project(kind, model, lane, scratch, layer, DOWN, low, count, x_at, hidden * 4, 1)
