"""Events of what a deployment's fleet has come to, each told once."""

from sqlalchemy.orm import Session

from loradock.control.fleet.pool import ReplicaPool
from loradock.control.ledger import Ledger
from loradock.control.reconcile.routing import refusal
from loradock.control.snapshot import Snapshot
from loradock.store.events import record


class EventRecorder:
    """Compares what is with what it told last, at every turn of the deployment's loop."""

    def __init__(self, ledger: Ledger, pool: ReplicaPool) -> None:
        self._ledger = ledger
        self._pool = pool
        self._ready: set[str] = set()
        self._refused: dict[str, str] = {}
        self._size = 0

    async def record(self, snapshot: Snapshot, notes: list[tuple[str, str]], size: int) -> None:
        """`notes`: what the fleet has to tell, kind and message. `size`: how many replicas are wanted, 0 while it does
        not run."""
        events = [
            *((snapshot.endpoint.id, kind, message) for kind, message in notes),
            *self._of_size(snapshot, size),
            *self._of_ready(snapshot),
            *self._of_refused(snapshot),
        ]

        def write(session: Session) -> None:
            for subject, kind, message in events:
                record(session, snapshot.endpoint.account_id, subject, kind, message)

        if events:
            await self._ledger.write(write)

    def _of_size(self, snapshot: Snapshot, size: int) -> list[tuple[str, str, str]]:
        before, self._size = self._size, size
        if not before or not size or before == size:
            return []
        busy = sum(replica.in_flight for replica in self._pool.ready)
        message = f"{before} → {size} replicas: {busy} requests in flight"
        return [(snapshot.endpoint.id, "endpoint.scaled", message)]

    def _of_ready(self, snapshot: Snapshot) -> list[tuple[str, str, str]]:
        before, self._ready = self._ready, {replica.id for replica in self._pool.ready}
        held = {replica.id: len(replica.residency.held) for replica in self._pool.ready if replica.residency}
        return [
            (snapshot.endpoint.id, "replica.ready", f"{replica}: ready, with {held.get(replica, 0)} adapters")
            for replica in sorted(self._ready - before)
        ]

    def _of_refused(self, snapshot: Snapshot) -> list[tuple[str, str, str]]:
        """Return the events of adapters that a replica does not take."""
        before, self._refused = self._refused, {}
        events = []
        for bound in snapshot.attachments:
            if reason := refusal(bound.engine_name, self._pool.ready):
                self._refused[bound.engine_name] = reason
                if before.get(bound.engine_name) != reason:
                    events.append((bound.model_id, "adapter.refused", f"{bound.engine_name}: {reason}"))
        return events
