"""What the control plane relies on, of every engine; the stub of the other tests passes the same."""

import json

import pytest

from loradock.replicas.client import ReplicaClient
from loradock.replicas.http import ReplicaHttp
from loradock.replicas.process import ProcessLauncher
from loradock.types.enums import AdapterTier, Quantization
from loradock.types.errors import AdapterRefused, ReplicaLost
from tests.replicas.conftest import replica, spec


async def post(client, path, **body):
    reply = await client._http.call("POST", client.url, path, client._headers, json.dumps(body).encode())
    return reply.status, reply.text


async def test_adapters_come_and_go(client, adapter, other_adapter):
    assert await client.adapters() == {}
    await client.load("a/one", adapter)
    await client.load("a/one", adapter)
    await client.load("a/two", other_adapter)
    assert await client.adapters() == {"a/one": str(adapter), "a/two": str(other_adapter)}
    await client.probe("a/one")
    await client.unload("a/one")
    await client.unload("a/one")
    assert await client.adapters() == {"a/two": str(other_adapter)}


async def test_the_same_name_from_elsewhere_is_refused(client, adapter, other_adapter):
    await client.load("a/one", adapter)
    with pytest.raises(AdapterRefused, match="one"):
        await client.load("a/one", other_adapter)
    assert await client.adapters() == {"a/one": str(adapter)}


async def test_an_adapter_that_cannot_be_read_is_refused_with_a_reason(client, tmp_path):
    with pytest.raises(AdapterRefused, match=r"adapter_config\.json|No adapter found"):
        await client.load("a/broken", tmp_path)
    assert await client.adapters() == {}


async def test_an_unknown_model_never_answers_as_the_base(client):
    status, text = await post(client, "/v1/completions", model="a/none", prompt="x", max_tokens=1)
    assert status == 404
    assert "a/none" in json.loads(text)["error"]["message"]


@pytest.mark.parametrize("name", ["base", "alias", "a/one"])
async def test_streams_end_with_done(client, adapter, name):
    await client.load("a/one", adapter)
    status, text = await post(client, "/v1/completions", model=name, prompt="x", max_tokens=3, stream=True)
    assert status == 200
    events = text.removesuffix("\n\n").split("\n\n")
    assert events[-1] == "data: [DONE]"
    said = {json.loads(event.removeprefix("data: "))["model"] for event in events[:-1]}
    # vLLM calls its base model by the first of its names, whichever was asked for; the gateway asks for the first.
    assert said <= ({"base", "alias"} if name == "alias" else {name})
    assert said


async def test_the_secret_is_wanted(client):
    async with ReplicaHttp() as http:
        with pytest.raises(AdapterRefused, match=r"secret|Unauthorized"):
            await ReplicaClient(http, client.url, "wrong").adapters()


async def test_a_replica_that_cannot_be_reached_is_lost_and_not_healthy():
    async with ReplicaHttp() as http:
        nobody = ReplicaClient(http, "http://127.0.0.1:9", "secret")
        assert not await nobody.healthy()
        with pytest.raises(ReplicaLost):
            await nobody.adapters()


async def test_a_lazily_loaded_adapter_is_there_and_answers(client, adapter):
    await client.load("a/one", adapter, lazy=True)
    assert await client.adapters() == {"a/one": str(adapter)}
    assert set(await client.tiers()) == {"a/one"}
    await client.probe("a/one")
    assert (await client.tiers())["a/one"] in (AdapterTier.RAM, AdapterTier.ACTIVE)


@pytest.mark.parametrize("quantization", Quantization)
async def test_the_embedded_engine_serves_an_adapter_in_few_bits(tmp_path, base, tiny_adapters, quantization):
    wanted = spec(base, quantization=quantization)
    async with replica(ProcessLauncher(tmp_path / "replicas"), wanted) as client:
        await client.load("a/one", tiny_adapters[0])
        for model in ("base", "a/one"):
            status, text = await post(client, "/v1/completions", model=model, prompt="x", max_tokens=2)
            assert status == 200, text
