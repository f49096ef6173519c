"""Attaching while replicas come and go: what the fleet does is not a reason for an attach to fail."""

import asyncio
import os
import signal

import pytest

from loradock.types.enums import AttachmentState, DesiredState, EndpointState
from loradock.types.errors import Unavailable
from tests.rig import actor, ask, eventually, running, text_of


@pytest.fixture
async def rig(tmp_path):
    async with running(tmp_path) as rig:
        rig.alice, rig.key = rig.account("alice")
        rig.pirate = rig.adapter(rig.alice, "alice", "pirate")
        yield rig


def upstreams(rig, name):
    return rig.routes.resolve(name, actor(rig.alice)).upstreams


async def started(rig, replicas):
    endpoint = rig.endpoint(rig.alice, "alice", replicas=replicas)
    await rig.until(endpoint, EndpointState.STARTED)
    await eventually(lambda: len(upstreams(rig, endpoint.name)) == replicas)
    return endpoint


async def attach_slowly(rig, endpoint, seconds=2.0):
    """Under way at every ready replica when this returns."""
    rig.faults(adapter_delay=seconds)
    attaching = asyncio.create_task(rig.attach(rig.alice, endpoint, rig.pirate))
    await eventually(rig.attachments)
    await asyncio.sleep(0.2)
    return attaching


async def answers_as_itself(rig):
    async with rig.gateway() as client:
        assert "alice/pirate" in text_of(await ask(client, rig.key, "pirate"))


async def test_while_the_replicas_are_replaced(rig):
    endpoint = await started(rig, 1)
    old = rig.replicas()[0].id
    attaching = await attach_slowly(rig, endpoint)
    rig.set(endpoint, max_lora_rank=128)
    await attaching
    await answers_as_itself(rig)
    await eventually(lambda: old not in {replica.id for replica in rig.replicas()})
    await eventually(lambda: upstreams(rig, "alice/pirate"))
    assert old not in {upstream.replica_id for upstream in upstreams(rig, "alice/pirate")}


async def test_while_another_replica_comes_up(rig):
    endpoint = await started(rig, 1)
    attaching = await attach_slowly(rig, endpoint)
    rig.set(endpoint, replicas=2)
    await attaching
    await eventually(lambda: len(upstreams(rig, "alice/pirate")) == 2)


async def test_while_a_replica_is_sent_away(rig):
    endpoint = await started(rig, 2)
    attaching = await attach_slowly(rig, endpoint)
    rig.set(endpoint, replicas=1)
    await attaching
    await answers_as_itself(rig)


async def test_while_one_of_two_replicas_is_lost(rig):
    endpoint = await started(rig, 2)
    lost = rig.replicas()[0]
    attaching = await attach_slowly(rig, endpoint)
    os.kill(rig.pid(lost), signal.SIGKILL)
    await attaching
    await answers_as_itself(rig)
    rig.faults()
    await eventually(lambda: len(upstreams(rig, "alice/pirate")) == 2)


async def test_while_the_only_replica_is_lost(rig):
    endpoint = await started(rig, 1)
    attaching = await attach_slowly(rig, endpoint)
    os.kill(rig.pid(rig.replicas()[0]), signal.SIGKILL)
    with pytest.raises(Unavailable, match=r"step 'load'.*Nothing was changed"):
        await attaching
    assert rig.attachments() == []


async def test_while_the_endpoint_stops(rig):
    endpoint = await started(rig, 1)
    attaching = await attach_slowly(rig, endpoint)
    rig.set(endpoint, desired=DesiredState.STOPPED)
    await attaching
    await rig.until(endpoint, EndpointState.STOPPED)
    assert [row.state for row in rig.attachments()] == [AttachmentState.ATTACHED]
    rig.faults()
    rig.set(endpoint, desired=DesiredState.STARTED)
    await rig.until(endpoint, EndpointState.STARTED)
    await answers_as_itself(rig)
