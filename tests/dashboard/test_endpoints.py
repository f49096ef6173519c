"""Endpoints in a browser: the list, creating, editing, stopping, starting and deleting one."""

import pytest

from tests.dashboard.conftest import check_light_and_dark, expect_status, visitor
from tests.servers import BASE, create_endpoint


@pytest.fixture
def stopped(http):
    """An endpoint that never ran; whatever the test leaves of it is deleted."""
    endpoint = create_endpoint(http, display_name="Resting", state="STOPPED")
    yield endpoint
    http.delete(f"/v1/endpoints/{endpoint['id']}")


def test_the_list_tells_how_endpoints_are(page, dock, stopped):
    page.goto("/ui/endpoints")
    row = page.get_by_role("row").filter(has_text="Resting")
    assert row.get_by_text("stopped").is_visible()
    check_light_and_dark(page)
    row.get_by_role("link", name="Resting").click()
    page.get_by_role("heading", level=1, name="Resting").wait_for()


def test_an_endpoint_is_created_edited_started_stopped_and_deleted(page, http):
    page.goto("/ui/endpoints/new")
    page.get_by_label("Base model").fill(BASE)
    page.get_by_label("At most").fill("2")
    page.get_by_label("Stop after minutes without a request").fill("30")
    page.get_by_label("Display name").fill("Made by hand")
    check_light_and_dark(page)
    page.get_by_role("button", name="Create endpoint").click()
    page.get_by_role("heading", level=1, name="Made by hand").wait_for()
    endpoint_id = page.url.rpartition("/")[2]
    made = http.get(f"/v1/endpoints/{endpoint_id}").json()
    assert (made["model"], made["inactive_timeout"]) == (BASE, 30)
    assert made["autoscaling"] == {"min_replicas": 1, "max_replicas": 2}
    page.get_by_role("link", name="Stop").click()
    page.get_by_role("heading", name="Stop Made by hand?").wait_for()
    check_light_and_dark(page)
    page.get_by_role("button", name="Stop endpoint").click()
    page.get_by_role("button", name="Start").wait_for()
    page.get_by_role("link", name="Edit").first.click()
    page.get_by_label("Display name").fill("Renamed")
    page.get_by_label("Stop after minutes without a request").fill("")
    page.get_by_label("The next request starts it").check()
    page.get_by_label("Weights").select_option("int8")
    check_light_and_dark(page)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", level=1, name="Renamed").wait_for()
    changed = http.get(f"/v1/endpoints/{endpoint_id}").json()
    assert (changed["inactive_timeout"], changed["auto_start"]) == (None, True)
    page.locator("dl.facts").get_by_text("8 bit (int8)").wait_for()
    page.get_by_role("button", name="Start").click()
    # The first engine of its kind compiles its kernels.
    page.get_by_text("started", exact=True).wait_for(timeout=180_000)
    page.get_by_label("More actions").click()
    page.get_by_role("link", name="Delete endpoint").click()
    page.get_by_role("heading", name="Delete Renamed?").wait_for()
    check_light_and_dark(page)
    page.get_by_role("button", name="Delete endpoint").click()
    page.get_by_role("heading", level=1, name="Endpoints").wait_for()
    assert http.get(f"/v1/endpoints/{endpoint_id}").status_code == 404


@pytest.mark.parametrize(
    ("label", "typed", "told"),
    [
        ("Base model", "no such name!", "is not a valid model name: give one like Org/Model"),
        ("Base model", "", "choose the base model"),
        ("At least", "3", "min_replicas 3 is above max_replicas 1"),
        ("At most", "many", "'many' is not a whole number"),
        ("Stop after minutes without a request", "-1", "give minutes, or 0 for never"),
        ("Highest rank", "9999", "give 1 to 512"),
    ],
)
def test_what_is_wrong_is_told_beside_its_field(page, label, typed, told):
    expect_status(page, 422)
    page.goto(f"/ui/endpoints/new?model={BASE}")
    page.get_by_label("Display name").fill("Kept")
    page.get_by_label(label).fill(typed)
    page.get_by_role("button", name="Create endpoint").click()
    page.get_by_text(told).wait_for()
    field = page.get_by_label(label)
    assert field.get_attribute("aria-invalid") == "true"
    described_by = field.get_attribute("aria-describedby").split()[0]
    assert told in page.locator(f"#{described_by}").inner_text()
    assert page.get_by_label("Display name").input_value() == "Kept"
    assert field.input_value() == typed


def test_wrong_input_of_an_edit_changes_nothing(page, http, stopped):
    expect_status(page, 422)
    page.goto(f"/ui/endpoints/{stopped['id']}/edit")
    page.get_by_label("Display name").fill("Other")
    page.get_by_label("At least").fill("0")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("min_replicas is 0: give at least 1").wait_for()
    check_light_and_dark(page)
    assert http.get(f"/v1/endpoints/{stopped['id']}").json()["display_name"] == "Resting"


def test_creating_for_an_adapter_deploys_it(page, http, dock):
    page.goto(f"/ui/endpoints/new?model={BASE}&deploy=tester/shout")
    page.get_by_label("Attach tester/shout to it").wait_for()
    check_light_and_dark(page)
    page.get_by_role("button", name="Create endpoint").click()
    page.get_by_role("heading", name="Attached adapters").wait_for()
    endpoint = http.get(f"/v1/endpoints/{page.url.rpartition('/')[2]}").json()
    listed = http.get(f"/v1/endpoints/{endpoint['id']}/adapters").json()["data"]
    assert [entry["adapter_name"] for entry in listed] == ["tester/shout"]
    model_id = {"model_id": f"{endpoint['name']}:tester/shout"}
    http.request("DELETE", f"/v1/endpoints/{endpoint['id']}/adapters", json=model_id)
    http.delete(f"/v1/endpoints/{endpoint['id']}")


def test_another_accounts_endpoint_looks_like_one_that_does_not_exist(browser, server, dock):
    with visitor(browser, server.url, server.make_key("stranger")) as page:
        expect_status(page, 404)
        page.goto("/ui/endpoints")
        page.get_by_role("heading", name="No endpoint yet").wait_for()
        check_light_and_dark(page)
        shown = []
        for path in (dock["id"], "endpoint-does-not-exist"):
            for below in ("", "/edit", "/attach", "/stop", "/detach", "/logs", "/delete", "/live"):
                response = page.goto(f"/ui/endpoints/{path}{below}")
                assert response.status == 404
                shown.append(page.locator("main").inner_text())
        assert len(set(shown)) == 1


def test_lists_and_forms_read_well_without_javascript(browser, server, dock, stopped):
    with visitor(browser, server.url, java_script_enabled=False) as page:
        page.goto("/ui/endpoints")
        page.get_by_role("link", name="Resting").click()
        page.get_by_role("heading", level=1, name="Resting").wait_for()
        page.goto(f"/ui/endpoints/{stopped['id']}/delete")
        page.get_by_role("button", name="Delete endpoint").click()
        page.get_by_role("heading", level=1, name="Endpoints").wait_for()
        assert page.get_by_role("link", name="Resting").count() == 0
