"""Looking at an uploaded adapter before it is accepted: files, names, shapes, values."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loradock.checkpoints.adapters.adapter import WEIGHTS_FILE, AdapterConfig, parse_adapter_config, read_config_file
from loradock.checkpoints.adapters.adapter_reasons import MLX
from loradock.checkpoints.adapters.base_checks import check_against
from loradock.checkpoints.adapters.lora_pairs import LoraPair, read_pairs
from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.numbers import DTYPES
from loradock.checkpoints.safetensors_header import RawHeader, TensorInfo, parse_header, read_header, read_raw_header
from loradock.types.errors import AdapterRefused

_PICKLE = re.compile(r".+\.(bin|pt|pth|pkl|ckpt)", re.IGNORECASE)
_SHARD = re.compile(r"adapter_model-\d{5}-of-\d{5}\.safetensors|adapter_model\.safetensors\.index\.json", re.IGNORECASE)


@dataclass(frozen=True)
class AdapterReport:
    """An adapter that can be served; `size_bytes` counts its weights. `remarks` say what was read otherwise than it is
    written, or left out. `tables` (tensor name → `embed_tokens` or `lm_head`) have to be compared with the base."""

    config: AdapterConfig
    pairs: list[LoraPair]
    target_modules: list[str]
    size_bytes: int
    remarks: tuple[str, ...]
    tables: dict[str, str]
    unused: list[str]

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
    _check_finite(folder / WEIGHTS_FILE, parse_header(files.header), report.pairs)
    return report


def read_files(folder: Path) -> AdapterFiles:
    """Raises AdapterRefused when one is missing or is not such a file."""
    config = read_config_file(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise AdapterRefused(missing_weights({file.name for file in folder.iterdir()}))
    return AdapterFiles(config, read_raw_header(weights))


def understand(files: AdapterFiles, architecture: Architecture | None) -> AdapterReport:
    """All of `inspect_adapter` but whether the numbers are finite."""
    config, tensors = parse_adapter_config(files.config), parse_header(files.header)
    pairs, tables, unused, remarks = read_pairs(tensors, config)
    remarks = [*config.remarks, *remarks]
    if config.bias != "none":
        remarks.append(f"bias={config.bias!r}: the file holds no biases, so none was trained")
    if architecture is not None:
        remarks += check_against(pairs, tensors, config, architecture)
    modules = sorted({pair.module for pair in pairs})
    return AdapterReport(config, pairs, modules, files.header.size, tuple(remarks), tables, unused)


def check_shapes(report: AdapterReport, folder: Path, architecture: Architecture) -> list[str]:
    """Hold an accepted adapter against a base that was not at hand before: remarks. Raises AdapterRefused."""
    return check_against(report.pairs, read_header(folder / WEIGHTS_FILE), report.config, architecture)


def without_tables(report: AdapterReport) -> AdapterReport:
    """Raises AdapterRefused where whole tables lie beside the adapter, which were not compared with the base's."""
    if report.tables:
        raise AdapterRefused(
            f"{next(iter(report.tables))} is a whole table, which has to be compared with the base model's first"
        )
    return report


def missing_weights(names: set[str]) -> str:
    """Return why a folder with these files and without adapter_model.safetensors is not an adapter, and what to do."""
    pickled = sorted(name for name in names if _PICKLE.fullmatch(name) and not name.lower().startswith("optimizer"))
    if "adapters.safetensors" in names:
        return MLX
    if any(_SHARD.fullmatch(name) for name in names):
        return (
            "the adapter is in several files (adapter_model-00001-of-…): write them as one with Python: from glob"
            " import glob; from safetensors.torch import load_file, save_file; save_file({k: v for f in"
            f" sorted(glob('adapter_model-*-of-*.safetensors')) for k, v in load_file(f).items()}}, '{WEIGHTS_FILE}')"
        )
    if pickled:
        return (
            f"{pickled[0]} is a pickle, which can run code when opened: save the adapter with safetensors"
            f" (PEFT: save_pretrained(…, safe_serialization=True), which writes {WEIGHTS_FILE}), or convert one that"
            " you trust: import torch; from safetensors.torch import save_file;"
            f" save_file(torch.load('{pickled[0]}', weights_only=True), '{WEIGHTS_FILE}')"
        )
    return f"{WEIGHTS_FILE} is missing: upload the folder that PEFT's save_pretrained wrote"


def _check_finite(weights: Path, tensors: dict[str, TensorInfo], pairs: list[LoraPair]) -> None:
    data = np.memmap(weights, dtype=np.uint8, mode="r")
    for name in (name for pair in pairs for name in (pair.a, pair.b)):
        info = tensors[name]
        values: Any = data[info.start : info.end].view(DTYPES[info.dtype])
        finite = (values & 0x7F80) != 0x7F80 if info.dtype == "BF16" else np.isfinite(values)
        if not finite.all():
            raise not_finite(name)


def not_finite(tensor: str) -> AdapterRefused:
    return AdapterRefused(f"{tensor} holds values that are not finite (NaN or infinity): the training diverged")
