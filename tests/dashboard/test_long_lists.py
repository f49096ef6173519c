"""Lists that are long: found, sorted, paged, and many rows acted on at once, each with a result of its own."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import httpx
import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import check_light_and_dark, visitor
from tests.dashboard.crowd import WHY, crowd
from tests.servers import KEY, RunningServer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = RunningServer(tmp_path_factory.mktemp("long") / "data").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def harbour(server):
    """Of an account with much of everything; nothing runs."""
    much = {"free": 60, "attached": 85, "endpoints": 60, "keys": 70, "jobs": 120, "attaches": 62}
    return crowd(server, "tester", **much)


@pytest.fixture
def page(browser, server, harbour):
    with visitor(browser, server.url, viewport={"width": 1280, "height": 900}) as signed_in:
        yield signed_in


def _finished(page, words):
    expect(page.locator("#run")).to_contain_text(words, timeout=60_000)


def test_attached_adapters_are_searched_sorted_and_paged_without_reloading(page, harbour):
    page.goto(f"/ui/endpoints/{harbour}")
    page.evaluate("window.stillHere = true")
    rows = page.locator("#adapters tbody tr")
    expect(rows).to_have_count(25)
    expect(page.locator("#adapters .pager")).to_contain_text("25 of 85")
    page.locator("#adapters").get_by_role("link", name="Last").click()
    expect(rows).to_have_count(10)
    page.locator("#adapters").get_by_role("link", name=re.compile("^Adapter")).click()
    expect(rows.first).to_contain_text("tone-0060")
    page.locator("#adapters").get_by_role("link", name=re.compile("^Adapter")).click()
    expect(rows.first).to_contain_text("tone-0144")
    page.get_by_label("Search attached adapters").fill("tone-007")
    expect(rows).to_have_count(10)
    expect(rows.first).to_contain_text("tone-0079")  # sorted as before
    check_light_and_dark(page)
    assert page.evaluate("window.stillHere")
    page.reload()
    expect(rows).to_have_count(10)
    page.get_by_label("Search attached adapters").fill("no such tone")
    expect(page.get_by_role("heading", name="No adapter matches")).to_be_visible()
    check_light_and_dark(page)


def test_a_tick_outlives_what_the_page_is_told_and_no_row_that_is_out_of_sight_is_ticked(page, harbour, http):
    page.goto(f"/ui/endpoints/{harbour}?sort=name")
    page.get_by_label("Select tester/tone-0061").check()
    http.patch(f"/v1/endpoints/{harbour}", json={"display_name": "quay"})
    expect(page.get_by_role("heading", level=1)).to_have_text("quay")
    expect(page.get_by_label("Select tester/tone-0061")).to_be_checked()
    page.get_by_label("Search attached adapters").fill("tone-009")
    expect(page.locator("#adapters tbody tr")).to_have_count(10)
    expect(page.locator("[data-bulk-count]")).to_have_text("0 selected")
    expect(page.get_by_role("button", name="Detach", exact=True)).to_be_disabled()
    http.patch(f"/v1/endpoints/{harbour}", json={"display_name": "harbour"})


def test_all_that_match_are_detached_and_attached_again_row_by_row(page, harbour, http):
    page.goto(f"/ui/endpoints/{harbour}?q=tone-01")
    page.get_by_label("Select all on this page").check()
    expect(page.locator("[data-bulk-count]")).to_have_text("25 selected")
    page.get_by_role("button", name="Select all 45 that match").click()
    page.get_by_role("button", name="Detach", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="Detach 45 adapters?")).to_be_visible()
    expect(dialog).to_contain_text("They go offline")
    check_light_and_dark(page)
    dialog.get_by_role("button", name="Detach 45 adapters").click()
    _finished(page, "45 done")
    check_light_and_dark(page)
    dialog.get_by_role("link", name="Close").click()
    assert len(http.get(f"/v1/endpoints/{harbour}/adapters").json()["data"]) == 40

    page.goto("/ui/models?q=tone-01&sort=name")
    expect(page.get_by_label("Select tester/tone-0144")).not_to_be_checked()
    page.get_by_label("Select tester/tone-0144").check()
    page.get_by_label("Select tester/tone-0143").check()
    page.get_by_role("button", name="Attach", exact=True).click()
    expect(dialog.locator("input[name=endpoint]:checked")).to_have_count(0)
    check_light_and_dark(page)
    dialog.get_by_role("radio", name="harbour").check()
    dialog.get_by_role("button", name="Attach 2 adapters").click()
    _finished(page, "2 done")
    dialog.get_by_role("link", name="Close").click()
    expect(page.get_by_role("row").filter(has_text="tone-0144")).to_contain_text("harbour")
    assert len(http.get(f"/v1/endpoints/{harbour}/adapters").json()["data"]) == 42


def test_several_are_attached_from_the_endpoints_own_dialog_and_failures_say_why(page, harbour, http, server):
    lost = next(server.data_dir.glob(f"blobs/sha256/{b'testertone-0003'.hex()}*/adapter_config.json"))
    lost.unlink()
    page.goto(f"/ui/endpoints/{harbour}/attach?q=tone-000")
    for number in (2, 3, 4):
        page.get_by_label(f"tester/tone-000{number}").check()
    page.get_by_role("button", name="Attach", exact=True).click()
    page.wait_for_url("**/ui/bulk/*")
    _finished(page, "2 done")
    _finished(page, "1 failed")
    failed = page.locator(".results li").first  # what went wrong stands first
    expect(failed).to_contain_text("tester/tone-0003")
    expect(failed).to_contain_text("adapter_config.json is missing")
    check_light_and_dark(page)
    names = [entry["adapter_name"] for entry in http.get(f"/v1/endpoints/{harbour}/adapters").json()["data"]]
    assert {"tester/tone-0002", "tester/tone-0004"} <= set(names) and "tester/tone-0003" not in names


def test_many_are_deleted_without_scripts_attached_ones_too(browser, server, harbour, http):
    with visitor(browser, server.url, java_script_enabled=False) as page:
        page.goto("/ui/models?q=tone-006&sort=name")
        for number in (0, 1):
            page.get_by_label(f"Select tester/tone-006{number}").check()
        page.get_by_role("button", name="Delete").click()
        expect(page.get_by_role("main")).to_contain_text("2 adapters go offline: 2 at harbour")
        page.get_by_role("button", name="Delete 2 adapters").click()
        page.wait_for_url("**/ui/bulk/*")
        while not page.get_by_text("2 done").count():
            page.reload()
    assert http.get("/v1/models/tester/tone-0060").status_code == 404
    names = [entry["adapter_name"] for entry in http.get(f"/v1/endpoints/{harbour}/adapters").json()["data"]]
    assert "tester/tone-0061" not in names and "tester/tone-0062" in names


def test_nothing_ticked_is_said(page):
    page.goto("/ui/bulk?do=delete")
    expect(page.get_by_role("heading", name="Nothing is ticked")).to_be_visible()
    check_light_and_dark(page)


def test_endpoints_are_found_running_ones_first_and_an_error_has_its_reason(page, server):
    page.goto("/ui/endpoints")
    rows = page.locator("#list tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_label("State").select_option("error")
    expect(rows).to_have_count(30)
    expect(rows.first).to_contain_text(WHY)
    check_light_and_dark(page)
    page.get_by_label("Search endpoints").fill("berth-01")
    expect(rows).to_have_count(5)
    page.get_by_role("link", name="Endpoint", exact=True).first.or_(page.get_by_role("link", name="Endpoint ↕")).click()
    expect(rows.first).to_contain_text("berth-011")
    page.goto("/")
    expect(page.locator("main table").first.locator("tbody tr")).to_have_count(8)
    expect(page.get_by_text(WHY).first).to_be_visible()


def test_keys_and_uploads_are_found(page):
    page.goto("/ui/keys?sort=name")
    expect(page.locator("#list tbody tr")).to_have_count(50)
    page.get_by_label("Search keys").fill("laptop-06")
    expect(page.locator("#list tbody tr")).to_have_count(10)
    check_light_and_dark(page)
    page.goto("/ui/jobs")
    expect(page.locator("#list tbody tr")).to_have_count(50)
    page.get_by_label("Status").select_option("refused")
    expect(page.locator("#list tbody tr")).to_have_count(12)
    expect(page.locator("#list")).to_contain_text("adapter_config.json says rank 4, the weights have 8")
    check_light_and_dark(page)
    page.get_by_label("Search uploads").fill("upload-030")
    expect(page.locator("#list tbody tr")).to_have_count(1)


def test_an_attach_is_one_event_whose_steps_open_on_demand(page):
    page.goto("/ui/events?kind=attach&q=on+crowd+or+nothing")
    expect(page.get_by_role("heading", name="No event like this")).to_be_visible()
    page.goto("/ui/events?kind=attach&q=tone-0010")
    row = page.locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row.get_by_text("attach.probe")).to_be_hidden()
    row.get_by_text("8 steps in 49 ms").click()
    expect(row.get_by_text("attach.probe")).to_be_visible()
    check_light_and_dark(page)


def test_an_event_of_something_deleted_or_of_a_key_says_of_what(page, http):
    page.goto("/ui/events?q=laptop-007")
    expect(page.locator("tbody tr").first).to_contain_text("key laptop-007")
    http.delete("/v1/models/tester/tone-0050")
    page.goto("/ui/events?q=tone-0050")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    for row in rows.all():
        expect(row.get_by_role("link", name="tester/tone-0050")).to_be_visible()
        expect(row).to_contain_text("deleted")
    rows.first.get_by_role("link", name="tester/tone-0050").click()
    expect(page.locator(".filters .chip")).to_have_text("tester/tone-0050")


def _first_hour(page) -> str:
    """The first hour that a chart's axis tells."""
    page.locator(".chart .u-legend").first.wait_for()
    return page.evaluate("plots[0].axes[0]._values[0]")


