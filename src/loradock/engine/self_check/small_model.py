"""A small random model of another one's shape, and adapters for it: what `proof` computes.

The kernels' ways depend on the size and number of heads, on norms, biases and the window, and on the remainders that
the widths leave: these stay. How wide, deep and wordy the model is does not matter, and is made small.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from loradock.checkpoints.adapters.adapter import WEIGHTS_FILE
from loradock.checkpoints.adapters.adapter_reasons import CONFIG_FILE
from loradock.checkpoints.architecture import Architecture
from loradock.engine.adapters.lora import AdapterReader, LoadedAdapter
from loradock.engine.self_check.reference import LowRank

Array = np.ndarray[Any, Any]
Pairs = dict[tuple[int, str], LowRank]
"""An adapter's changes, by layer and projection."""

CONTEXT = 512
_LAYERS = 2
_WINDOW = 24
"""The window of a model with a sliding window: short enough that rows of the proof lie beyond it."""


def small_architecture(a: Architecture) -> Architecture:
    """A model of the same kinds of sizes, with the remainders that the widths leave."""
    group = a.heads // a.kv_heads
    kv_heads = min(a.kv_heads, 2 if group * a.head_dim <= 512 else 1)
    return replace(
        a,
        vocab_size=_narrowed(a.vocab_size, 512),
        hidden_size=_narrowed(a.hidden_size, 128),
        intermediate_size=_narrowed(a.intermediate_size, 128),
        layers=_LAYERS,
        heads=group * kv_heads,
        kv_heads=kv_heads,
        max_positions=CONTEXT,
        sliding_window=_WINDOW if a.sliding_window else None,
    )


def _narrowed(size: int, unit: int) -> int:
    """Return at most two units, with the same remainder as `size`."""
    return size if size <= 2 * unit else unit + size % unit


def random_weights(a: Architecture) -> dict[str, Array]:
    """Float32 weights by Hugging Face name, the same every time."""
    random = np.random.default_rng(0)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Array:
        values: Array = random.standard_normal((rows, columns), np.float32)
        values *= np.float32(scale / np.sqrt(columns))
        return values

    def vector(size: int) -> Array:
        return (1 + random.standard_normal(size, np.float32) / 8).astype(np.float32)

    made = {
        "model.embed_tokens.weight": matrix(a.vocab_size, a.hidden_size),
        "model.norm.weight": vector(a.hidden_size),
    }
    if not a.tie_embeddings:
        made["lm_head.weight"] = matrix(a.vocab_size, a.hidden_size)
    for layer in range(a.layers):
        prefix = f"model.layers.{layer}."
        for name, (out, into) in a.linears().items():
            made[f"{a.module_path(layer, name)}.weight"] = matrix(out, into)
        biased = ("q_proj", "k_proj", "v_proj") if a.qkv_bias else ()
        for name in (*biased, *(("o_proj",) if a.output_bias else ())):
            made[f"{a.module_path(layer, name)}.bias"] = matrix(1, a.linears()[name][0])[0]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            made[f"{prefix}{norm}.weight"] = vector(a.hidden_size)
        for norm in ("self_attn.q_norm", "self_attn.k_norm") if a.qk_norm else ():
            made[f"{prefix}{norm}.weight"] = vector(a.head_dim)
    return made


def random_adapters(a: Architecture, reader: AdapterReader) -> list[tuple[LoadedAdapter, Pairs]]:
    """Two adapters of other ranks and modules, read from files as any other."""
    random = np.random.default_rng(2)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, rank, modules in (("all", 8, tuple(a.linears())), ("some", 3, ("q_proj", "v_proj", "down_proj"))):
            pairs: Pairs = {}
            for layer in range(a.layers):
                for module in modules:
                    out, into = a.linears()[module]
                    down = random.standard_normal((rank, into), np.float32) / np.float32(np.sqrt(into))
                    up = random.standard_normal((out, rank), np.float32) / np.float32(np.sqrt(rank))
                    pairs[layer, module] = LowRank(down, up)
            found.append((reader.read(name, _written(Path(folder) / name, a, rank, modules, pairs)), pairs))
    return found


def _written(folder: Path, a: Architecture, rank: int, modules: tuple[str, ...], pairs: Pairs) -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(modules), "bias": "none"}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    tensors = {}
    for (layer, module), pair in pairs.items():
        path = f"base_model.model.{a.module_path(layer, module)}"
        tensors[f"{path}.lora_A.weight"] = pair.down
        tensors[f"{path}.lora_B.weight"] = pair.up
    save_file(tensors, folder / WEIGHTS_FILE)
    return folder
