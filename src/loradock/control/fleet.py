"""The replicas of one deployment: their rows, run folders and keepers."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import delete
from sqlalchemy.orm import Session

from loradock.control.keeper import ReplicaKeeper, Surroundings
from loradock.control.residency import Wanted
from loradock.control.snapshot import Snapshot
from loradock.replicas.launcher import ReplicaSpec
from loradock.store.tables import Replica
from loradock.types.enums import ReplicaState
from loradock.types.names import new_id


class Fleet:
    """`unroute` takes replicas that are no longer ready out of the route table."""

    def __init__(
        self,
        around: Surroundings,
        wanted: Callable[[], Awaitable[Wanted]],
        unroute: Callable[[], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self.keepers: dict[str, ReplicaKeeper] = {}
        self._around, self._wanted, self._unroute, self._changed = around, wanted, unroute, changed

    def of_state(self, *states: ReplicaState) -> list[ReplicaKeeper]:
        return [keeper for keeper in self.keepers.values() if keeper.state in states]

    @property
    def ready(self) -> list[ReplicaKeeper]:
        return self.of_state(ReplicaState.READY)

    @property
    def serving(self) -> list[ReplicaKeeper]:
        """Those that are, or will be, of use."""
        return self.of_state(ReplicaState.STARTING, ReplicaState.READY)

    def adopt(self, replica_id: str, secret: str) -> ReplicaKeeper:
        return self._keep(replica_id, secret, None)

    async def launch(self, snapshot: Snapshot, model: Path) -> None:
        """The row first: whatever happens next, the process can be found again. Raises IntegrityError when the
        deployment is gone."""
        spec = self._spec(snapshot, model)
        row = Replica(id=spec.id, deployment_id=snapshot.id, secret=spec.secret, state=ReplicaState.STARTING)
        await self._around.transact(lambda session: session.add(row))
        self._keep(spec.id, spec.secret, spec)

    def end(self, keeper: ReplicaKeeper) -> None:
        drain = self._around.options.drain if keeper.state is ReplicaState.READY else 0.0
        keeper.end(self._unroute, lambda: self._forget(keeper), drain)

    def end_all(self) -> None:
        for keeper in list(self.keepers.values()):
            self.end(keeper)

    def end_surplus(self, count: int) -> None:
        """Those that are not ready first, then the newest."""
        by_use = sorted(self.serving, key=lambda keeper: keeper.ready_since or float("inf"), reverse=True)
        for keeper in by_use[: max(0, count)]:
            self.end(keeper)

    def wake(self) -> None:
        for keeper in self.keepers.values():
            keeper.wake()

    async def shut_down(self, *, keep_replicas: bool) -> None:
        keepers = list(self.keepers.values())
        if not keep_replicas:
            self.end_all()
        await asyncio.gather(*(keeper.leave() if keep_replicas else keeper.ended() for keeper in keepers))

    def _keep(self, replica_id: str, secret: str, spec: ReplicaSpec | None) -> ReplicaKeeper:
        keeper = ReplicaKeeper(replica_id, secret, self._around, self._wanted, self._changed)
        self.keepers[replica_id] = keeper
        keeper.start(spec)
        return keeper

    async def _forget(self, keeper: ReplicaKeeper) -> None:
        def remove(session: Session) -> None:
            session.execute(delete(Replica).where(Replica.id == keeper.id))

        await self._around.transact(remove)
        if keeper.failure is None:  # else its log is kept until the next start of the server
            self._around.launcher.discard(keeper.id)
        self.keepers.pop(keeper.id, None)

    def _spec(self, snapshot: Snapshot, model: Path) -> ReplicaSpec:
        return ReplicaSpec(
            id=new_id("rep"),
            secret=secrets.token_hex(24),
            model=model,
            served_names=(snapshot.endpoint.name, snapshot.endpoint.id, snapshot.base_model),
            lora_enabled=snapshot.lora_enabled,
            max_lora_rank=snapshot.max_lora_rank,
            max_loras=self._around.options.max_loras,
            threads=self._around.options.threads,
        )
