"""The content of an endpoint's page, read at one moment."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from loradock.control.capacity import Capacity, capacity
from loradock.control.views import ReplicaFacts, why_not_served
from loradock.dashboard.components.endpoint_adapters import SIZE, asked_adapters
from loradock.dashboard.components.lists import Asked, Shown
from loradock.endpoints.rules import find_endpoint
from loradock.operations.services import Services
from loradock.queries.attaches import OneAttach, newest_attaches
from loradock.queries.attachments import sum_up
from loradock.queries.endpoint_adapters import AdapterRow, search_endpoint_adapters
from loradock.store.tables import Endpoint, now
from loradock.telemetry.downsample import FLUSH_S
from loradock.telemetry.queries import AdapterUse, Rates, endpoint_rates, per_adapter
from loradock.telemetry.readings import Reading
from loradock.types.enums import AdapterTier, EndpointState, ReplicaState

_RECENT = timedelta(minutes=15)
_USUAL_BYTES = 5_000_000
_MINUTE_S, _HOUR_S = 60, 3600
_WRITING_S = 2.0
_ON_THE_WAY = {EndpointState.PENDING, EndpointState.STARTING, EndpointState.STOPPING}


@dataclass(frozen=True, slots=True)
class Stored:
    """The database's part. `changing`: whether adapters are on their way or leaving."""

    endpoint: Endpoint
    attached: int
    changing: bool
    mean_size: int
    attaches: Sequence[OneAttach]


@dataclass(frozen=True, slots=True)
class Traffic:
    """`uses`: of the last hour by adapter, "" for the base; `rates`: of the last minute."""

    uses: Mapping[str, AdapterUse]
    rates: Rates


@dataclass(frozen=True, slots=True)
class EndpointView:
    stored: Stored
    adapters: Shown[AdapterRow]
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
    def attaches(self) -> list[OneAttach]:
        """The attaches under way, and the newest attach of the last minutes."""
        earliest = now() - _RECENT
        lately = [attach for attach in self.stored.attaches if attach.began.created_at > earliest]
        return lately[:1] + [attach for attach in lately[1:] if attach.running]

    @property
    def busy(self) -> bool:
        """Whether something is happening that people watch."""
        return self.stored.changing or self.endpoint.deployment.state in _ON_THE_WAY

    @property
    def all_refused(self) -> list[str]:
        """Adapters that a replica does not take."""
        return refused_by(self.replicas)

    def refused(self, adapter: str) -> str | None:
        """Return why a replica does not take the adapter."""
        return why_not_served(adapter, list(self.replicas))

    def tiers(self, adapter: str) -> list[tuple[str, AdapterTier]]:
        """(replica id, where it keeps the adapter)."""
        return [(replica.id, replica.adapters[adapter]) for replica in self.replicas if adapter in replica.adapters]


class EndpointReader:
    """Reads one endpoint again and again; its traffic only as often as there is news of it."""

    def __init__(self, services: Services, account_id: str, endpoint_id: str, asked: Asked) -> None:
        self._services = services
        self._account_id = account_id
        self._asked = asked
        self._endpoint_id = endpoint_id
        self._traffic = Traffic({}, Rates(0.0, 0.0))
        self._traffic_until = 0

    async def read(self) -> EndpointView:
        """Raises EndpointMissing."""
        services = self._services
        stored = await run_in_threadpool(self._read)
        deployment = stored.endpoint.deployment.id
        replicas = await services.controller.replicas(deployment)
        adapters = await run_in_threadpool(self._list, deployment, refused_by(replicas), stored.attached)
        readings = {reading.endpoint_id: reading for reading in services.controller.readings()}
        room = capacity(services.controller.options, services.blobs.root, stored.attached, stored.mean_size)
        return EndpointView(stored, adapters, self._traffic, replicas, readings.get(stored.endpoint.id), room)

    def _read(self) -> Stored:
        with self._services.database.session() as session:
            endpoint = find_endpoint(session, self._account_id, self._endpoint_id)
            self._read_traffic(session, endpoint.id)
            sums = sum_up(session, endpoint.deployment.id)
            return Stored(
                endpoint=endpoint,
                attached=sums.count,
                changing=sums.count != sums.attached,
                mean_size=sums.mean_size or _USUAL_BYTES,
                attaches=newest_attaches(session, self._account_id, endpoint.id),
            )

    def _list(self, deployment_id: str, refused: list[str], all: int) -> Shown[AdapterRow]:
        which = asked_adapters(deployment_id, self._asked, self._traffic.uses, refused)
        with self._services.database.session() as session:
            rows, total = search_endpoint_adapters(session, which, self._asked.list_query(SIZE))
        return Shown(self._asked, rows, total, SIZE, all)

    def _read_traffic(self, session: Session, endpoint_id: str) -> None:
        until = written_until(time.time())
        if until == self._traffic_until:
            return
        uses = uses_of(session, self._account_id, endpoint_id)
        rates = endpoint_rates(session, self._account_id, until - _MINUTE_S, until)
        self._traffic = Traffic(uses, rates.get(endpoint_id, Rates(0.0, 0.0)))
        self._traffic_until = until


def written_until(moment: float) -> int:
    """Return up to when the history is complete: it is written every ten seconds."""
    return int(moment - _WRITING_S) // FLUSH_S * FLUSH_S


def refused_by(replicas: Sequence[ReplicaFacts]) -> list[str]:
    return sorted({name for replica in replicas for name in replica.refused})


def uses_of(session: Session, account_id: str, endpoint_id: str) -> dict[str, AdapterUse]:
    """Return the uses of the last hour, by adapter, "" for the base."""
    since = written_until(time.time()) - _HOUR_S
    return {use.model: use for use in per_adapter(session, account_id, endpoint_id, since)}
