"""The request path over real sockets: client → gateway → replica process."""

import asyncio
import contextlib
import json
import os
import signal

import httpx
import pytest

from loradock.types.enums import EndpointState
from tests.rig import actor, ask, eventually, running, stream, text_of


@pytest.fixture
async def rig(tmp_path):
    async with running(tmp_path) as rig:
        rig.alice, rig.key = rig.account("alice")
        rig.bob, rig.bobs_key = rig.account("bob")
        rig.dock = rig.endpoint(rig.alice, "alice")
        await rig.until(rig.dock, EndpointState.STARTED)
        await rig.attach(rig.alice, rig.dock, rig.adapter(rig.alice, "alice", "pirate"))
        async with rig.gateway() as rig.client:
            yield rig


async def lines_of(response) -> list[str]:
    return [line async for line in response.aiter_lines() if line]


async def test_every_way_to_name_a_model(rig):
    for name in ("alice/pirate", "pirate", f"{rig.dock.name}:alice/pirate"):
        assert text_of(await ask(rig.client, rig.key, name)).startswith("alice/pirate from blob")
    for name in (rig.dock.name, rig.dock.id):
        assert text_of(await ask(rig.client, rig.key, name)).endswith("from base")


async def test_anothers_model_is_exactly_as_unknown_as_one_that_never_was(rig):
    names = ("alice/pirate", "pirate", f"{rig.dock.name}:alice/pirate", rig.dock.name, rig.dock.id)
    for name in (*names, "nobody/nothing"):
        response = await ask(rig.client, rig.bobs_key, name)
        assert response.status_code == 404
        error = response.json()["error"]
        assert error["code"] == "model_not_available"
        assert error["message"].replace(repr(name), "NAME") == (
            "No model named NAME is attached or running here. `GET /v1/models` lists what can be called."
        )


async def test_a_public_endpoint_answers_other_accounts(rig):
    public = rig.endpoint(rig.alice, "alice", public=True)
    await rig.until(public, EndpointState.STARTED)
    assert text_of(await ask(rig.client, rig.bobs_key, public.name)).endswith("from base")


@pytest.mark.parametrize("path", ["/v1/completions", "/completions", "/v1/v1/completions", "/v1/chat/completions"])
async def test_paths_with_and_without_v1(rig, path):
    headers = {"authorization": f"Bearer {rig.key}"}
    response = await rig.client.post(path, json={"model": "pirate", "messages": []}, headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("agent", "dialect"), [("Together/Python 2.42.0", "together"), ("OpenAI/Python 3.0", "openai"), ("curl", "openai")]
)
async def test_the_user_agent_decides_the_dialect(rig, agent, dialect):
    headers = {"authorization": f"Bearer {rig.key}", "user-agent": agent}
    response = await rig.client.post("/v1/completions", json={"model": "pirate"}, headers=headers)
    assert response.json()["dialect"] == dialect


async def test_the_body_reaches_the_replica_as_it_was_sent(rig):
    """Spliced or not, what is not the model name keeps its bytes."""
    body = b'{"model": "pirate", "prompt": "\\u00e9", "max_tokens": 2, "x": 1.0e0}'
    headers = {"authorization": f"Bearer {rig.key}"}
    response = await rig.client.post("/v1/completions", content=body, headers=headers)
    assert text_of(response).endswith("w0 w1")


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic abc", "Bearer"])
async def test_without_a_valid_key(rig, authorization):
    headers = {"authorization": authorization} if authorization else {}
    response = await rig.client.post("/v1/completions", json={"model": "pirate"}, headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "not valid JSON"),
        (b"\xff\xfe", 400, "not valid JSON"),
        (b"[]", 400, "'model' must be given"),
        (b"{}", 400, "'model' must be given"),
        (b'{"model": 3}', 400, "'model' must be given"),
        (b'{"model": "x", "prompt": "' + b"y" * (1 << 20) + b'"}', 413, "larger than this server accepts (1 MiB)"),
    ],
    ids=["cut", "binary", "array", "empty", "number", "large"],
)
async def test_bodies_that_cannot_be_read(rig, body, status, says):
    headers = {"authorization": f"Bearer {rig.key}"}
    response = await rig.client.post("/v1/completions", content=body, headers=headers)
    assert response.status_code == status
    assert says in response.json()["message"]


async def test_a_large_body_without_a_length_is_stopped_too(rig):
    async def chunks():
        for _ in range(20):
            yield b" " * (1 << 17)

    headers = {"authorization": f"Bearer {rig.key}"}
    with contextlib.suppress(httpx.WriteError):
        response = await rig.client.post("/v1/completions", content=chunks(), headers=headers)
        assert response.status_code == 413


async def test_the_request_id_is_the_clients_or_ours(rig):
    given = {"authorization": f"Bearer {rig.key}", "x-request-id": "mine-1"}
    response = await rig.client.post("/v1/completions", json={"model": "pirate"}, headers=given)
    assert response.headers.get_list("x-request-id") == ["mine-1"]
    assert len((await ask(rig.client, rig.key, "pirate")).headers["x-request-id"]) == 24


