"""A model in every format that a peer reads: SmolLM2 from the one file (Q4_1) that is at hand, random ones from their
Hugging Face folder."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.gguf_reader import ReaderTensor
from gguf.quants import dequantize, quantize

from benchmarks.models import checkpoint
from benchmarks.models.shapes import SMOLLM2, Model
from benchmarks.places import CACHE, ROOT, packaged_gguf

_FILE_TYPES = {
    "F16": (Type.F16, LlamaFileType.MOSTLY_F16),
    "BF16": (Type.BF16, LlamaFileType.MOSTLY_BF16),
    "Q8_0": (Type.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "Q4_0": (Type.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
_EMBEDDING = "token_embd.weight"
GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def hf_folder(model: Model = SMOLLM2) -> Path:
    """bfloat16 safetensors with the tokenizer."""
    if model.random:
        folder = CACHE / f"random-{model.name}"
        if not (folder / "config.json").exists():
            print(f"Making random weights: {model.title}", flush=True)
            checkpoint.write_random(model, folder, hf_folder())
        return folder
    folder = CACHE / "SmolLM2-135M-Instruct"
    if not (folder / "tokenizer_config.json").exists():
        script = ROOT / "tests" / "smollm2_folder.py"
        subprocess.run([sys.executable, "-P", script, folder, "bfloat16"], check=True, capture_output=True)
    return folder


def gguf_file(kind: str, model: Model = SMOLLM2) -> Path:
    """`kind`: F16, BF16, Q8_0 or Q4_0, and Q4_1 (the original) of SmolLM2."""
    if kind == "Q4_1" and not model.random:
        return packaged_gguf()
    file = CACHE / f"{f'random-{model.name}' if model.random else 'SmolLM2-135M-Instruct'}.{kind}.gguf"
    if not file.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        source = GGUFReader(packaged_gguf())
        tensors = list(_of_folder(model) if model.random else _of_gguf(source))
        print(f"Writing {file.name}", flush=True)
        _write(file, lambda writer: _state_facts(source, writer, model), tensors, kind)
    return file


def interleaved(path: str, rows: np.ndarray, model: Model) -> np.ndarray:
    """Hugging Face keeps the two rotary halves of a head apart, llama.cpp interleaves them."""
    heads = {"self_attn.q_proj": model.heads, "self_attn.k_proj": model.kv_heads}.get(path)
    if heads is None:
        return rows
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


@dataclass(frozen=True)
class _Tensor:
    """By llama.cpp's name; `read` gives float32."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def _of_gguf(source: GGUFReader) -> Iterator[_Tensor]:
    for tensor in source.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))

        def values(tensor: ReaderTensor = tensor) -> np.ndarray:
            return dequantize(tensor.data, tensor.tensor_type).astype(np.float32)

        yield _Tensor(tensor.name, shape, values)


def _of_folder(model: Model) -> Iterator[_Tensor]:
    for name, bits in checkpoint.read(hf_folder(model) / "model.safetensors").items():
        path = name.removesuffix(".weight").split(".", 3)[-1]

        def values(bits: np.ndarray = bits, path: str = path) -> np.ndarray:
            return checkpoint.float32(interleaved(path, bits, model))

        yield _Tensor(_gguf_name(name), bits.shape, values)


def _gguf_name(name: str) -> str:
    if name in (checkpoint.EMBEDDING, checkpoint.NORM):
        return _EMBEDDING if name == checkpoint.EMBEDDING else "output_norm.weight"
    _, _, layer, path = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{(GGUF_NAMES | _NORMS)[path]}.weight"


def _write(file: Path, state: Callable[[GGUFWriter], None], tensors: Sequence[_Tensor], kind: str) -> None:
    """One tensor after the other; norms in float32."""
    draft = file.with_suffix(".draft")
    writer = GGUFWriter(draft, "llama")
    state(writer)
    writer.add_file_type(_FILE_TYPES[kind][1])
    types = [Type.F32 if len(tensor.shape) == 1 else _type(tensor.name, kind) for tensor in tensors]
    for tensor, dtype in zip(tensors, types, strict=True):
        size = int(np.prod(gguf.quant_shape_to_byte_shape(tensor.shape, dtype)))
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, dtype in zip(tensors, types, strict=True):
        values = np.ascontiguousarray(tensor.read())
        writer.write_tensor_data(values if dtype is Type.F32 else quantize(values, dtype))
    writer.close()
    draft.rename(file)


def _type(name: str, kind: str) -> Type:
    """The head in 8 bits where others have 4, as in the files of llama.cpp's users (there 6) and in Loradock's int4."""
    return Type.Q8_0 if kind == "Q4_0" and name == _EMBEDDING else _FILE_TYPES[kind][0]


def _state_facts(source: GGUFReader, writer: GGUFWriter, model: Model) -> None:
    """Everything but what the writer sets by itself, and of a random model its shape."""
    shape = _shape_facts(model) if model.random else {}
    for name, fact in source.fields.items():
        if name.startswith("GGUF.") or name in (gguf.Keys.General.ARCHITECTURE, gguf.Keys.General.FILE_TYPE):
            continue
        inner = fact.types[-1] if fact.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, shape.get(name, fact.contents()), fact.types[0], inner)


def _shape_facts(model: Model) -> dict[str, object]:
    return {
        "general.name": f"random-{model.name}",
        "general.size_label": model.name.upper(),
        "llama.block_count": model.layers,
        "llama.context_length": model.context,
        "llama.embedding_length": model.hidden,
        "llama.feed_forward_length": model.feed_forward,
        "llama.attention.head_count": model.heads,
        "llama.attention.head_count_kv": model.kv_heads,
        "llama.rope.freq_base": model.rope_theta,
        "llama.rope.dimension_count": model.head,
    }
