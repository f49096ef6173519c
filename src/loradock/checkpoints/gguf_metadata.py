"""The metadata of a GGUF file: architecture, vocabulary, chat template."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from gguf import GGUFReader

from loradock.checkpoints.architecture import Architecture
from loradock.types.errors import BadRequest

_FAMILIES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}


@lru_cache(maxsize=4)
def open_gguf(path: Path) -> GGUFReader:
    """A memory-mapped reader. Raises BadRequest when the file is no GGUF."""
    try:
        return GGUFReader(path)
    except (ValueError, OSError, IndexError) as error:
        raise BadRequest(f"{path.name} is not a readable GGUF file: {error}") from error


def gguf_value(reader: GGUFReader, key: str, default: Any = None) -> Any:
    field = reader.fields.get(key)
    return default if field is None else field.contents()


def read_gguf_architecture(path: Path) -> Architecture:
    """Raises BadRequest naming an architecture or scaling that is not served."""
    reader = open_gguf(path)
    arch = gguf_value(reader, "general.architecture")
    if arch not in _FAMILIES:
        raise BadRequest(f"unsupported GGUF architecture {arch!r} (supported: {', '.join(_FAMILIES)})")

    def value(key: str, default: Any = None) -> Any:
        return gguf_value(reader, f"{arch}.{key}", default)

    scaling = value("rope.scaling.type")
    if scaling not in (None, "none"):
        raise BadRequest(f"unsupported rope scaling {scaling!r} in a GGUF file")
    names = {tensor.name for tensor in reader.tensors}
    heads, hidden = int(value("attention.head_count")), int(value("embedding_length"))
    eos = gguf_value(reader, "tokenizer.ggml.eos_token_id")
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
        norm_eps=float(value("attention.layer_norm_rms_epsilon")),
        max_positions=int(value("context_length")),
        tie_embeddings="output.weight" not in names,
        qkv_bias="blk.0.attn_q.bias" in names,
        qk_norm="blk.0.attn_q_norm.weight" in names,
        eos_token_ids=() if eos is None else (int(eos),),
        bos_token_id=gguf_value(reader, "tokenizer.ggml.bos_token_id"),
        name=gguf_value(reader, "general.name"),
    )
