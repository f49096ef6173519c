"""Reads a PEFT adapter_config.json and tells which kinds of adapter the engine serves."""

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from loradock.checkpoints.adapters.adapter_reasons import CONFIG_FILE, refuse_other_kinds
from loradock.checkpoints.adapters.adapter_targets import Targets, read_targets
from loradock.checkpoints.adapters.module_pattern import BadPattern, Patterns, is_plain
from loradock.types.errors import AdapterRefused

WEIGHTS_FILE = "adapter_model.safetensors"
_MAX_CONFIG_BYTES = 1 << 20
_MAX_RANK = 4096
_MAX_EXPRESSIONS = 100
_MAX_KEYS = 8192


@dataclass(frozen=True)
class AdapterConfig:
    """The parts of adapter_config.json that serving needs; pattern rules are PEFT's."""

    base_model: str | None
    rank: int
    alpha: float
    use_rslora: bool = False
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    targets: Targets = field(default_factory=Targets)
    bias: str = "none"
    complete: bool = True
    """Whether it says itself what else would be PEFT's default: vLLM wants that."""
    remarks: tuple[str, ...] = ()

    def rank_of(self, module_path: str) -> int:
        key = self.ranks.first(module_path)
        return self.rank if key is None else self.rank_pattern[key]

    def alpha_of(self, module_path: str) -> float:
        key = self.alphas.first(module_path)
        return self.alpha if key is None else self.alpha_pattern[key]

    def scaling(self, module_path: str, rank: int | None = None) -> float:
        """alpha / rank, or alpha / sqrt(rank) with rsLoRA, with the module's own pattern applied."""
        rank, alpha = rank or self.rank_of(module_path), self.alpha_of(module_path)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank

    @cached_property
    def ranks(self) -> Patterns:
        return Patterns(self.rank_pattern)

    @cached_property
    def alphas(self) -> Patterns:
        return Patterns(self.alpha_pattern)


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Raises AdapterRefused naming the unsupported kind and the reason."""
    return parse_adapter_config(read_config_file(folder))


def read_config_file(folder: Path) -> bytes:
    """Raises AdapterRefused when it is missing or far too large."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise AdapterRefused(f"{CONFIG_FILE} is missing: upload the folder that PEFT's save_pretrained wrote")
    if file.stat().st_size > _MAX_CONFIG_BYTES:
        raise AdapterRefused(f"{CONFIG_FILE} is larger than 1 MiB: this is not what PEFT's save_pretrained writes")
    return file.read_bytes()


def parse_adapter_config(text: bytes) -> AdapterConfig:
    """Raises AdapterRefused naming the unsupported kind and the reason."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterRefused(f"{CONFIG_FILE} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise AdapterRefused(f"{CONFIG_FILE} holds no JSON object")
    return _config(raw, refuse_other_kinds(raw))


def _config(raw: dict[str, Any], remarks: list[str]) -> AdapterConfig:
    base = raw.get("base_model_name_or_path")
    rank_pattern = {key: _rank(key, value) for key, value in _patterns(raw, "rank_pattern").items()}
    alpha_pattern = {key: _alpha(key, value) for key, value in _patterns(raw, "alpha_pattern").items()}
    return AdapterConfig(
        base_model=base if isinstance(base, str) and base else None,
        rank=_rank("r", raw.get("r", 8)),
        alpha=_alpha("lora_alpha", raw.get("lora_alpha", 8)),
        use_rslora=raw.get("use_rslora") is True,
        rank_pattern=rank_pattern,
        alpha_pattern=alpha_pattern,
        targets=read_targets(raw),
        bias=str(raw.get("bias") or "none")[:80],
        complete=all(raw.get(name) is not None for name in ("r", "lora_alpha", "target_modules")),
        remarks=(*remarks, *_remarks(raw)),
    )


def _remarks(raw: dict[str, Any]) -> list[str]:
    missing = [name for name in ("r", "lora_alpha") if name not in raw]
    remarks = [f"{CONFIG_FILE} has no {name}: PEFT's default 8 counts" for name in missing]
    if raw.get("lora_alpha") == 0 and not raw.get("alpha_pattern"):
        remarks.append("lora_alpha is 0: the adapter changes nothing")
    return remarks


def _rank(name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_RANK:
        raise AdapterRefused(
            f"{CONFIG_FILE}: rank {name[:80]}={repr(value)[:80]} is not a whole number from 1 to {_MAX_RANK}"
        )
    return value


def _alpha(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e9:
        raise AdapterRefused(f"{CONFIG_FILE}: alpha {name[:80]}={repr(value)[:80]} is not a finite number")
    return float(value)


def _patterns(raw: dict[str, Any], name: str) -> dict[str, Any]:
    patterns = raw.get(name) or {}
    if not isinstance(patterns, dict):
        raise AdapterRefused(f"{CONFIG_FILE}: {name} is not an object of module names")
    if len(patterns) > _MAX_KEYS or sum(not is_plain(pattern) for pattern in patterns) > _MAX_EXPRESSIONS:
        raise AdapterRefused(
            f"{CONFIG_FILE}: {name} holds more than {_MAX_EXPRESSIONS} expressions or {_MAX_KEYS} names;"
            " name the modules instead, as in ^model.layers.0.self_attn.q_proj"
        )
    try:
        Patterns(patterns)
    except BadPattern as error:
        raise AdapterRefused(f"{CONFIG_FILE}: {name}: {error}; name the modules instead") from error
    return patterns
