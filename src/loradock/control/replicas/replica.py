"""A replica as the control loop knows it: what routing, attaching and sizing go by."""

import asyncio
import time
from pathlib import Path

from loradock.control.replicas.liveness import Health
from loradock.control.replicas.process import ReplicaProcess
from loradock.control.replicas.residency import Residency
from loradock.control.views import ReplicaFacts
from loradock.gateway.routing.upstream import Upstream
from loradock.replicas.client import ReplicaClient
from loradock.types.enums import AdapterTier, ReplicaState
from loradock.types.errors import LoradockError

_PROVEN_S = 60.0
_TIERS_S = 3.0


class Replica:
    """The state of one replica, kept true by its supervisor. `settings`: the digest of what it was started with."""

    def __init__(self, replica_id: str, settings: str | None, process: ReplicaProcess) -> None:
        self.id = replica_id
        self.settings = settings
        self.process = process
        self.state = ReplicaState.STARTING
        self.health = Health.STARTING
        self.unready_because: str | None = None
        """The reason it was told when its health changed last."""
        self.failure: str | None = None
        self.doing = ""
        """What it says that its start is at, where that takes long."""
        self.begun = time.monotonic()
        self.ready_since: float | None = None
        self.resident = 0
        """Bytes of memory that it took when it was last looked at."""
        self.client: ReplicaClient | None = None
        self.upstream: Upstream | None = None
        self.residency: Residency | None = None

    @property
    def proven(self) -> bool:
        """Ran long enough that what ended it does not count as a failure in a row."""
        return self.ready_since is not None and time.monotonic() - self.ready_since > _PROVEN_S

    @property
    def shown_state(self) -> ReplicaState:
        """READY only while it is known to get on."""
        ready = self.state is ReplicaState.READY
        return ReplicaState.UNREADY if ready and self.health is Health.UNREADY else self.state

    @property
    def in_flight(self) -> int:
        """Requests that it has now."""
        return self.upstream.in_flight if self.upstream else 0

    @property
    def refused(self) -> dict[str, str]:
        """Adapters its engine would not take, and why."""
        return self.residency.refused if self.residency else {}

    def holds(self, name: str, path: Path) -> bool:
        return self.residency is not None and self.residency.held.get(name) == path

    def serves(self, attached: dict[str, Path]) -> bool:
        """Whether it holds all of these that it can hold."""
        return all(self.holds(name, path) or name in self.refused for name, path in attached.items())

    async def facts(self) -> ReplicaFacts:
        """Return what it is and holds, as it says itself."""
        tiers = await self._tiers()
        return ReplicaFacts(
            self.id,
            self.shown_state,
            self.in_flight,
            self._trouble,
            tiers,
            self.refused,
            self.process.plan,
            self.resident,
        )

    @property
    def _trouble(self) -> str | None:
        """The reason why it failed, or is not ready."""
        return self.failure or (self.unready_because if self.shown_state is ReplicaState.UNREADY else None)

    async def _tiers(self) -> dict[str, AdapterTier]:
        """Return where it keeps each adapter now; nothing while it does not answer."""
        try:
            async with asyncio.timeout(_TIERS_S):
                return await self.client.tiers() if self.client else {}
        except (LoradockError, TimeoutError):
            return {}
