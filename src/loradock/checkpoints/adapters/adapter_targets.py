"""Reads which modules adapter_config.json says were trained, so that the tensors can be held against it."""

import re
from dataclasses import dataclass
from typing import Any

from loradock.checkpoints.adapters.adapter_reasons import CONFIG_FILE
from loradock.checkpoints.adapters.module_pattern import BadPattern, Matcher, is_named, is_plain, matcher
from loradock.checkpoints.adapters.tensor_names import SERVED_MODULES
from loradock.types.errors import AdapterRefused

NOT_SERVED = ("embed_tokens", "lm_head", "wte", "score", "classifier")


@dataclass(frozen=True)
class Targets:
    """target_modules, exclude_modules, layers_to_transform and layers_pattern. None: cannot be evaluated, trust the
    tensors."""

    include: frozenset[str] | str | None = None
    exclude: frozenset[str] | str | None = None
    layers: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()

    def covers(self, module_path: str) -> bool | None:
        """Whether training touched this projection; None when the config cannot say."""
        try:
            if self.exclude and _covers(self.exclude, module_path):
                return False
            if self.include is None:
                return None
            if self.names(module_path):
                return True  # PEFT lets a whole path pass, whatever layers_to_transform says
            return _covers(self.include, module_path) and self._in_layers(module_path)
        except BadPattern:
            return None

    def names(self, module_path: str) -> bool:
        """Whether this very projection is named, and not only its kind."""
        return isinstance(self.include, frozenset) and module_path in self.include

    def _in_layers(self, module_path: str) -> bool:
        if not self.layers or isinstance(self.include, str):
            return True
        patterns = [rf"(?:^|.*?\.){pattern}\.(\d+)\." for pattern in self.layers_pattern]
        matches = (re.match(pattern, module_path) for pattern in patterns or [r".*?\.[^.]*\.(\d+)\."])
        layer = next(filter(None, matches), None)
        return layer is not None and int(layer[1]) in self.layers


def _covers(targets: frozenset[str] | str, module_path: str) -> bool:
    if isinstance(targets, frozenset):
        return is_named(module_path, targets)
    if targets.lower() == "all-linear":
        return is_named(module_path, SERVED_MODULES)
    match: Matcher = matcher(targets, whole=True)
    return match(module_path)


def read_targets(raw: dict[str, Any]) -> Targets:
    """Raises AdapterRefused when a target is named that no adapter here may have."""
    include = _names(raw, "target_modules")
    named = sorted(include) if isinstance(include, frozenset) else []
    unserved = [name for name in named if name.split(".")[-1] in NOT_SERVED]
    if unserved:
        raise AdapterRefused(
            f"target_modules names {unserved[0][:80]}: LoRA on embeddings or output heads is not applied here;"
            f" train on some of {', '.join(SERVED_MODULES)}"
        )
    layers = _layers(raw.get("layers_to_transform"))
    return Targets(include, _names(raw, "exclude_modules"), layers, _layers_pattern(raw.get("layers_pattern")))


def _names(raw: dict[str, Any], field: str) -> frozenset[str] | str | None:
    value = raw.get(field)
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, list) and len(value) <= 8192 and all(isinstance(name, str) for name in value):
        return frozenset(value) or None
    raise AdapterRefused(f"{CONFIG_FILE}: {field} is neither a list of module names nor a pattern")


def _layers(value: Any) -> tuple[int, ...] | None:
    if value is None or value == []:
        return None
    layers = value if isinstance(value, list) else [value]
    if not all(type(layer) is int for layer in layers):
        raise AdapterRefused(f"{CONFIG_FILE}: layers_to_transform is neither a layer number nor a list of them")
    return tuple(layers)


def _layers_pattern(value: Any) -> tuple[str, ...]:
    patterns = [value] if isinstance(value, str) else value or []
    if not isinstance(patterns, list) or not all(isinstance(p, str) and (p == "" or is_plain(p)) for p in patterns):
        raise AdapterRefused(f"{CONFIG_FILE}: layers_pattern is neither a name nor a list of names, such as layers")
    return tuple(filter(None, patterns))
