"""The header of a safetensors file, read without trusting it.

Format: https://huggingface.co/docs/safetensors: u64 length, JSON header, then one gapless byte buffer.
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from loradock.types.errors import DamagedWeights

_MAX_HEADER = 16 * 1024 * 1024
_ITEM_BYTES = {
    **{"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2},
    **{"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1},
}


@dataclass(frozen=True)
class TensorInfo:
    """The place of a tensor: `start` and `end` are byte offsets in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class RawHeader(NamedTuple):
    """The JSON of a file's header, not looked at yet; `size` is the whole file's, in bytes."""

    name: str
    text: bytes
    size: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Tensor name → TensorInfo. Raises DamagedWeights when the file is malformed."""
    return parse_header(read_raw_header(path))


def read_raw_header(path: Path) -> RawHeader:
    """Raises DamagedWeights when there is none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise DamagedWeights(f"{path.name} is not a safetensors file: its header length does not fit the file")
        return RawHeader(path.name, file.read(length), size)


def parse_header(raw: RawHeader) -> dict[str, TensorInfo]:
    """Tensor name → TensorInfo. Raises DamagedWeights when the file is malformed."""
    base = 8 + len(raw.text)
    try:
        entries = json.loads(raw.text, object_pairs_hook=_without_repeats)
        tensors = {name: _info(entry, base) for name, entry in entries.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedWeights(f"{raw.name} is not a safetensors file: its header cannot be read ({error!r})") from error
    _check_layout(raw.name, tensors, base, raw.size)
    return tensors


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name occurs twice")
    return entries


def _info(entry: dict[str, Any], base: int) -> TensorInfo:
    start, end = entry["data_offsets"]
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    if dtype not in _ITEM_BYTES:
        raise ValueError(f"unknown dtype {dtype!r}")
    if any(type(n) is not int or n < 0 for n in (start, end, *shape)):
        raise ValueError("shapes and offsets are whole numbers from 0")
    return TensorInfo(dtype, shape, base + start, base + end)


def _check_layout(name: str, tensors: dict[str, TensorInfo], base: int, size: int) -> None:
    position = base
    for tensor, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != position or info.end - info.start != math.prod(info.shape) * _ITEM_BYTES[info.dtype]:
            raise DamagedWeights(f"{name} is damaged: tensor {tensor!r} does not lie where its header says")
        position = info.end
    if position != size:
        raise DamagedWeights(f"{name} is damaged: {size} bytes where its header describes {position}; upload it again")
