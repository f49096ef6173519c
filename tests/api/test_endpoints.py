from urllib.parse import quote

import pytest

from tests.api.contract import conforms, refused
from tests.servers import BASE

BODY = {"model": BASE, "hardware": "", "autoscaling": {"min_replicas": 1, "max_replicas": 1}, "state": "STOPPED"}


@pytest.fixture
def create(http):
    made = []

    def run(**changes):
        response = http.post("/v1/endpoints", json={**BODY, **changes})
        if response.status_code == 200:
            made.append(response.json()["id"])
        return response

    yield run
    for endpoint_id in made:
        http.delete(f"/v1/endpoints/{endpoint_id}")


def test_a_new_endpoint_has_every_field_and_is_private_and_lora_enabled(create):
    answer = create().json()
    conforms(answer, "DedicatedEndpoint")
    assert answer["name"].startswith(f"tester/{BASE}-")
    assert answer["display_name"] == answer["name"]
    assert (answer["lora_enabled"], answer["visibility"], answer["inactive_timeout"]) == (True, "private", None)
    assert (answer["state"], answer["owner"], answer["message"]) == ("STOPPED", "tester", None)


def test_the_lora_suffix_is_taken_off_and_the_switch_turns_lora_off(create):
    assert create(model=f"{BASE}-Lora").json()["model"] == BASE
    assert create(lora_enabled=False).json()["lora_enabled"] is False


@pytest.mark.parametrize("minutes", [0, None])
def test_no_minutes_mean_no_timeout(create, http, minutes):
    endpoint = create(inactive_timeout=30).json()
    assert endpoint["inactive_timeout"] == 30
    changed = http.patch(f"/v1/endpoints/{endpoint['id']}", json={"inactive_timeout": minutes}).json()
    assert changed["inactive_timeout"] is None


def test_the_zone_is_read_from_body_and_query(create, http):
    assert create(availability_zone="local").status_code == 200
    refused(create(availability_zone="moon"), 400, "moon", "'local'")
    refused(http.post("/v1/endpoints?availability_zone=moon", json=BODY), 400, "moon")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": None}, ["model", "string"]),
        ({"model": 5}, ["model", "string", "5"]),
        ({"model": ""}, ["model"]),
        ({"model": "../../etc"}, ["is not a valid model name"]),
        ({"hardware": "9x_gpu"}, ["invalid hardware provided", "1x_cpu_"]),
        ({"state": "RUNNING"}, ["state", "'STARTED' or 'STOPPED'", "RUNNING"]),
        ({"type": "shared"}, ["type", "'dedicated' or 'serverless'"]),
        ({"visibility": "secret"}, ["visibility", "'private' or 'public'"]),
        ({"lora_enabled": "yes"}, ["lora_enabled", "boolean"]),
        ({"autoscaling": {"min_replicas": 2, "max_replicas": 1}}, ["min_replicas 2 is above max_replicas 1"]),
        ({"autoscaling": {"min_replicas": 0, "max_replicas": 1}}, ["at least 1", "STOPPED"]),
        ({"autoscaling": {"min_replicas": -1, "max_replicas": 1}}, ["at least 1"]),
        ({"autoscaling": {"min_replicas": 1, "max_replicas": 10**30}}, ["limit of 64"]),
        ({"autoscaling": {"min_replicas": True, "max_replicas": 1}}, ["autoscaling.min_replicas", "integer"]),
        ({"autoscaling": {"min_replicas": "1", "max_replicas": 1}}, ["autoscaling.min_replicas", "integer"]),
        ({"autoscaling": 3}, ["autoscaling"]),
        ({"inactive_timeout": -5}, ["inactive_timeout is -5", "0 for never"]),
        ({"inactive_timeout": 10**30}, ["at most"]),
        ({"display_name": "x" * 201}, ["201 characters", "at most 200"]),
    ],
    ids=str,
)
def test_wrong_input_is_refused_with_a_way_out(create, change, words):
    refused(create(**change), 400, *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "needs a JSON object"),
        (b"[]", "needs a JSON object"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "body"),
        (b"{}", "model is missing"),
        (b'{"model": "m", "display_name": "\\ud800"}', "display_name"),
    ],
    ids=str,
)
def test_a_wrong_body_is_refused(http, content, words):
    refused(http.post("/v1/endpoints", content=content, headers={"content-type": "application/json"}), 400, words)


