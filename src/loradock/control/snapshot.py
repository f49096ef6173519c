"""What the database says about a deployment at one moment, detached from any session."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from loradock.gateway.routes import EndpointFacts
from loradock.store.tables import Attachment, Deployment, Endpoint, Replica
from loradock.types.enums import AttachmentState, DesiredState, EndpointState, Visibility


@dataclass(frozen=True, slots=True)
class Bound:
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
    replicas_wanted: int
    lora_enabled: bool
    max_lora_rank: int
    attachments: tuple[Bound, ...]
    replicas: dict[str, str]
    """Replica id → its secret."""

    @property
    def state(self) -> EndpointState:
        return self.endpoint.state

    def attached(self) -> dict[str, Path]:
        """What every ready replica ought to hold: engine name → folder."""
        return {bound.engine_name: bound.path for bound in self.attachments if bound.state is AttachmentState.ATTACHED}


def read_snapshot(session: Session, deployment_id: str, blobs: Path) -> Snapshot | None:
    """None when the deployment was deleted."""
    deployment = session.get(Deployment, deployment_id)
    if deployment is None:
        return None
    return Snapshot(
        id=deployment.id,
        endpoint=_facts(deployment.endpoint, deployment.state),
        base_model=deployment.base_model,
        desired=deployment.desired,
        message=deployment.message,
        replicas_wanted=max(1, deployment.min_replicas),
        lora_enabled=deployment.lora_enabled,
        max_lora_rank=deployment.max_lora_rank,
        attachments=tuple(_bound(row, blobs) for row in deployment.attachments),
        replicas={row.id: row.secret for row in deployment.replicas},
    )


def deployment_ids(session: Session) -> list[str]:
    return list(session.scalars(select(Deployment.id)))


def replica_ids(session: Session) -> set[str]:
    return set(session.scalars(select(Replica.id)))


def _facts(endpoint: Endpoint, state: EndpointState) -> EndpointFacts:
    return EndpointFacts(
        id=endpoint.id,
        name=endpoint.name,
        account_id=endpoint.account_id,
        account=endpoint.account.slug,
        public=endpoint.visibility is Visibility.PUBLIC,
        state=state,
    )


def _bound(row: Attachment, blobs: Path) -> Bound:
    return Bound(row.id, row.model_id, row.engine_name, blobs / row.revision.digest, row.state)
