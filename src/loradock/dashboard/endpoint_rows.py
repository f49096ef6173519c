"""What the list of endpoints shows of each."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from loradock.endpoints.rules import list_endpoints
from loradock.store.tables import Attachment, Endpoint
from loradock.types.enums import AttachmentState


@dataclass(frozen=True, slots=True)
class EndpointRow:
    endpoint: Endpoint
    adapters: int


def list_rows(session: Session, account_id: str) -> list[EndpointRow]:
    """Newest first."""
    endpoints = list_endpoints(session, account_id)
    attached = _attached(session, [endpoint.deployment.id for endpoint in endpoints])
    return [EndpointRow(endpoint, attached.get(endpoint.deployment.id, 0)) for endpoint in endpoints]


def _attached(session: Session, deployments: list[str]) -> dict[str, int]:
    query = select(Attachment.deployment_id, func.count()).where(
        Attachment.deployment_id.in_(deployments), Attachment.state == AttachmentState.ATTACHED
    )
    return dict(session.execute(query.group_by(Attachment.deployment_id)).tuples().all())
