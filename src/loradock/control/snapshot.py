"""A snapshot of what the database says about a deployment at one moment, detached from any session."""

from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from loradock.gateway.routing.routes import EndpointFacts
from loradock.store.tables import Attachment, Deployment, Endpoint, Revision
from loradock.types.enums import (
    AttachmentState,
    DesiredState,
    EndpointQuantization,
    EndpointState,
    EngineKind,
    Visibility,
)


@dataclass(frozen=True, slots=True)
class AttachmentRecord:
    """An attachment: `path` is the adapter's folder, `engine_name` what replicas call it."""

    id: str
    model_id: str
    engine_name: str
    path: Path
    state: AttachmentState


@dataclass(frozen=True, slots=True)
class Snapshot:
    id: str
    endpoint: EndpointFacts
    base_model: str
    desired: DesiredState
    message: str | None
    min_replicas: int
    max_replicas: int
    inactive_timeout: int | None
    """Minutes."""
    hardware: str
    engine: EngineKind
    lora_enabled: bool
    max_lora_rank: int
    quantization: EndpointQuantization | None
    attachments: tuple[AttachmentRecord, ...]

    @property
    def state(self) -> EndpointState:
        return self.endpoint.state

    def attached(self, model_id: str | None = None) -> dict[str, Path]:
        """Return what every ready replica ought to hold, of all adapters or one: engine name → folder."""
        return {
            bound.engine_name: bound.path
            for bound in self.attachments
            if bound.state is AttachmentState.ATTACHED and model_id in (None, bound.model_id)
        }

    def amended(self, row: AttachmentRecord) -> "Snapshot":
        """The same with one adapter's attachment as it is now."""
        others = (bound for bound in self.attachments if bound.model_id != row.model_id)
        return replace(self, attachments=(*others, row))


def read_snapshot(session: Session, deployment_id: str, blobs: Path) -> Snapshot | None:
    """None when the deployment was deleted."""
    deployment = session.get(Deployment, deployment_id)
    if deployment is None:
        return None
    return Snapshot(
        id=deployment.id,
        endpoint=_facts(deployment.endpoint, deployment),
        base_model=deployment.base_model,
        desired=deployment.desired,
        message=deployment.message,
        min_replicas=max(1, deployment.min_replicas),
        max_replicas=max(1, deployment.max_replicas),
        inactive_timeout=deployment.inactive_timeout,
        hardware=deployment.hardware,
        engine=deployment.engine,
        lora_enabled=deployment.lora_enabled,
        max_lora_rank=deployment.max_lora_rank,
        quantization=deployment.quantization,
        attachments=read_attachments(session, deployment_id, blobs),
    )


def read_attachments(
    session: Session, deployment_id: str, blobs: Path, engine_name: str | None = None
) -> tuple[AttachmentRecord, ...]:
    """All of a deployment's, or those of one name; columns only, since there may be thousands."""
    columns = Attachment.id, Attachment.model_id, Attachment.engine_name, Revision.digest, Attachment.state
    query = select(*columns).join(Revision, Revision.id == Attachment.revision_id)
    query = query.where(Attachment.deployment_id == deployment_id)
    if engine_name is not None:
        query = query.where(Attachment.engine_name == engine_name)
    return tuple(
        AttachmentRecord(id_, model_id, name, blobs / digest, state)
        for id_, model_id, name, digest, state in session.execute(query)
    )


def deployment_ids(session: Session) -> list[str]:
    return list(session.scalars(select(Deployment.id)))


def _facts(endpoint: Endpoint, deployment: Deployment) -> EndpointFacts:
    return EndpointFacts(
        id=endpoint.id,
        name=endpoint.name,
        account_id=endpoint.account_id,
        account=endpoint.account.slug,
        public=endpoint.visibility is Visibility.PUBLIC,
        state=deployment.state,
        auto_start=deployment.auto_start,
    )
