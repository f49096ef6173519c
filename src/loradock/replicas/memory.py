"""The memory a replica is to take: planned before it starts, told to it, and found again by the next server."""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from loradock.checkpoints.base_config import read_architecture
from loradock.checkpoints.memory_plan import DEFAULT_CONTEXT, MemoryPlan, MemoryWishes, plan_memory, weight_bytes
from loradock.replicas.launcher import ReplicaSpec
from loradock.types.enums import EngineKind, Quantization
from loradock.types.errors import LoradockError

_FILE = "memory.json"
_GIB = 2**30
_BITS = {Quantization.INT4: 4, Quantization.INT8: 8, None: 16}
_VLLM_PROGRAM = 2 * _GIB
"""The bytes that vLLM takes on a CPU besides weights and cache."""


def plan_of(spec: ReplicaSpec, arguments: Sequence[str], budget: int) -> MemoryPlan | None:
    """Within `budget` bytes, with the `arguments` that the operator gives the built-in engine. None where it cannot be
    told: on GPUs, whose engine reserves their memory itself, and for a model that no engine can read. Blocks."""
    given = _given(arguments)
    if spec.gpus or (spec.engine is EngineKind.EMBEDDED and given.device != "cpu"):
        return None
    try:
        architecture = read_architecture(spec.model)
    except (LoradockError, OSError):
        return None  # the engine's own words say more
    if spec.engine is EngineKind.VLLM:
        cache = int(float(os.environ.get("VLLM_CPU_KVCACHE_SPACE") or 2) * _GIB)
        return MemoryPlan(weight_bytes(architecture, 16), cache, 0, _VLLM_PROGRAM, architecture.max_positions)
    bits = 32 if given.dtype == "float32" else _BITS[spec.quantization]
    wishes = MemoryWishes(
        bits=bits,
        int8_cache=given.kv_cache_dtype == "int8",
        cache=_bytes(given.kv_cache_gib),
        adapters=_bytes(given.lora_ram_gib),
        context=given.max_model_len,
        lora=spec.lora_enabled,
    )
    return plan_memory(architecture, budget, wishes)


def plan_arguments(plan: MemoryPlan | None, arguments: Sequence[str]) -> Iterator[str]:
    """The built-in engine's, except for what the operator says."""
    if plan is None:
        return
    given = _given(arguments)
    if given.kv_cache_gib is None:
        yield from ("--kv-cache-gib", repr(plan.cache / _GIB))
    if given.lora_ram_gib is None and plan.adapters:
        yield from ("--lora-ram-gib", repr(plan.adapters / _GIB))
    if given.max_model_len is None and plan.context < DEFAULT_CONTEXT:
        yield from ("--max-model-len", str(plan.context))


def write_plan(folder: Path, plan: MemoryPlan | None) -> None:
    if plan is not None:
        (folder / _FILE).write_text(json.dumps(asdict(plan)))


def read_plan(folder: Path) -> MemoryPlan | None:
    """None where there is none, or one of another version."""
    try:
        return MemoryPlan(**json.loads((folder / _FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _given(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments that matter here; they were checked when the server started."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, kind in (("--kv-cache-gib", float), ("--lora-ram-gib", float), ("--max-model-len", int)):
        parser.add_argument(name, type=kind)
    parser.add_argument("--dtype")
    parser.add_argument("--kv-cache-dtype")
    parser.add_argument("--device", default="cpu")
    return parser.parse_known_args(arguments)[0]


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * _GIB)
