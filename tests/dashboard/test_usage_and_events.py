"""Usage and events in a browser: the numbers of the history, as tables, charts and files; who did what when."""

import csv
import json
import time

import pytest

from tests.dashboard.conftest import check_light_and_dark, visitor
from tests.servers import EXAMPLES, create_endpoint, upload

ADAPTER = "tester/counted"


@pytest.fixture(scope="module")
def asked(server, dock):
    """An adapter that nobody else uses was asked twice, once streaming; what the API said about each."""
    with server.client() as http:
        upload(http, "counted", EXAMPLES / "pirate")
        bound = {"model_id": f"{dock['name']}:{ADAPTER}"}
        assert http.post(f"/v1/endpoints/{dock['id']}/adapters", json=bound).status_code == 200
        body = {"model": ADAPTER, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
        answers = [http.post("/v1/chat/completions", json=body).json()["usage"]]
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
        answers += [event["usage"] for event in events if event.get("usage")]
        yield answers
        assert http.request("DELETE", f"/v1/endpoints/{dock['id']}/adapters", json=bound).status_code == 200


def _download(page, link) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.get_by_role("link", name=link, exact=True).click()
    with download.value.path().open(newline="") as file:
        return list(csv.DictReader(file))


def _eventually_counted(page, adapter: str, requests: int) -> None:
    """The history is written every ten seconds."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        cells = page.get_by_role("row").filter(has_text=adapter).get_by_role("cell").all_inner_texts()
        if cells and int(cells[1]) >= requests:
            return
        time.sleep(0.5)
        page.reload()
    raise AssertionError(f"{adapter} is not counted")


def test_tables_and_files_have_the_numbers_that_the_api_answered(page, asked):
    page.goto("/ui/usage?span=hour")
    _eventually_counted(page, ADAPTER, 2)
    row = page.get_by_role("row").filter(has_text=ADAPTER)
    by_adapter = {line["adapter"]: line for line in _download(page, "Usage by adapter as CSV")}
    counted = by_adapter[ADAPTER]
    assert (counted["requests"], counted["ok"]) == ("2", "2")
    for name in ("prompt_tokens", "completion_tokens"):
        assert int(counted[name]) == sum(usage[name] for usage in asked)
        assert counted[name] in row.inner_text().replace("\u202f", "")
    by_key = _download(page, "Usage by key as CSV")
    everything = _download(page, "CSV, all details")
    for name in ("requests", "prompt_tokens", "completion_tokens"):
        total = sum(int(line[name]) for line in by_key)
        assert total == sum(int(line[name]) for line in everything) == sum(int(d[name]) for d in by_adapter.values())
    page.locator(".u-legend").first.wait_for()
    page.get_by_role("img", name="Tokens per second: now").wait_for()
    assert "highest" in page.get_by_role("img", name="Tokens per second").get_attribute("aria-label")
    check_light_and_dark(page)


def test_the_endpoints_charts_and_table_have_data(page, dock, asked):
    page.goto(f"/ui/endpoints/{dock['id']}")
    chart = page.get_by_role("img", name="Replicas: now")
    chart.wait_for()
    assert "ready" in chart.get_attribute("aria-label")
    page.wait_for_function(
        "document.querySelector('[aria-label^=\"Tokens per second\"]')?.getAttribute('aria-label').includes('highest')",
        timeout=30_000,
    )
    assert page.locator(".chart canvas").count() == 6
    page.get_by_role("link", name="Last day").click()
    assert page.url.endswith("?span=day")
    row = (
        page.get_by_role("row")
        .filter(has_text=ADAPTER)
        .filter(has_text="RAM")
        .or_(page.get_by_role("row").filter(has_text=ADAPTER).filter(has_text="active"))
    )
    row.get_by_text(" / ").first.wait_for()
    check_light_and_dark(page)


def test_events_tell_who_did_what_and_can_be_filtered(page, http, dock, asked):
    page.goto("/ui/events")
    page.get_by_text("attach.route").first.wait_for()
    check_light_and_dark(page)
    page.get_by_label("Kind").select_option("endpoint")
    page.wait_for_url("**/ui/events?kind=endpoint")
    page.get_by_text("attach.route").first.wait_for(state="detached")
    row = page.get_by_role("row").filter(has_text="endpoint.created").filter(has_text=dock["name"])
    assert "bootstrap" in row.inner_text()
    row.get_by_role("link", name="dock").click()
    page.get_by_text("endpoint.started").first.wait_for()
    assert page.get_by_role("row").filter(has_text="attach.").count() == 0


def test_long_histories_are_paged(page, http):
    endpoint = create_endpoint(http, display_name="Often renamed", state="STOPPED")
    for number in range(55):
        http.patch(f"/v1/endpoints/{endpoint['id']}", json={"display_name": f"Name {number}"})
    page.goto(f"/ui/events?subject={endpoint['id']}")
    assert page.locator("tbody tr").count() == 50
    page.get_by_role("link", name="Older").click()
    page.get_by_text("endpoint.created").wait_for()
    page.get_by_role("link", name="Newest").click()
    page.get_by_role("link", name="Older").wait_for()
    http.delete(f"/v1/endpoints/{endpoint['id']}")


def test_others_usage_and_events_are_not_seen(browser, server, dock, asked):
    with visitor(browser, server.url, server.make_key("onlooker"), color_scheme="dark") as page:
        page.goto("/ui/usage")
        page.get_by_role("heading", name="No request in the last day").wait_for()
        check_light_and_dark(page)
        page.goto(f"/ui/events?subject={dock['id']}")
        page.get_by_role("heading", name="No event like this").wait_for()
        check_light_and_dark(page)


def test_tables_read_well_without_javascript(browser, server, asked):
    with visitor(browser, server.url, java_script_enabled=False) as page:
        page.goto("/ui/usage?span=week")
        assert "Charts are drawn by a script" in page.locator("main noscript").inner_text()
        page.goto("/ui/events?kind=attach")
        page.get_by_text("8 steps in").first.click()
        assert page.get_by_text("attach.probe").first.is_visible()
