"""Whole embeddings and heads beside an adapter: whether they are the base model's own.

PEFT saves them when the vocabulary was resized or on request (save_embedding_layers), trained or not.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from loradock.checkpoints.adapters.adapter import WEIGHTS_FILE
from loradock.checkpoints.adapters.adapter_reasons import MERGE
from loradock.checkpoints.adapters.inspection import AdapterReport
from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.numbers import DTYPES, Array, as_float32
from loradock.checkpoints.safetensors_header import TensorInfo, read_header
from loradock.types.errors import AdapterRefused

_ROWS = 4096
_BLOCK = 32
_ROUNDING = {"F32": 0.0, "F16": 2.0**-11, "BF16": 2.0**-8}
_SMALLEST = {"F32": 0.0, "F16": 2.0**-24, "BF16": 0.0}
_TENSORS = {"embed_tokens": "model.embed_tokens.weight", "lm_head": "lm_head.weight"}
_GGUF_TENSORS = {"embed_tokens": "token_embd.weight", "lm_head": "output.weight"}
Rows = Callable[[int, int], Array]
"""A function that returns the rows from one to another as float32."""


class _Table:
    """A base model's table. `tolerance` of its rows: how far a number may be off that is meant to be the same."""

    def __init__(self, shape: tuple[int, int], dtype: str, rows: Rows, step: float = 0.0) -> None:
        self.shape = shape
        self.dtype = dtype
        self.rows = rows
        self._step = step

    def tolerance(self, rows: Array, dtype: str) -> Array:
        if self._step:
            blocks = np.abs(rows).reshape(len(rows), -1, min(_BLOCK, rows.shape[1]))
            return np.repeat(blocks.max(axis=2) * np.float32(self._step), blocks.shape[2], axis=1)
        if dtype == self.dtype:
            return np.zeros_like(rows)
        relative = max(_ROUNDING[dtype], _ROUNDING[self.dtype])
        return np.abs(rows) * np.float32(relative) + np.float32(max(_SMALLEST[dtype], _SMALLEST[self.dtype]))


def compare_tables(folder: Path, report: AdapterReport, base: Path, architecture: Architecture) -> list[str]:
    """A remark on each table that is the base's, also where it has more rows. Raises AdapterRefused for one that is
    not: it was trained, or is another model's."""
    header, remarks = read_header(folder / WEIGHTS_FILE), []
    data: Array = np.memmap(folder / WEIGHTS_FILE, np.uint8, "r")
    for name, table in report.tables.items():
        info, there = header[name], _base_table(base, architecture, table)
        if info.shape[1] != there.shape[1] or info.shape[0] < there.shape[0]:
            raise AdapterRefused(
                f"{name} is {info.shape[0]}x{info.shape[1]}, the base model's {table} is"
                f" {there.shape[0]}x{there.shape[1]}: the adapter belongs to another base"
            )
        changed = sum(_differing(there, data, info))
        if changed:
            raise AdapterRefused(
                f"{name} is a whole table of which {changed} rows differ from the base model's: trained embeddings and"
                " heads are not applied here. Where they need not be trained, save the adapter without them (PEFT:"
                f" save_pretrained(…, save_embedding_layers=False)), {MERGE}"
            )
        more = info.shape[0] - there.shape[0]
        longer = f" ({more} rows more than the base has tokens)" if more else ""
        remarks.append(f"{name} is the base model's own table{longer} and was left out")
    return remarks


def _differing(there: _Table, data: Array, info: TensorInfo) -> Iterator[int]:
    width = info.shape[1] * DTYPES[info.dtype].itemsize
    for start in range(0, there.shape[0], _ROWS):
        end = min(start + _ROWS, there.shape[0])
        mine = as_float32(data[info.start + start * width : info.start + end * width], info.dtype).reshape(
            end - start, -1
        )
        rows = there.rows(start, end)
        near = np.abs(mine - rows) <= there.tolerance(rows, info.dtype)
        yield int((~near.all(axis=1)).sum())


def _base_table(base: Path, architecture: Architecture, table: str) -> _Table:
    wanted = ("embed_tokens", "lm_head") if architecture.tie_embeddings else (table,)
    names = [table, *wanted]
    return _of_gguf(base, names) if base.suffix == ".gguf" else _of_folder(base, names)


def _of_folder(base: Path, tables: list[str]) -> _Table:
    index = base / "model.safetensors.index.json"
    where = json.loads(index.read_bytes())["weight_map"] if index.is_file() else {}
    for name in (_TENSORS[table] for table in tables):
        file = base / where.get(name, "model.safetensors")
        info = read_header(file).get(name) if file.is_file() else None
        if info is not None and info.dtype in DTYPES:
            data: Array = np.memmap(file, np.uint8, "r")
            return _Table((info.shape[0], info.shape[1]), info.dtype, _rows_of(data, info))
    raise _no_table(tables[0])


def _rows_of(data: Array, info: TensorInfo) -> Rows:
    width = info.shape[1] * DTYPES[info.dtype].itemsize

    def rows(start: int, end: int) -> Array:
        part = data[info.start + start * width : info.start + end * width]
        return as_float32(part, info.dtype).reshape(end - start, -1)

    return rows


def _of_gguf(base: Path, tables: list[str]) -> _Table:
    """Quantised, a table can only be told from another as far as its own steps are fine."""
    from loradock.checkpoints.gguf.gguf_file import GgufFile

    tensors = {tensor.name: tensor for tensor in GgufFile(base).tensors}
    tensor: Any = next((tensors[_GGUF_TENSORS[t]] for t in tables if _GGUF_TENSORS[t] in tensors), None)
    if tensor is None:
        raise _no_table(tables[0])
    shape, kind = (tensor.shape[1], tensor.shape[0]), tensor.tensor_type.name
    if kind in DTYPES:
        return _Table(
            shape,
            kind,
            lambda start, end: as_float32(tensor.data[start:end].view(np.uint8).ravel(), kind).reshape(end - start, -1),
        )
    bits = next((int(letter) for letter in kind if letter.isdigit()), 4)
    return _Table(
        shape, kind, lambda start, end: tensor.tensor_type.floats(tensor.data[start:end]), 2.0 / (2**bits - 1)
    )


def _no_table(table: str) -> AdapterRefused:
    return AdapterRefused(f"the base model's {table} cannot be read, so the adapter's copy of it cannot be compared")
