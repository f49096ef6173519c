"""A GGUF file's metadata and tensors: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

The `gguf` package's own reader makes several NumPy arrays of every word of the vocabulary, which takes seconds.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType, GGUFValueType

_NUMBERS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


@dataclass(frozen=True)
class GgufTensor:
    """`shape` as in the file: the innermost dimension first. `data` outermost first: numbers, or bytes of blocks."""

    name: str
    shape: tuple[int, ...]
    tensor_type: GGMLQuantizationType
    data: np.ndarray[Any, Any]


class GgufFile:
    """Memory-mapped. Raises ValueError, KeyError or struct.error when the file is none."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._at = 0
        magic, version, tensors, fields = self._take("4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"it begins with {magic!r}, version {version}; versions 2 and 3 are read")
        self.fields: dict[str, Any] = dict(self._field() for _ in range(fields))
        described = [self._description() for _ in range(tensors)]
        alignment = self.fields.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
        begin = -(-self._at // alignment) * alignment
        self.tensors = [self._tensor(begin, *description) for description in described]

    def release(self) -> None:
        """Take no memory for what was read so far; it is read from the file again when it is wanted."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._bytes.madvise(mmap.MADV_DONTNEED)

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._bytes, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values

    def _text(self) -> str:
        (length,) = self._take("Q")
        end = self._at + length
        if end > len(self._bytes):
            raise ValueError("it ends in the middle of a text")
        text = self._bytes[self._at : end].decode(errors="replace")
        self._at = end
        return text

    def _field(self) -> tuple[str, Any]:
        name = self._text()
        (kind,) = self._take("I")
        return name, self._value(GGUFValueType(kind))

    def _value(self, kind: GGUFValueType) -> Any:
        if kind is GGUFValueType.STRING:
            return self._text()
        if kind is not GGUFValueType.ARRAY:
            return self._take(_NUMBERS[kind])[0]
        inner, count = self._take("IQ")
        inner = GGUFValueType(inner)
        if inner in _NUMBERS:
            return list(self._take(f"{count}{_NUMBERS[inner]}"))
        return [self._value(inner) for _ in range(count)]

    def _description(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name = self._text()
        (dimensions,) = self._take("I")
        shape = self._take(f"{dimensions}Q")
        kind, offset = self._take("IQ")
        return name, shape, GGMLQuantizationType(kind), offset

    def _tensor(
        self, begin: int, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType, offset: int
    ) -> GgufTensor:
        per_block, block_bytes = GGML_QUANT_SIZES[kind]
        row = shape[0] // per_block * block_bytes
        rows = tuple(reversed(shape[1:]))
        count = row * int(np.prod(rows, dtype=np.int64))
        data = np.frombuffer(self._bytes, np.uint8, count, begin + offset).reshape(*rows, row)
        plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(kind)
        return GgufTensor(name, shape, kind, data if plain is None else data.view(plain))
