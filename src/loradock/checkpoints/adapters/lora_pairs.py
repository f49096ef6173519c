"""An adapter's tensors as pairs of A and B, each with the scaling it was trained with."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from loradock.checkpoints.adapters.adapter import WEIGHTS_FILE, AdapterConfig
from loradock.checkpoints.adapters.adapter_reasons import CONFIG_FILE, is_of_training, refuse_tensor
from loradock.checkpoints.adapters.module_pattern import Patterns
from loradock.checkpoints.adapters.tensor_names import (
    EXPECTED,
    SERVED_MODULES,
    LoraName,
    check_one_reading,
    read_lora_name,
    table_name,
)
from loradock.checkpoints.numbers import DTYPES
from loradock.checkpoints.safetensors_header import TensorInfo
from loradock.types.errors import AdapterRefused

_SHOWN = 3
_LONGEST_NAME = 500


@dataclass(frozen=True)
class LoraPair:
    """An adapted projection: tensor names of A `[rank, in]` and B `[out, rank]`. `called`: what PEFT may have called
    it, which is what the patterns of the config speak of; they say the same of each."""

    module_path: str
    layer: int
    module: str
    a: str
    b: str
    rank: int
    scaling: float
    called: tuple[str, ...]


class Tensors(NamedTuple):
    """`tables`: tensor name → `embed_tokens` or `lm_head`, whole tables beside it. `unused`: those of training only."""

    pairs: list[LoraPair]
    tables: dict[str, str]
    unused: list[str]
    remarks: list[str]


def read_pairs(tensors: dict[str, TensorInfo], config: AdapterConfig) -> Tensors:
    """Raises AdapterRefused for what is not plain LoRA."""
    names: list[LoraName] = []
    tables: dict[str, str] = {}
    unused: list[str] = []
    for name, info in tensors.items():
        if len(name) > _LONGEST_NAME:
            raise AdapterRefused(f"a tensor's name has {len(name)} characters, {name[:100]}…: no adapter of PEFT's has")
        lora = read_lora_name(name)
        table = table_name(name) if lora is None else None
        if lora is None and is_of_training(name):
            unused.append(name)
            continue
        if lora is None and table is None:
            raise refuse_tensor(name, SERVED_MODULES)
        if info.dtype not in DTYPES or len(info.shape) != 2:
            raise AdapterRefused(
                f"{name} is {info.dtype} {list(info.shape)}: a matrix of float32, float16 or bfloat16 was expected"
            )
        if lora is not None:
            names.append(lora)
        elif table is not None:
            tables[name] = table
    if not names:
        raise AdapterRefused(f"{WEIGHTS_FILE} holds no LoRA tensors")
    remarks = check_one_reading(names)
    pairs = [_pair(sides, tensors, config) for sides in _by_path(names)]
    return Tensors(pairs, tables, unused, [*remarks, *_remarks(pairs, config)])


def _by_path(names: Iterable[LoraName]) -> list[dict[str, LoraName]]:
    found: dict[str, dict[str, LoraName]] = {}
    for name in names:
        sides = found.setdefault(name.path, {})
        if name.side in sides:
            raise AdapterRefused(
                f"{name.name} and {sides[name.side].name} are the same matrix: with and without '.default' or a prefix;"
                " save one adapter per folder"
            )
        sides[name.side] = name
    return [sides for _, sides in sorted(found.items())]


def _pair(sides: dict[str, LoraName], tensors: dict[str, TensorInfo], config: AdapterConfig) -> LoraPair:
    name = next(iter(sides.values()))
    if set(sides) != {"A", "B"}:
        raise AdapterRefused(f"{name.path} has lora_{name.side} but not its other half: save the adapter again")
    a, b = tensors[sides["A"].name].shape, tensors[sides["B"].name].shape
    if a[0] != b[1]:
        raise AdapterRefused(
            f"{name.path}: A has rank {a[0]}, B has rank {b[1]}: the file is not one training's; save the adapter again"
        )
    if a[0] == 0:
        raise AdapterRefused(f"{name.path} has rank 0: leave it out, and out of target_modules")
    _check_rank(name, a[0], config)
    if all(config.targets.covers(one) is False for one in name.called):
        raise AdapterRefused(f"{CONFIG_FILE} does not target {name.path}, but there are tensors for it")
    scalings = {config.scaling(one, a[0]) for one in name.called}
    if len(scalings) > 1:
        raise AdapterRefused(
            f"alpha_pattern gives {name.path} another alpha by its name in the file ({name.called[0]}): rename the"
            f" tensors to {EXPECTED}layers.…, so that it is clear which counts"
        )
    return LoraPair(
        name.path, name.layer, name.module, sides["A"].name, sides["B"].name, a[0], scalings.pop(), name.called
    )


def _check_rank(name: LoraName, rank: int, config: AdapterConfig) -> None:
    """The rank that counts is the tensors'; it has to be one that the config gives this module."""
    patterns = {config.rank_pattern[key] for one in name.called for key in config.ranks.matching(one)}
    if rank not in patterns | ({config.rank_of(one) for one in name.called}):
        raise AdapterRefused(
            f"{name.path}: A and B have rank {rank}, {CONFIG_FILE} says {config.rank_of(name.called[0])}:"
            " upload the config and the weights of the same training"
        )


def _remarks(pairs: list[LoraPair], config: AdapterConfig) -> list[str]:
    return [
        *_without_a_match("rank_pattern", config.ranks, pairs),
        *_without_a_match("alpha_pattern", config.alphas, pairs),
        *_lost_order(pairs, config),
    ]


def _without_a_match(field: str, patterns: Patterns, pairs: list[LoraPair]) -> list[str]:
    used = {key for pair in pairs for name in pair.called for key in patterns.matching(name)}
    unused = [key for key in patterns.keys if key not in used]
    if not unused:
        return []
    return [f"{field}: {_some(unused)} match no module of the adapter and change nothing, in PEFT neither"]


def _lost_order(pairs: list[LoraPair], config: AdapterConfig) -> list[str]:
    """PEFT tries a pattern's keys in their order, and sorts them when it saves."""
    remarks = []
    ranks = [pair.module_path for pair in pairs if pair.rank not in {config.rank_of(name) for name in pair.called}]
    if ranks:
        remarks.append(
            f"rank_pattern: the first key that matches {_some(ranks)} gives another rank than the tensors have (PEFT"
            " sorts the keys when it saves); the tensors' rank counts"
        )
    alphas = [pair.module_path for pair in pairs if any(len(_alphas(name, config)) > 1 for name in pair.called)]
    if alphas and list(config.alpha_pattern) == sorted(config.alpha_pattern):
        remarks.append(
            f"alpha_pattern: several keys match {_some(alphas)}, and PEFT sorts them when it saves: the first counts,"
            " as in PEFT, but the training may have used another"
        )
    return remarks


def _alphas(name: str, config: AdapterConfig) -> set[float]:
    return {config.alpha_pattern[key] for key in config.alphas.matching(name)}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:80] for name in names[:_SHOWN]) + more
