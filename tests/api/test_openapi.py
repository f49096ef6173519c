"""The description of the API, for programs and for people."""

import json
import re
from pathlib import Path

import pytest

from tests.api.contract import refused


@pytest.fixture(scope="module")
def document(server):
    with server.client() as http:
        return http.get("/openapi.json").json()


def resolve(document, schema):
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def test_calls_of_models_are_described(document):
    for path, text in (("/v1/chat/completions", "messages"), ("/v1/completions", "prompt")):
        operation = document["paths"][path]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert schema["required"] == ["model", text]
        assert {"model", "max_tokens", "stream", "response_format", text} <= set(schema["properties"])


def test_every_call_says_which_key_it_takes(document):
    ((name, scheme),) = document["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["security"] == ([] if path == "/health" else [{name: []}])
            assert resolve(document, operation["responses"]["default"]["content"]["application/json"]["schema"])


def test_every_reference_leads_somewhere(document):
    for name in re.findall(r"#/components/schemas/([^'\"]+)", str(document)):
        assert name in document["components"]["schemas"]
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


def test_every_call_says_what_it_does(document):
    summaries = {
        f"{method} {path}": operation["summary"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert [call for call, summary in summaries.items() if len(summary.split()) < 2] == []


def test_uploads_are_forms(document):
    content = document["paths"]["/v1/models/upload"]["post"]["requestBody"]["content"]
    assert set(content["multipart/form-data"]["schema"]["required"]) == {"model_name", "files"}


def test_the_page_needs_nothing_from_elsewhere(http, server, document):
    page = http.get("/docs", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert not re.findall(r"<script|<link|<img|@import|url\(", page.text)
    assert f"{server.url}/v1/chat/completions" in page.text
    for path in document["paths"]:
        assert f"<code>{path}</code>" in page.text
    for field in ("autoscaling.min_replicas", "max_lora_rank", "model_source", "subfolder", "stream_options"):
        assert f"<code>{field}</code>" in page.text


MISSPELT = [
    ("POST", "/v1/endpoints", {"modle": "x"}, "model"),
    ("POST", "/v1/endpoints", {"model": "x", "inactive_timout": 5}, "inactive_timeout"),
    ("POST", "/v1/endpoints", {"model": "x", "displayName": "x"}, "display_name"),
    ("POST", "/v1/endpoints", {"model": "x", "autoscaling": {"min_replica": 2}}, "min_replicas"),
    ("PATCH", "/v1/endpoints/{id}", {"max-lora-rank": 8}, "max_lora_rank"),
    ("POST", "/v1/endpoints/{id}/adapters", {"modelid": "a:b"}, "model_id"),
    ("POST", "/v1/models", {"model_name": "x", "model_sorce": "a/b"}, "model_source"),
]


@pytest.mark.parametrize(("method", "path", "body", "meant"), MISSPELT)
def test_a_misspelt_field_is_refused(http, endpoint, method, path, body, meant):
    answer = http.request(method, path.format(id=endpoint["id"]), json=body)
    refused(answer, 400, "did you mean", meant)
    assert answer.json()["error"]["param"] == meant


def test_a_misspelt_field_of_a_form_is_refused(http):
    files = [("files", ("adapter_config.json", b"{}"))]
    answer = http.post("/v1/models/upload", data={"model_name": "x", "basemodel": "y"}, files=files)
    refused(answer, 400, "did you mean base_model")


def test_an_unknown_field_is_remarked_on(http, endpoint, adapter):
    path = f"/v1/endpoints/{endpoint['id']}"
    changed = http.patch(path, json={"display_name": "x", "colour": "red", "note": None}).json()
    (warning,) = changed["warnings"]
    assert "'colour'" in warning["message"] and "display_name" in warning["message"]
    nested = http.patch(path, json={"autoscaling": {"max_replicas": 2, "strategy": "cpu"}}).json()
    assert "strategy" in nested["warnings"][0]["message"]
    body = {"model_id": f"{endpoint['name']}:{adapter}", "slot": 3}
    assert "slot" in http.post(f"{path}/adapters", json=body).json()["warnings"][0]["message"]
    assert "slot" in http.request("DELETE", f"{path}/adapters", json=body).json()["warnings"][0]["message"]
    told = http.get("/v1/events", params={"subject": endpoint["id"]}).text
    assert "colour" not in told


def test_what_official_clients_send_is_not_remarked_on(http, endpoint):
    sent = {"model": endpoint["model"], "state": "STOPPED", "disable_prompt_cache": True, "inactive_timeout": None}
    made = http.post("/v1/endpoints", json={**sent, "disable_speculative_decoding": False}).json()
    assert "warnings" not in made
    assert http.delete(f"/v1/endpoints/{made['id']}").status_code == 204


TOGETHER = json.loads(Path(__file__).with_name("together_answers.json").read_text())
"""What the hosted original's answers always have (its OpenAPI document of April 2026): type or values by field."""


def described(document, schema, path):
    """All that `schema` says of what lies at `path`."""
    schema = resolve(document, schema)
    if "anyOf" in schema:
        return [found for part in schema["anyOf"] for found in described(document, part, path)]
    if not path:
        return [schema]
    name, *rest = path
    inner = schema.get("items") if name == "[]" else schema.get("properties", {}).get(name)
    return described(document, inner, rest) if inner is not None else []


@pytest.mark.parametrize(("call", "field"), [(call, field) for call, fields in TOGETHER.items() for field in fields])
def test_answers_have_what_the_hosted_originals_have(document, call, field):
    method, path = call.split()
    answer = document["paths"][path][method.lower()]["responses"]["200"]["content"]["application/json"]["schema"]
    names = [part for part in re.split(r"(\[\])|\.", field) if part]
    found = described(document, answer, names)
    assert found, f"{call} does not describe {field}"
    wanted = TOGETHER[call][field]
    if isinstance(wanted, list):
        ours = {value for schema in found for value in schema.get("enum", [schema.get("const")])}
        assert ours & set(wanted)
    elif wanted != "any":
        types = {schema.get("type") for schema in found}
        assert wanted in types or (wanted == "number" and "integer" in types)


def test_every_call_says_what_it_answers(document):
    silent = {"GET /metrics", "DELETE /v1/endpoints/{reference}"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            call = f"{method.upper()} {path}"
            (status,) = set(operation["responses"]) - {"default"}
            schema = operation["responses"][status].get("content", {}).get("application/json", {}).get("schema")
            assert call in silent or schema, call
