"""An endpoint from creation to deletion, and several adapters on one, through the unmodified clients."""

import json

import pytest

from tests.clients.clients import VERSIONS, command_line, node_client, python_client
from tests.servers import BASE

NAMES = ("pirate", "json", "shout")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_endpoints_life_through_the_sdk(version, env, server):
    script = f"""
import json, together
client = together.Together()
made = client.endpoints.create(model="{BASE}-lora", hardware="cpu", state="STOPPED", display_name="Mine",
    autoscaling={{"min_replicas": 1, "max_replicas": 1}})
byname = client.endpoints.retrieve(made.name)
changed = client.endpoints.update(made.id, display_name="Yours", autoscaling={{"min_replicas": 1, "max_replicas": 2}})
try:
    client.chat.completions.create(model=made.name, messages=[{{"role": "user", "content": "Hi"}}])
except together.APIStatusError as error:
    stopped = [error.status_code, error.body["error"]["code"]]
client.endpoints.delete(made.id)
try:
    client.endpoints.retrieve(made.id)
except together.NotFoundError as error:
    gone = error.body["message"]
print(json.dumps([made.to_dict(mode="json"), byname.id, changed.to_dict(mode="json"), stopped, gone]))
"""
    made, found, changed, stopped, gone = python_client(version, script, env)
    assert made["id"].startswith("endpoint-")
    assert made["name"].startswith("tester/")
    assert (made["type"], made["owner"], made["state"], made["model"]) == ("dedicated", "tester", "STOPPED", BASE)
    assert made["id"] == found == changed["id"]
    assert (changed["display_name"], changed["autoscaling"]["max_replicas"]) == ("Yours", 2)
    assert stopped == [503, "model_not_available"]
    assert gone == "No endpoint with this id exists"


def test_create_wait_stop_start_through_the_command_line(env, server):
    created = command_line("2.42", ["endpoints", "create", BASE, "--hardware", "cpu", "--wait", "--json"], env)
    assert created.returncode == 0, created.stdout + created.stderr
    endpoint = json.loads(created.stdout)
    assert endpoint["state"] == "STARTED"
    stopped = command_line("2.42", ["endpoints", "stop", endpoint["id"], "--wait", "--json"], env)
    assert json.loads(stopped.stdout)["state"] == "STOPPED"
    started = command_line("2.42", ["endpoints", "start", endpoint["id"], "--wait", "--json"], env)
    assert json.loads(started.stdout)["state"] == "STARTED"
    deleted = command_line("2.42", ["endpoints", "delete", endpoint["id"], "--json"], env)
    assert deleted.returncode == 0, deleted.stdout + deleted.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_several_adapters_on_one_endpoint(version, attached, env):
    rows = json.loads(command_line(version, ["endpoints", "adapters", "ls", attached["name"], "--json"], env).stdout)[
        "data"
    ]
    assert {row["model_id"] for row in rows} == {f"{attached['name']}:tester/{name}" for name in NAMES}
    fields = frozenset({"model_id", "adapter_name", "endpoint_name", "replicas", "message"})
    assert {frozenset(row) for row in rows} == {fields}
    assert {tier for row in rows for tier in row["replicas"].values()} <= {"active", "ram"}
    assert all(len(row["replicas"]) == 1 for row in rows)
    script = f"""
import json
from together import Together
client = Together()
def said(model):
    chunks = client.chat.completions.create(
        model=model, messages=[{{"role": "user", "content": "Hello!"}}], max_tokens=12, temperature=0, stream=True)
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
print(json.dumps([said(f"tester/{{name}}") for name in {NAMES}] + [said("{attached["id"]}")]))
"""
    pirate, as_json, shout, base = python_client(version, script, env)
    assert pirate.startswith("Arrr")
    assert as_json.startswith('{"answer"')
    assert shout == shout.upper()
    assert base not in (pirate, as_json, shout)


def test_names_with_a_slash_through_typescript(attached, env):
    script = f"""
const client = new Together();
const name = "{attached["name"]}", model_id = name + ":tester/pirate";
const removed = await client.endpoints.adapters.remove(name, {{ model_id }});
const left = (await client.endpoints.adapters.list(name)).data.map((row) => row.adapter_name);
const added = await client.endpoints.adapters.add(name, {{ model_id }});
console.log(JSON.stringify([removed.deleted, left, added.model_id]));
"""
    deleted, left, model_id = node_client(script, env)
    assert deleted is True
    assert sorted(left) == ["tester/json", "tester/shout"]
    assert model_id == f"{attached['name']}:tester/pirate"
