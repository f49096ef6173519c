"""What an endpoint's page shows, read at one moment."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from loradock.api.services import Services
from loradock.api.views import why_not_served
from loradock.control.capacity import Capacity, capacity
from loradock.control.views import ReplicaFacts
from loradock.dashboard.dockings import Docking, dockings
from loradock.endpoints.rules import find_endpoint
from loradock.store.tables import Attachment, Endpoint, Model, Revision, now
from loradock.telemetry.downsample import FLUSH_S
from loradock.telemetry.queries import AdapterUse, Rates, endpoint_rates, per_adapter
from loradock.telemetry.readings import Reading
from loradock.types.enums import AdapterTier, AttachmentState, EndpointState, ReplicaState

SHOWN = 100
"""Adapters listed on the page; the rest is counted."""
_RECENT = timedelta(minutes=15)
_USUAL_BYTES = 5_000_000
_MINUTE_S, _HOUR_S = 60, 3600
_WRITING_S = 2.0
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
class Traffic:
    """`uses`: of the last hour by adapter, "" for the base; `rates`: of the last minute."""

    uses: Mapping[str, AdapterUse]
    rates: Rates


@dataclass(frozen=True, slots=True)
class EndpointView:
    stored: Stored
    traffic: Traffic
    replicas: Sequence[ReplicaFacts]
    reading: Reading | None
    capacity: Capacity

    @property
    def endpoint(self) -> Endpoint:
        return self.stored.endpoint

    @property
    def ready(self) -> int:
        return sum(replica.state is ReplicaState.READY for replica in self.replicas)

    @property
    def desired(self) -> int:
        """Replicas wanted now."""
        return self.reading.desired if self.reading else 0

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

    def refused(self, adapter: str) -> str | None:
        """Why a replica does not take the adapter."""
        return why_not_served(adapter, list(self.replicas))

    def tiers(self, adapter: str) -> list[tuple[str, AdapterTier]]:
        """(replica id, where it keeps the adapter)."""
        return [(replica.id, replica.adapters[adapter]) for replica in self.replicas if adapter in replica.adapters]


class EndpointReader:
    """Reads one endpoint again and again; its traffic only as often as there is news of it."""

    def __init__(self, services: Services, account_id: str, endpoint_id: str) -> None:
        self._services, self._account_id, self._endpoint_id = services, account_id, endpoint_id
        self._traffic = Traffic({}, Rates(0.0, 0.0))
        self._traffic_until = 0

    async def read(self) -> EndpointView:
        """Raises EndpointMissing."""
        services = self._services
        stored = await asyncio.to_thread(self._read)
        replicas = await services.controller.replicas(stored.endpoint.deployment.id)
        readings = {reading.endpoint_id: reading for reading in services.controller.readings()}
        room = capacity(services.controller.options, services.blobs.root, stored.docked, stored.mean_size)
        return EndpointView(stored, self._traffic, replicas, readings.get(stored.endpoint.id), room)

    def _read(self) -> Stored:
        with self._services.database.session() as session:
            endpoint = find_endpoint(session, self._account_id, self._endpoint_id)
            self._read_traffic(session, endpoint.id)
            docked, mean_size = _sum_up(session, endpoint.deployment.id)
            return Stored(
                endpoint=endpoint,
                adapters=_adapters(session, endpoint.deployment.id),
                docked=docked,
                mean_size=mean_size or _USUAL_BYTES,
                docking=dockings(session, self._account_id, endpoint.name),
            )

    def _read_traffic(self, session: Session, endpoint_id: str) -> None:
        until = written_until(time.time())
        if until == self._traffic_until:
            return
        uses = per_adapter(session, self._account_id, endpoint_id, until - _HOUR_S)
        rates = endpoint_rates(session, self._account_id, until - _MINUTE_S, until)
        self._traffic = Traffic({use.model: use for use in uses}, rates.get(endpoint_id, Rates(0.0, 0.0)))
        self._traffic_until = until


def written_until(moment: float) -> int:
    """Up to when the history is complete: it is written every ten seconds."""
    return int(moment - _WRITING_S) // FLUSH_S * FLUSH_S


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
