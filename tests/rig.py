"""A control plane on real parts for tests: SQLite, processes, sockets; the engine is the stub unless said otherwise."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import uvicorn

from loradock.control.controller import Controller
from loradock.control.options import ControlOptions
from loradock.endpoints import rules
from loradock.gateway.keys import KeyCache
from loradock.gateway.proxy.proxy import Gateway
from loradock.gateway.routing.routes import RouteTable
from loradock.replicas.process import ProcessLauncher
from loradock.store.accounts import create_key
from loradock.store.tables import Attachment, Deployment, Endpoint, Event, Model, Replica, Revision
from loradock.telemetry.meter import Meter
from loradock.types.access import Actor
from loradock.types.enums import EndpointState, ModelKind, ModelState, Visibility
from loradock.types.names import combined_id, new_id
from tests.databases import open_database

STUB = (sys.executable, str(Path(__file__).parent / "engine_stub.py"))
BASE = "org/base"
OPTIONS = ControlOptions(tick=0.2, grace=5, drain=5, start_timeout=30)


async def eventually(check, timeout: float = 20.0, what: str = "the condition"):
    """The first truthy value of `check()`, which may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        value = await value if asyncio.iscoroutine(value) else value
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout} s"
        await asyncio.sleep(0.02)


def actor(account_id: str, account: str = "alice") -> Actor:
    """Whoever holds a key of that account."""
    return Actor(account_id, account, "key_of_the_test", "test …0000")


class Rig:
    """`stop` leaves replicas running when told to, as a kill of the server would; `start` then finds them."""

    def __init__(self, folder: Path, command: Sequence[str] = STUB, options: ControlOptions = OPTIONS) -> None:
        self.folder, self.options = folder, options
        self.base = folder / "base"
        self.base.mkdir(parents=True, exist_ok=True)
        self.blobs = folder / "blobs" / "sha256"
        self.database = open_database(folder / "loradock.db")
        self.launcher = ProcessLauncher(folder / "replicas", command)

    async def start(self) -> None:
        self.routes = RouteTable()
        self.controller = Controller(
            self.database, self.launcher, self.routes, self.resolve, self.blobs, options=self.options
        )
        await self.controller.start()

    async def stop(self, *, keep_replicas: bool = False) -> None:
        await self.controller.stop(keep_replicas=keep_replicas)

    def resolve(self, base_model, account, progress) -> Path:
        return self.base

    def faults(self, **faults) -> None:
        draft = self.base / "faults.tmp"
        draft.write_text(json.dumps(faults))
        draft.rename(self.base / "faults.json")

    def journal(self) -> list[dict]:
        file = self.base / "journal.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def account(self, slug: str) -> tuple[str, str]:
        """(account id, key)"""
        with self.database.session() as session:
            key, plain = create_key(session, slug, "test")
            return key.account_id or key.account.id, plain

    def endpoint(
        self,
        account_id: str,
        account: str,
        *,
        replicas: int = 1,
        most: int | None = None,
        public: bool = False,
        **settings,
    ) -> Endpoint:
        """`most` replicas, else as many as at least; `settings`: further fields of NewEndpoint."""
        new = rules.NewEndpoint(
            model=BASE,
            hardware="",
            min_replicas=replicas,
            max_replicas=most or replicas,
            visibility=Visibility.PUBLIC if public else Visibility.PRIVATE,
            **settings,
        )
        with self.database.session() as session:
            endpoint = rules.create_endpoint(session, account_id, account, new)
            deployment_id = endpoint.deployment.id
        self.controller.wake(deployment_id)
        return endpoint

    def adapter(self, account_id: str, account: str, short: str, *, rank: int = 8, folder: Path | None = None) -> str:
        """Its model name; `folder` holds real weights, else the blob is empty files."""
        digest = folder.name if folder else new_id("blob")
        if folder is None:
            (self.blobs / digest).mkdir(parents=True)
            for file in ("adapter_config.json", "adapter_model.safetensors"):
                (self.blobs / digest / file).touch()
        model = Model(
            id=new_id("ml"),
            account_id=account_id,
            name=f"{account}/{short}",
            kind=ModelKind.ADAPTER,
            state=ModelState.READY,
            base_model=BASE,
            revisions=[Revision(id=new_id("rev"), digest=digest, size_bytes=1, rank=rank)],
        )
        with self.database.session() as session:
            session.add(model)
        return model.name

    def set(self, endpoint: Endpoint, *, replicas: int | None = None, most: int | None = None, **changes) -> None:
        """`replicas` at least and, unless `most` says otherwise, at most; `changes`: fields of EndpointChange."""
        change = rules.EndpointChange(min_replicas=replicas, max_replicas=most or replicas, **changes)
        with self.database.session() as session:
            row = session.get(Endpoint, endpoint.id)
            rules.update_endpoint(session, row, change)
            deployment_id = row.deployment.id
        self.controller.wake(deployment_id)

    def deployment(self, endpoint: Endpoint) -> Deployment:
        with self.database.session() as session:
            return session.get(Endpoint, endpoint.id).deployment

    async def until(self, endpoint: Endpoint, state: EndpointState, timeout: float = 20.0) -> Deployment:
        def reached():
            deployment = self.deployment(endpoint)
            return deployment if deployment.state is state else None

        return await eventually(reached, timeout, f"{endpoint.name} {state}")

    def attachments(self) -> list[Attachment]:
        return self._all(Attachment)

    def replicas(self) -> list[Replica]:
        return self._all(Replica)

    def events(self, prefix: str = "") -> list[Event]:
        return [event for event in self._all(Event) if event.kind.startswith(prefix)]

    def _all(self, table):
        with self.database.session() as session:
            return session.query(table).all()

    def pid(self, replica: Replica) -> int:
        return self.launcher.find(replica.id).pid

    async def attach(self, account_id: str, endpoint: Endpoint, adapter: str) -> None:
        await self.controller.attach(account_id, endpoint.id, combined_id(endpoint.name, adapter))

    async def detach(self, account_id: str, endpoint: Endpoint, adapter: str) -> None:
        await self.controller.detach(account_id, endpoint.id, combined_id(endpoint.name, adapter))

    @contextlib.asynccontextmanager
    async def gateway(self, **options) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the real gateway on a real port."""
        self.meter = Meter()
        gateway = Gateway(
            self.routes,
            KeyCache(self.database),
            report=self.controller.report,
            start=self.controller.start_on_request,
            meter=self.meter,
            body_limit=1 << 20,
            **options,
        )
        try:
            async with serve(gateway) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
                yield client
        finally:
            await gateway.close()


@contextlib.asynccontextmanager
async def serve(app) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="warning", access_log=False))
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


def ask(client: httpx.AsyncClient, key: str, model: str, **body):
    return client.post(
        "/v1/completions", json={"model": model, "prompt": "x", **body}, headers={"authorization": f"Bearer {key}"}
    )


def stream(client: httpx.AsyncClient, key: str, model: str, **body):
    body = {"model": model, "prompt": "x", "stream": True, **body}
    return client.stream("POST", "/v1/completions", json=body, headers={"authorization": f"Bearer {key}"})


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["text"]


@contextlib.asynccontextmanager
async def running(folder: Path, **kwargs) -> AsyncIterator[Rig]:
    rig = Rig(folder, **kwargs)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()
        rig.database.close()
