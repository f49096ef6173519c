"""Replicas that are stopped, stuck or killed, with real processes; every time is a setting, scaled down."""

import asyncio
import os
import signal
import time
from dataclasses import replace

import pytest

from loradock.types.enums import EndpointState, ReplicaState
from tests.rig import OPTIONS, actor, ask, eventually, running, text_of

SCALED = replace(OPTIONS, check_timeout=0.4, unready_after=0.5, hung_after=2.5, stretch=4, grace=1, probe_every=0.5)


@pytest.fixture
async def rig(tmp_path):
    async with running(tmp_path, options=SCALED) as rig:
        rig.alice, rig.key = rig.account("alice")
        yield rig


async def started(rig, replicas=1):
    endpoint = rig.endpoint(rig.alice, "alice", replicas=replicas)
    await rig.until(endpoint, EndpointState.STARTED)
    await eventually(lambda: len(upstreams(rig, endpoint)) == replicas)
    return endpoint


def upstreams(rig, endpoint):
    return rig.routes.resolve(endpoint.name, actor(rig.alice)).upstreams


def told(rig, kind):
    return [event.message for event in rig.events(kind)]


async def test_one_that_is_stopped_for_a_moment_keeps_its_requests_and_nothing_is_told(rig):
    endpoint = await started(rig)
    pid = rig.pid(rig.replicas()[0])
    async with rig.gateway() as client:
        os.kill(pid, signal.SIGSTOP)
        asked = [asyncio.create_task(ask(client, rig.key, endpoint.name)) for _ in range(3)]
        await asyncio.sleep(0.3)
        os.kill(pid, signal.SIGCONT)
        assert all(endpoint.name in text_of(answer) for answer in await asyncio.gather(*asked))
    assert told(rig, "replica.unready") == told(rig, "replica.lost") == []


async def test_one_that_is_stopped_for_longer_is_told_of_and_not_lost_and_who_asks_meanwhile_waits(rig):
    endpoint = await started(rig)
    replica = rig.replicas()[0].id
    pid = rig.pid(rig.replicas()[0])
    async with rig.gateway() as client:
        os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: not upstreams(rig, endpoint))
        asked = [asyncio.create_task(ask(client, rig.key, endpoint.name)) for _ in range(3)]
        facts = (await rig.controller.replicas(rig.deployment(endpoint).id))[0]
        assert facts.state is ReplicaState.UNREADY
        assert "health checks in a row" in facts.failure
        await eventually(lambda: "1 of 1 replicas get no new requests" in (rig.deployment(endpoint).message or ""))
        await asyncio.sleep(SCALED.hung_after)
        os.kill(pid, signal.SIGCONT)
        assert all(endpoint.name in text_of(answer) for answer in await asyncio.gather(*asked))
    assert "a signal or a debugger stops its process" in told(rig, "replica.unready")[0]
    await eventually(lambda: told(rig, "replica.recovered") == [f"{replica} gets requests again"])
    assert told(rig, "replica.lost") == []
    await eventually(lambda: rig.deployment(endpoint).message is None)


async def test_one_that_is_stopped_for_good_is_replaced(rig):
    endpoint = await started(rig)
    lost = rig.replicas()[0]
    os.kill(rig.pid(lost), signal.SIGSTOP)
    async with rig.gateway() as client:
        assert endpoint.name in text_of(await ask(client, rig.key, endpoint.name))
    assert lost.id not in {replica.id for replica in rig.replicas()}
    assert told(rig, "replica.lost")[0].startswith(f"{lost.id}: ")


async def test_a_pause_of_this_server_is_not_held_against_a_replica_that_was_paused_with_it(rig):
    endpoint = await started(rig)
    replica = rig.replicas()[0]
    os.kill(rig.pid(replica), signal.SIGSTOP)
    time.sleep(2 * SCALED.hung_after)  # nothing of the server runs
    await asyncio.sleep(SCALED.hung_after * 0.6)
    os.kill(rig.pid(replica), signal.SIGCONT)
    await eventually(lambda: upstreams(rig, endpoint))
    assert told(rig, "replica.lost") == []
    assert [replica.id] == [row.id for row in rig.replicas()]


@pytest.mark.parametrize("busy", [True, False], ids=["with requests", "idle"])
async def test_one_that_computes_nothing_is_noticed_though_it_answers_checks(rig, busy):
    """Busy or idle; what waited for it is answered by the next."""
    endpoint = await started(rig)
    stuck = rig.replicas()[0].id
    rig.faults(stuck=True)
    async with rig.gateway() as client:
        asked = [asyncio.create_task(ask(client, rig.key, endpoint.name)) for _ in range(3 * busy)]
        await eventually(lambda: told(rig, "replica.unready"))
        rig.faults()
        await eventually(lambda: told(rig, "replica.lost"))
        assert all(endpoint.name in text_of(answer) for answer in await asyncio.gather(*asked))
    assert "it has computed no step for" in told(rig, "replica.unready")[0]
    lost = told(rig, "replica.lost")[0]
    assert lost.startswith(f"{stuck}: it has computed no step for ")
    assert lost.endswith(" while work waits, and uses no processor")


async def test_the_only_replica_is_killed_under_load_and_every_request_is_answered(rig):
    endpoint = await started(rig)
    rig.faults(token_delay=20)
    async with rig.gateway() as client:
        asked = [asyncio.create_task(ask(client, rig.key, endpoint.name, max_tokens=8)) for _ in range(16)]
        await eventually(lambda: upstreams(rig, endpoint)[0].in_flight == 16)
        rig.faults()
        os.kill(rig.pid(rig.replicas()[0]), signal.SIGKILL)
        await eventually(lambda: not upstreams(rig, endpoint))
        asked += [asyncio.create_task(ask(client, rig.key, endpoint.name, max_tokens=8)) for _ in range(4)]
        assert all(endpoint.name in text_of(answer) for answer in await asyncio.gather(*asked))
    assert "killed by signal 9, probably out of memory (RSS " in told(rig, "replica.lost")[0]


async def test_who_cannot_wait_any_longer_is_told_when_to_come_back(rig):
    endpoint = await started(rig)
    async with rig.gateway(patience=0.2) as client:
        rig.faults(load_delay=6)
        os.kill(rig.pid(rig.replicas()[0]), signal.SIGKILL)
        await eventually(lambda: rig.deployment(endpoint).state is EndpointState.STARTING)
        response = await ask(client, rig.key, endpoint.name)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "model_not_ready")
        assert int(response.headers["retry-after"]) >= 1
