"""Looking at an uploaded adapter before it is accepted: files, names, shapes, values."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loradock.checkpoints.adapter import WEIGHTS_FILE, AdapterConfig, parse_adapter_config, read_config_file
from loradock.checkpoints.adapter_targets import SERVED_MODULES
from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.safetensors_header import RawHeader, TensorInfo, parse_header, read_header, read_raw_header
from loradock.types.errors import AdapterRefused

_TENSOR = re.compile(
    r"base_model\.model\.(?P<path>model\.layers\.(?P<layer>0|[1-9]\d{0,3})\.(?:self_attn|mlp)\.(?P<module>\w+))"
    r"\.lora_(?P<side>[AB])(?:\.default)?\.weight"
)
DTYPES: dict[str, np.dtype[np.generic]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_FOREIGN = {
    "lora_embedding_": "LoRA on embeddings cannot share an endpoint",
    "embed_tokens": "changed embeddings cannot share an endpoint",
    "lm_head": "LoRA on the output head cannot share an endpoint",
    "lora_magnitude": "DoRA rescales whole weight rows, which cannot be shared",
    "modules_to_save": "whole trained modules cannot share an endpoint",
    ".bias": "trained biases are not served",
    "experts": "mixture-of-experts layers are not served",
}


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
    """An adapter that can be served; `size_bytes` counts its weights."""

    config: AdapterConfig
    pairs: list[LoraPair]
    target_modules: list[str]
    size_bytes: int

    @property
    def max_rank(self) -> int:
        return max(pair.rank for pair in self.pairs)


class AdapterFiles(NamedTuple):
    """All of an adapter's folder but the numbers, not looked at yet: adapters of the same training have the same."""

    config: bytes
    header: RawHeader


def inspect_adapter(folder: Path, architecture: Architecture | None) -> AdapterReport:
    """Everything that can be checked before loading; shapes against the base when its architecture is known.

    Raises AdapterRefused naming what is wrong and what to do.
    """
    files = read_files(folder)
    report = understand(files, architecture)
    _check_finite(folder / WEIGHTS_FILE, parse_header(files.header))
    return report


def read_files(folder: Path) -> AdapterFiles:
    """Raises AdapterRefused when one is missing or is no such file."""
    config = read_config_file(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise AdapterRefused(_missing_weights(folder))
    return AdapterFiles(config, read_raw_header(weights))


def understand(files: AdapterFiles, architecture: Architecture | None) -> AdapterReport:
    """All of `inspect_adapter` but whether the numbers are finite."""
    config, tensors = parse_adapter_config(files.config), parse_header(files.header)
    pairs = _pairs(tensors, config)
    if architecture is not None:
        _check_shapes(pairs, tensors, architecture)
        _check_complete(pairs, config, architecture)
    return AdapterReport(config, pairs, sorted({pair.module for pair in pairs}), files.header.size)


def check_fits(report: AdapterReport, folder: Path, architecture: Architecture) -> None:
    """Hold an accepted adapter against a base that was not at hand before. Raises AdapterRefused."""
    _check_shapes(report.pairs, read_header(folder / WEIGHTS_FILE), architecture)
    _check_complete(report.pairs, report.config, architecture)


def _missing_weights(folder: Path) -> str:
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
    if pickled:
        return (
            f"{pickled[0]} is a pickle, which can run code when opened: save the adapter with safetensors"
            f" (PEFT: save_pretrained(…, safe_serialization=True), which writes {WEIGHTS_FILE})"
        )
    return f"{WEIGHTS_FILE} is missing: upload the folder that PEFT's save_pretrained wrote"


def _pairs(tensors: dict[str, TensorInfo], config: AdapterConfig) -> list[LoraPair]:
    sides: dict[str, dict[str, str]] = {}
    for name, info in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None or match["module"] not in SERVED_MODULES:
            raise AdapterRefused(_unexpected(name))
        if info.dtype not in DTYPES or len(info.shape) != 2:
            raise AdapterRefused(
                f"{name} is {info.dtype} {list(info.shape)}: a matrix of float32, float16 or bfloat16 was expected"
            )
        if sides.setdefault(match["path"], {}).setdefault(match["side"], name) != name:
            raise AdapterRefused(f"{name} occurs with and without '.default': save one adapter per folder")
    if not sides:
        raise AdapterRefused(f"{WEIGHTS_FILE} holds no LoRA tensors")
    return [_pair(path, names, tensors, config) for path, names in sorted(sides.items())]


def _unexpected(name: str) -> str:
    reason = next((reason for part, reason in _FOREIGN.items() if part in name), "")
    return f"unexpected tensor {name}: {reason + '; ' if reason else ''}the engine serves LoRA on " + ", ".join(
        SERVED_MODULES
    )


def _pair(path: str, names: dict[str, str], tensors: dict[str, TensorInfo], config: AdapterConfig) -> LoraPair:
    if set(names) != {"A", "B"}:
        raise AdapterRefused(f"{path} has lora_{next(iter(names))} but not its other half: save the adapter again")
    a, b = tensors[names["A"]].shape, tensors[names["B"]].shape
    if not a[0] == b[1] == config.rank_of(path):
        raise AdapterRefused(
            f"{path}: A has rank {a[0]}, B has rank {b[1]}, adapter_config.json says {config.rank_of(path)}:"
            " upload the config and the weights of the same training"
        )
    if config.targets.covers(path) is False:
        raise AdapterRefused(f"adapter_config.json does not target {path}, but there are tensors for it")
    parts = path.split(".")
    return LoraPair(path, int(parts[2]), parts[-1], names["A"], names["B"], a[0])


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


def _check_complete(pairs: Iterable[LoraPair], config: AdapterConfig, base: Architecture) -> None:
    """A targeted projection without tensors is a truncated save, not an untrained module."""
    present = {pair.module_path for pair in pairs}
    paths = [base.module_path(layer, name) for layer in range(base.layers) for name in base.linears()]
    missing = [path for path in paths if path not in present and config.targets.covers(path)]
    if missing:
        raise AdapterRefused(
            f"adapter_config.json targets {missing[0]}, but {WEIGHTS_FILE} has no tensors for it"
            f" ({len(missing)} of {len(missing) + len(present)} missing): save the adapter again"
        )


def _check_finite(weights: Path, tensors: dict[str, TensorInfo]) -> None:
    data = np.memmap(weights, dtype=np.uint8, mode="r")
    for name, info in tensors.items():
        values: Any = data[info.start : info.end].view(DTYPES[info.dtype])
        finite = (values & 0x7F80) != 0x7F80 if info.dtype == "BF16" else np.isfinite(values)
        if not finite.all():
            raise not_finite(name)


def not_finite(tensor: str) -> AdapterRefused:
    return AdapterRefused(f"{tensor} holds values that are not finite (NaN or infinity): the training diverged")