def _hour_of(page, zone) -> str:
    return datetime.fromtimestamp(page.evaluate("plots[0].axes[0]._splits[0]"), zone).strftime("%H:%M")


def test_one_switch_rules_all_times(browser, server, harbour):
    with visitor(browser, server.url, timezone_id="Asia/Kolkata") as page:
        page.goto("/ui/events?q=tone-0010")
        time = page.locator("tbody time").first
        expect(time).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+05:30$"))
        page.get_by_role("button", name="UTC").click()
        expect(time).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"))
        expect(page.get_by_role("button", name="UTC")).to_have_attribute("aria-pressed", "true")
        page.goto(f"/ui/endpoints/{harbour}")
        assert _first_hour(page) == _hour_of(page, UTC)
        page.get_by_role("button", name="Local").click()
        assert _first_hour(page) == _hour_of(page, ZoneInfo("Asia/Kolkata"))
        page.get_by_role("button", name="UTC").click()
        created = page.locator("dl.facts time")
        expect(created).to_have_attribute("title", re.compile("UTC$"))
        page.get_by_role("button", name="Local").click()
        expect(created).to_have_attribute("title", re.compile(r"\+05:30$"))


def test_uploads_are_offered_no_endpoint_that_cannot_take_them(page):
    page.goto("/ui/upload")
    offered = page.locator("#lora_model option").all_inner_texts()
    assert any("berth-000" in text for text in offered)
    assert not any("berth-001" in text for text in offered)  # in ERROR
    page.get_by_label("Base model", exact=True).last.fill("Org/Other")
    expect(page.locator("#lora_model option:not([disabled])")).to_have_count(1)
    expect(page.locator("#lora_model-fits")).to_have_text("None of your endpoints runs Org/Other.")


