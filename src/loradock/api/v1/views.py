"""Answers of the v1 API, made of what operations return."""

from collections import Counter
from typing import cast

from loradock.api.v1.answers import (
    AttachedAdapter,
    EndpointAnswer,
    EndpointItem,
    EventItem,
    HardwareItem,
    JobItem,
    ModelAnswer,
    ModelItem,
    ReplicaItem,
    ReplicaMemory,
    StatusUpdate,
    Whoami,
)
from loradock.control.views import ReplicaFacts, why_not_served
from loradock.endpoints.hardware import Hardware
from loradock.operations.records import EndpointRecord, JobRecord, ModelRecord
from loradock.store.tables import Event, iso
from loradock.types.access import Actor
from loradock.types.enums import (
    AdapterTier,
    EndpointQuantization,
    EngineKind,
    ModelKind,
    Quantization,
    quantization_in_effect,
)
from loradock.types.names import combined_id


def quantization_of(endpoint: EndpointRecord, default: Quantization | None) -> str | None:
    """`none`, `int8` or `int4`; None where vLLM decides. `default`: the server's."""
    if endpoint.engine is EngineKind.VLLM:
        return None
    return quantization_in_effect(endpoint.quantization, default) or EndpointQuantization.NONE


def endpoint_item(endpoint: EndpointRecord, quantization: Quantization | None) -> EndpointItem:
    """`quantization`: the server's default."""
    return {
        "object": "endpoint",
        "id": endpoint.id,
        "name": endpoint.name,
        "display_name": endpoint.display_name,
        "model": endpoint.base_model,
        "type": endpoint.kind,
        "owner": endpoint.owner,
        "state": endpoint.state,
        "message": endpoint.message,
        "quantization": quantization_of(endpoint, quantization),
        "created_at": iso(endpoint.created_at),
    }


def endpoint_view(endpoint: EndpointRecord, quantization: Quantization | None) -> EndpointAnswer:
    view = cast("EndpointAnswer", endpoint_item(endpoint, quantization))
    view["hardware"] = endpoint.hardware
    view["autoscaling"] = {"min_replicas": endpoint.min_replicas, "max_replicas": endpoint.max_replicas}
    view["inactive_timeout"] = endpoint.inactive_timeout
    view["lora_enabled"] = endpoint.lora_enabled
    view["max_lora_rank"] = endpoint.max_lora_rank
    view["engine"] = endpoint.engine
    view["auto_start"] = endpoint.auto_start
    view["visibility"] = endpoint.visibility
    return view


def adapter_view(name: str, endpoint: str, replicas: list[ReplicaFacts]) -> AttachedAdapter:
    return {
        "model_id": combined_id(endpoint, name),
        "adapter_name": name,
        "endpoint_name": endpoint,
        "replicas": where_kept(name, replicas),
        "message": why_not_served(name, replicas),
    }


def where_kept(adapter: str, replicas: list[ReplicaFacts]) -> dict[str, AdapterTier]:
    """Return where the adapter is kept, by the replica's id."""
    return {replica.id: replica.adapters[adapter] for replica in replicas if adapter in replica.adapters}


def replica_view(replica: ReplicaFacts) -> ReplicaItem:
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


def _memory_view(replica: ReplicaFacts) -> ReplicaMemory:
    plan = replica.plan
    if plan is None:
        return {"used": replica.resident, "planned": None}
    return {
        "used": replica.resident,
        "planned": plan.total,
        "weights": plan.weights,
        "kv_cache": plan.cache,
        "adapters": plan.adapters,
        "program": plan.program,
    }


def hardware_view(hardware: Hardware, started: str, *, available: bool | None) -> HardwareItem:
    """`available` None: not known, as it depends on the model."""
    view: HardwareItem = {
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


def event_view(event: Event) -> EventItem:
    return {
        "object": "event",
        "id": event.id,
        "created_at": iso(event.created_at),
        "actor": event.actor,
        "kind": event.kind,
        "subject_id": event.subject_id,
        "message": event.message,
    }


def job_view(job: JobRecord) -> JobItem:
    return {
        "type": job.type,
        "job_id": job.id,
        "status": job.status,
        "status_updates": [cast("StatusUpdate", update) for update in job.status_updates],
        "message": job.status_updates[-1]["message"] if job.status_updates else None,
        "args": job.args,
        "created_at": iso(job.created_at),
        "updated_at": iso(job.updated_at),
    }


def model_view(model: ModelRecord) -> ModelItem:
    """An uploaded model as `models list` shows it, with what we know beyond it."""
    view = catalogue_item(model.name, int(model.created_at.timestamp()), model.owner)
    view["kind"] = model.kind
    view["state"] = model.state
    view["base_model"] = model.base_model
    view["description"] = model.description
    view["rank"] = model.rank
    view["target_modules"] = list(model.target_modules)
    view["size_bytes"] = model.size_bytes
    view["digest"] = model.digest
    view["attached_to"] = model.attached_to if model.kind is ModelKind.ADAPTER else None
    return view


def model_answer(item: ModelItem, *, owned_by: str | None = None, message: str | None = None) -> ModelAnswer:
    """The same, alone."""
    answer = cast("ModelAnswer", item)
    if owned_by is not None:
        answer["owned_by"] = owned_by
    if message is not None:
        answer["message"] = message
    return answer


def catalogue_item(name: str, created: int, organization: str) -> ModelItem:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "type": "chat",
        "display_name": name,
        "organization": organization,
    }


def whoami_view(actor: Actor) -> Whoami:
    account, slug = actor.account_id, actor.account
    return {
        "type": "project_api_key",
        "api_key": {"id": f"key_of_{account}"},
        "organization": {"id": account, "name": slug},
        "project": {"id": account, "name": slug, "slug": slug},
        "api_key_id": f"key_of_{account}",
        "organization_id": account,
        "organization_name": slug,
        "project_id": account,
        "project_name": slug,
        "project_slug": slug,
        "user_id": account,
    }
