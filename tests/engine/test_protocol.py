"""The messages of the replica protocol as they are on the wire, ours and vLLM's."""

import json

import httpx
import msgspec
import pytest

from loradock.types.errors import BadRequest
from loradock.types.protocol import ErrorBody, Health, LoadAdapter, ModelList
from tests.engine.conftest import SECRET


def test_what_the_engine_says_on_the_wire(http: httpx.Client, engine):
    listed = http.get("/v1/models").json()
    assert list(listed) == ["object", "data"]
    base = next(entry for entry in listed["data"] if entry["id"] == "base")
    assert base == {
        "object": "model",
        "created": base["created"],
        "owned_by": "loradock",
        "id": "base",
        "root": None,
        "parent": None,
    }
    adapter = next(entry for entry in listed["data"] if entry["parent"])
    assert list(adapter) == ["object", "created", "owned_by", "id", "root", "parent", "tier"]
    told = httpx.get(f"{engine.url}/health", headers={"authorization": f"Bearer {SECRET}"})
    assert list(told.json()) == ["status", "steps", "work", "compute_seconds"]
    assert told.headers["content-type"] == "application/json"
    missing = http.get("/none").json()
    said = {"message": "GET /none: Not Found", "type": "invalid_request_error", "param": None, "code": None}
    assert missing == {"message": said["message"], "error": said}


@pytest.mark.parametrize(("lazy", "more"), [(False, {}), (True, {"lazy": True})])
def test_vllm_is_not_sent_fields_of_ours_without_need(lazy, more):
    sent = json.loads(msgspec.json.encode(LoadAdapter("a/one", "/one", lazy)))
    assert sent == {"lora_name": "a/one", "lora_path": "/one", **more}


def test_what_vllm_says_is_read():
    entry = {"id": "a", "object": None, "created": 1, "owned_by": None, "root": None, "parent": "base", "tier": None}
    further = {"max_model_len": None, "permission": [{"id": "p", "group": None}]}
    listed = msgspec.json.decode(json.dumps({"object": "list", "data": [entry | further]}), type=ModelList)
    assert [(model.id, model.root, model.parent) for model in listed.data] == [("a", None, "base")]
    said = {"error": {"message": "no", "type": "BadRequestError", "param": None, "code": 400}}
    assert msgspec.json.decode(json.dumps(said), type=ErrorBody).error.message == "no"
    assert msgspec.json.decode(b'{"status": null, "version": 3}', type=Health).steps is None


def test_the_errors_of_the_engine_are_error_bodies():
    body = BadRequest("no", param="x").body()
    assert msgspec.to_builtins(msgspec.convert(body, ErrorBody)) == body
