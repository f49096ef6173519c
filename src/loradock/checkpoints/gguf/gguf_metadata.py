"""The metadata of a GGUF file: architecture, vocabulary, chat template."""

import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.gguf.gguf_file import GgufFile
from loradock.checkpoints.gguf.gguf_vocabulary import check_vocabulary
from loradock.types.errors import BadRequest

_FAMILIES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}


@lru_cache(maxsize=4)
def open_gguf(path: Path) -> GgufFile:
    """Raises BadRequest when the file is not a GGUF."""
    try:
        return GgufFile(path)
    except (ValueError, OSError, KeyError, struct.error, OverflowError, MemoryError) as error:
        raise BadRequest(f"{path.name} is not a readable GGUF file: {error}") from error


def gguf_value(reader: GgufFile, key: str, default: Any = None) -> Any:
    return reader.fields.get(key, default)


def read_gguf_architecture(path: Path) -> Architecture:
    """Raises BadRequest naming an architecture, scaling or vocabulary that is not served."""
    reader = open_gguf(path)
    arch = gguf_value(reader, "general.architecture")
    if arch not in _FAMILIES:
        raise BadRequest(f"unsupported GGUF architecture {arch!r} (supported: {', '.join(_FAMILIES)})")

    if "tokenizer.ggml.model" in reader.fields:
        check_vocabulary(reader)

    def value(key: str, default: Any = None) -> Any:
        found = gguf_value(reader, f"{arch}.{key}", default)
        if found is None:
            raise BadRequest(f"the GGUF file has no {arch}.{key}: convert the model again")
        return found

    if 0 < int(value("attention.sliding_window", 0)) < int(value("context_length")):
        raise BadRequest("unsupported attention.sliding_window in a GGUF file; use the Hugging Face folder")
    names = {tensor.name for tensor in reader.tensors}
    if "token_embd.weight" not in names:
        raise BadRequest("the GGUF file has no token_embd.weight: convert the model again")
    heads, hidden = int(value("attention.head_count")), int(value("embedding_length"))
    return Architecture(
        family=_FAMILIES[arch],
        vocab_size=int(next(t for t in reader.tensors if t.name == "token_embd.weight").shape[1]),
        hidden_size=hidden,
        intermediate_size=int(value("feed_forward_length")),
        layers=int(value("block_count")),
        heads=heads,
        kv_heads=int(value("attention.head_count_kv", heads)),
        head_dim=int(value("attention.key_length", hidden // heads)),
        rope_theta=float(value("rope.freq_base", 10000.0)),
        rope_scaling=_rope_scaling(reader, arch),
        norm_eps=float(value("attention.layer_norm_rms_epsilon")),
        max_positions=int(value("context_length")),
        tie_embeddings="output.weight" not in names,
        qkv_bias="blk.0.attn_q.bias" in names,
        qk_norm="blk.0.attn_q_norm.weight" in names,
        name=gguf_value(reader, "general.name"),
    )


def _rope_scaling(reader: GgufFile, arch: str) -> dict[str, Any] | None:
    """Llama 3's scaling comes as a tensor of divisors, one per frequency; linear scaling as a factor."""
    kind = gguf_value(reader, f"{arch}.rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise BadRequest(f"unsupported rope scaling {kind!r} in a GGUF file (supported: none, linear)")
    factors = next((tensor.data for tensor in reader.tensors if tensor.name == "rope_freqs.weight"), None)
    if factors is not None and kind == "linear":
        raise BadRequest("unsupported rope scaling in a GGUF file: both linear and rope_freqs.weight")
    if factors is not None:
        return {"rope_type": "factors", "factors": [float(factor) for factor in factors]}
    return (
        {"rope_type": "linear", "factor": gguf_value(reader, f"{arch}.rope.scaling.factor")}
        if kind == "linear"
        else None
    )
