"""What a PEFT adapter_config.json says, and which kinds of adapter the engine serves."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loradock.checkpoints.adapter_kinds import refuse_other_kinds
from loradock.checkpoints.adapter_targets import Targets, read_targets
from loradock.checkpoints.module_pattern import BadPattern, is_plain, matcher
from loradock.types.errors import AdapterRefused

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_MAX_CONFIG_BYTES = 1 << 20
_MAX_RANK = 4096
_MAX_EXPRESSIONS = 100


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

    def rank_of(self, module_path: str) -> int:
        return int(_by_pattern(self.rank_pattern, module_path, self.rank))

    def scaling(self, module_path: str) -> float:
        """alpha / rank, or alpha / sqrt(rank) with rsLoRA, with the module's own pattern applied."""
        rank = self.rank_of(module_path)
        alpha = _by_pattern(self.alpha_pattern, module_path, self.alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank

    @property
    def max_rank(self) -> int:
        return max([self.rank, *self.rank_pattern.values()])


def _by_pattern(patterns: dict[str, Any], module_path: str, default: float) -> float:
    return next((float(value) for pattern, value in patterns.items() if matcher(pattern)(module_path)), default)


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
    refuse_other_kinds(raw)
    return _config(raw)


def _config(raw: dict[str, Any]) -> AdapterConfig:
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
    )


def _rank(name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_RANK:
        raise AdapterRefused(f"{CONFIG_FILE}: rank {name}={value!r} is not a whole number from 1 to {_MAX_RANK}")
    return value


def _alpha(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e9:
        raise AdapterRefused(f"{CONFIG_FILE}: alpha {name}={value!r} is not a finite number")
    return float(value)


def _patterns(raw: dict[str, Any], name: str) -> dict[str, Any]:
    patterns = raw.get(name) or {}
    if not isinstance(patterns, dict) or sum(not is_plain(pattern) for pattern in patterns) > _MAX_EXPRESSIONS:
        raise AdapterRefused(f"{CONFIG_FILE}: {name} is not an object of at most {_MAX_EXPRESSIONS} expressions")
    try:
        for pattern in patterns:
            matcher(pattern)
    except BadPattern as error:
        raise AdapterRefused(f"{CONFIG_FILE}: {name}: {error}; name the modules instead") from error
    return patterns
