"""Builds the spec that a deployment's replicas are started with."""

import hashlib
import secrets
from pathlib import Path

from loradock import __version__
from loradock.control.options import ControlOptions
from loradock.control.snapshot import Snapshot
from loradock.endpoints.hardware import gpus_of
from loradock.replicas.launcher import ReplicaSpec
from loradock.types.enums import EngineKind, quantization_in_effect
from loradock.types.names import new_id


def new_spec(snapshot: Snapshot, model: Path, options: ControlOptions) -> ReplicaSpec:
    """Return the spec of one more replica, its memory not yet planned. Blocks."""
    gpus, devices = gpus_of(snapshot.hardware)
    return ReplicaSpec(
        id=new_id("rep"),
        secret=secrets.token_hex(24),
        model=model,
        served_names=(snapshot.endpoint.name, snapshot.endpoint.id, snapshot.base_model),
        lora_enabled=snapshot.lora_enabled,
        max_lora_rank=snapshot.max_lora_rank,
        max_loras=options.max_loras,
        max_cpu_loras=options.max_cpu_loras,
        threads=options.threads,
        quantization=quantization_in_effect(snapshot.quantization, options.quantization),
        shares_cpu=snapshot.max_replicas > 1,
        engine=snapshot.engine,
        gpus=gpus,
        devices=devices,
    )


def settings_digest(snapshot: Snapshot, options: ControlOptions) -> str:
    """Return the digest of all that a replica is started with; a replica with another digest has to be replaced."""
    embedded = snapshot.engine is EngineKind.EMBEDDED
    facts = (
        __version__,
        snapshot.endpoint.name,
        snapshot.base_model,
        snapshot.engine,
        snapshot.hardware,
        snapshot.lora_enabled,
        snapshot.max_lora_rank,
        options.max_loras,
        options.max_cpu_loras,
        options.threads,
        quantization_in_effect(snapshot.quantization, options.quantization) if embedded else None,
        options.engine_arguments if embedded else options.vllm_arguments,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()
