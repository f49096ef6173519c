"""An endpoint's page in a browser: true while it is open, with docking, removing, steps, logs and charts."""

import pytest

from tests.dashboard.conftest import check_light_and_dark, expect_status, visitor
from tests.servers import create_endpoint


@pytest.fixture
def undocked(http, dock):
    """The endpoint with nothing docked, before the test and after."""
    _undock_all(http, dock)
    yield dock
    _undock_all(http, dock)


def _undock_all(http, endpoint) -> None:
    for entry in http.get(f"/v1/endpoints/{endpoint['id']}/adapters").json()["data"]:
        body = {"model_id": entry["model_id"]}
        assert http.request("DELETE", f"/v1/endpoints/{endpoint['id']}/adapters", json=body).status_code == 200


def _row(page, adapter):
    return page.get_by_role("row").filter(has_text=adapter)


def test_docking_shows_its_steps_and_the_adapter_without_reloading(page, http, undocked):
    page.goto(f"/ui/endpoints/{undocked['id']}")
    page.evaluate("window.stillHere = true")
    page.get_by_role("heading", name="No adapter docked").wait_for()
    check_light_and_dark(page)
    page.get_by_role("link", name="Dock adapter").first.click()
    page.get_by_role("radio", name="tester/pirate").check()
    check_light_and_dark(page)
    page.locator("dialog").get_by_role("button", name="Dock adapter").click()
    page.get_by_role("heading", name="tester/pirate is docked").wait_for()
    steps = page.locator("ol.track li.done .track-name").all_inner_texts()
    assert steps == ["authorize", "resolve", "compatible", "fits", "stage", "load", "probe", "route"]
    _row(page, "tester/pirate").get_by_text("RAM").or_(_row(page, "tester/pirate").get_by_text("active")).wait_for()
    assert not page.locator("dialog").is_visible()
    check_light_and_dark(page)
    page.get_by_label("Remove tester/pirate").click()
    page.get_by_role("heading", name="Remove tester/pirate?").wait_for()
    check_light_and_dark(page)
    page.get_by_role("button", name="Remove from endpoint").click()
    page.get_by_role("heading", name="No adapter docked").wait_for()
    assert page.evaluate("window.stillHere")
    assert http.get(f"/v1/endpoints/{undocked['id']}/adapters").json()["data"] == []


def test_what_others_do_is_seen_without_reloading(page, http, undocked):
    page.goto(f"/ui/endpoints/{undocked['id']}")
    page.get_by_role("heading", name="No adapter docked").wait_for()
    body = {"model_id": f"{undocked['name']}:tester/json"}
    assert http.post(f"/v1/endpoints/{undocked['id']}/adapters", json=body).status_code == 200
    _row(page, "tester/json").wait_for()


def test_a_state_that_changes_is_seen_without_reloading(page, http, dock):
    endpoint = create_endpoint(http, display_name="Changing", state="STOPPED")
    page.goto(f"/ui/endpoints/{endpoint['id']}")
    page.evaluate("window.stillHere = true")
    page.get_by_text("stopped", exact=True).wait_for()
    http.patch(f"/v1/endpoints/{endpoint['id']}", json={"state": "STARTED"})
    page.get_by_text("started", exact=True).wait_for()
    page.get_by_role("row").filter(has_text="rep_").get_by_text("ready").wait_for()
    page.get_by_role("link", name="Log of").click()
    page.locator("pre.log").wait_for()
    assert "not written anything" not in page.locator("pre.log").inner_text()
    check_light_and_dark(page)
    page.keyboard.press("Escape")
    http.patch(f"/v1/endpoints/{endpoint['id']}", json={"state": "STOPPED"})
    page.get_by_text("None runs while the endpoint is stopped.").wait_for()
    assert page.evaluate("window.stillHere")
    assert http.delete(f"/v1/endpoints/{endpoint['id']}").status_code == 204


def test_an_adapter_that_is_bound_meanwhile_is_refused_beside_its_name(page, http, undocked):
    expect_status(page, 422)
    other = create_endpoint(http, display_name="Other", state="STOPPED")
    page.goto(f"/ui/endpoints/{undocked['id']}/dock")
    page.get_by_role("radio", name="tester/shout").check()
    taken = {"model_id": f"{other['name']}:tester/shout"}
    assert http.post(f"/v1/endpoints/{other['id']}/adapters", json=taken).status_code == 200
    page.get_by_role("button", name="Dock adapter").click()
    page.get_by_text("adapter is already bound to endpoint").wait_for()
    check_light_and_dark(page)
    http.request("DELETE", f"/v1/endpoints/{other['id']}/adapters", json=taken)
    http.delete(f"/v1/endpoints/{other['id']}")


def test_the_page_reads_well_without_javascript_and_in_the_dark(browser, server, http, undocked):
    body = {"model_id": f"{undocked['name']}:tester/pirate"}
    assert http.post(f"/v1/endpoints/{undocked['id']}/adapters", json=body).status_code == 200
    with visitor(browser, server.url, java_script_enabled=False) as page:
        page.goto(f"/ui/endpoints/{undocked['id']}")
        assert _row(page, "tester/pirate").is_visible()
        page.get_by_label("Remove tester/pirate").click()
        page.get_by_role("button", name="Remove from endpoint").click()
        page.get_by_role("heading", name="Adapters docked").wait_for()
        assert page.get_by_label("Remove tester/pirate").count() == 0
    with visitor(browser, server.url, color_scheme="dark") as page:
        page.goto(f"/ui/endpoints/{undocked['id']}")
        page.get_by_role("heading", name="No adapter docked").wait_for()
        check_light_and_dark(page)
