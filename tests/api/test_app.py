"""What holds for every route: aliases, keys, error bodies, request ids, and walls between accounts."""

import httpx
import pytest

from tests.api.contract import refused
from tests.servers import BASE, KEY

ROUTES = [
    ("GET", "/v1/whoami"),
    ("GET", "/v1/projects"),
    ("GET", "/v1/endpoints"),
    ("GET", "/v1/endpoints/{endpoint}"),
    ("PATCH", "/v1/endpoints/{endpoint}"),
    ("DELETE", "/v1/endpoints/{endpoint}"),
    ("GET", "/v1/endpoints/{endpoint}/adapters"),
    ("POST", "/v1/endpoints/{endpoint}/adapters"),
    ("DELETE", "/v1/endpoints/{endpoint}/adapters"),
    ("GET", "/v1/hardware"),
    ("GET", "/v1/clusters/availability-zones"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("DELETE", "/v1/models/{model}"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/{job}"),
]


@pytest.mark.parametrize(
    "path", ["/v1/whoami", "/v3/whoami", "/whoami", "/v1/v1/whoami", "/v1/v3/whoami", "/proxy/v3/whoami", "/v1/whoami/"]
)
def test_whoami_has_both_shapes_under_every_spelling(http, path):
    who = http.get(path).json()
    assert who["type"] == "project_api_key"
    assert who["api_key"]["id"]
    assert who["organization"]["name"] == who["project"]["slug"] == who["project_slug"] == "tester"
    assert who["project"]["id"] == who["project_id"]


@pytest.mark.parametrize("path", ["endpoints", "models", "jobs", "hardware", "projects", "clusters/availability-zones"])
def test_paths_without_and_with_twice_the_version_are_the_same(http, path):
    expected = http.get(f"/v1/{path}").json()
    assert http.get(f"/{path}").json() == http.get(f"/v1/v1/{path}").json() == expected


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Basic dGVzdGVyOg==", KEY])
@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("POST", "/v1/endpoints"), ("POST", "/v1/models")])
def test_every_route_wants_a_key(server, method, path, header):
    headers = {"authorization": header} if header else {}
    body = {"model": BASE, "model_id": "a:b", "model_name": "x", "model_source": "org/repo"}
    url = server.url + path.format(endpoint="e", model="m", job="j")
    answer = httpx.request(method, url, headers=headers, json=body)
    refused(answer, 401, "loradock keys create", type="authentication_error", code="invalid_api_key")


def test_unknown_routes_and_methods_answer_in_the_same_shape(http):
    refused(http.get("/v1/nothing"), 404, "GET /v1/nothing", type="not_found")
    refused(http.put("/v1/endpoints"), 405, "PUT")
    refused(http.get("/redoc"), 404, "GET /docs", type="not_found")


@pytest.mark.parametrize("prefix", ["", "/v1", "/v1/v1"])
@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/chat/completions/"])
def test_inference_is_found_under_every_spelling(http, prefix, path):
    answer = http.post(prefix + path, json={"model": "none"})
    refused(answer, 404, "GET /v1/models", type="not_found", code="model_not_available")


def test_every_answer_has_a_request_id_of_its_own(http):
    ids = [http.get(path).headers["x-request-id"] for path in ("/v1/endpoints", "/v1/nothing", "/health")]
    assert len(set(ids)) == 3


def test_the_description_of_the_api_is_served(http):
    assert "/v1/endpoints" in http.get("/openapi.json").json()["paths"]


def test_another_account_sees_nothing_and_cannot_tell_it_from_what_does_not_exist(http, stranger, endpoint, adapter):
    job = http.get("/v1/jobs").json()["data"][0]["job_id"]
    real = {"endpoint": endpoint["id"], "model": "tester%2Fcontract-test", "job": job}
    named = {**real, "endpoint": endpoint["name"].replace("/", "%2F")}
    unreal = {"endpoint": "endpoint-x", "model": "tester%2Fother", "job": "job-x"}
    body = {"model_id": f"{endpoint['name']}:{adapter}", "display_name": "mine now"}
    for method, path in ROUTES:
        if "{" not in path:
            continue
        for target in (real, named):
            answer = stranger.request(method, path.format(**target), json=body)
            other = stranger.request(method, path.format(**unreal), json=body)
            assert answer.status_code == other.status_code == 404, (method, path)
            assert answer.text.replace(job, "job-x") == other.text
    assert http.get(f"/v1/endpoints/{endpoint['id']}").json() == endpoint
    assert http.get(f"/v1/models/{real['model']}").json()["id"] == adapter


def test_lists_show_only_the_own(http, stranger, endpoint, adapter):
    for path in ("/v1/endpoints", "/v1/jobs", "/v1/models?catalogue=true"):
        text = stranger.get(path).text
        assert "tester" not in text
        assert endpoint["id"] not in text


def test_another_accounts_adapter_is_like_one_that_does_not_exist(http, stranger, endpoint, adapter):
    made = stranger.post("/v1/endpoints", json={"model": BASE, "hardware": "cpu", "state": "STOPPED"}).json()
    for name in (adapter, "tester/none"):
        body = {"model_id": f"{made['name']}:{name}"}
        refused(
            stranger.post(f"/v1/endpoints/{made['id']}/adapters", json=body),
            404,
            "Could not find model",
            type="not_found",
        )
    answers = [stranger.post("/v1/chat/completions", json={"model": m}).json() for m in (adapter, "tester/none")]
    assert str(answers[0]).replace(adapter, "tester/none") == str(answers[1])
    assert stranger.delete(f"/v1/endpoints/{made['id']}").status_code == 204
