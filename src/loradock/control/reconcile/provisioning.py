"""Provides as many replicas as are wanted, as far as base model, memory and losses allow."""

from collections.abc import Callable
from contextlib import suppress

from sqlalchemy.exc import IntegrityError

from loradock.control.context import ControlContext
from loradock.control.fleet.fleet import Fleet
from loradock.control.fleet.pool import ReplicaPool
from loradock.control.fleet.restarts import Restarts
from loradock.control.fleet.rolling_update import end_surplus
from loradock.control.fleet.spec import settings_digest
from loradock.control.ledger import Ledger
from loradock.control.reconcile.bases import BaseResolution, ResolveBase
from loradock.control.snapshot import Snapshot
from loradock.store.events import record
from loradock.types.enums import EndpointState, ReplicaState
from loradock.types.errors import ModelTooLarge


class Provisioner:
    """`loss`: why the last lost replica ended, until its loss is made good. `insufficient_memory`: what the machine
    lacks for those that are missing. Calls `changed` when a base model is on its way or there."""

    def __init__(
        self,
        context: ControlContext,
        pool: ReplicaPool,
        fleet: Fleet,
        ledger: Ledger,
        resolve: ResolveBase,
        changed: Callable[[], None],
    ) -> None:
        self.loss: str | None = None
        self.insufficient_memory: str | None = None
        self._context = context
        self._pool = pool
        self._fleet = fleet
        self._ledger = ledger
        self._resolve = resolve
        self._changed = changed
        self._restarts = Restarts(context.options.restarts)
        self._base: BaseResolution | None = None

    @property
    def progress(self) -> str | None:
        """The progress of finding the base model, while that goes on."""
        return self._base.progress if self._base else None

    def pause(self) -> None:
        """No replica is wanted now."""
        self._base = None

    def start_afresh(self) -> None:
        """Forget the base model, losses and restarts so far."""
        self._base = None
        self.loss = None
        self._pool.has_served = False
        self._restarts.reset()

    def reap_lost(self, snapshot: Snapshot) -> str | None:
        """Take leave of replicas that were lost. Returns why to give up, if it is time to: at once where none has ever
        been ready, else after several in a row."""
        served = snapshot.state is EndpointState.STARTED or any(k.ready_since for k in self._pool.replicas.values())
        self._pool.has_served = self._pool.has_served or served
        lost = self._pool.of_state(ReplicaState.FAILED)
        for replica in lost:
            self._restarts.note(begun=replica.begun, proven=replica.proven)
            self.loss = replica.failure
            self._fleet.end(replica, note=("replica.lost", replica.failure or "it ended"))
        hopeless = self._restarts.exhausted or not self._pool.has_served
        return self.loss if lost and hopeless and not self._pool.ready else None

    async def match_count(self, snapshot: Snapshot, wanted: int) -> str | None:
        """Launch what is missing, end what is too much. Returns why it cannot be done, if so."""
        settings = settings_digest(snapshot, self._context.options)
        missing = end_surplus(self._pool, self._fleet, wanted, settings, snapshot.attached())
        if missing <= 0:
            self.insufficient_memory = None
        if missing <= 0 or not self._restarts.allowed:
            return None
        if self._base is None:
            base_model, account = snapshot.base_model, snapshot.endpoint.account
            self._base = BaseResolution(self._resolve, base_model, account, self._changed)
        elif self._base.path is not None:
            model, self._base, insufficient = self._base.path, None, None
            try:
                with suppress(IntegrityError):  # the deployment was deleted meanwhile
                    for _ in range(missing):
                        insufficient = insufficient or await self._fleet.launch(snapshot, model)
            except ModelTooLarge as error:
                if not self._pool.serving:
                    return error.message
                insufficient = error.message
            await self._record_insufficient_memory(snapshot, insufficient)
        return self._base.failure if self._base else None

    def shortage(self, snapshot: Snapshot, wanted: int) -> str | None:
        """Return why fewer are ready than wanted, or than were asked for. Once as many are, no loss is told any
        more."""
        settings = settings_digest(snapshot, self._context.options)
        fresh = sum(replica.settings == settings for replica in self._pool.ready)
        if fresh >= wanted:
            self.loss = None
        ended = self.loss and f"the last one that did not ended: {self.loss}"
        reason = self.insufficient_memory or ended
        return reason and f"{fresh} of {wanted} replicas run as set; {reason}"

    async def _record_insufficient_memory(self, snapshot: Snapshot, reason: str | None) -> None:
        if reason and not self.insufficient_memory:
            facts = snapshot.endpoint
            await self._ledger.write(
                lambda session: record(session, facts.account_id, facts.id, "endpoint.insufficient_memory", reason)
            )
        self.insufficient_memory = reason
