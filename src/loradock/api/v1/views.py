"""Response objects of the v1 API, field for field as its clients parse them."""

from collections import Counter
from typing import Any

from loradock.control.views import ReplicaFacts
from loradock.endpoints.hardware import Hardware
from loradock.store.tables import Deployment, Endpoint, Event, Job, Model, iso
from loradock.types.enums import (
    AdapterTier,
    EndpointQuantization,
    EngineKind,
    ModelKind,
    Quantization,
    quantization_in_effect,
)
from loradock.types.names import combined_id

Json = dict[str, Any]


def as_list(data: list[Json]) -> Json:
    return {"object": "list", "data": data}


def quantization_of(deployment: Deployment, default: Quantization | None) -> str | None:
    """`none`, `int8` or `int4`; None where vLLM decides. `default`: the server's."""
    if deployment.engine is EngineKind.VLLM:
        return None
    return quantization_in_effect(deployment.quantization, default) or EndpointQuantization.NONE


def endpoint_item(endpoint: Endpoint, quantization: Quantization | None) -> Json:
    """`quantization`: the server's default."""
    return {
        "object": "endpoint",
        "id": endpoint.id,
        "name": endpoint.name,
        "display_name": endpoint.display_name,
        "model": endpoint.deployment.base_model,
        "type": endpoint.kind,
        "owner": endpoint.account.slug,
        "state": endpoint.deployment.state,
        "message": endpoint.deployment.message,
        "quantization": quantization_of(endpoint.deployment, quantization),
        "created_at": iso(endpoint.created_at),
    }


def endpoint_view(endpoint: Endpoint, quantization: Quantization | None) -> Json:
    deployment = endpoint.deployment
    return {
        **endpoint_item(endpoint, quantization),
        "hardware": deployment.hardware,
        "autoscaling": {"min_replicas": deployment.min_replicas, "max_replicas": deployment.max_replicas},
        "inactive_timeout": deployment.inactive_timeout,
        "lora_enabled": deployment.lora_enabled,
        "max_lora_rank": deployment.max_lora_rank,
        "engine": deployment.engine,
        "auto_start": deployment.auto_start,
        "visibility": endpoint.visibility,
    }


def adapter_view(name: str, endpoint: str) -> Json:
    return {"model_id": combined_id(endpoint, name), "adapter_name": name, "endpoint_name": endpoint}


def where_kept(adapter: str, replicas: list[ReplicaFacts]) -> Json:
    """Replica id → `active`, `ram` or `disk`."""
    return {replica.id: replica.adapters[adapter] for replica in replicas if adapter in replica.adapters}


def why_not_served(adapter: str, replicas: list[ReplicaFacts]) -> str | None:
    return next((replica.refused[adapter] for replica in replicas if adapter in replica.refused), None)


def replica_view(replica: ReplicaFacts) -> Json:
    kept = Counter(replica.adapters.values())
    return {
        "object": "replica",
        "id": replica.id,
        "state": replica.state,
        "in_flight": replica.in_flight,
        "adapters": {tier: kept[tier] for tier in AdapterTier},
        "memory": _memory_view(replica),
        "message": replica.failure,
    }


def _memory_view(replica: ReplicaFacts) -> Json:
    """In bytes; `planned` is None where no plan could be made."""
    plan = replica.plan
    parts = (
        {"weights": plan.weights, "kv_cache": plan.cache, "adapters": plan.adapters, "program": plan.program}
        if plan
        else {}
    )
    return {"used": replica.resident, "planned": plan.total if plan else None, **parts}


def hardware_view(hardware: Hardware, started: str, *, available: bool | None) -> Json:
    view: Json = {
        "object": "hardware",
        "id": hardware.id,
        "pricing": {"cents_per_minute": 0},
        "specs": {
            "gpu_type": hardware.kind,
            "gpu_link": hardware.link,
            "gpu_memory": hardware.memory_gib,
            "gpu_count": hardware.count,
        },
        "updated_at": started,
    }
    if available is not None:
        view["availability"] = {"status": "available" if available else "unavailable"}
    return view


def event_view(event: Event) -> Json:
    return {
        "object": "event",
        "id": event.id,
        "created_at": iso(event.created_at),
        "actor": event.actor,
        "kind": event.kind,
        "subject_id": event.subject_id,
        "message": event.message,
    }


def job_view(job: Job) -> Json:
    return {
        "type": job.type,
        "job_id": job.id,
        "status": job.status,
        "status_updates": job.status_updates,
        "message": job.status_updates[-1]["message"] if job.status_updates else None,
        "args": job.args,
        "created_at": iso(job.created_at),
        "updated_at": iso(job.updated_at),
    }


def model_view(model: Model, attached_to: str | None = None) -> Json:
    """An uploaded model as `models list` shows it, with what we know beyond it."""
    revision = model.revisions[-1] if model.revisions else None
    return {
        **catalogue_item(model.name, int(model.created_at.timestamp()), model.account.slug),
        "kind": model.kind,
        "state": model.state,
        "base_model": model.base_model,
        "description": model.description,
        "rank": revision.rank if revision else None,
        "target_modules": revision.target_modules if revision else [],
        "size_bytes": revision.size_bytes if revision else None,
        "digest": revision.digest if revision else None,
        "attached_to": attached_to if model.kind is ModelKind.ADAPTER else None,
    }


def catalogue_item(name: str, created: int, organization: str) -> Json:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "type": "chat",
        "display_name": name,
        "organization": organization,
    }


def whoami_view(account_id: str, slug: str) -> Json:
    """One body that every client version accepts, flat and nested."""
    return {
        "type": "project_api_key",
        "api_key": {"id": f"key_of_{account_id}"},
        "organization": {"id": account_id, "name": slug},
        "project": {"id": account_id, "name": slug, "slug": slug},
        "api_key_id": f"key_of_{account_id}",
        "organization_id": account_id,
        "organization_name": slug,
        "project_id": account_id,
        "project_name": slug,
        "project_slug": slug,
        "user_id": account_id,
    }
