"""An accepted adapter written as the plain LoRA that every engine reads alike.

vLLM (0.32) reads `r`, `lora_alpha` and `use_rslora` of the config and takes one scaling for all modules, whatever the
patterns say; it knows tensors by PEFT's names only. So names are PEFT's here, what is of no use is left out, and where
modules have scalings of their own, these go into B.
"""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from loradock.checkpoints.adapters.adapter import WEIGHTS_FILE, read_config_file
from loradock.checkpoints.adapters.adapter_reasons import CONFIG_FILE, TRAINING_ONLY
from loradock.checkpoints.adapters.inspection import AdapterReport
from loradock.checkpoints.adapters.lora_pairs import LoraPair
from loradock.checkpoints.numbers import as_float32
from loradock.checkpoints.safetensors_header import TensorInfo, read_header

_PREFIX = "base_model.model."
_CHUNK = 1 << 20


def is_plain(report: AdapterReport) -> bool:
    config = report.config
    one = config.alpha / (math.sqrt(config.rank) if config.use_rslora else config.rank)
    return (
        config.complete
        and config.bias == "none"
        and config.rank == report.max_rank
        and not report.tables
        and not report.unused
        and all(pair.a == _name(pair, "A") and pair.b == _name(pair, "B") for pair in report.pairs)
        and all(_same(pair.scaling, one) for pair in report.pairs)
    )


def write_plain(folder: Path, report: AdapterReport) -> None:
    """Rewrite the adapter in place. What `report` still has to say of the base (`tables`) must have been settled: it is
    left out."""
    scaling = _most_common(report.pairs)
    config = json.dumps(_config(json.loads(read_config_file(folder)), report, scaling), indent=2)
    draft = folder / f".{WEIGHTS_FILE}"
    try:
        with (folder / WEIGHTS_FILE).open("rb") as source, draft.open("wb") as target:
            _write(source, target, report.pairs, read_header(folder / WEIGHTS_FILE), scaling)
        draft.replace(folder / WEIGHTS_FILE)
    finally:
        draft.unlink(missing_ok=True)
    (folder / CONFIG_FILE).unlink()
    (folder / CONFIG_FILE).write_text(config)


def _name(pair: LoraPair, side: str) -> str:
    return f"{_PREFIX}{pair.module_path}.lora_{side}.weight"


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9)


def _most_common(pairs: list[LoraPair]) -> float:
    """Return the commonest scaling, so that few have to be changed; 0 only where all are."""
    found = Counter(pair.scaling for pair in pairs if pair.scaling)
    return found.most_common(1)[0][0] if found else 0.0


def _config(raw: dict[str, Any], report: AdapterReport, scaling: float) -> dict[str, Any]:
    rank = report.max_rank
    own = {f"^{pair.module_path}": pair.rank for pair in report.pairs if pair.rank != rank}
    plain = {
        "peft_type": "LORA",
        "bias": "none",
        "r": rank,
        "lora_alpha": _whole(scaling * rank),
        "use_rslora": False,
        "rank_pattern": own,
        "alpha_pattern": {module: _whole(scaling * of_its_own) for module, of_its_own in own.items()},
        **dict.fromkeys(TRAINING_ONLY),
    }
    if _targets_need_names(report):
        plain |= {
            "target_modules": sorted(pair.module_path for pair in report.pairs),
            "exclude_modules": None,
            "layers_to_transform": None,
            "layers_pattern": None,
        }
    return {**raw, **plain}


def _targets_need_names(report: AdapterReport) -> bool:
    """Whether the config names modules otherwise than the plain form does, or says less than its tensors."""
    targets, paths = report.config.targets, [pair.module_path for pair in report.pairs]
    if not all(targets.covers(path) for path in paths):
        return True
    return all(targets.names(path) or path in report.config.rank_pattern for path in paths)


def _whole(value: float) -> float:
    nearest = round(value)
    return nearest if _same(value, nearest) else value


def _write(
    source: BinaryIO, target: BinaryIO, pairs: list[LoraPair], tensors: dict[str, TensorInfo], scaling: float
) -> None:
    """Wider numbers first, so that each lies at a multiple of its size."""
    parts: list[tuple[str, TensorInfo, float]] = []
    for pair in pairs:
        changed = 1.0 if _same(pair.scaling, scaling) else pair.scaling / scaling
        parts += [(_name(pair, "A"), tensors[pair.a], 1.0), (_name(pair, "B"), tensors[pair.b], changed)]
    parts.sort(key=lambda part: _dtype(part[1], part[2]) != "F32")
    header, at = {}, 0
    for name, info, factor in parts:
        end = at + math.prod(info.shape) * (4 if _dtype(info, factor) == "F32" else 2)
        header[name] = {"dtype": _dtype(info, factor), "shape": info.shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    target.write(len(text).to_bytes(8, "little") + text)
    for _, info, factor in parts:
        _copy(source, target, info, factor)


def _dtype(info: TensorInfo, factor: float) -> str:
    return info.dtype if factor == 1.0 else "F32"


def _copy(source: BinaryIO, target: BinaryIO, info: TensorInfo, factor: float) -> None:
    source.seek(info.start)
    if factor != 1.0:
        data = np.frombuffer(source.read(info.end - info.start), np.uint8)
        target.write((as_float32(data, info.dtype) * np.float32(factor)).tobytes())
        return
    left = info.end - info.start
    while left:
        left -= target.write(source.read(min(left, _CHUNK)))
