"""Starts vLLM as a replica. The traps avoided here and in the client: docs/vllm.md."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loradock.replicas.launcher import ReplicaSpec
from loradock.types.enums import EngineKind
from loradock.types.errors import BadRequest

_SHIM = Path(__file__).with_name("vllm_shim.py")
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes for --max-lora-rank (vllm/config/lora.py, `MaxLoRARanks`)."""

_SLOTS = 8
"""vLLM reserves memory for every slot at the highest rank, whether it is used or not."""

GPUS_ENV = "LORADOCK_GPUS"
"""Tells in a replica's environment which GPUs it was given, so that no other gets them."""


@dataclass(frozen=True)
class VllmSetup:
    """`python`: the interpreter of an environment with vLLM, None when there is none. `arguments`: the operator's own,
    which come last and so win."""

    python: Path | None = None
    arguments: Sequence[str] = ()


def vllm_command(setup: VllmSetup, spec: ReplicaSpec, announce: Path) -> list[str]:
    """Raises BadRequest when vLLM cannot be started."""
    if setup.python is None:
        raise BadRequest(
            "this server has no vLLM: install it in an environment of its own and start the server with"
            " --vllm-python <its python>, or create the endpoint with engine 'embedded'"
        )
    if spec.model.suffix == ".gguf":
        raise BadRequest(
            f"vLLM needs a folder of safetensors and {spec.model.name} is a GGUF file: use engine 'embedded', or a base"
            " model in the Hugging Face format"
        )
    command = [str(setup.python), str(_SHIM), "--announce", str(announce), "--model", str(spec.model)]
    command += ["--served-model-name", *spec.served_names]
    command += ["--tensor-parallel-size", str(max(1, spec.gpus))]
    return [*command, *_lora_arguments(spec), *setup.arguments]


def slots(engine: EngineKind, max_loras: int) -> int:
    """Return how many adapters can take part in one step of a replica."""
    return min(max_loras, _SLOTS) if engine is EngineKind.VLLM else max_loras


def choose_gpus(spec: ReplicaSpec, taken: set[int]) -> tuple[int, ...]:
    """GPUs of `spec.devices` that no other replica uses. Raises BadRequest with the numbers."""
    free = [device for device in spec.devices if device not in taken]
    if spec.gpus > len(free):
        raise BadRequest(
            f"a replica needs {spec.gpus} of the {len(spec.devices)} GPUs and {len(free)} are free:"
            f" {spec.gpus} > {len(free)}. Stop an endpoint, or lower its max_replicas"
        )
    return tuple(free[: spec.gpus])


def vllm_environment(spec: ReplicaSpec, gpus: Sequence[int] = ()) -> dict[str, str]:
    """The secret travels here, never on the command line. What the operator has set already stays."""
    numbers = ",".join(map(str, gpus))
    return {
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_NO_USAGE_STATS": "1",
        **os.environ,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_API_KEY": spec.secret,
        "CUDA_VISIBLE_DEVICES": numbers,
        GPUS_ENV: numbers,
    }


def _lora_arguments(spec: ReplicaSpec) -> list[str]:
    if not spec.lora_enabled:
        return []
    at_once = slots(EngineKind.VLLM, spec.max_loras)
    rank = next((rank for rank in _RANKS if rank >= spec.max_lora_rank), _RANKS[-1])
    return [
        "--enable-lora",
        *("--max-loras", str(at_once)),
        *("--max-cpu-loras", str(max(at_once, spec.max_cpu_loras))),
        *("--max-lora-rank", str(rank)),
    ]
