"""What a PEFT LoRA folder says about itself, and whether the engine can serve it.

Field meanings follow peft.LoraConfig; pattern matching follows peft.utils.get_pattern_key.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loradock.types.errors import AdapterRefused

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_CHANGED_BASE = "its base weights were changed at initialisation; convert it to a plain LoRA with PEFT first"
_INITS = ("pissa", "olora", "corda", "eva", "loftq", "lora_ga", "orthogonal")
_REFUSED_FLAGS = {
    "use_dora": "DoRA: the engine serves plain LoRA; train without use_dora",
    "modules_to_save": "modules_to_save: whole trained modules cannot share an endpoint; train without them",
    "lora_bias": "lora_bias: biases on LoRA layers are not served; train with lora_bias=False",
    "use_qalora": "QA-LoRA: quantised adapters are not served",
    "alora_invocation_tokens": "activated LoRA (aLoRA): activation in mid prompt is not served",
    "layer_replication": "layer_replication: the adapter changes the number of layers",
    "megatron_config": "megatron_config: Megatron-sharded adapters are not served",
    "trainable_token_indices": "trainable_token_indices: changed embeddings cannot share an endpoint",
    "target_parameters": "target_parameters: LoRA on bare parameters (experts) is not served",
    "fan_in_fan_out": "fan_in_fan_out: transposed (Conv1D) layers are not part of the served decoders",
    "arrow_config": "Arrow routing: a router over adapters is not served",
    "use_bdlora": "block-diagonal LoRA is not served",
}


@dataclass(frozen=True)
class AdapterConfig:
    """The parts of adapter_config.json that serving needs."""

    base_model: str | None
    rank: int
    alpha: float
    use_rslora: bool = False
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)

    def rank_of(self, module_path: str) -> int:
        return int(_by_pattern(self.rank_pattern, module_path, self.rank))

    def scaling(self, module_path: str) -> float:
        """alpha / rank, or alpha / sqrt(rank) with rsLoRA, with the module's own pattern applied."""
        rank = self.rank_of(module_path)
        alpha = _by_pattern(self.alpha_pattern, module_path, self.alpha)
        return float(alpha / rank**0.5 if self.use_rslora else alpha / rank)

    @property
    def max_rank(self) -> int:
        return max([self.rank, *self.rank_pattern.values()])


def _by_pattern(patterns: dict[str, Any], module_path: str, default: float) -> float:
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module_path):
            return float(value)
    return default


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Raises AdapterRefused naming the unsupported kind and the reason."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise AdapterRefused(f"{CONFIG_FILE} is missing: upload the folder that PEFT's save_pretrained wrote")
    try:
        raw = json.loads(file.read_text())
        _refuse_kinds(raw)
        config = _config(raw)
    except (ValueError, TypeError, KeyError, AttributeError, re.error, RecursionError) as error:
        raise AdapterRefused(f"{CONFIG_FILE} cannot be read: {error!r}") from error
    if config.max_rank > 4096 or min([config.rank, *config.rank_pattern.values()]) < 1:
        raise AdapterRefused(f"{CONFIG_FILE} gives rank {config.max_rank}: ranks from 1 to 4096 make sense")
    return config


def _config(raw: dict[str, Any]) -> AdapterConfig:
    for pattern in [*(raw.get("rank_pattern") or {}), *(raw.get("alpha_pattern") or {})]:
        re.compile(pattern)
    return AdapterConfig(
        base_model=raw.get("base_model_name_or_path") or None,
        rank=int(raw["r"]),
        alpha=float(raw.get("lora_alpha", raw["r"])),
        use_rslora=bool(raw.get("use_rslora", False)),
        rank_pattern={str(k): int(v) for k, v in (raw.get("rank_pattern") or {}).items()},
        alpha_pattern={str(k): float(v) for k, v in (raw.get("alpha_pattern") or {}).items()},
    )


def _refuse_kinds(raw: dict[str, Any]) -> None:
    kind = raw.get("peft_type", "LORA")
    if kind != "LORA":
        raise AdapterRefused(f"peft_type {kind}: only LORA adapters can be docked")
    for flag, reason in _REFUSED_FLAGS.items():
        if raw.get(flag):
            raise AdapterRefused(reason)
    if raw.get("bias", "none") != "none":
        raise AdapterRefused(f"bias={raw['bias']!r}: trained biases are not served; train with bias='none'")
    init = raw.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower().startswith(_INITS):
        raise AdapterRefused(f"init_lora_weights={init!r}: {_CHANGED_BASE}")
