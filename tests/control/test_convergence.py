"""Any interleaving of what users do, what crashes and what engines refuse ends where the database says.

Hypothesis writes the story; the replicas are real processes (the stub engine), the database and the sockets are real.
"""

import asyncio
import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from loradock.control.snapshot import read_attachments
from loradock.replicas.client import ReplicaClient
from loradock.replicas.http import ReplicaHttp
from loradock.types.enums import AttachmentState, DesiredState, EndpointState
from loradock.types.errors import LoradockError
from tests.rig import Rig, actor, eventually

SHORTS = ("a", "b", "c")
which = st.sampled_from(SHORTS)
ACTIONS = st.one_of(
    st.tuples(st.just("attach"), which),
    st.tuples(st.just("attach"), which),
    st.tuples(st.just("begin_attach"), which),
    st.tuples(st.just("detach"), which),
    st.tuples(st.just("begin_detach"), which),
    st.tuples(st.just("desire"), st.sampled_from(DesiredState)),
    st.tuples(st.just("scale"), st.integers(1, 2)),
    st.tuples(st.just("replace"), st.sampled_from([64, 128])),
    st.tuples(st.just("kill"), st.integers(0, 1)),
    st.tuples(st.just("crash"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(
        st.just("fault"),
        st.sampled_from(
            [{"refuse": {"alice/a": "no"}}, {"die": "load"}, {"die": "probe"}, {"crash": "no weights"}, {}]
        ),
    ),
    st.tuples(st.just("wait"), st.sampled_from([0.05, 0.3])),
)


class Story:
    """`bound`: adapter → whether it must be attached in the end; absent where nobody was told."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder)
        self.bound: dict[str, bool] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        await self.rig.start()
        self.alice, _ = self.rig.account("alice")
        self.endpoint = self.rig.endpoint(self.alice, "alice")
        for short in SHORTS:
            self.bound[self.rig.adapter(self.alice, "alice", short)] = False

    async def play(self, action: str, detail) -> None:
        await getattr(self, f"do_{action}")(detail)

    async def do_attach(self, short) -> None:
        await self._change(self.rig.attach, f"alice/{short}", True)

    async def do_detach(self, short) -> None:
        await self._change(self.rig.detach, f"alice/{short}", False)

    async def do_begin_attach(self, short) -> None:
        self.tasks.append(asyncio.create_task(self.do_attach(short)))

    async def do_begin_detach(self, short) -> None:
        self.tasks.append(asyncio.create_task(self.do_detach(short)))

    async def _change(self, call, name: str, outcome: bool) -> None:
        self.bound.pop(name, None)
        try:
            await call(self.alice, self.endpoint, name)
        except LoradockError:
            return  # refused, and whether others were at it too is not known here
        if not any(not task.done() and task is not asyncio.current_task() for task in self.tasks):
            self.bound[name] = outcome

    async def do_desire(self, state) -> None:
        self.rig.set(self.endpoint, desired=state)

    async def do_scale(self, count) -> None:
        self.rig.set(self.endpoint, replicas=count)

    async def do_replace(self, rank) -> None:
        """Other settings: every replica has to be replaced."""
        self.rig.set(self.endpoint, max_lora_rank=rank)

    async def do_kill(self, number) -> None:
        for replica in self.rig.replicas()[number : number + 1]:
            if found := self.rig.launcher.find(replica.id):
                os.kill(found.pid, signal.SIGKILL)

    async def do_crash(self, _) -> None:
        """What was under way is cut off; the replicas run on."""
        await self._end(keep_replicas=True)
        await self.rig.start()

    async def do_restart(self, _) -> None:
        await self._end(keep_replicas=False)
        await self.rig.start()

    async def do_fault(self, faults) -> None:
        self.rig.faults(**faults)

    async def do_wait(self, seconds) -> None:
        await asyncio.sleep(seconds)

    async def _end(self, *, keep_replicas: bool) -> None:
        await self.rig.stop(keep_replicas=keep_replicas)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    async def converge(self) -> None:
        self.rig.faults()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await eventually(self._settled, 40, "what the database says")
        rows = {row.engine_name for row in self._rows()}
        assert rows >= {name for name, must in self.bound.items() if must}
        assert not rows & {name for name, must in self.bound.items() if not must}

    def _rows(self):
        deployment = self.rig.deployment(self.endpoint).id
        with self.rig.database.session() as session:
            return read_attachments(session, deployment, self.rig.blobs)

    async def _settled(self) -> bool:
        deployment, rows = self.rig.deployment(self.endpoint), self._rows()
        if any(row.state is not AttachmentState.ATTACHED for row in rows):
            return False
        running = self.rig.launcher.running()
        if deployment.desired is DesiredState.STOPPED:
            return deployment.state is EndpointState.STOPPED and not running
        if deployment.state is EndpointState.ERROR:  # a fault that is over: the user tries again
            self.rig.set(self.endpoint, desired=DesiredState.STARTED)
            return False
        for name in await self._refused(deployment.id) & {row.engine_name for row in rows}:
            await self._attach_again(name)  # likewise
        known = {replica.id: replica.secret for replica in self.rig.replicas()}
        if deployment.state is not EndpointState.STARTED or running != set(known):
            return False
        if len(known) != deployment.min_replicas:
            return False
        wanted = {row.engine_name: str(row.path) for row in rows}
        return all([await self._holds(*pair) == wanted for pair in known.items()]) and self._routed(wanted, set(known))

    async def _refused(self, deployment_id: str) -> set[str]:
        return {name for facts in await self.rig.controller.replicas(deployment_id) for name in facts.refused}

    async def _attach_again(self, name: str) -> None:
        with suppress(LoradockError):  # the replica was lost meanwhile
            await self.rig.attach(self.alice, self.endpoint, name)

    async def _holds(self, replica: str, secret: str) -> dict[str, str] | None:
        found = self.rig.launcher.find(replica)
        address = found and found.address()
        if not address:
            return None
        async with ReplicaHttp() as http:
            try:
                return await ReplicaClient(http, address, secret).adapters()
            except LoradockError:
                return None

    def _routed(self, wanted: dict[str, str], replicas: set[str]) -> bool:
        names = set(self.rig.routes.callable_names(actor(self.alice)))
        if names != {self.endpoint.name, *wanted}:
            return False
        routes = [self.rig.routes.resolve(name, actor(self.alice)) for name in names]
        return all({upstream.replica_id for upstream in route.upstreams} == replicas for route in routes)


async def tell(folder: Path, actions: list[tuple[str, object]]) -> None:
    story = Story(folder)
    await story.begin()
    try:
        for action in actions:
            await story.play(*action)
        await story.converge()
    finally:
        await story.rig.stop()
        story.rig.database.close()
    left = [p for p in psutil.process_iter(["cmdline"]) if any(str(folder) in w for w in p.info["cmdline"] or ())]
    assert not left


def check(actions: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(tell(Path(folder), actions))


# Not shrunk: every attempt takes seconds, and the story that failed is printed whole.
COMMON = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


REFUSED_FOR_A_WHILE = [
    ("attach", "a"),
    ("wait", 1.0),
    ("fault", {"refuse": {"alice/a": "no"}}),
    ("kill", 0),
    ("wait", 1.0),
]


@pytest.mark.timeout(600)
@settings(COMMON, max_examples=8)
@example(REFUSED_FOR_A_WHILE)
@given(st.lists(ACTIONS, min_size=4, max_size=10))
def test_every_story_converges(actions):
    check(actions)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(COMMON, max_examples=80)
@given(st.lists(ACTIONS, min_size=6, max_size=20))
def test_long_stories_converge_too(actions):
    check(actions)
