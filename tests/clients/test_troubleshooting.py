"""The ten error messages, word for word, each through a real client."""

import json

import pytest

from tests.clients.clients import VERSIONS, command_line, node_client, python_client
from tests.servers import BASE, create_endpoint

BAD_FORMAT = "model_id must be in format 'endpoint_model_name:adapter_name'"


@pytest.fixture(scope="module")
def cases(server, dock):
    """(endpoint, model_id) pairs that provoke the messages; name → (endpoint id, model id, message, status)."""
    with server.client() as http:
        idle = create_endpoint(http, state="STOPPED")
        plain = create_endpoint(http, state="STOPPED", lora_enabled=False)
        public = create_endpoint(http, state="STOPPED", visibility="public")
        serverless = create_endpoint(http, state="STOPPED", type="serverless")
        other = create_endpoint(http, state="STOPPED")
        _unbind(http, dock)
        bound = http.post(f"/v1/endpoints/{other['id']}/adapters", json={"model_id": f"{other['name']}:tester/json"})
        assert bound.status_code == 200, bound.text
        yield {
            "format": (idle["id"], "no-colon", BAD_FORMAT, 400),
            "two colons": (idle["id"], "a:b:c", BAD_FORMAT, 400),
            "empty half": (idle["id"], f"{idle['name']}:", BAD_FORMAT, 400),
            "prefix": (
                idle["id"],
                f"{dock['name']}:tester/shout",
                "endpoint name in model_id does not match endpoint",
                400,
            ),
            "no model": (idle["id"], f"{idle['name']}:tester/none", "Could not find model", 404),
            "no endpoint": ("endpoint-none", f"{idle['name']}:tester/shout", "No endpoint with this id exists", 404),
            "no lora": (plain["id"], f"{plain['name']}:tester/shout", "endpoint does not have LoRA enabled", 400),
            "bound": (idle["id"], f"{idle['name']}:tester/json", "adapter is already bound to endpoint", 400),
            "serverless": (
                serverless["id"],
                f"{serverless['name']}:tester/shout",
                "new_lora_model must be a dedicated endpoint",
                400,
            ),
            "public": (
                public["id"],
                f"{public['name']}:tester/shout",
                "new_lora_model cannot be a public dedicated endpoint",
                400,
            ),
        }
        http.request(
            "DELETE", f"/v1/endpoints/{other['id']}/adapters", json={"model_id": f"{other['name']}:tester/json"}
        )
        for endpoint in (idle, plain, public, serverless, other):
            assert http.delete(f"/v1/endpoints/{endpoint['id']}").status_code == 204


def _unbind(http, dock):
    for name in ("json", "shout"):
        body = {"model_id": f"{dock['name']}:tester/{name}"}
        http.request("DELETE", f"/v1/endpoints/{dock['id']}/adapters", json=body)


@pytest.fixture
def unbound(http, dock):
    _unbind(http, dock)


@pytest.mark.parametrize("version", VERSIONS)
def test_add_errors_through_the_sdk(version, unbound, cases, env):
    script = f"""
import json, together
client = together.Together()
out = {{}}
for name, (endpoint, model_id, _, _) in json.loads({json.dumps(json.dumps(cases))}).items():
    try:
        client.endpoints.adapters.add(endpoint, model_id=model_id)
        out[name] = "no error"
    except together.APIStatusError as error:
        out[name] = [error.status_code, error.body["message"], type(error).__name__]
print(json.dumps(out))
"""
    out = python_client(version, script, env)
    names = {400: "BadRequestError", 404: "NotFoundError"}
    assert out == {name: [status, message, names[status]] for name, (_, _, message, status) in cases.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_add_errors_through_the_command_line(version, unbound, cases, env):
    for endpoint, model_id, message, _ in cases.values():
        result = command_line(version, ["endpoints", "adapters", "add", endpoint, model_id], env)
        assert result.returncode == 1
        assert message in " ".join(result.stdout.split())


def test_add_errors_through_typescript(unbound, cases, env):
    script = f"""
const client = new Together();
const out = {{}};
for (const [name, [endpoint, model_id]] of Object.entries({json.dumps(cases)}))
  out[name] = await client.endpoints.adapters.add(endpoint, {{ model_id }}).then(
    () => "no error", (e) => [e.status, e.message, e.constructor.name]);
console.log(JSON.stringify(out));
"""
    names = {400: "BadRequestError", 404: "NotFoundError"}
    expected = {name: [status, f"{status} {text}", names[status]] for name, (_, _, text, status) in cases.items()}
    assert node_client(script, env) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_removing_what_is_not_attached(version, unbound, dock, env):
    model_id = f"{dock['name']}:tester/shout"
    result = command_line(version, ["endpoints", "adapters", "remove", dock["id"], model_id, "--json"], env)
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"]["message"] == "adapter is not bound to endpoint"


def test_adapter_of_another_base(http, dock, env, other_base_adapter):
    model_id = f"{dock['name']}:{other_base_adapter}"
    result = command_line("2.42", ["endpoints", "adapters", "add", dock["id"], model_id, "--json"], env)
    message = json.loads(result.stdout)["error"]["message"]
    assert message == "adapter base model is not compatible with endpoint model"


@pytest.fixture
def other_base_adapter(http, tmp_path):
    """An adapter that says it belongs to a base model this server does not have at hand."""
    from tests.servers import EXAMPLES, upload

    for file in (EXAMPLES / "pirate").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text().replace(BASE, "Example/Other-Base"))
    job = upload(http, "other-base", tmp_path)
    assert job["status"] == "Complete", job
    yield "tester/other-base"
    assert http.delete("/v1/models/tester%2Fother-base").status_code == 200
