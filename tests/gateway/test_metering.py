"""What the gateway counts of requests over real sockets."""

import json

import httpx
import pytest

from loradock.types.enums import DesiredState, EndpointState
from tests.engine_stub import PROMPT_TOKENS
from tests.rig import ask, eventually, running, stream


@pytest.fixture
async def rig(tmp_path):
    async with running(tmp_path) as rig:
        rig.alice, rig.key = rig.account("alice")
        rig.dock = rig.endpoint(rig.alice, "alice")
        await rig.until(rig.dock, EndpointState.STARTED)
        await rig.attach(rig.alice, rig.dock, rig.adapter(rig.alice, "alice", "pirate"))
        async with rig.gateway() as rig.client:
            yield rig


def served(rig):
    return rig.meter.now_served([rig.dock.id]).of(rig.dock.id)


async def counted(rig, model="alice/pirate"):
    """Once the request has been counted, which is after its last byte."""
    await eventually(lambda: model in served(rig))
    return served(rig)[model]


async def bytes_of(request) -> bytes:
    async with request as response:
        return await response.aread()


async def test_a_whole_answer(rig):
    await ask(rig.client, rig.key, "pirate", max_tokens=2)
    usage = await counted(rig)
    assert (usage.ok, usage.requests, usage.prompt_tokens, usage.completion_tokens) == (1, 1, PROMPT_TOKENS, 5)
    assert (usage.duration.count, usage.ttft.count) == (1, 0)
    [key] = rig.meter.take().rows
    assert (key.account_id, key.endpoint_id) == (rig.alice, rig.dock.id)
    assert key.key_id.startswith("key_")


async def test_the_base_counts_under_no_name(rig):
    await ask(rig.client, rig.key, rig.dock.id)
    assert (await counted(rig, "")).ok == 1


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": False}}, {"stream_options": None}])
async def test_a_stream_that_did_not_ask_is_counted_and_sees_nothing_of_it(rig, options):
    content = await bytes_of(stream(rig.client, rig.key, "pirate", max_tokens=2, **options))
    assert b"usage" not in content
    events = content.split(b"\n\n")
    assert [json.loads(event[6:])["choices"][0]["text"] for event in events[:-2]][-2:] == ["w0", "w1"]
    assert events[-2:] == [b"data: [DONE]", b""]
    usage = await counted(rig)
    assert (usage.ok, usage.prompt_tokens, usage.completion_tokens) == (1, PROMPT_TOKENS, 5)
    assert (usage.duration.count, usage.ttft.count, usage.per_token.count) == (1, 1, 1)


async def test_a_stream_that_asked_gets_its_usage(rig):
    content = await bytes_of(stream(rig.client, rig.key, "pirate", stream_options={"include_usage": True}))
    assert json.loads(content.split(b"\n\n")[-3][6:])["usage"]["prompt_tokens"] == PROMPT_TOKENS
    assert (await counted(rig)).prompt_tokens == PROMPT_TOKENS


async def test_clients_that_leave_are_counted_as_such(rig):
    rig.faults(token_delay=0.05)
    async with stream(rig.client, rig.key, "pirate", max_tokens=1000) as response:
        await anext(response.aiter_lines())
    usage = await counted(rig)
    assert (usage.aborted, usage.requests, usage.ttft.count, usage.duration.count) == (1, 1, 1, 0)
    assert usage.completion_tokens > 0
    with pytest.raises(httpx.ReadTimeout):
        rig.faults(token_delay=60)
        headers = {"authorization": f"Bearer {rig.key}"}
        await rig.client.post("/v1/completions", json={"model": "pirate"}, headers=headers, timeout=0.5)
    await eventually(lambda: served(rig)["alice/pirate"].aborted == 2)


@pytest.mark.parametrize("fault", [{"die": "stream"}, {"error_in_stream": True}])
async def test_streams_that_fail_are_the_servers_errors(rig, fault):
    rig.faults(**fault)
    await bytes_of(stream(rig.client, rig.key, "pirate", max_tokens=5))
    usage = await counted(rig)
    assert (usage.server_error, usage.requests) == (1, 1)


async def test_refusals_count_by_whose_fault_they_are(rig):
    rig.faults(**{"break": "before"})
    assert (await ask(rig.client, rig.key, "pirate")).status_code == 500
    usage = await counted(rig)
    assert (usage.server_error, usage.requests, usage.duration.count) == (1, 1, 0)


async def test_what_names_no_endpoint_is_counted_nowhere(rig):
    await ask(rig.client, rig.key, "nobody/nothing")
    await ask(rig.client, "wrong", "pirate")
    assert rig.meter.take().rows == {}


async def test_the_controller_tells_how_its_endpoints_are(rig):
    rig.faults(token_delay=0.05)
    async with stream(rig.client, rig.key, "pirate", max_tokens=1000):
        [reading] = await eventually(lambda: [r for r in rig.controller.readings() if r.in_flight])
        assert (reading.endpoint_id, reading.in_flight, reading.attachments) == (rig.dock.id, 1, 1)
        assert (reading.ready, reading.starting, reading.desired) == (1, 0, 1)
    rig.set(rig.dock, desired=DesiredState.STOPPED)
    await rig.until(rig.dock, EndpointState.STOPPED)
    assert all(reading.at_rest for reading in rig.controller.readings())
