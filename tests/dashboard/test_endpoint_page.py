"""An endpoint's page in a browser: true while it is open, with attaching, detaching, steps, logs and charts."""

import pytest

from tests.dashboard.conftest import check_light_and_dark, expect_status, visitor
from tests.servers import create_endpoint


@pytest.fixture
def unattached(http, dock):
    """The endpoint with nothing attached, before the test and after."""
    _detach_all(http, dock)
    yield dock
    _detach_all(http, dock)


def _detach_all(http, endpoint) -> None:
    for entry in http.get(f"/v1/endpoints/{endpoint['id']}/adapters").json()["data"]:
        body = {"model_id": entry["model_id"]}
        assert http.request("DELETE", f"/v1/endpoints/{endpoint['id']}/adapters", json=body).status_code == 200


def _row(page, adapter):
    return page.get_by_role("row").filter(has_text=adapter)


def test_attaching_shows_its_steps_and_the_adapter_without_reloading(page, http, unattached):
    page.goto(f"/ui/endpoints/{unattached['id']}")
    page.evaluate("window.stillHere = true")
    page.get_by_role("heading", name="No adapter attached").wait_for()
    check_light_and_dark(page)
    page.get_by_role("link", name="Attach adapters").first.click()
    page.get_by_role("checkbox", name="tester/pirate").check()
    check_light_and_dark(page)
    page.locator("dialog").get_by_role("button", name="Attach", exact=True).click()
    page.get_by_role("heading", name="tester/pirate is attached").wait_for()
    steps = page.locator("ol.track li.done .track-name").all_inner_texts()
    assert steps == ["authorize", "resolve", "compatible", "fits", "stage", "load", "probe", "route"]
    _row(page, "tester/pirate").get_by_text("RAM").or_(_row(page, "tester/pirate").get_by_text("active")).wait_for()
    assert not page.locator("dialog").is_visible()
    check_light_and_dark(page)
    page.get_by_label("Detach tester/pirate").click()
    page.get_by_role("heading", name="Detach tester/pirate?").wait_for()
    check_light_and_dark(page)
    page.get_by_role("button", name="Detach from endpoint").click()
    page.get_by_role("heading", name="No adapter attached").wait_for()
    assert page.evaluate("window.stillHere")
    assert http.get(f"/v1/endpoints/{unattached['id']}/adapters").json()["data"] == []


def test_what_others_do_is_seen_without_reloading(page, http, unattached):
    page.goto(f"/ui/endpoints/{unattached['id']}")
    page.get_by_role("heading", name="No adapter attached").wait_for()
    body = {"model_id": f"{unattached['name']}:tester/json"}
    assert http.post(f"/v1/endpoints/{unattached['id']}/adapters", json=body).status_code == 200
    _row(page, "tester/json").wait_for()


def test_a_state_that_changes_is_seen_without_reloading(page, http, dock):
    endpoint = create_endpoint(http, display_name="Changing", state="STOPPED")
    page.goto(f"/ui/endpoints/{endpoint['id']}")
    page.evaluate("window.stillHere = true")
    page.get_by_text("stopped", exact=True).wait_for()
    http.patch(f"/v1/endpoints/{endpoint['id']}", json={"state": "STARTED"})
    page.get_by_text("started", exact=True).wait_for()
    page.get_by_role("row").filter(has_text="rep_").get_by_text("ready").wait_for()
    http.patch(f"/v1/endpoints/{endpoint['id']}", json={"state": "STOPPED"})
    page.get_by_text("None runs while the endpoint is stopped.").wait_for()
    assert page.evaluate("window.stillHere")
    assert http.delete(f"/v1/endpoints/{endpoint['id']}").status_code == 204


def test_the_logs_of_replicas_are_read_and_searched(page, dock, server, browser):
    page.goto(f"/ui/endpoints/{dock['id']}")
    page.get_by_role("link", name="Logs", exact=True).click()
    log = page.get_by_label("Engine log")
    log.get_by_text("ready").first.wait_for()
    check_light_and_dark(page)
    page.get_by_label("Only lines with").fill("no such words")
    page.get_by_text("No line has “no such words”.").wait_for()
    page.goto(f"/ui/endpoints/{dock['id']}")
    page.get_by_role("link", name="Log of").first.click()
    log.wait_for()
    with visitor(browser, server.url, java_script_enabled=False) as plain:
        plain.goto(f"/ui/endpoints/{dock['id']}/logs?lines=1000")
        assert "ready" in plain.get_by_label("Engine log").inner_text()


def test_an_adapter_that_is_bound_meanwhile_is_refused_beside_its_name(page, http, unattached):
    expect_status(page, 422)
    other = create_endpoint(http, display_name="Other", state="STOPPED")
    page.goto(f"/ui/endpoints/{unattached['id']}/attach")
    page.get_by_role("checkbox", name="tester/shout").check()
    taken = {"model_id": f"{other['name']}:tester/shout"}
    assert http.post(f"/v1/endpoints/{other['id']}/adapters", json=taken).status_code == 200
    page.get_by_role("button", name="Attach", exact=True).click()
    page.get_by_text("adapter is already bound to endpoint").wait_for()
    check_light_and_dark(page)
    http.request("DELETE", f"/v1/endpoints/{other['id']}/adapters", json=taken)
    http.delete(f"/v1/endpoints/{other['id']}")


def test_the_page_reads_well_without_javascript_and_in_the_dark(browser, server, http, unattached):
    body = {"model_id": f"{unattached['name']}:tester/pirate"}
    assert http.post(f"/v1/endpoints/{unattached['id']}/adapters", json=body).status_code == 200
    with visitor(browser, server.url, java_script_enabled=False) as page:
        page.goto(f"/ui/endpoints/{unattached['id']}")
        assert _row(page, "tester/pirate").is_visible()
        page.get_by_label("Detach tester/pirate").click()
        page.get_by_role("button", name="Detach from endpoint").click()
        page.get_by_role("heading", name="Attached adapters").wait_for()
        assert page.get_by_label("Detach tester/pirate").count() == 0
    with visitor(browser, server.url, color_scheme="dark") as page:
        page.goto(f"/ui/endpoints/{unattached['id']}")
        page.get_by_role("heading", name="No adapter attached").wait_for()
        check_light_and_dark(page)
