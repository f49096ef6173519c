"""Brackets nested deeper than Python's recursion goes are the sender's fault, in whatever field they stand."""

import json

import pytest

from loradock.types.errors import MAX_NESTING
from tests.servers import upload

DEEP = 100_000
# Those at which some part of a server still reads the body and another cannot walk through it.
BETWEEN = (500, 900, 985)
ROUTES = {
    ("POST", "/v1/endpoints"): ("model", "autoscaling", "display_name", "unknown"),
    ("PATCH", "/v1/endpoints/endpoint-none"): ("display_name", "state", "unknown"),
    ("POST", "/v1/endpoints/endpoint-none/adapters"): ("model_id", "unknown"),
    ("DELETE", "/v1/endpoints/endpoint-none/adapters"): ("model_id", "unknown"),
    ("POST", "/v1/models"): ("model_name", "model_source", "hf_token", "unknown"),
    ("PATCH", "/v1/models/tester/none"): ("base_model", "unknown"),
    ("POST", "/v1/chat/completions"): ("model", "messages", "tools", "response_format", "user", "stream_options", "x"),
    ("POST", "/v1/completions"): ("model", "prompt", "logit_bias", "guided_json", "prompt_cache_key", "x"),
}


def nested(depth, kind):
    return "[" * depth + "]" * depth if kind == "array" else '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("kind", ["array", "object"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_field_of_any_route_fails_on_it(http, server, method, path, kind):
    for name in ROUTES[method, path]:
        for depth in (*BETWEEN, DEEP):
            body = f'{{"{name}": {nested(depth, kind)}}}'
            answer = http.request(method, path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code in (400, 404), (name, depth, answer.text[:300])
            if depth == DEEP:
                assert answer.status_code == 400, (name, answer.text[:300])
                assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("content", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
def test_a_body_of_nothing_but_brackets(http, server, content):
    for method, path in ROUTES:
        answer = http.request(method, path, content="[" * DEEP, headers={"content-type": content})
        assert answer.status_code in (400, 404, 415), (path, answer.text[:300])
    assert "Traceback" not in server.log()


def test_a_multipart_field_may_hold_any_text(http):
    fields = {"model_name": nested(5000, "array")}
    answer = http.post("/v1/models/upload", data=fields, files={"files": ("a.bin", b"x")})
    assert answer.status_code == 400


@pytest.mark.parametrize("depth", [*BETWEEN, DEEP])
@pytest.mark.parametrize("part", ["config", "weights"])
def test_an_adapters_files_are_refused(http, server, tmp_path, depth, part):
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]}
    odd = f'{{"peft_type": "LORA", "r": {nested(depth, "array")}}}'
    header = nested(depth, "object") if part == "weights" else "{}"
    (tmp_path / "adapter_config.json").write_text(odd if part == "config" else json.dumps(config))
    (tmp_path / "adapter_model.safetensors").write_bytes(_safetensors(header))
    job = upload(http, f"deep-{part}-{depth}", folder=tmp_path)
    assert job["status"] == "Failed"
    assert "internal" not in json.dumps(job).lower()
    assert "Traceback" not in server.log()


def _safetensors(header):
    return len(header).to_bytes(8, "little") + header.encode()


def test_as_much_as_people_nest_is_read(http):
    body = f'{{"model": "none", "messages": [], "x": {nested(MAX_NESTING - 1, "array")}}}'
    answer = http.post("/v1/chat/completions", content=body)
    assert answer.json()["error"]["code"] == "model_not_available"
