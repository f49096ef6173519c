"""Hostile and damaged safetensors files."""

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from loradock.checkpoints.safetensors_header import TensorInfo, read_header
from loradock.types.errors import DamagedWeights


def entry(start, end, shape=(4,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def write(path, header, data=b"\0" * 32, length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def test_reads_what_the_library_wrote(tmp_path):
    file = tmp_path / "w.safetensors"
    save_file({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((0, 4), np.float16)}, file)
    header = read_header(file)
    assert header["b"].shape == (0, 4)
    a = header["a"]
    assert (a.dtype, a.shape) == ("F32", (2, 3))
    assert np.frombuffer(file.read_bytes()[a.start : a.end], "<f4").tolist() == list(range(6))


def test_a_gapless_file_is_read(tmp_path):
    file = write(tmp_path / "w.safetensors", {"__metadata__": {"x": "y"}, "a": entry(0, 16), "b": entry(16, 32)})
    base = file.stat().st_size - 32
    assert read_header(file)["b"] == TensorInfo("F32", (4,), base + 16, base + 32)


@pytest.mark.parametrize(
    "header",
    {
        "overlap": {"a": entry(0, 16), "b": entry(8, 24), "c": entry(24, 32, (2,))},
        "gap": {"a": entry(0, 16), "b": entry(20, 32, (3,))},
        "trailing bytes": {"a": entry(0, 16)},
        "beyond the end": {"a": entry(0, 64, (16,))},
        "size and shape disagree": {"a": entry(0, 32, (2,))},
        "negative shape": {"a": entry(0, 32, (-2, -4))},
        "negative offset": {"a": entry(-32, 0, (8,))},
        "float shape": {"a": entry(0, 32, (8.0,))},
        "true shape": {"a": entry(0, 32, (True, 8))},
        "unknown dtype": {"a": entry(0, 32, (8,), "F4")},
        "dtype of another type": {"a": entry(0, 32, (8,), [])},
        "huge shape": {"a": entry(0, 32, (2**62, 2**62))},
        "no offsets": {"a": {"dtype": "F32", "shape": [8]}},
        "three offsets": {"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 1, 32]}},
        "not an object": ["a"],
        "entry not an object": {"a": 3},
        "repeated name": b'{"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},"a":{"dtype":"F32","shape":[8],'
        b'"data_offsets":[0,32]}}',
        "nested too deep": b"[" * 100_000,
        "not text": b"\xff\xfe{}",
        "not json": b"GGUF....",
    }.items(),
    ids=lambda item: item[0],
)
def test_damaged_headers(header, tmp_path):
    with pytest.raises(DamagedWeights, match=r"w\.safetensors is"):
        read_header(write(tmp_path / "w.safetensors", header[1]))


@pytest.mark.parametrize("length", [0, 1, 10_000, 2**40, 2**64 - 1])
def test_header_lengths_that_do_not_fit(length, tmp_path):
    with pytest.raises(DamagedWeights, match="header length"):
        read_header(write(tmp_path / "w.safetensors", {"a": entry(0, 32, (8,))}, length=length))


def test_a_huge_header_is_not_read(tmp_path):
    file = tmp_path / "w.safetensors"
    with file.open("wb") as sparse:
        sparse.write(struct.pack("<Q", 1 << 30))
        sparse.truncate((1 << 30) + 64)
    with pytest.raises(DamagedWeights, match="header length"):
        read_header(file)


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"PK\x03\x04" + b"\0" * 60])
def test_other_files_in_disguise(content, tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(content)
    with pytest.raises(DamagedWeights):
        read_header(file)