async def test_a_stream_arrives_as_it_is_made(rig):
    rig.faults(token_delay=0.05)
    async with stream(rig.client, rig.key, "pirate", max_tokens=3) as response:
        assert response.headers["content-type"] == "text/event-stream"
        lines = await lines_of(response)
    assert lines[-1] == "data: [DONE]"
    words = [json.loads(line[6:])["choices"][0]["text"] for line in lines[:-1]]
    assert words[-3:] == ["w0", "w1", "w2"]


async def until_gone(rig):
    await eventually(lambda: {"event": "gone", "model": "alice/pirate"} in rig.journal())


async def test_a_client_that_leaves_a_stream_frees_the_replica(rig):
    rig.faults(token_delay=0.05)
    async with stream(rig.client, rig.key, "pirate", max_tokens=1000) as response:
        await anext(response.aiter_lines())
    await until_gone(rig)


async def test_a_client_that_leaves_while_it_waits_frees_the_replica(rig):
    rig.faults(token_delay=60)
    with pytest.raises(httpx.ReadTimeout):
        await rig.client.post(
            "/v1/completions", json={"model": "pirate"}, headers={"authorization": f"Bearer {rig.key}"}, timeout=0.5
        )
    await until_gone(rig)


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_replica_lost_before_the_first_byte_is_replaced_by_another(rig, streaming):
    rig.set(rig.dock, replicas=2)
    await eventually(lambda: len(rig.routes.resolve("alice/pirate", actor(rig.alice)).upstreams) == 2)
    rig.faults(die="before")
    if streaming:
        async with stream(rig.client, rig.key, "pirate") as response:
            assert (await lines_of(response))[-1] == "data: [DONE]"
    else:
        assert "alice/pirate" in text_of(await ask(rig.client, rig.key, "pirate"))
    assert [entry["event"] for entry in rig.journal()][-3:] == ["begun", "begun", "done"]


async def test_a_request_waits_for_the_replacement_of_the_only_replica(rig):
    """It is killed while it has the request: the next one answers, and nobody has to ask again."""
    rig.faults(die="before")
    assert "alice/pirate" in text_of(await ask(rig.client, rig.key, "pirate"))
    assert "killed by signal 9, probably out of memory (RSS " in rig.events("replica.lost")[0].message


async def test_a_request_that_a_replica_breaks_on_is_not_sent_to_another(rig):
    rig.set(rig.dock, replicas=2)
    await eventually(lambda: len(rig.routes.resolve("alice/pirate", actor(rig.alice)).upstreams) == 2)
    rig.faults(**{"break": "before"})
    before = rig.journal().count({"event": "begun", "model": "alice/pirate"})
    response = await ask(rig.client, rig.key, "pirate")
    assert (response.status_code, response.json()["error"]["code"]) == (500, "replica_lost")
    assert response.headers["x-should-retry"] == "false"
    assert rig.journal().count({"event": "begun", "model": "alice/pirate"}) == before + 1
    rig.faults()
    assert "alice/pirate" in text_of(await ask(rig.client, rig.key, "pirate"))
    await eventually(lambda: rig.events("replica.lost"))
    assert "exit code 9" in rig.events("replica.lost")[0].message


@pytest.mark.parametrize("moment", ["stream", "event"])
async def test_a_replica_lost_in_a_stream_ends_it_with_an_error_event(rig, moment):
    """Also when it is cut in the middle of an event: what the client gets is whole events only."""
    rig.faults(die=moment)
    async with stream(rig.client, rig.key, "pirate", max_tokens=50) as response:
        lines = await lines_of(response)
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [event["choices"][0]["text"] for event in events[:-1]] == ["alice/pirate", "from"]
    assert events[-1]["error"]["code"] == "replica_lost"


async def test_a_replica_that_is_killed_is_routed_to_again_once_it_is_back(rig):
    os.kill(rig.pid(rig.replicas()[0]), signal.SIGKILL)

    async def answers():
        return (await ask(rig.client, rig.key, "pirate")).status_code == 200

    await eventually(answers)


async def test_least_in_flight(rig):
    rig.set(rig.dock, replicas=2)
    await eventually(lambda: len(rig.routes.resolve("alice/pirate", actor(rig.alice)).upstreams) == 2)
    rig.faults(token_delay=0.2)
    pending = [asyncio.create_task(ask(rig.client, rig.key, "pirate")) for _ in range(6)]
    upstreams = rig.routes.resolve("alice/pirate", actor(rig.alice)).upstreams
    await eventually(lambda: [upstream.in_flight for upstream in upstreams] == [3, 3])
    await asyncio.gather(*pending)
    assert [upstream.in_flight for upstream in upstreams] == [0, 0]
