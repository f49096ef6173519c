"""The control loop as the server sees it: start, stop, wake, attach, detach, delete."""

import asyncio
from concurrent.futures import CancelledError
from contextlib import suppress
from contextvars import Context
from pathlib import Path

from sqlalchemy.orm import Session

from loradock.control.attach.attach import Settle
from loradock.control.attach.calls import AdapterCalls
from loradock.control.awake import AwakeClock
from loradock.control.background import BackgroundTasks
from loradock.control.context import ControlContext
from loradock.control.fleet.memory_budget import Memory
from loradock.control.fleet.recovery import AdoptedReplica, recover
from loradock.control.options import ControlOptions
from loradock.control.reconcile.bases import ResolveBase
from loradock.control.reconcile.on_request import StartsOnRequest
from loradock.control.reconcile.reconcile import DeploymentLoop
from loradock.control.snapshot import deployment_ids
from loradock.control.views import ReplicaFacts
from loradock.control.work import Locks, Transactions
from loradock.endpoints.rules import check_deletable, find_endpoint
from loradock.gateway.routing.routes import EndpointFacts, RouteTable
from loradock.gateway.routing.upstream import Upstream
from loradock.replicas.http import ReplicaHttp
from loradock.replicas.launcher import Launcher
from loradock.store.database import Database
from loradock.store.events import Facts, record
from loradock.store.failures import DATABASE_FAILURES
from loradock.store.workers import Workers
from loradock.telemetry.readings import Reading
from loradock.types.errors import LoradockError, NotFound

# How long a start waits for adopted replicas, so that its first request already finds them.
_ADOPTION_S = 10.0
# What callers ask for waits for the database in threads of its own, and not for ever; the loop goes on meanwhile.
_LOOP_THREADS, _CALL_THREADS = 4, 8
_PATIENCE_S = 5.0


