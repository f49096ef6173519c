import pytest

from loradock.api import nearest as module
from loradock.api.nearest import allowed, nearest
from tests.api.contract import refused

ROUTES = {
    "/v1/chat/completions": {"post": {}},
    "/v1/completions": {"post": {}},
    "/v1/models": {"get": {}},
    "/v1/models/{name}": {"get": {}, "delete": {}},
    "/v1/endpoints": {"get": {}, "post": {}},
    "/v1/endpoints/{endpoint_id}/adapters": {"get": {}, "post": {}, "delete": {}},
    "/v1/jobs/{job_id}": {"get": {}},
}


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("POST", "/v1/responses", "POST /v1/chat/completions"),
        ("POST", "/v1/messages", "POST /v1/chat/completions"),
        ("POST", "/api/chat", "POST /v1/chat/completions"),
        ("POST", "/api/generate", "POST /v1/completions"),
        ("GET", "/v1/responses/resp_123", "POST /v1/chat/completions"),
        ("POST", "/v1/chat/completion", "POST /v1/chat/completions"),
        ("POST", "/v1/chat/compeltions", "POST /v1/chat/completions"),
        ("GET", "/v1/model", "GET /v1/models"),
        ("GET", "/v1/endpoint", "GET /v1/endpoints"),
        ("PUT", "/v1/endpoints/endpoint-1/adapter", "DELETE /v1/endpoints/{endpoint_id}/adapters"),
        ("GET", "/v1/job/job-1", "GET /v1/jobs/{job_id}"),
        ("POST", "/v1/embeddings", None),
        ("GET", "/", None),
        ("GET", "/wp-admin/login.php", None),
    ],
)
def test_what_may_have_been_meant(method, path, meant):
    assert nearest(method, path, ROUTES) == meant


def test_methods_of_a_route():
    assert allowed("/v1/models/alice/pirate", ROUTES) == ["DELETE", "GET"]
    assert allowed("/v1/chat/completions", ROUTES) == ["POST"]
    assert allowed("/v1/nothing", ROUTES) == allowed("/v1//chat/completions", ROUTES) == []
    assert nearest("POST", "/v1//chat/completions", ROUTES) == "POST /v1/chat/completions"


@pytest.mark.parametrize("path", ["/v1/x" + "/a" * 30_000, "/v1/" + "endpoint" * 5000])
def test_a_long_path_is_compared_with_nothing(monkeypatch, path):
    """Anybody may ask for one, and while it is compared nobody else is answered."""

    def compared(*_):
        raise AssertionError

    monkeypatch.setattr(module, "SequenceMatcher", compared)
    assert nearest("GET", path, ROUTES) is None
    assert nearest("GET", f"{path}/chat", ROUTES) == "POST /v1/chat/completions"
    assert allowed(path, ROUTES) == []
    assert allowed(path.replace("/v1", "/v1/models"), ROUTES) == ["DELETE", "GET"]


def test_the_server_names_the_nearest_route(http):
    answer = http.post("/v1/responses", json={"model": "x", "input": "Hi"})
    refused(
        answer, 404, "There is no POST /v1/responses here; the nearest is POST /v1/chat/completions", type="not_found"
    )
    refused(http.post("/v1/embeddings", json={}), 404, "There is no POST /v1/embeddings here", type="not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/v1/chat/completions", "POST"), ("PUT", "/v1/hardware", "GET"), ("DELETE", "/v1/endpoints", "GET, POST")],
)
def test_a_wrong_method_is_told_the_right_ones(http, method, path, allow):
    answer = http.request(method, path)
    refused(answer, 405, allow.split(", ")[0])
    assert answer.headers["allow"] == allow
