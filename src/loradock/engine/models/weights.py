"""Reading a base model's tensors under their Hugging Face names, from safetensors or GGUF."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.gguf.gguf_metadata import open_gguf
from loradock.engine.models.dequantizing import dequantized
from loradock.types.errors import BadRequest

TensorReader = Callable[[str], torch.Tensor]

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


def tensor_reader(path: Path, architecture: Architecture, dtype: torch.dtype) -> TensorReader:
    """A function from a Hugging Face tensor name to its tensor in `dtype`.

    Raises BadRequest (also later, from the function) when a file or tensor is missing.
    """
    if path.suffix == ".gguf":
        return _gguf_reader(path, architecture, dtype)
    read = _safetensors_reader(path)
    return lambda name: read(name).to(dtype)


def _safetensors_reader(path: Path) -> TensorReader:
    files = {name: safe_open(path / file, framework="pt") for name, file in _files(path)}

    def read(name: str) -> torch.Tensor:
        if name not in files:
            raise BadRequest(f"the base model in {path.name} has no tensor {name}")
        tensor: torch.Tensor = files[name].get_tensor(name)  # type: ignore[no-untyped-call]
        return tensor

    return read


def _files(path: Path) -> Iterator[tuple[str, str]]:
    index = path / "model.safetensors.index.json"
    if index.is_file():
        yield from json.loads(index.read_text())["weight_map"].items()
    elif (path / "model.safetensors").is_file():
        with safe_open(path / "model.safetensors", framework="pt") as file:
            yield from ((name, "model.safetensors") for name in file.keys())  # noqa: SIM118 - no mapping
    else:
        raise BadRequest(f"{path.name} holds no model.safetensors (pickled weights are not read)")


def _gguf_reader(path: Path, architecture: Architecture, dtype: torch.dtype) -> TensorReader:
    tensors = {tensor.name: tensor for tensor in open_gguf(path).tensors}

    def read(name: str) -> torch.Tensor:
        key = gguf_name(name)
        if key not in tensors:
            raise BadRequest(f"the base model in {path.name} has no tensor {key}")
        values = dequantized(tensors[key], dtype)
        return _undo_permutation(name, values, architecture)

    return read


def gguf_name(name: str) -> str:
    """`model.layers.3.self_attn.q_proj.weight` → `blk.3.attn_q.weight`."""
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("model.layers."):
        return f"{_GGUF_NAMES[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{_GGUF_NAMES[rest]}.{kind}"


def _undo_permutation(name: str, values: torch.Tensor, architecture: Architecture) -> torch.Tensor:
    """llama.cpp interleaves the rotary halves of Llama's q and k rows; Hugging Face does not."""
    if architecture.family != "llama" or not name.endswith(("q_proj.weight", "k_proj.weight")):
        return values
    heads = architecture.heads if "q_proj" in name else architecture.kv_heads
    halves = values.reshape(heads, values.shape[0] // heads // 2, 2, -1)
    return halves.transpose(1, 2).reshape(values.shape)
