"""Records that operations answer with: facts of a row, readable after its session has ended."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loradock.store.tables import Endpoint, Job, Model
from loradock.types.enums import (
    EndpointKind,
    EndpointQuantization,
    EndpointState,
    EngineKind,
    JobStatus,
    ModelKind,
    ModelState,
    Visibility,
)


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    id: str
    name: str
    display_name: str
    kind: EndpointKind
    owner: str
    """The slug of its account."""
    visibility: Visibility
    created_at: datetime
    deployment_id: str
    base_model: str
    hardware: str
    state: EndpointState
    message: str | None
    """The reason for its state, where that has to be said."""
    min_replicas: int
    max_replicas: int
    inactive_timeout: int | None
    """Minutes; None: never."""
    lora_enabled: bool
    max_lora_rank: int
    engine: EngineKind
    quantization: EndpointQuantization | None
    """None: as the server's setting says."""
    auto_start: bool

    @classmethod
    def of(cls, endpoint: Endpoint) -> "EndpointRecord":
        deployment = endpoint.deployment
        return cls(
            id=endpoint.id,
            name=endpoint.name,
            display_name=endpoint.display_name,
            kind=endpoint.kind,
            owner=endpoint.account.slug,
            visibility=endpoint.visibility,
            created_at=endpoint.created_at,
            deployment_id=deployment.id,
            base_model=deployment.base_model,
            hardware=deployment.hardware,
            state=deployment.state,
            message=deployment.message,
            min_replicas=deployment.min_replicas,
            max_replicas=deployment.max_replicas,
            inactive_timeout=deployment.inactive_timeout,
            lora_enabled=deployment.lora_enabled,
            max_lora_rank=deployment.max_lora_rank,
            engine=deployment.engine,
            quantization=deployment.quantization,
            auto_start=deployment.auto_start,
        )


@dataclass(frozen=True, slots=True)
class ModelRecord:
    id: str
    name: str
    owner: str
    """The slug of its account."""
    kind: ModelKind
    state: ModelState
    base_model: str | None
    description: str | None
    created_at: datetime
    rank: int | None
    target_modules: tuple[str, ...]
    size_bytes: int | None
    digest: str | None
    attached_to: str | None
    """The name of an endpoint."""

    @classmethod
    def of(cls, model: Model, attached_to: str | None) -> "ModelRecord":
        revision = model.revisions[-1] if model.revisions else None
        return cls(
            id=model.id,
            name=model.name,
            owner=model.account.slug,
            kind=model.kind,
            state=model.state,
            base_model=model.base_model,
            description=model.description,
            created_at=model.created_at,
            rank=revision.rank if revision else None,
            target_modules=tuple(revision.target_modules) if revision else (),
            size_bytes=revision.size_bytes if revision else None,
            digest=revision.digest if revision else None,
            attached_to=attached_to,
        )


@dataclass(frozen=True, slots=True)
class JobRecord:
    """An upload. `model_id` and `model_name` are of the model that it brings in."""

    id: str
    type: str
    status: JobStatus
    status_updates: tuple[dict[str, Any], ...]
    args: dict[str, Any]
    model_id: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, job: Job) -> "JobRecord":
        return cls(
            id=job.id,
            type=job.type,
            status=job.status,
            status_updates=tuple(job.status_updates),
            args=dict(job.args),
            model_id=job.model_id,
            created_at=job.created_at,
            updated_at=job.updated_at,
        )

    @property
    def model_name(self) -> str:
        return str(self.args.get("modelName", ""))
