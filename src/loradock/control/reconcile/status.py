"""The state and message of a deployment that its owner is shown."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from sqlalchemy import CursorResult, update
from sqlalchemy.orm import Session

from loradock.control.fleet.pool import ReplicaPool
from loradock.control.ledger import Ledger
from loradock.control.reconcile.provisioning import Provisioner
from loradock.control.snapshot import Snapshot
from loradock.control.work import Transactions
from loradock.store.events import record
from loradock.store.failures import DATABASE_FAILURES
from loradock.store.tables import Deployment
from loradock.types.enums import EndpointState, ReplicaState


def observed(
    snapshot: Snapshot, pool: ReplicaPool, provisioner: Provisioner, wanted: int
) -> tuple[EndpointState, str | None]:
    """Return the state of a deployment that is to run, with `wanted` replicas, and why."""
    if pool.ready:
        return EndpointState.STARTED, provisioner.shortage(snapshot, wanted) or _unready(pool)
    if provisioner.insufficient_memory and not pool.serving:
        return EndpointState.PENDING, provisioner.insufficient_memory
    if provisioner.progress is not None and not pool.serving:
        return EndpointState.PENDING, provisioner.progress
    if provisioner.loss:
        return EndpointState.STARTING, f"restarting; the last replica ended: {provisioner.loss}"
    return EndpointState.STARTING, next((replica.doing for replica in pool.starting if replica.doing), None)


def _unready(pool: ReplicaPool) -> str | None:
    silent = [replica for replica in pool.ready if replica.shown_state is ReplicaState.UNREADY]
    if not silent:
        return None
    all_of_them = f"{len(silent)} of {len(pool.ready)} replicas get no new requests"
    return f"{all_of_them}; {silent[0].id}: {silent[0].unready_because}"


class StatusWriter:
    """Writes it to the deployment's row. Calls `publish` after a change, and `wake` when the row is to be looked at
    again."""

    def __init__(
        self,
        transact: Transactions,
        ledger: Ledger,
        publish: Callable[[], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        self._transact = transact
        self._ledger = ledger
        self._publish = publish
        self._wake = wake

    async def become(self, snapshot: Snapshot, state: EndpointState, message: str | None = None) -> bool:
        """Write the state only if nobody has changed the deployment since it was read; else, and where it cannot be
        written, the next turn looks again. Returns whether it is known to be so."""
        if (snapshot.state, snapshot.message) == (state, message):
            return True
        if self._ledger.stuck:
            return False
        try:
            changed = await self._transact(lambda session: _write(session, snapshot, state, message))
        except DATABASE_FAILURES as error:
            self._ledger.failed(error)
            return False
        if changed:
            await self._publish()
        else:
            self._wake()
        return changed


def _write(session: Session, snapshot: Snapshot, state: EndpointState, message: str | None) -> bool:
    """Whether the row was still as the snapshot says."""
    read = (Deployment.id == snapshot.id, Deployment.desired == snapshot.desired, Deployment.state == snapshot.state)
    change = update(Deployment).where(*read).values(state=state, message=message)
    changed = cast("CursorResult[Any]", session.execute(change)).rowcount == 1
    if changed and state is not snapshot.state:
        facts = snapshot.endpoint
        record(session, facts.account_id, facts.id, f"endpoint.{state.lower()}", message or state)
    return changed
