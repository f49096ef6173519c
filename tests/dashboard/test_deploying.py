"""Deploy adapter to endpoint: the seed's story word for word, and everything that can come between."""

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import check_light_and_dark, expect_status, visitor
from tests.servers import BASE, EXAMPLES, ask, create_endpoint, upload, wait_state

STEPS = ("authorize", "resolve", "compatible", "fits", "stage", "load", "probe", "route")


@pytest.fixture
def free(http, dock):
    """The adapter json, attached to nothing before and after."""
    yield "json"
    for endpoint in http.get("/v1/endpoints").json()["data"]:
        body = {"model_id": f"{endpoint['name']}:tester/json"}
        http.request("DELETE", f"/v1/endpoints/{endpoint['id']}/adapters", json=body)


def open_dialog(page: Page, adapter: str) -> None:
    page.goto("/ui/models")
    page.get_by_role("link", name=f"tester/{adapter}", exact=True).click()
    page.get_by_text("Actions").click()
    page.get_by_role("link", name="Deploy adapter to endpoint").click()
    expect(page.get_by_role("dialog").get_by_role("heading", name="Deploy adapter to endpoint")).to_be_visible()


def test_my_models_open_the_adapter_actions_menu_deploy_adapter_to_endpoint(page, http, dock, free):
    open_dialog(page, free)
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("radio")).to_have_count(1)
    expect(dialog).to_contain_text(dock["name"])
    check_light_and_dark(page)
    dialog.get_by_role("radio").check()
    dialog.get_by_role("button", name="Deploy adapter").click()
    expect(dialog.get_by_role("heading", name="tester/json is attached")).to_be_visible()
    expect(dialog.locator("li.done strong")).to_have_text(STEPS)
    expect(dialog.locator("pre")).to_contain_text('model="tester/json"')
    check_light_and_dark(page)
    assert ask(http, "tester/json").startswith("{")
    dialog.get_by_role("link", name="Done").click()
    expect(page.locator("h1 + .badge")).to_have_text("attached")
    check_light_and_dark(page)

    page.get_by_text("Actions").click()
    page.get_by_role("link", name="Detach from endpoint").click()
    check_light_and_dark(page)
    page.get_by_role("button", name="Detach from endpoint").click()
    expect(page.locator("h1 + .badge")).not_to_have_text("attached")
    names = [a["adapter_name"] for a in http.get(f"/v1/endpoints/{dock['id']}/adapters").json()["data"]]
    assert "tester/json" not in names


def test_without_scripts_the_dialog_is_a_page_with_a_form(browser, server, dock, free):
    with visitor(browser, server.url, java_script_enabled=False) as page:
        page.goto("/ui/models/tester/json")
        page.get_by_text("Actions").click()
        page.get_by_role("link", name="Deploy adapter to endpoint").click()
        page.get_by_role("radio").check()
        page.get_by_role("button", name="Deploy adapter").click()
        expect(page.get_by_role("heading", name="tester/json is attached")).to_be_visible()
        expect(page.locator("li.done strong")).to_have_text(STEPS)
        page.goto("/ui/models/tester/json/detach")
        page.get_by_role("button", name="Detach from endpoint").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("tester/json")


def test_an_adapter_of_another_base_finds_no_endpoint_and_the_way_to_create_one(page, http, dock):
    assert upload(http, "stranger", EXAMPLES / "pirate", base_model="Org/Other")["status"] == "Complete"
    open_dialog(page, "stranger")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="No endpoints appear")).to_be_visible()
    check_light_and_dark(page)
    create = dialog.get_by_role("link", name="Create endpoint").get_attribute("href")
    assert create == "/ui/endpoints/new?model=Org/Other&deploy=tester/stranger"
    csrf = page.locator('meta[name="csrf-token"]').get_attribute("content")
    form = {"endpoint": dock["id"], "csrf": csrf}
    refused = page.request.post("/ui/models/tester/stranger/deploy", form=form)
    assert refused.status == 422
    assert "adapter base model is not compatible with endpoint model" in refused.text()

    dialog.get_by_role("link", name="Cancel").click()
    page.get_by_text("Actions").click()
    page.get_by_role("link", name="Delete").click()
    check_light_and_dark(page)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="My Models")).to_be_visible()
    expect(page.get_by_text("tester/stranger")).to_have_count(0)


