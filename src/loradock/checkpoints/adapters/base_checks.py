"""Holding an adapter against the base model it is for."""

from collections.abc import Iterable

from loradock.checkpoints.adapters.adapter import WEIGHTS_FILE, AdapterConfig
from loradock.checkpoints.adapters.adapter_reasons import CONFIG_FILE, MERGE
from loradock.checkpoints.adapters.lora_pairs import LoraPair
from loradock.checkpoints.adapters.tensor_names import wrong_prefix
from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.safetensors_header import TensorInfo
from loradock.types.errors import AdapterRefused


def check_against(
    pairs: list[LoraPair], tensors: dict[str, TensorInfo], config: AdapterConfig, base: Architecture
) -> list[str]:
    """Remarks on what is not adapted. Raises AdapterRefused for an adapter of another base or without all tensors."""
    _check_shapes(pairs, tensors, base)
    _check_biases(pairs, config, base)
    return _check_complete(pairs, config, base)


def _check_shapes(pairs: Iterable[LoraPair], tensors: dict[str, TensorInfo], base: Architecture) -> None:
    linears = base.linears()
    for pair in pairs:
        if pair.layer >= base.layers or base.module_path(pair.layer, pair.module) != pair.module_path:
            raise AdapterRefused(
                f"{pair.module_path} does not exist in the base model ({base.layers} layers){wrong_prefix([pair.a])}"
            )
        found = (tensors[pair.b].shape[0], tensors[pair.a].shape[1])
        if found != linears[pair.module]:
            raise AdapterRefused(
                f"{pair.module_path} is {found[0]}x{found[1]} in the adapter but"
                f" {linears[pair.module][0]}x{linears[pair.module][1]} in the base model: it belongs to another base"
                + wrong_prefix([pair.a])
            )


def _check_biases(pairs: Iterable[LoraPair], config: AdapterConfig, base: Architecture) -> None:
    """PEFT saves every bias it trained: without one in the file there is none in the base, or they are missing."""
    with_bias = {"q_proj", "k_proj", "v_proj"} if base.qkv_bias else set()
    with_bias |= {"o_proj"} if base.output_bias else set()
    trained = with_bias if config.bias == "all" else with_bias & {pair.module for pair in pairs}
    if config.bias != "none" and trained:
        raise AdapterRefused(
            f"bias={config.bias!r}: trained biases are not applied here, and the file lacks them ({min(trained)} has"
            f" one in the base model); train with bias='none', {MERGE}"
        )


def _check_complete(pairs: list[LoraPair], config: AdapterConfig, base: Architecture) -> list[str]:
    """A targeted projection without tensors may be a truncated save. PEFT changes nothing there."""
    present = {pair.module_path for pair in pairs}
    every = [(layer, base.module_path(layer, name)) for layer in range(base.layers) for name in base.linears()]
    missing = [(layer, path) for layer, path in every if path not in present and config.targets.covers(path)]
    if not missing:
        return []
    first, count = missing[0][1], f"{len(missing)} of {len(missing) + len(present)}"
    named = {pair.module_path for pair in pairs if _named(pair.module_path, config)}
    if named == present and not any(_named(path, config) for _, path in missing):
        return [f"{first} is not adapted ({count} missing): peft.save_as_lora leaves exclude_modules out of the config"]
    layers, without = {pair.layer for pair in pairs}, {layer for layer, _ in missing}
    if not layers & without and len(without) > 1 and _in_one_run(layers, without):
        return [
            f"only the layers {min(layers)} to {max(layers)} are adapted, though {CONFIG_FILE} has no"
            " layers_to_transform: PEFT changes nothing in the others. If they were trained, their tensors were lost"
        ]
    raise AdapterRefused(
        f"{CONFIG_FILE} targets {first}, but {WEIGHTS_FILE} has no tensors for it ({count} missing). If it was not"
        " trained, say so there: layers_to_transform with the layers that were, or exclude_modules. If it was, its"
        " tensors were lost: the save was not whole, or another adapter in the model was named by a layer's number,"
        " whose tensors PEFT then leaves out; rename the adapters and save again"
    )


def _named(path: str, config: AdapterConfig) -> bool:
    return config.targets.names(path) or path in config.rank_pattern


def _in_one_run(layers: set[int], without: set[int]) -> bool:
    targeted = sorted(layers | without)
    first, last = targeted.index(min(layers)), targeted.index(max(layers))
    return last - first + 1 == len(layers)
