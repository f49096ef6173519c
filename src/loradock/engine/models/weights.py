"""Reading a base model's tensors under their Hugging Face names, from safetensors or GGUF."""

import json
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.gguf.gguf_file import GgufTensor
from loradock.checkpoints.gguf.gguf_metadata import open_gguf
from loradock.checkpoints.gguf.tensor_types import TensorType
from loradock.checkpoints.safetensors_header import TensorInfo, read_header
from loradock.engine.kernels.weight_packing import Blocks, Kind, Ordered, Rows, convert
from loradock.types.errors import BadRequest

Array = np.ndarray[Any, Any]
TensorReader = Callable[[str], Rows]
"""From a Hugging Face tensor name to what the file holds: numbers (bfloat16 as uint16, NumPy has no such type) or
GGUF's blocks."""

_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tensor_reader(path: Path, architecture: Architecture) -> TensorReader:
    """Raises BadRequest (also later, from the function) when a file or tensor is missing."""
    return _gguf_reader(path, architecture) if path.suffix == ".gguf" else _safetensors_reader(path)


def file_reader(path: Path) -> TensorReader:
    """Read from one safetensors file. Raises DamagedWeights, and from the function BadRequest."""
    header, content = read_header(path), _mapped(path)

    def read(name: str) -> Array:
        if name not in header:
            raise BadRequest(f"{path.name} has no tensor {name}")
        return _numbers(name, header[name], content)

    return read


def _safetensors_reader(path: Path) -> TensorReader:
    files = dict(_files(path))
    readers = {file: file_reader(path / file) for file in set(files.values())}

    def read(name: str) -> Rows:
        if name not in files:
            raise BadRequest(f"the base model in {path.name} has no tensor {name}")
        return readers[files[name]](name)

    return read


def _numbers(name: str, info: TensorInfo, content: Array) -> Array:
    kinds = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    if info.dtype not in kinds:
        raise BadRequest(f"{name} has numbers of type {info.dtype}; F32, F16 and BF16 are read")
    return content[info.start : info.end].view(kinds[info.dtype]).reshape(info.shape)


def _mapped(file: Path) -> Array:
    with file.open("rb") as opened:
        return np.frombuffer(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def _files(path: Path) -> Iterator[tuple[str, str]]:
    index = path / "model.safetensors.index.json"
    if index.is_file():
        yield from json.loads(index.read_text())["weight_map"].items()
    elif (path / "model.safetensors").is_file():
        yield from ((name, "model.safetensors") for name in read_header(path / "model.safetensors"))
    else:
        raise BadRequest(f"{path.name} holds no model.safetensors (pickled weights are not read)")


def _gguf_reader(path: Path, architecture: Architecture) -> TensorReader:
    tensors = {tensor.name: tensor for tensor in open_gguf(path).tensors}

    def read(name: str) -> Rows:
        key = gguf_name(name)
        if key not in tensors:
            raise BadRequest(f"the base model in {path.name} has no tensor {key}")
        return _undo_permutation(name, _rows(tensors[key]), architecture)

    return read


_BLOCKS = {
    TensorType.Q8_0: Kind.Q8_0,
    TensorType.Q4_0: Kind.Q4_0,
    TensorType.Q4_1: Kind.Q4_1,
    TensorType.Q4_K: Kind.Q4_K,
}


def _rows(tensor: GgufTensor) -> Array | Blocks:
    """The usual blocks as they are, others as the `gguf` package reads them, float32."""
    if tensor.tensor_type in (TensorType.F32, TensorType.F16):
        return tensor.data
    if tensor.tensor_type is TensorType.BF16:
        return tensor.data.view(np.uint16).reshape(tensor.shape[::-1])
    if tensor.tensor_type in _BLOCKS and tensor.data.ndim == 2:
        return Blocks(_BLOCKS[tensor.tensor_type], tensor.data)
    return tensor.tensor_type.floats(tensor.data)


def gguf_name(name: str) -> str:
    """`model.layers.3.self_attn.q_proj.weight` → `blk.3.attn_q.weight`."""
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("model.layers."):
        return f"{_GGUF_NAMES[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{_GGUF_NAMES[rest]}.{kind}"


def _undo_permutation(name: str, rows: Array | Blocks, architecture: Architecture) -> Rows:
    """llama.cpp interleaves the rotary halves of Llama's q and k rows; Hugging Face does not."""
    if architecture.family != "llama" or not name.endswith(("q_proj.weight", "k_proj.weight")):
        return rows
    heads = architecture.heads if "q_proj" in name else architecture.kv_heads
    order = np.arange(shape_of(rows)[0], dtype=np.int64).reshape(heads, -1, 2)
    return Ordered(rows, np.ascontiguousarray(order.swapaxes(1, 2)).reshape(-1))


def shape_of(rows: Rows) -> tuple[int, ...]:
    """Return the shape of a tensor in numbers."""
    if isinstance(rows, Ordered):
        return shape_of(rows.rows)
    return rows.shape if isinstance(rows, Blocks) else tuple(rows.shape)


def in_floats(rows: Rows) -> Array:
    """The tensor as float32."""
    return _converted(rows, np.float32)


def in_bfloat16(rows: Rows) -> Array:
    """The tensor as bfloat16 (uint16), rounded to the nearest, ties to even."""
    return _converted(rows, np.uint16)


def _converted(rows: Rows, kind: type) -> Array:
    if isinstance(rows, np.ndarray) and rows.dtype == kind:
        return rows
    if isinstance(rows, np.ndarray) and rows.ndim == 1:
        vector: Array = convert(rows[None], kind)[0]
        return vector
    return convert(rows, kind)