def test_the_base_of_an_adapter_is_corrected(page, http, dock):
    assert upload(http, "astray", EXAMPLES / "pirate", base_model="models/smollm2")["status"] == "Complete"
    open_dialog(page, "astray")
    expect(page.get_by_role("dialog")).to_contain_text(f"if it was trained on {BASE}")
    page.get_by_role("dialog").get_by_role("link", name="correct its base model").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"By its shapes it fits {BASE}")
    check_light_and_dark(page)
    expect_status(page, 422)
    dialog.get_by_label("Base model").fill("no:name")
    dialog.get_by_role("button", name="Correct base model").click()
    expect(dialog.get_by_role("alert")).to_contain_text("is not a valid model name")
    check_light_and_dark(page)
    dialog.get_by_label("Base model").fill(BASE)
    dialog.get_by_role("button", name="Correct base model").click()
    expect(page.get_by_role("link", name=BASE)).to_be_visible()
    assert http.get("/v1/models/astray").json()["base_model"] == BASE


def test_what_happens_while_the_dialog_is_open_is_said_beside_the_choice(page, http, dock, free, browser, server):
    second = create_endpoint(http, display_name="second berth")
    wait_state(http, second["id"], "STARTED")
    expect_status(page, 422)
    with visitor(browser, server.url) as later:
        expect_status(later, 422)
        for view in (page, later):
            open_dialog(view, free)
            expect(view.get_by_role("radio")).to_have_count(2)

        body = {"model_id": f"{second['name']}:tester/json"}
        assert http.post(f"/v1/endpoints/{second['id']}/adapters", json=body).status_code == 200
        _deploy(page, "dock")
        expect(page.locator("#endpoint-error")).to_have_text("adapter is already bound to endpoint")
        check_light_and_dark(page)
        http.request("DELETE", f"/v1/endpoints/{second['id']}/adapters", json=body)

        http.patch(f"/v1/endpoints/{second['id']}", json={"state": "STOPPED"})
        wait_state(http, second["id"], "STOPPED")
        _deploy(page, "second berth")
        expect(page.locator("#endpoint-error")).to_contain_text("second berth is stopped. Start it first")
        expect(page.get_by_role("radio")).to_have_count(1)

        assert http.delete(f"/v1/endpoints/{second['id']}").status_code < 300
        _deploy(later, "second berth")
        expect(later.locator("#endpoint-error")).to_have_text("No endpoint with this id exists")


def test_deleting_an_attached_adapter_asks_and_detaches_it_first(page, http, dock):
    assert upload(http, "doomed", EXAMPLES / "pirate")["status"] == "Complete"
    body = {"model_id": f"{dock['name']}:tester/doomed"}
    assert http.post(f"/v1/endpoints/{dock['id']}/adapters", json=body).status_code == 200
    expect_status(page, 422)
    page.goto("/ui/models/tester/doomed/delete")
    expect(page.get_by_role("main")).to_contain_text("It is attached to dock and goes offline")
    csrf = page.locator('meta[name="csrf-token"]').get_attribute("content")
    refused = page.request.post("/ui/models/tester/doomed/delete", form={"csrf": csrf})
    assert refused.status == 422 and "remove it there first" in refused.text()
    assert http.get("/v1/models/tester/doomed").status_code == 200
    page.get_by_role("button", name="Detach and delete").click()
    expect(page.get_by_role("heading", name="My Models")).to_be_visible()
    assert http.get("/v1/models/tester/doomed").status_code == 404
    names = [a["adapter_name"] for a in http.get(f"/v1/endpoints/{dock['id']}/adapters").json()["data"]]
    assert "tester/doomed" not in names


def _deploy(page: Page, endpoint: str) -> None:
    page.get_by_role("dialog").get_by_role("radio", name=endpoint).check()
    page.get_by_role("button", name="Deploy adapter").click()