class Controller:
    """`blobs` is the folder of adapter contents by digest. Lives on the event loop that `start` ran on."""

    def __init__(
        self,
        database: Database,
        launcher: Launcher,
        routes: RouteTable,
        resolve_base: ResolveBase,
        blobs: Path,
        options: ControlOptions | None = None,
        settle: Settle | None = None,
    ) -> None:
        self._database = database
        self._launcher = launcher
        self._routes = routes
        self._settle = settle
        self._resolve_base = resolve_base
        self._blobs = blobs
        self._options = options or ControlOptions()
        self._loops: dict[str, DeploymentLoop] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._background = BackgroundTasks()
        self._stopping = False

    async def start(self) -> None:
        """Recover, adopt what still runs, then keep every deployment as its owner wants it."""
        self._event_loop = asyncio.get_running_loop()
        survivors = await asyncio.to_thread(recover, self._database, self._launcher, self._options.grace)
        transact = Transactions(self._database, Workers("control-loop", _LOOP_THREADS))
        self._calls = Transactions(self._database, Workers("control-calls", _CALL_THREADS, _PATIENCE_S))
        awake, memory = AwakeClock(), Memory(self._options.free_memory, self._options.total_memory)
        self._context = ControlContext(transact, self._launcher, ReplicaHttp(), self._options, Locks(), awake, memory)
        self._adapters = AdapterCalls(
            self._context, self._calls, self._blobs, self._loop_of, self._settle, self._background
        )
        self._starts = StartsOnRequest(self._context, self._loop_of)
        self._awake = asyncio.create_task(awake.run())
        for deployment_id in await transact(deployment_ids):
            self._loops[deployment_id] = self._new_loop(deployment_id)
        await self._adopt(survivors)
        for loop in self._loops.values():
            await loop.publish()
            self._run(loop)

    async def stop(self, *, keep_replicas: bool = False) -> None:
        self._stopping = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(self._background.cancel(), *self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(loop.shut_down(keep_replicas=keep_replicas) for loop in self._loops.values()))
        self._awake.cancel()
        await asyncio.gather(self._awake, return_exceptions=True)
        await self._context.http.close()
        for transactions in (self._calls, self._context.transact):
            transactions.close()

    def wake(self, deployment_id: str) -> None:
        """Something about the deployment was changed in the database. From any thread."""
        self._event_loop.call_soon_threadsafe(self._wake, deployment_id)

    def announce(self, deployment_id: str) -> None:
        """A new deployment: its endpoint's requests are known when this returns, unless the database is busy. Blocks:
        call it from a worker thread."""
        publishing = asyncio.run_coroutine_threadsafe(self._wake_and_publish(deployment_id), self._event_loop)
        with suppress(TimeoutError, CancelledError, LoradockError, *DATABASE_FAILURES):  # it is there all the same
            publishing.result(_PATIENCE_S)

    async def _wake_and_publish(self, deployment_id: str) -> None:
        self._wake(deployment_id)
        if not self._stopping:
            await self._loop_of(deployment_id).publish()

    def _wake(self, deployment_id: str) -> None:
        if not self._stopping:  # else a loop would be begun that nobody ends
            self._loop_of(deployment_id).wake()

    def report(self, upstream: Upstream) -> None:
        """A request to this replica failed: look at it now."""
        for loop in self._loops.values():
            loop.fleet.look_at(upstream.replica_id)

    async def attach(self, account_id: str, endpoint_ref: str, model_id: str) -> str:
        """`model_id` is the combined id. Returns the adapter's full name once it answers. Raises LoradockError, with
        the step that failed; then nothing has changed."""
        return await self._adapters.attach(account_id, endpoint_ref, model_id)

    async def attach_by_name(self, account_id: str, adapter: str, endpoint_ref: str) -> None:
        """Attach by the adapter's own name. Raises what attach raises."""
        await self._adapters.attach_by_name(account_id, adapter, endpoint_ref)

    async def detach(self, account_id: str, endpoint_ref: str, model_id: str) -> str:
        """Returns the adapter's full name once no new request reaches it; running ones finish. Raises LoradockError."""
        return await self._adapters.detach(account_id, endpoint_ref, model_id)

    def attach_uploaded(self, account_id: str, adapter: str, endpoint_ref: str) -> None:
        """Attach an adapter that was just uploaded. Blocks: call it from a worker thread. Raises LoradockError."""
        attaching = self.attach_by_name(account_id, adapter, endpoint_ref)
        asyncio.run_coroutine_threadsafe(attaching, self._event_loop).result()

    def start_on_request(self, endpoint: EndpointFacts) -> None:
        """A request came for a stopped endpoint with `auto_start`. On the controller's own event loop."""
        self._background.begin(self._starts.start(endpoint.id))

    async def delete_endpoint(self, account_id: str, endpoint_ref: str, *, detach: bool = False) -> None:
        """Delete an endpoint. It is gone from the API at once; its replicas finish what they are at. With `detach`, its
        adapters are detached in the same transaction; without, they stand in the way. Raises LoradockError."""
        deployment_id = await self._calls(
            lambda session: _delete(session, account_id, endpoint_ref, detach=detach), make_room=True
        )
        await self._wake_and_publish(deployment_id)

    async def replicas(self, deployment_id: str) -> list[ReplicaFacts]:
        """Empty while none runs."""
        loop = self._loops.get(deployment_id)
        return await loop.replicas() if loop else []

    def readings(self) -> list[Reading]:
        """Return how every endpoint is now, from memory. Call on the controller's own event loop."""
        found = [loop.reading() for loop in self._loops.values()]
        return [reading for reading in found if reading is not None]

    async def logs(
        self, deployment_id: str, replica_id: str | None, lines: int | None, offset: int
    ) -> list[tuple[str, str, int]]:
        """(replica, text, offset of what comes next) of the replicas whose logs can be read, or of one. Raises
        NotFound for one that is gone, and its log with it."""
        loop = self._loops.get(deployment_id)
        known = loop.fleet.logged if loop is not None else []
        wanted = known if replica_id is None else [_known(replica_id, known)]
        read = self._launcher.log_part
        return await asyncio.to_thread(lambda: [(replica, *read(replica, lines, offset)) for replica in wanted])

    @property
    def options(self) -> ControlOptions:
        return self._options

    async def _adopt(self, survivors: list[AdoptedReplica]) -> None:
        supervisors = [self._loops[survivor.deployment_id].fleet.adopt(survivor) for survivor in survivors]
        with suppress(TimeoutError):
            async with asyncio.timeout(_ADOPTION_S):
                await asyncio.gather(*(supervisor.settled.wait() for supervisor in supervisors))

    def _loop_of(self, deployment_id: str) -> DeploymentLoop:
        loop = self._loops.get(deployment_id)
        if loop is None or loop.gone:
            loop = self._loops[deployment_id] = self._new_loop(deployment_id)
            self._run(loop)
        return loop

    def _new_loop(self, deployment_id: str) -> DeploymentLoop:
        return DeploymentLoop(deployment_id, self._context, self._routes, self._resolve_base, self._blobs)

    def _run(self, loop: DeploymentLoop) -> None:
        # In a context of its own: what the loop does is nobody's doing, whoever's request began it.
        task = self._tasks[loop.id] = asyncio.create_task(loop.run(), context=Context())
        task.add_done_callback(lambda _: self._forget(loop))

    def _forget(self, loop: DeploymentLoop) -> None:
        if loop.gone and self._loops.get(loop.id) is loop:
            del self._loops[loop.id], self._tasks[loop.id]


def _known(replica_id: str, known: list[str]) -> str:
    if replica_id not in known:
        raise NotFound(f"There is no log of a replica {replica_id!r} of this endpoint (any more).")
    return replica_id


def _delete(session: Session, account_id: str, endpoint_ref: str, *, detach: bool) -> str:
    endpoint = find_endpoint(session, account_id, endpoint_ref)
    if not detach:
        check_deletable(endpoint)
    for row in endpoint.deployment.attachments:
        record(
            session,
            account_id,
            row.model_id,
            "detach.done",
            f"{row.engine_name}: {endpoint.name} was deleted",
            endpoint_id=endpoint.id,
            facts=Facts(adapter=row.engine_name, endpoint=endpoint.name),
        )
    deployment_id = endpoint.deployment.id
    gone = Facts(name=endpoint.name)
    record(session, account_id, endpoint.id, "endpoint.deleted", f"{endpoint.name} was deleted", facts=gone)
    session.delete(endpoint)
    return deployment_id
