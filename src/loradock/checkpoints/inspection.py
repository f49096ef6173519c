"""Looking at an uploaded adapter before it is accepted: files, names, shapes, values."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loradock.checkpoints.adapter import WEIGHTS_FILE, AdapterConfig, read_adapter_config
from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.safetensors_header import TensorInfo, read_header
from loradock.types.errors import AdapterRefused

SERVED_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_TENSOR = re.compile(
    r"base_model\.model\.(?P<path>model\.layers\.(?P<layer>\d{1,4})\.(?:self_attn|mlp)\.(?P<module>\w+))"
    r"\.lora_(?P<side>[AB])(?:\.default)?\.weight"
)
_DTYPES: dict[str, np.dtype[np.generic]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class LoraPair:
    """One adapted projection: tensor names of A `[rank, in]` and B `[out, rank]`."""

    module_path: str
    layer: int
    module: str
    a: str
    b: str
    rank: int


@dataclass(frozen=True)
class AdapterReport:
    config: AdapterConfig
    pairs: list[LoraPair]
    target_modules: list[str]
    size_bytes: int

    @property
    def max_rank(self) -> int:
        return max(pair.rank for pair in self.pairs)


def inspect_adapter(folder: Path, architecture: Architecture | None) -> AdapterReport:
    """Everything that can be checked before loading; shapes against the base when its architecture is known.

    Raises AdapterRefused naming what is wrong and what to do.
    """
    config = read_adapter_config(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise AdapterRefused(_missing_weights(folder))
    tensors = read_header(weights)
    pairs = _pairs(tensors, config)
    if architecture is not None:
        _check_shapes(pairs, tensors, architecture)
    _check_finite(weights, tensors)
    return AdapterReport(config, pairs, sorted({pair.module for pair in pairs}), weights.stat().st_size)


def _missing_weights(folder: Path) -> str:
    pickled = [file.name for file in folder.iterdir() if file.suffix in _PICKLES]
    if pickled:
        return f"{pickled[0]} is a pickle, which can run code: save with safetensors ({WEIGHTS_FILE}) instead"
    return f"{WEIGHTS_FILE} is missing: upload the folder that PEFT's save_pretrained wrote"


def _pairs(tensors: dict[str, TensorInfo], config: AdapterConfig) -> list[LoraPair]:
    sides: dict[str, dict[str, str]] = {}
    for name, info in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None or match["module"] not in SERVED_MODULES:
            raise AdapterRefused(_unexpected(name))
        if info.dtype not in _DTYPES or len(info.shape) != 2:
            raise AdapterRefused(f"{name} is {info.dtype} {list(info.shape)}: a float matrix was expected")
        sides.setdefault(match["path"], {})[match["side"]] = name
    if not sides:
        raise AdapterRefused(f"{WEIGHTS_FILE} holds no LoRA tensors")
    return [_pair(path, names, tensors, config) for path, names in sorted(sides.items())]


def _unexpected(name: str) -> str:
    if "lora_embedding" in name or "embed_tokens" in name or "lm_head" in name:
        return f"{name}: LoRA on embeddings or lm_head is not served; train on {', '.join(SERVED_MODULES)}"
    if "lora_magnitude" in name:
        return f"{name}: DoRA is not served; train without use_dora"
    return f"unexpected tensor {name}: the engine serves LoRA on {', '.join(SERVED_MODULES)}"


def _pair(path: str, names: dict[str, str], tensors: dict[str, TensorInfo], config: AdapterConfig) -> LoraPair:
    if set(names) != {"A", "B"}:
        raise AdapterRefused(f"{path} has lora_{next(iter(names))} but not its other half")
    rank = tensors[names["A"]].shape[0]
    if tensors[names["B"]].shape[1] != rank or rank != config.rank_of(path):
        raise AdapterRefused(
            f"{path}: A has rank {rank}, B has rank {tensors[names['B']].shape[1]},"
            f" adapter_config.json says {config.rank_of(path)}"
        )
    parts = path.split(".")
    return LoraPair(path, int(parts[2]), parts[-1], names["A"], names["B"], rank)


def _check_shapes(pairs: Iterable[LoraPair], tensors: dict[str, TensorInfo], base: Architecture) -> None:
    linears = base.linears()
    for pair in pairs:
        if pair.layer >= base.layers or base.module_path(pair.layer, pair.module) != pair.module_path:
            raise AdapterRefused(f"{pair.module_path} does not exist in the base model ({base.layers} layers)")
        found = (tensors[pair.b].shape[0], tensors[pair.a].shape[1])
        if found != linears[pair.module]:
            raise AdapterRefused(
                f"{pair.module_path} is {found[0]}x{found[1]} in the adapter but"
                f" {linears[pair.module][0]}x{linears[pair.module][1]} in the base model: it belongs to another base"
            )


def _check_finite(weights: Path, tensors: dict[str, TensorInfo]) -> None:
    data = np.memmap(weights, dtype=np.uint8, mode="r")
    for name, info in tensors.items():
        values: Any = data[info.start : info.end].view(_DTYPES[info.dtype])
        finite = (values & 0x7F80) != 0x7F80 if info.dtype == "BF16" else np.isfinite(values)
        if not finite.all():
            raise AdapterRefused(f"{name} holds values that are not finite (NaN or infinity): the training diverged")
