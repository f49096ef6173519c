"""Which modules adapter_config.json says were trained, so that the tensors can be held against it."""

import re
from dataclasses import dataclass
from typing import Any

from loradock.checkpoints.module_pattern import BadPattern, Matcher, is_named, matcher
from loradock.types.errors import AdapterRefused

SERVED_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NOT_SERVED = ("embed_tokens", "lm_head", "wte", "score", "classifier")
_LAYER = re.compile(r".*?\.[^.]*\.(\d+)\.")


@dataclass(frozen=True)
class Targets:
    """target_modules, exclude_modules and layers_to_transform. None: cannot be evaluated, trust the tensors."""

    include: tuple[str, ...] | str | None = None
    exclude: tuple[str, ...] | str | None = None
    layers: tuple[int, ...] | None = None

    def covers(self, module_path: str) -> bool | None:
        """Whether training touched this projection; None when the config cannot say."""
        try:
            if self.exclude and _covers(self.exclude, module_path):
                return False
            if self.include is None:
                return None
            return _covers(self.include, module_path) and self._in_layers(module_path)
        except BadPattern:
            return None

    def _in_layers(self, module_path: str) -> bool:
        layer = _LAYER.match(module_path)
        return not self.layers or (layer is not None and int(layer[1]) in self.layers)


def _covers(targets: tuple[str, ...] | str, module_path: str) -> bool:
    if isinstance(targets, tuple):
        return is_named(module_path, targets)
    if targets.lower() == "all-linear":
        return is_named(module_path, SERVED_MODULES)
    match: Matcher = matcher(targets, whole=True)
    return match(module_path)


def read_targets(raw: dict[str, Any]) -> Targets:
    """Raises AdapterRefused when a target is named that no adapter here may have."""
    include = _names(raw, "target_modules")
    unserved = [name for name in include or () if isinstance(include, tuple) and name.split(".")[-1] in NOT_SERVED]
    if unserved:
        raise AdapterRefused(
            f"target_modules names {unserved[0]}: LoRA on embeddings or output heads cannot share an endpoint;"
            f" train on some of {', '.join(SERVED_MODULES)}"
        )
    return Targets(include, _names(raw, "exclude_modules"), _layers(raw.get("layers_to_transform")))


def _names(raw: dict[str, Any], field: str) -> tuple[str, ...] | str | None:
    value = raw.get(field)
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, list) and len(value) <= 8192 and all(isinstance(name, str) for name in value):
        return tuple(value) or None
    raise AdapterRefused(f"adapter_config.json: {field} is neither a list of module names nor a pattern")


def _layers(value: Any) -> tuple[int, ...] | None:
    if value is None or value == []:
        return None
    layers = value if isinstance(value, list) else [value]
    if not all(type(layer) is int for layer in layers):
        raise AdapterRefused("adapter_config.json: layers_to_transform is neither a layer number nor a list of them")
    return tuple(layers)
