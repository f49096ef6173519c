"""What a real server with the real engine counts, and whom it tells."""

import time

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loradock.store.database import Database
from loradock.store.usage import EndpointRow, UsageRow
from loradock.telemetry.usage import COUNTS, Usage
from tests.api.contract import refused
from tests.servers import KEY, RunningServer, create_endpoint, wait_state

ASK = [{"role": "user", "content": "Tell me about rain."}]


def samples(http):
    """(name, labels) → value of everything /metrics shows."""
    response = http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(response.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(found, name, **labels):
    return found.get((name, frozenset(labels.items())), 0.0)


def settled(http, endpoint, before, requests):
    """What was added to the metrics since `before`, once so many requests were counted: right after the last byte."""
    labels = {"endpoint": endpoint["name"], "adapter": "tester/pirate", "outcome": "ok"}
    for _ in range(100):
        found = {key: number - before.get(key, 0.0) for key, number in samples(http).items()}
        if value(found, "loradock_requests_total", **labels) == requests:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not counted: {found}")


@pytest.fixture
def docked(http, dock):
    model = {"model_id": f"{dock['name']}:tester/pirate"}
    assert http.post(f"/v1/endpoints/{dock['id']}/adapters", json=model).status_code == 200
    yield dock
    http.request("DELETE", f"/v1/endpoints/{dock['id']}/adapters", json=model)


def test_streams_are_counted_as_the_engine_counts_them(server, http, docked, stranger):
    before = samples(http)  # other tests have asked this server too
    options = {"model": "tester/pirate", "messages": ASK, "max_tokens": 12, "temperature": 0}
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client:
        whole = client.chat.completions.create(**options)
        unasked = list(client.chat.completions.create(**options, stream=True))
        asked = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert all("usage" not in chunk.model_fields_set and chunk.choices for chunk in unasked)
    assert len(asked) == len(unasked) + 1
    usage = asked[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)

    together = http.post(
        "/v1/chat/completions", json={**options, "stream": True}, headers={"user-agent": "Together/Python 2.42.0"}
    )
    assert together.text.count('"usage":null') == together.text.count("data: {") - 1

    found = settled(http, docked, before, 4)
    labels = {"endpoint": docked["name"], "adapter": "tester/pirate"}
    assert value(found, "loradock_tokens_total", **labels, kind="prompt") == 4 * usage.prompt_tokens
    assert value(found, "loradock_tokens_total", **labels, kind="completion") == 4 * usage.completion_tokens
    for name, count in (("time_to_first_token", 3), ("time_per_output_token", 3), ("request_duration", 4)):
        assert value(found, f"loradock_{name}_seconds_count", **labels) == count
        assert value(found, f"loradock_{name}_seconds_bucket", **labels, le="+Inf") == count
        assert value(found, f"loradock_{name}_seconds_sum", **labels) > 0
    now = samples(http)
    assert value(now, "loradock_replicas", endpoint=docked["name"], state="ready") == 1
    assert value(now, "loradock_adapters_attached", endpoint=docked["name"]) == 1
    assert ("loradock_requests_in_flight", frozenset({("endpoint", docked["name"])})) in now
    assert docked["name"] not in stranger.get("/metrics").text


def test_metrics_want_a_key(server, http):
    with server.client("wrong") as nobody:
        refused(
            nobody.get("/metrics"), 401, "loradock keys create", type="authentication_error", code="invalid_api_key"
        )
    answer = http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.text.endswith("# EOF\n")


def test_events_say_who_and_are_the_own(http, stranger, dock):
    made = create_endpoint(http, state="STOPPED", display_name="told of")
    for state in ("STARTED", "STARTED", "STOPPED"):
        http.patch(f"/v1/endpoints/{made['id']}", json={"state": state})
    wait_state(http, made["id"], "STOPPED")
    seen = http.get("/v1/events", params={"subject": "told of"}).json()["data"]
    asked = [event for event in seen if event["actor"] == "bootstrap …ount"]
    kinds = [event["kind"] for event in reversed(asked) if event["kind"] != "endpoint.updated"]
    assert kinds == ["endpoint.created", "endpoint.start", "endpoint.stop"]
    assert {event["subject_id"] for event in seen} == {made["id"]}
    by_itself = {event["kind"] for event in seen if event["actor"] == "loradock"}
    assert "endpoint.stopped" in by_itself
    assert {"endpoint.started", "replica.launched"} <= {
        event["kind"] for event in http.get("/v1/events", params={"subject": dock["name"], "limit": 200}).json()["data"]
    }
    told = http.get("/v1/events", params={"subject": "tester/pirate", "limit": 200}).json()["data"]
    assert ("model.uploaded", "bootstrap …ount") in [(event["kind"], event["actor"]) for event in told]
    for params in ({}, {"subject": made["id"]}, {"subject": made["name"]}):
        assert made["id"] not in stranger.get("/v1/events", params=params).text
    assert http.delete(f"/v1/endpoints/{made['id']}").status_code == 204
    assert http.get("/v1/events", params={"subject": made["id"]}).json()["data"][0]["kind"] == "endpoint.deleted"


def test_events_come_in_pages(http, dock):
    first = http.get("/v1/events", params={"limit": 2}).json()
    assert first["has_more"] and len(first["data"]) == 2
    oldest, rest = first["data"][-1]["id"], []
    while page := http.get("/v1/events", params={"limit": 200, "before": oldest}).json():
        rest += page["data"]
        if not page["has_more"]:
            break
        oldest = page["data"][-1]["id"]
    ids = [event["id"] for event in first["data"] + rest]
    assert ids == sorted(set(ids), reverse=True)
    assert rest[-1]["kind"] == "key.created"
    for wrong in ({"limit": 0}, {"limit": 201}, {"before": "x"}):
        refused(http.get("/v1/events", params=wrong), 400, next(iter(wrong)), type="invalid_request_error")


def test_what_was_counted_is_written_when_the_server_stops(tmp_path):
    server = RunningServer(tmp_path / "data").start()
    try:
        with server.client() as http:
            endpoint = create_endpoint(http)
            wait_state(http, endpoint["id"], "STARTED")
            body = {"model": endpoint["name"], "messages": ASK, "max_tokens": 4}
            spent = http.post("/v1/chat/completions", json=body).json()["usage"]
    finally:
        server.stop()
    database = Database(f"sqlite:///{server.data_dir / 'loradock.db'}")
    with database.session() as session:
        for table in (UsageRow, EndpointRow):
            total = Usage()
            for row in session.query(table):
                total.add(Usage.of(row))
            counts = dict(zip(COUNTS, (getattr(total, name) for name in COUNTS), strict=True))
            assert counts == {
                "ok": 1,
                "client_error": 0,
                "server_error": 0,
                "aborted": 0,
                "prompt_tokens": spent["prompt_tokens"],
                "completion_tokens": spent["completion_tokens"],
            }
        assert session.query(EndpointRow).filter(EndpointRow.ready > 0).count() >= 1
    database.close()
