"""What is published of one adapter alone is what publishing everything anew would have said."""

import asyncio

import pytest

from loradock.control.options import ControlOptions
from loradock.control.reconcile.reconcile import DeploymentLoop
from loradock.types.enums import EndpointState
from tests.rig import actor, eventually, running


@pytest.fixture
async def rig(tmp_path):
    async with running(tmp_path, options=ControlOptions(max_loras=2, tick=60)) as rig:
        rig.alice, _ = rig.account("alice")
        rig.dock = rig.endpoint(rig.alice, "alice")
        await rig.until(rig.dock, EndpointState.STARTED)
        yield rig


def published(rig):
    return dict(rig.routes._by_name), {key: set(names) for key, names in rig.routes._names.items()}


async def check(rig, adapters):
    amended = published(rig)
    await rig.controller._loops[rig.deployment(rig.dock).id].publish()
    assert published(rig) == amended
    routes = [rig.routes.resolve(name, actor(rig.alice)) for name in adapters]
    assert all(route.upstreams for route in routes)
    assert {route.crowded for route in routes} <= {len(adapters) > 2}


async def test_attaching_and_detaching_one_by_one(rig):
    docked = []
    for number in range(4):
        docked.append(rig.adapter(rig.alice, "alice", f"poet-{number}"))
        await rig.attach(rig.alice, rig.dock, docked[-1])
        await check(rig, docked)
    await rig.attach(rig.alice, rig.dock, docked[0])  # once more
    await check(rig, docked)
    while docked:
        await rig.detach(rig.alice, rig.dock, docked.pop(0))
        await check(rig, docked)
    await eventually(lambda: not rig.attachments())
    await check(rig, docked)


async def test_another_endpoints_names_stay(rig):
    other = rig.endpoint(rig.alice, "alice")
    await rig.until(other, EndpointState.STARTED)
    names = [rig.adapter(rig.alice, "alice", f"poet-{number}") for number in range(2)]
    await rig.attach(rig.alice, rig.dock, names[0])
    await rig.attach(rig.alice, other, names[1])
    await rig.detach(rig.alice, rig.dock, names[0])
    await rig.attach(rig.alice, other, names[0])
    await check(rig, [])
    assert {rig.routes.resolve(name, actor(rig.alice)).endpoint.id for name in names} == {other.id}


async def test_routes_are_made_anew_only_where_something_has_changed(tmp_path, monkeypatch):
    async with running(tmp_path, options=ControlOptions(tick=0.02)) as rig:
        rig.alice, _ = rig.account("alice")
        rig.dock = rig.endpoint(rig.alice, "alice")
        await rig.until(rig.dock, EndpointState.STARTED)
        poet = rig.adapter(rig.alice, "alice", "poet")
        await rig.attach(rig.alice, rig.dock, poet)
        loop = rig.controller._loops[rig.deployment(rig.dock).id]
        await loop.publish()
        shown, turns = [], []
        publish, look = rig.routes.publish, loop._detaches.refresh
        monkeypatch.setattr(rig.routes, "publish", lambda *routes: (shown.append(routes), publish(*routes)))
        monkeypatch.setattr(loop._detaches, "refresh", lambda snapshot: (turns.append(snapshot), look(snapshot)))
        await eventually(lambda: len(turns) > 5)
        assert not shown
        await loop.pool.ready[0].residency.unload(poet)  # the engine has lost it; its keeper brings it back
        await eventually(lambda: shown and rig.routes.resolve(poet, actor(rig.alice)).upstreams)


async def test_a_new_endpoint_is_known_once_it_was_announced(rig, monkeypatch):
    """Also where its loop has not come to it: its first request would be told that there is no such model."""
    monkeypatch.setattr(rig.controller, "wake", lambda _deployment_id: None)
    other = rig.endpoint(rig.alice, "alice")
    deployment_id = rig.deployment(other).id
    monkeypatch.setattr(DeploymentLoop, "run", forever)
    await asyncio.to_thread(rig.controller.announce, deployment_id)
    assert rig.routes.resolve(other.name, actor(rig.alice)).endpoint.id == other.id


async def forever(_loop):
    await asyncio.Event().wait()
