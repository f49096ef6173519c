"""Small GGUF files as llama.cpp's converter writes them."""

import math
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from loradock.engine.models.weights import gguf_name

_TABLES = ("token_embd.weight", "output.weight")


def write_gguf(file: Path, model, *, tables: GGMLQuantizationType | None = None, **extra: object) -> Path:
    """A transformers Llama in float32, its embeddings and head as `tables`; `extra` holds further integer keys of its
    architecture."""
    config, rope = model.config, model.config.rope_parameters
    writer = GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    for key, value in extra.items():
        writer.add_uint32(f"llama.{key}", value)
    for name, tensor in model.state_dict().items():
        told, values = gguf_name(name), _permuted(name, tensor.numpy(), config)
        if tables is not None and told in _TABLES:
            writer.add_tensor(told, quantize(values, tables), raw_dtype=tables)
        else:
            writer.add_tensor(told, values)
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", _divisors(rope, config.head_dim))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _permuted(name: str, values: np.ndarray, config) -> np.ndarray:
    """The rotary halves of q and k rows interleaved."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return np.ascontiguousarray(values)
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


def _divisors(rope: dict, head_dim: int) -> np.ndarray:
    """What each frequency is divided by under Llama 3's scaling."""
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    divisors = []
    for dimension in range(0, head_dim, 2):
        turns = rope["original_max_position_embeddings"] / (2 * math.pi * rope["rope_theta"] ** (dimension / head_dim))
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        divisors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(divisors, dtype=np.float32)