def test_a_huge_body_is_refused(http):
    refused(http.post("/v1/endpoints", json={"model": "x" * (2 << 20)}), 413, "1 MiB")


def test_an_adapter_is_no_base_model(create, adapter):
    refused(create(model=adapter), 400, f"{adapter} is an adapter", BASE, "attach")
    refused(create(model="contract-test"), 400, f"{adapter} is an adapter")


def test_it_is_found_by_id_and_by_name_however_its_slashes_are_sent(http, endpoint):
    for reference in (endpoint["id"], quote(endpoint["name"], safe=""), endpoint["name"]):
        assert http.get(f"/v1/endpoints/{reference}").json() == endpoint
        assert http.get(f"/v1/endpoints/{reference}/adapters").json() == {"object": "list", "data": []}


def test_lists_filter_by_type_and_usage(http, endpoint, create):
    serverless = create(type="serverless").json()
    answer = http.get("/v1/endpoints", params={"mine": "true", "type": "dedicated"}).json()
    for item in answer["data"]:
        conforms(item, "ListEndpoint")
    ids = [item["id"] for item in answer["data"]]
    assert answer["object"] == "list"
    assert endpoint["id"] in ids
    assert serverless["id"] not in ids
    only = http.get("/v1/endpoints", params={"type": "serverless"}).json()["data"]
    assert [item["id"] for item in only] == [serverless["id"]]
    assert http.get("/v1/endpoints", params={"usage_type": "reserved"}).json()["data"] == []


@pytest.mark.parametrize("query", ["type=shared", "mine=perhaps", "usage_type=spot"])
def test_a_wrong_filter_is_refused(http, query):
    name, _, value = query.partition("=")
    refused(http.get(f"/v1/endpoints?{query}"), 400, name, value)


def test_an_update_changes_only_what_it_names(http, endpoint):
    path = f"/v1/endpoints/{endpoint['id']}"
    assert http.patch(path, json={"autoscaling": {"max_replicas": 3}}).json()["autoscaling"] == {
        "min_replicas": 1,
        "max_replicas": 3,
    }
    assert http.patch(path, json={"autoscaling": {"min_replicas": 2}}).json()["autoscaling"]["min_replicas"] == 2
    refused(http.patch(path, json={"autoscaling": {"max_replicas": 1}, "display_name": "new"}), 400, "above")
    changed = http.patch(path, json={}).json()
    assert changed == {**endpoint, "autoscaling": {"min_replicas": 2, "max_replicas": 3}}
    renamed = http.patch(path, json={"display_name": "sea shanties"}).json()
    conforms(renamed, "DedicatedEndpoint")
    assert (renamed["display_name"], renamed["name"]) == ("sea shanties", endpoint["name"])
    assert http.patch(path, json={"state": "STOPPED"}).json()["state"] == "STOPPED"


def test_deleting_names_the_adapters_that_stand_in_the_way(http, endpoint, adapter):
    path, body = f"/v1/endpoints/{endpoint['id']}", {"model_id": f"{endpoint['name']}:{adapter}"}
    assert http.post(f"{path}/adapters", json=body).json() == body
    refused(http.delete(path), 400, adapter, "Detach them first", endpoint["id"], "--detach")
    assert http.request("DELETE", f"{path}/adapters", json=body).json() == {**body, "deleted": True}
    answer = http.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    refused(http.get(path), 404, "No endpoint with this id exists", type="not_found")
    refused(http.delete(path), 404, type="not_found")


def test_deleting_can_detach_what_is_attached(http, endpoint, adapter):
    path, model_id = f"/v1/endpoints/{endpoint['id']}", f"{endpoint['name']}:{adapter}"
    assert http.post(f"{path}/adapters", json={"model_id": model_id}).status_code == 200
    refused(http.delete(path, params={"detach": "false"}), 400, adapter)
    assert http.delete(path, params={"detach": "true"}).status_code == 204
    refused(http.get(path), 404, type="not_found")
    assert http.get(f"/v1/models/{adapter.replace('/', '%2F')}").json()["attached_to"] is None
    told = http.get("/v1/events", params={"subject": adapter, "limit": 1}).json()["data"]
    assert [(event["kind"], endpoint["name"] in event["message"]) for event in told] == [("detach.done", True)]


