"""Synthetic adapters: random, seeded, on all seven projections, as PEFT folders and with the same numbers as GGUF."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.models.formats import GGUF_NAMES, interleaved
from benchmarks.models.shapes import SMOLLM2, Model
from benchmarks.places import BASE, CACHE


@dataclass(frozen=True)
class Adapter:
    name: str
    rank: int
    folder: Path
    model: Model = SMOLLM2

    @property
    def gguf(self) -> Path:
        return self.folder / "adapter.gguf"


def uniform(count: int, rank: int, model: Model = SMOLLM2) -> tuple[Adapter, ...]:
    return tuple(made(f"r{rank}-{number}", rank, 1000 * rank + number, model) for number in range(count))


def mixed(ranks: Sequence[int], model: Model = SMOLLM2) -> tuple[Adapter, ...]:
    return tuple(made(f"mix{number}-r{rank}", rank, number, model) for number, rank in enumerate(ranks))


def made(name: str, rank: int, seed: int, model: Model = SMOLLM2) -> Adapter:
    """Written once, and found again by the next run."""
    folder = CACHE / "adapters" / (f"{model.name}-{name}" if model.random else name)
    adapter = Adapter(name, rank, folder, model)
    if not (folder / "adapter_config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_file(_tensors(rank, seed, model), folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps(_config(rank, model)))
    return adapter


def _config(rank: int, model: Model) -> dict[str, object]:
    targets = sorted(path.rpartition(".")[2] for path in model.projections)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0}
    base = f"random-{model.name}" if model.random else BASE
    return {**config, "target_modules": targets, "bias": "none", "base_model_name_or_path": base}


def _tensors(rank: int, seed: int, model: Model) -> dict[str, np.ndarray]:
    """Small enough to leave sentences in the answers, big enough to change them."""
    dice = np.random.default_rng(seed)
    tensors = {}
    for layer in range(model.layers):
        for path, (inputs, outputs) in model.projections.items():
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
        rows = interleaved(path, values, adapter.model) if part == "lora_b" else values
        writer.add_tensor(f"blk.{layer}.{GGUF_NAMES[path]}.weight.{part}", np.ascontiguousarray(rows))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return draft.rename(adapter.gguf)


def _parts(name: str) -> tuple[int, str, str]:
    """`…layers.3.mlp.up_proj.lora_A.weight` → 3, `mlp.up_proj`, `lora_a`."""
    *_, layer, block, projection, part, _ = name.split(".")
    return int(layer), f"{block}.{projection}", part.lower()
