"""Synthetic adapters: random, seeded, on all seven projections, as PEFT folders and with the same numbers as GGUF."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.places import BASE, CACHE

LAYERS, HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, HEAD = 30, 576, 1536, 9, 3, 64
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HEADS * HEAD),
    "self_attn.k_proj": (HIDDEN, KV_HEADS * HEAD),
    "self_attn.v_proj": (HIDDEN, KV_HEADS * HEAD),
    "self_attn.o_proj": (HEADS * HEAD, HIDDEN),
    "mlp.gate_proj": (HIDDEN, FEED_FORWARD),
    "mlp.up_proj": (HIDDEN, FEED_FORWARD),
    "mlp.down_proj": (FEED_FORWARD, HIDDEN),
}
"""(in, out) of every projection of SmolLM2-135M."""

_GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Adapter:
    name: str
    rank: int
    folder: Path

    @property
    def gguf(self) -> Path:
        return self.folder / "adapter.gguf"


def uniform(count: int, rank: int) -> tuple[Adapter, ...]:
    return tuple(made(f"r{rank}-{number}", rank, seed=1000 * rank + number) for number in range(count))


def mixed(ranks: Sequence[int]) -> tuple[Adapter, ...]:
    return tuple(made(f"mix{number}-r{rank}", rank, seed=number) for number, rank in enumerate(ranks))


def made(name: str, rank: int, seed: int) -> Adapter:
    """Written once, and found again by the next run."""
    adapter = Adapter(name, rank, CACHE / "adapters" / name)
    if not (adapter.folder / "adapter_config.json").exists():
        adapter.folder.mkdir(parents=True, exist_ok=True)
        save_file(_tensors(rank, seed), adapter.folder / "adapter_model.safetensors")
        (adapter.folder / "adapter_config.json").write_text(json.dumps(_config(rank)))
    return adapter


def _config(rank: int) -> dict[str, object]:
    targets = sorted(path.rpartition(".")[2] for path in SHAPES)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0}
    return {**config, "target_modules": targets, "bias": "none", "base_model_name_or_path": BASE}


def _tensors(rank: int, seed: int) -> dict[str, np.ndarray]:
    """Small enough to leave sentences in the answers, big enough to change them."""
    dice = np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        for path, (inputs, outputs) in SHAPES.items():
            stem = f"base_model.model.model.layers.{layer}.{path}"
            for part, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                values = dice.standard_normal(shape, dtype=np.float32) / 50
                tensors[f"{stem}.lora_{part}.weight"] = values.astype(np.float16)
    return tensors


def write_gguf(adapter: Adapter) -> Path:
    """The same numbers for llama.cpp, in its layout of the rows of q and k."""
    if adapter.gguf.exists():
        return adapter.gguf
    draft = adapter.gguf.with_suffix(".draft")
    writer = gguf.GGUFWriter(draft, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 2.0 * adapter.rank)
    for name, values in load_file(adapter.folder / "adapter_model.safetensors").items():
        layer, path, part = _parts(name)
        rows = _interleaved(path, values) if part == "lora_b" else values
        writer.add_tensor(f"blk.{layer}.{_GGUF_NAMES[path]}.weight.{part}", np.ascontiguousarray(rows))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return draft.rename(adapter.gguf)


def _parts(name: str) -> tuple[int, str, str]:
    """`…layers.3.mlp.up_proj.lora_A.weight` → 3, `mlp.up_proj`, `lora_a`."""
    *_, layer, block, projection, part, _ = name.split(".")
    return int(layer), f"{block}.{projection}", part.lower()


def _interleaved(path: str, rows: np.ndarray) -> np.ndarray:
    """Hugging Face keeps the two rotary halves of a head apart, llama.cpp interleaves them."""
    heads = {"self_attn.q_proj": HEADS, "self_attn.k_proj": KV_HEADS}.get(path)
    if heads is None:
        return rows
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)
