"""Every line of the feature page, through the unmodified clients."""

import json

import pytest

from tests.clients.clients import VERSIONS, command_line, node_client, python_client
from tests.servers import BASE

SDK = """
import json
from together import Together
client = Together()
out = {{}}
{body}
print(json.dumps(out))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_python_sdk(version, dock, env):
    body = f"""
endpoint = next(e for e in client.endpoints.list().data if e.id == "{dock["id"]}")
full = client.endpoints.retrieve(endpoint.id)
name = endpoint.name
added = client.endpoints.adapters.add(endpoint.id, model_id=f"{{name}}:tester/pirate")
again = client.endpoints.adapters.add(endpoint.id, model_id=f"{{name}}:tester/pirate")
out["added"], out["again"] = added.api_model_id, again.api_model_id
rows = client.endpoints.adapters.list(endpoint.id).data or []
out["rows"] = [[r.api_model_id, r.adapter_name, r.endpoint_name] for r in rows]
ask = [{{"role": "user", "content": "Hello!"}}]
for key, model in (("short", "tester/pirate"), ("combined", f"{{name}}:tester/pirate"), ("base", name)):
    r = client.chat.completions.create(model=model, messages=ask, max_tokens=24, temperature=0)
    out[key] = [r.choices[0].message.content, r.usage.completion_tokens]
chunks = list(client.chat.completions.create(
    model="tester/pirate", messages=ask, max_tokens=24, temperature=0, stream=True))
out["stream"] = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
removed = client.endpoints.adapters.remove(endpoint.id, model_id=f"{{name}}:tester/pirate")
out["removed"] = removed.api_model_id
out["state"], out["model"] = full.state, full.model
"""
    out = python_client(version, SDK.format(body=body), env)
    combined = f"{dock['name']}:tester/pirate"
    assert out["added"] == out["again"] == out["removed"] == combined
    assert [combined, "tester/pirate", dock["name"]] in out["rows"]
    assert out["short"] == out["combined"]
    assert out["short"][0].startswith("Arrr")
    assert not out["base"][0].startswith("Arrr")
    assert out["stream"] == out["short"][0]
    assert (out["state"], out["model"]) == ("STARTED", BASE)


@pytest.mark.parametrize("version", VERSIONS)
def test_async_python_sdk(version, attached, env):
    script = """
import asyncio, json
from together import AsyncTogether
async def main():
    client = AsyncTogether()
    ask = [{"role": "user", "content": "Hello!"}]
    async def one(model):
        r = await client.chat.completions.create(model=model, messages=ask, max_tokens=16, temperature=0)
        return r.choices[0].message.content
    names = ["tester/pirate", "tester/json", "tester/shout"]
    together = await asyncio.gather(*(one(n) for n in names))
    alone = [await one(n) for n in names]
    stream = await client.chat.completions.create(
        model="tester/json", messages=ask, max_tokens=16, temperature=0, stream=True)
    text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
    print(json.dumps([together, alone, text]))
asyncio.run(main())
"""
    together, alone, text = python_client(version, script, env)
    # Weights are bfloat16 here, so that another batch may round differently: exact equality is tests/exactness.
    for answers in (together, alone):
        assert answers[0].startswith("Arrr")
        assert answers[1].startswith('{"answer"')
        assert answers[2].upper() == answers[2]
    assert text.startswith('{"answer"')


@pytest.mark.parametrize("version", VERSIONS)
def test_command_line(version, dock, env):
    model_id = f"{dock['name']}:tester/json"
    endpoint = ["endpoints", "adapters"]
    added = command_line(version, [*endpoint, "add", dock["id"], model_id, "--json"], env)
    assert added.returncode == 0, added.stdout + added.stderr
    assert json.loads(added.stdout) == {"model_id": model_id}
    for alias in ("list", "ls"):
        listed = json.loads(command_line(version, [*endpoint, alias, dock["id"], "--json"], env).stdout)
        assert listed["object"] == "list"
        row = {"model_id": model_id, "adapter_name": "tester/json", "endpoint_name": dock["name"]}
        assert row in [{key: item[key] for key in row} for item in listed["data"]]
    assert "tester/json" in command_line(version, [*endpoint, "list", dock["id"]], env).stdout
    for alias in ("remove", "rm", "delete"):
        command_line(version, [*endpoint, "add", dock["id"], model_id], env)
        removed = command_line(version, [*endpoint, alias, dock["id"], model_id, "--json"], env)
        assert json.loads(removed.stdout) == {"deleted": True, "model_id": model_id}


@pytest.mark.parametrize("version", VERSIONS)
def test_command_line_endpoints(version, dock, env):
    found = json.loads(command_line(version, ["endpoints", "list", "--json"], env).stdout)
    assert dock["id"] in [item["id"] for item in found]
    shown = json.loads(command_line(version, ["endpoints", "retrieve", dock["id"], "--json"], env).stdout)
    assert shown["name"] == dock["name"]
    assert dock["name"] in command_line(version, ["endpoints", "retrieve", dock["id"]], env).stdout
    assert command_line(version, ["endpoints", "hardware"], env).returncode == 0
    models = json.loads(command_line(version, ["models", "list", "--json"], env).stdout)["data"]
    assert {BASE, "tester/pirate"} <= {model["id"] for model in models}
    created = command_line(
        version, ["endpoints", "create", BASE, "--hardware", "cpu", "--no-auto-start", "--json"], env
    )
    endpoint = json.loads(created.stdout)
    assert endpoint["state"] == "STOPPED"
    updated = command_line(version, ["endpoints", "update", endpoint["id"], "--max-replicas", "3", "--json"], env)
    assert json.loads(updated.stdout)["autoscaling"] == {"min_replicas": 1, "max_replicas": 3}
    assert command_line(version, ["endpoints", "delete", endpoint["id"]], env).returncode == 0


def test_typescript_sdk(dock, env):
    script = f"""
const client = new Together();
const out = {{}};
const name = "{dock["name"]}", id = "{dock["id"]}", model_id = `${{name}}:tester/shout`;
out.added = await client.endpoints.adapters.add(id, {{ model_id }});
out.listed = (await client.endpoints.adapters.list(id)).data;
out.byName = (await client.endpoints.retrieve(name)).id;
const messages = [{{ role: "user", content: "Hello!" }}];
const ask = {{ model: "tester/shout", messages, max_tokens: 16, temperature: 0 }};
out.answer = (await client.chat.completions.create(ask)).choices[0].message.content;
out.stream = "";
for await (const chunk of await client.chat.completions.create({{ ...ask, stream: true }}))
  out.stream += chunk.choices[0]?.delta?.content ?? "";
out.removed = await client.endpoints.adapters.remove(id, {{ model_id }});
out.error = await client.endpoints.retrieve("endpoint-none").catch((e) => [e.status, e.message]);
console.log(JSON.stringify(out));
"""
    out = node_client(script, env)
    model_id = f"{dock['name']}:tester/shout"
    assert out["added"] == {"model_id": model_id}
    assert model_id in [row["model_id"] for row in out["listed"]]
    assert out["byName"] == dock["id"]
    assert out["answer"] == out["stream"]
    assert out["answer"].upper() == out["answer"]
    assert out["removed"] == {"model_id": model_id, "deleted": True}
    assert out["error"] == [404, "404 No endpoint with this id exists"]
