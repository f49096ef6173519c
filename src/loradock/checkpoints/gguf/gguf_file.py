"""A GGUF file's metadata and tensors: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

The `gguf` package's own reader makes several NumPy arrays of every word of the vocabulary, which takes seconds.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loradock.checkpoints.gguf.tensor_types import TensorType

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""The kinds of values that are numbers, as `struct` calls them."""
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class GgufTensor:
    """`shape` as in the file: the innermost dimension first. `data` outermost first: numbers, or bytes of blocks."""

    name: str
    shape: tuple[int, ...]
    tensor_type: TensorType
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
        alignment = self.fields.get("general.alignment", _ALIGNMENT)
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
        return self._texts(1)[0]

    def _texts(self, count: int) -> list[str]:
        """A vocabulary is hundreds of thousands of them: nothing is called here that need not be."""
        content, at, texts = self._bytes, self._at, []
        for _ in range(count):
            begin = at + 8
            at = begin + _LENGTH.unpack_from(content, at)[0]
            texts.append(content[begin:at].decode(errors="replace"))
        if at > len(content):
            raise ValueError("it ends in the middle of a text")
        self._at = at
        return texts

    def _field(self) -> tuple[str, Any]:
        name = self._text()
        (kind,) = self._take("I")
        return name, self._value(kind)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind in _NUMBERS:
            return self._take(_NUMBERS[kind])[0]
        if kind != _ARRAY:
            raise ValueError(f"values of kind {kind} are not known")
        inner, count = self._take("IQ")
        if inner in _NUMBERS:
            return list(self._take(f"{count}{_NUMBERS[inner]}"))
        return self._texts(count) if inner == _STRING else [self._value(inner) for _ in range(count)]

    def _description(self) -> tuple[str, tuple[int, ...], TensorType, int]:
        name = self._text()
        (dimensions,) = self._take("I")
        shape = self._take(f"{dimensions}Q")
        kind, offset = self._take("IQ")
        return name, shape, TensorType.numbered(kind), offset

    def _tensor(self, begin: int, name: str, shape: tuple[int, ...], kind: TensorType, offset: int) -> GgufTensor:
        row = shape[0] // kind.per_block * kind.block_bytes
        rows = tuple(reversed(shape[1:]))
        count = row * math.prod(rows)
        data = np.frombuffer(self._bytes, np.uint8, count, begin + offset).reshape(*rows, row)
        plain = {TensorType.F32: np.float32, TensorType.F16: np.float16}.get(kind)
        return GgufTensor(name, shape, kind, data if plain is None else data.view(plain))
