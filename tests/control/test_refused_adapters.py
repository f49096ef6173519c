"""An adapter that a replica will not take, though it is attached: the others are served, and the reason is told."""

import os
import shutil
import signal

import pytest

from loradock.types.enums import EndpointState
from loradock.types.errors import Internal
from tests.rig import actor, ask, eventually, running, text_of


@pytest.fixture
async def rig(tmp_path):
    async with running(tmp_path) as rig:
        rig.alice, rig.key = rig.account("alice")
        yield rig


async def with_a_damaged_blob(rig, **settings):
    """An endpoint whose replica was lost and came back after the blob of one of two adapters was gone."""
    dock = rig.endpoint(rig.alice, "alice", **settings)
    await rig.until(dock, EndpointState.STARTED)
    for short in ("whole", "damaged"):
        await rig.attach(rig.alice, dock, rig.adapter(rig.alice, "alice", short))
    gone = path_of(rig, dock, "alice/damaged")
    shutil.move(gone, gone.with_suffix(".kept"))
    lost = rig.replicas()[0]
    os.kill(rig.pid(lost), signal.SIGKILL)

    def back():
        upstreams = rig.routes.resolve("alice/whole", actor(rig.alice)).upstreams
        return upstreams and upstreams[0].replica_id != lost.id

    await eventually(back)
    return dock, gone


def path_of(rig, dock, name):
    loop = rig.controller._loops[rig.deployment(dock).id]
    return loop.pool.ready[0].residency.held[name]


@pytest.mark.parametrize("auto_start", [False, True])
async def test_the_others_are_served_and_the_request_for_it_is_told_why(rig, auto_start):
    dock, _ = await with_a_damaged_blob(rig, auto_start=auto_start)
    async with rig.gateway() as client:
        assert "alice/whole" in text_of(await ask(client, rig.key, "whole"))
        for name in ("damaged", "alice/damaged", f"{dock.name}:alice/damaged"):
            response = await ask(client, rig.key, name)
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "adapter_refused"
            assert "no adapter_config.json in" in response.json()["message"]
            assert str(rig.blobs) not in response.text
    assert [entry["model"] for entry in rig.journal() if entry["event"] == "begun"].count(dock.name) == 2  # the probes
    assert rig.deployment(dock).state is EndpointState.STARTED


async def test_it_is_an_event_and_stands_beside_the_replicas(rig):
    dock, _ = await with_a_damaged_blob(rig)
    (event,) = await eventually(lambda: rig.events("adapter.refused"))
    assert event.message.startswith("alice/damaged: no adapter_config.json")
    (facts,) = await rig.controller.replicas(rig.deployment(dock).id)
    assert set(facts.refused) == {"alice/damaged"}
    assert set(facts.adapters) == {"alice/whole"}


async def test_attaching_it_again_tries_again(rig):
    dock, gone = await with_a_damaged_blob(rig)
    with pytest.raises(Internal, match=r"adapter_config\.json.* missing on the server"):
        await rig.attach(rig.alice, dock, "alice/damaged")
    shutil.move(gone.with_suffix(".kept"), gone)
    await rig.attach(rig.alice, dock, "alice/damaged")
    assert rig.routes.resolve("alice/damaged", actor(rig.alice)).upstreams
    async with rig.gateway() as client:
        assert "alice/damaged" in text_of(await ask(client, rig.key, "damaged"))