def test_an_adapter_goes_by_its_short_name_and_is_answered_with_one_that_can_be_called(http, endpoint, adapter):
    path, short = f"/v1/endpoints/{endpoint['id']}/adapters", adapter.partition("/")[2]
    given, full = {"model_id": f"{endpoint['name']}:{short}"}, f"{endpoint['name']}:{adapter}"
    assert http.post(path, json=given).json() == {"model_id": full}
    for model in (adapter, full, short, given["model_id"]):
        asked = http.post("/v1/completions", json={"model": model, "prompt": "x"})
        refused(asked, 503, "STOPPED", type="service_unavailable", code="model_not_available")
    assert http.request("DELETE", path, json=given).json() == {"model_id": full, "deleted": True}


def test_a_list_says_why_an_endpoint_is_as_it_is(http, endpoint):
    (shown,) = [item for item in http.get("/v1/endpoints").json()["data"] if item["id"] == endpoint["id"]]
    assert (shown["state"], shown["message"]) == ("STOPPED", None)


def test_weights_are_kept_in_as_many_bits_as_asked(http):
    shown = []
    for asked in (None, "none", "int8", "int4"):
        made = http.post("/v1/endpoints", json={**BODY, "quantization": asked}).json()
        path = f"/v1/endpoints/{made['id']}"
        listed = next(item for item in http.get("/v1/endpoints").json()["data"] if item["id"] == made["id"])
        assert made["quantization"] == http.get(path).json()["quantization"] == listed["quantization"]
        shown.append(made["quantization"])
        assert http.patch(path, json={"quantization": "int4"}).json()["quantization"] == "int4"
        assert http.delete(path).status_code == 204
    assert shown == ["none", "none", "int8", "int4"]
    refused(http.post("/v1/endpoints", json={**BODY, "quantization": "int2"}), 400, "int8", "int2")


def test_hardware_is_what_the_machine_has(http):
    answer = http.get("/v1/hardware").json()
    assert answer["object"] == "list"
    assert all("availability" not in item for item in answer["data"])
    for item in http.get("/v1/hardware", params={"model": BASE}).json()["data"]:
        conforms(item, "HardwareWithStatus")
        assert item["availability"]["status"] == ("available" if item["id"].startswith("1x_cpu_") else "unavailable")


def test_zones(http):
    answer = http.get("/v1/clusters/availability-zones").json()
    conforms(answer, "ListAvailibilityZonesResponse")
    assert answer == {"avzones": ["local"]}


def test_what_is_ours_beyond_the_original_can_be_set_and_changed(create, http):
    endpoint = create(auto_start=True, max_lora_rank=16).json()
    assert (endpoint["auto_start"], endpoint["max_lora_rank"], endpoint["engine"]) == (True, 16, "embedded")
    change = {"auto_start": False, "max_lora_rank": 32, "lora_enabled": False}
    changed = http.patch(f"/v1/endpoints/{endpoint['id']}", json=change).json()
    assert change == {key: changed[key] for key in change}
    refused(http.patch(f"/v1/endpoints/{endpoint['id']}", json={"max_lora_rank": 0}), 400, "max_lora_rank is 0")
    refused(create(max_lora_rank=1000), 400, "max_lora_rank is 1000")


def test_an_engine_that_is_not_here_is_refused_with_the_way_to_get_it(create):
    refused(create(engine="vllm"), 400, "--vllm-python")
    refused(create(engine="magic"), 400, "engine")


def test_a_stopped_endpoint_has_no_replicas(create, http):
    endpoint = create().json()
    assert http.get(f"/v1/endpoints/{endpoint['id']}/replicas").json() == {"object": "list", "data": []}
    refused(http.get("/v1/endpoints/endpoint-none/replicas"), 404, "No endpoint with this id exists", type="not_found")
