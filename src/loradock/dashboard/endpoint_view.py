"""What an endpoint's page shows, read at one moment."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from loradock.api.services import Services
from loradock.control.capacity import Capacity, capacity
from loradock.control.views import ReplicaFacts
from loradock.dashboard.dockings import Docking, dockings
from loradock.endpoints.rules import find_endpoint
from loradock.store.tables import Attachment, Endpoint, Model, Revision, now
from loradock.types.enums import AdapterTier, AttachmentState, EndpointState, ReplicaState

SHOWN = 100
"""Adapters listed on the page; the rest is counted."""
_RECENT = timedelta(minutes=15)
_USUAL_BYTES = 5_000_000
_ON_THE_WAY = {EndpointState.PENDING, EndpointState.STARTING, EndpointState.STOPPING}


@dataclass(frozen=True, slots=True)
class Docked:
    name: str
    state: AttachmentState
    rank: int | None
    size: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The database's part. `adapters` are the oldest `SHOWN` of `docked`."""

    endpoint: Endpoint
    adapters: Sequence[Docked]
    docked: int
    mean_size: int
    docking: Sequence[Docking]


@dataclass(frozen=True, slots=True)
class EndpointView:
    stored: Stored
    replicas: Sequence[ReplicaFacts]
    capacity: Capacity

    @property
    def endpoint(self) -> Endpoint:
        return self.stored.endpoint

    @property
    def ready(self) -> int:
        return sum(replica.state is ReplicaState.READY for replica in self.replicas)

    @property
    def in_flight(self) -> int:
        return sum(replica.in_flight for replica in self.replicas)

    @property
    def docking(self) -> list[Docking]:
        """What is being attached, and the newest attach of the last minutes."""
        earliest = now() - _RECENT
        lately = [docking for docking in self.stored.docking if docking.began.created_at > earliest]
        return lately[:1] + [docking for docking in lately[1:] if docking.running]

    @property
    def busy(self) -> bool:
        """Whether something is happening that people watch."""
        changing = any(adapter.state is not AttachmentState.ATTACHED for adapter in self.stored.adapters)
        return changing or self.endpoint.deployment.state in _ON_THE_WAY

    def tiers(self, adapter: str) -> list[tuple[str, AdapterTier]]:
        """(replica id, where it keeps the adapter)."""
        return [(replica.id, replica.adapters[adapter]) for replica in self.replicas if adapter in replica.adapters]


async def read_view(services: Services, account_id: str, endpoint_id: str) -> EndpointView:
    """Raises EndpointMissing."""
    stored = await asyncio.to_thread(_read, services, account_id, endpoint_id)
    replicas = await services.controller.replicas(stored.endpoint.deployment.id)
    room = capacity(services.controller.options, services.blobs.root, stored.docked, stored.mean_size)
    return EndpointView(stored, replicas, room)


def _read(services: Services, account_id: str, endpoint_id: str) -> Stored:
    with services.database.session() as session:
        endpoint = find_endpoint(session, account_id, endpoint_id)
        docked, mean_size = _sum_up(session, endpoint.deployment.id)
        return Stored(
            endpoint=endpoint,
            adapters=_adapters(session, endpoint.deployment.id),
            docked=docked,
            mean_size=mean_size or _USUAL_BYTES,
            docking=dockings(session, account_id, endpoint.name),
        )


def _adapters(session: Session, deployment_id: str) -> list[Docked]:
    columns = Model.name, Attachment.state, Revision.rank, Revision.size_bytes
    query = select(*columns).select_from(Attachment).join(Model).join(Revision, Revision.id == Attachment.revision_id)
    query = query.where(Attachment.deployment_id == deployment_id).order_by(Attachment.created_at).limit(SHOWN)
    return [Docked(*row) for row in session.execute(query).tuples()]


def _sum_up(session: Session, deployment_id: str) -> tuple[int, int]:
    """How many adapters are attached, on their way or leaving, and their mean size in bytes."""
    query = select(func.count(), func.avg(Revision.size_bytes)).select_from(Attachment).join(Revision)
    count, mean = session.execute(query.where(Attachment.deployment_id == deployment_id)).one()
    return count, int(mean or 0)
