"""Uploading, jobs, the catalogue and the account, through the unmodified clients."""

import json
import time

import pytest

from tests.clients.clients import VERSIONS, command_line, node_client, python_client
from tests.servers import BASE, EXAMPLES, wait_job

SOURCE = f"file://{EXAMPLES / 'shout'}"


@pytest.fixture
def upload_name(http):
    """A free short name; whatever was uploaded under it is gone afterwards."""
    yield "brought"
    for _ in range(100):
        deleted = http.delete("/v1/models/tester%2Fbrought")
        if "last requests" not in deleted.text:
            break
        time.sleep(0.1)  # a removed adapter is unloaded in the background
    assert deleted.status_code == 200, deleted.text


@pytest.mark.parametrize("version", VERSIONS)
def test_upload_through_the_sdk(version, dock, env, upload_name):
    script = f"""
import json, time
from together import Together
client = Together()
sent = client.models.upload(
    model_name="{upload_name}", model_source="{SOURCE}", model_type="adapter", base_model="{BASE}")
job = client.models.uploads.status(sent.data.job_id)
while job.status not in ("Complete", "Failed"):
    time.sleep(0.1)
    job = client.models.uploads.status(sent.data.job_id)
known = [model.id for model in client.models.list()]
print(json.dumps([sent.data.x_model_name, job.status, job.type, [u.status for u in job.status_updates], known]))
"""
    name, status, kind, updates, known = python_client(version, script, env)
    assert (name, status, kind) == ("tester/brought", "Complete", "adapter_upload")
    assert updates[-1] == "Complete"
    assert "tester/brought" in known


@pytest.mark.parametrize("version", VERSIONS)
def test_upload_through_the_command_line(version, http, dock, env, upload_name):
    sent = command_line(version, ["models", "upload", upload_name, SOURCE, "--model-type", "adapter", "--json"], env)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    data = json.loads(sent.stdout)["data"]
    assert data["model_name"] == "tester/brought"
    assert wait_job(http, data["job_id"])["status"] == "Complete"


def test_upload_and_call_through_typescript(dock, env, upload_name):
    script = f"""
const client = new Together();
const endpoint = "{dock["id"]}";
const sent = await client.models.upload({{ model_name: "{upload_name}", model_source: "{SOURCE}" }});
let job;
do {{
  await new Promise((done) => setTimeout(done, 100));
  job = await client.models.uploads.status(sent.data.job_id);
}} while (job.status !== "Complete" && job.status !== "Failed");
const model_id = "{dock["name"]}:" + sent.data.model_name;
await client.endpoints.adapters.add(endpoint, {{ model_id }});
const messages = [{{ role: "user", content: "Hello!" }}];
const reply = await client.chat.completions.create({{ model: model_id, messages, max_tokens: 12, temperature: 0 }});
await client.endpoints.adapters.remove(endpoint, {{ model_id }});
const models = await client.models.list();
console.log(JSON.stringify([job.status, reply.choices[0].message.content, models.map((model) => model.id)]));
"""
    status, text, models = node_client(script, env)
    assert status == "Complete"
    assert text == text.upper()
    assert {BASE, "tester/brought"} <= set(models)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_upload_says_why(version, dock, env):
    outside = command_line(version, ["models", "upload", "outside", "file:///etc", "--json"], env)
    assert outside.returncode == 1
    assert "import root" in outside.stdout


def test_who_and_where(env, dock):
    script = """
import json
from together import Together
client = Together()
who, projects = client.whoami(), client.projects.list()
hardware, zones = client.endpoints.list_hardware(), client.endpoints.list_avzones()
print(json.dumps([who.project_slug, [p.slug for p in projects.data], [h.id for h in hardware.data], zones.avzones]))
"""
    slug, projects, hardware, zones = python_client("2.42", script, env)
    assert slug == "tester"
    assert projects == ["tester"]
    assert any("cpu" in name for name in hardware)
    assert zones
    who, listed = node_client(
        "const client = new Together();"
        "console.log(JSON.stringify([await client.whoami(), await client.endpoints.listHardware()]));",
        env,
    )
    assert who["project_slug"] == "tester"
    assert [item["id"] for item in listed["data"]] == hardware


@pytest.mark.parametrize("version", VERSIONS)
def test_a_base_url_without_v1(version, server, attached, env):
    script = """
import json
from together import Together
client = Together()
reply = client.chat.completions.create(
    model="tester/pirate", messages=[{"role": "user", "content": "Hello!"}], max_tokens=8, temperature=0)
print(json.dumps([reply.choices[0].message.content, len(client.endpoints.list().data)]))
"""
    text, endpoints = python_client(version, script, {**env, "TOGETHER_BASE_URL": server.url})
    assert text.startswith("Arrr")
    assert endpoints >= 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_key(version, server, dock, env):
    script = """
import json, together
try:
    together.Together().endpoints.list()
except together.APIStatusError as error:
    print(json.dumps([type(error).__name__, error.body["error"]["code"]]))
"""
    stranger = {**env, "TOGETHER_API_KEY": "ld-wrong"}
    assert python_client(version, script, stranger) == ["AuthenticationError", "invalid_api_key"]