def test_one_of_many_is_found_to_talk_to_and_what_is_chosen_stays(page, harbour):
    page.goto(f"/ui/playground?endpoint={harbour}")
    boxes = page.locator("#compare input[type=checkbox]")
    ticked = page.locator("#compare input:checked").count()
    page.get_by_label("Search adapters").fill("tone-0077")
    expect(boxes).to_have_count(ticked + 1)
    page.get_by_label("tester/tone-0077").check()
    page.get_by_label("Search adapters").fill("")
    expect(page.get_by_label("tester/tone-0077")).to_be_checked()


def test_an_endpoint_is_deleted_with_its_adapters_after_one_question(page, harbour, http):
    page.goto(f"/ui/endpoints/{harbour}")
    page.get_by_label("More actions").click()
    page.get_by_role("link", name="Delete endpoint").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(re.compile(r"\d+ adapters are detached and go offline"))
    check_light_and_dark(page)
    dialog.get_by_role("button", name=re.compile("Detach .* and delete")).click()
    expect(page.get_by_role("heading", level=1, name="Endpoints")).to_be_visible()
    assert http.get(f"/v1/endpoints/{harbour}").status_code == 404
    assert http.get("/v1/models/tester/tone-0100").json()["attached_to"] is None


def test_somebody_elses_rows_are_not_acted_on(browser, server, harbour, http):
    with visitor(browser, server.url, server.make_key("rower")) as page:
        page.goto("/ui/models")
        csrf = page.locator('meta[name="csrf-token"]').get_attribute("content")
        form = {"csrf": csrf, "do": "delete", "adapter": "tester/tone-0101 tester/tone-0102"}
        answer = page.request.post("/ui/bulk", form=form)
        assert answer.status == 422 and "Nothing is ticked" in answer.text()
    assert http.get("/v1/models/tester/tone-0101").status_code == 200


def test_five_thousand_rows_are_no_more_to_send_than_fifty(browser, server):
    key = server.make_key("plenty")
    endpoint = crowd(server, "plenty", free=2000, attached=3000, attaches=600)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        assert client.post("/ui/sign-in", data={"key": key}).status_code == 303
        addresses = ("/ui/models?sort=size", f"/ui/endpoints/{endpoint}?sort=-tokens", "/ui/events?q=tone")
        for address in (*addresses, f"/ui/endpoints/{endpoint}/attach", f"/ui/playground?endpoint={endpoint}"):
            answer = client.get(address)
            assert answer.status_code == 200 and len(answer.content) < 150_000, address


def test_an_unknown_address_is_a_page_for_browsers_and_json_for_clients(page, server):
    page.expected_statuses = (404,)
    assert page.goto("/no/such/page").status == 404
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    expect(page.get_by_role("link", name="Back to the overview")).to_be_visible()
    for headers in ({}, {"accept": "application/json"}):
        answer = httpx.get(f"{server.url}/no/such/page", headers=headers)
        assert answer.status_code == 404 and "There is no GET" in answer.json()["message"]
    known = httpx.get(f"{server.url}/v1/models", headers={"accept": "text/html", "authorization": f"Bearer {KEY}"})
    assert known.json()["object"] == "list"
    assert httpx.get(f"{server.url}/favicon.ico").content[:4] == b"\0\0\1\0"
