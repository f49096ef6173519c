"""My Models: finding an adapter among many, and what its page tells."""

import re

import httpx
import pytest
from playwright.sync_api import expect
from sqlalchemy import event

from loradock.queries.adapters import AdapterSearch, AdapterStatus, search_adapters
from loradock.queries.lists import ListQuery
from loradock.store.accounts import ensure_account
from loradock.store.database import Database
from loradock.store.tables import Attachment, Deployment, Endpoint, Model, Revision
from loradock.types.enums import AttachmentState, ModelKind, ModelState
from tests.dashboard.conftest import check_light_and_dark, expect_status, visitor
from tests.databases import open_database
from tests.servers import BASE, KEY, RunningServer

MANY = 500


def _fill(session, slug, count):
    """`count` adapters for two base models, every tenth attached."""
    account = ensure_account(session, slug)
    deployment = Deployment(id="dep_1", base_model=BASE, hardware="cpu", state="STOPPED", desired="STOPPED")
    endpoint = Endpoint(id="endpoint-1", account=account, name=f"{slug}/e-1", display_name="harbour")
    endpoint.deployments = [deployment]
    session.add(endpoint)
    for number in range(count):
        base = BASE if number % 2 == 0 else "Qwen/Qwen3-0.6B"
        name = f"{slug}/adapter-{number:03}"
        model = Model(id=f"ml_{number}", account=account, name=name, kind=ModelKind.ADAPTER, base_model=base)
        model.state = ModelState.READY
        revision = Revision(id=f"rev_{number}", model=model, digest=f"{number:064}", size_bytes=1000 * number, rank=8)
        revision.target_modules = ["q_proj", "v_proj"]
        session.add(revision)
        if number % 10 == 0:
            session.flush()
            row = Attachment(id=f"att_{number}", deployment=deployment, model=model, revision=revision)
            row.engine_name, row.state = name, AttachmentState.ATTACHED
            session.add(row)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    running = RunningServer(tmp_path_factory.mktemp("crowded") / "data").start()
    database = Database(f"sqlite:///{running.data_dir / 'loradock.db'}")
    with database.session() as session:
        _fill(session, "tester", MANY)
    database.close()
    yield running
    running.stop()


def test_five_hundred_adapters_are_searched_filtered_sorted_and_paged(browser, crowded):
    with visitor(browser, crowded.url) as page:
        page.goto("/ui/models")
        rows = page.locator("#list tbody tr")
        expect(rows).to_have_count(50)
        expect(page.get_by_text(re.compile("^1.50 of 500"))).to_be_visible()
        check_light_and_dark(page)
        page.get_by_role("link", name="Next").click()
        expect(page.get_by_text(re.compile("^51.100 of 500"))).to_be_visible()
        page.goto("/ui/models")
        page.get_by_role("link", name="Size").click()
        expect(rows.first).to_contain_text("adapter-499")
        page.get_by_label("Status").select_option("Attached")
        expect(page.get_by_text(re.compile("^1.50 of 500"))).to_be_hidden()
        expect(rows).to_have_count(50)
        expect(rows.first).to_contain_text("harbour")
        page.get_by_label("Status").select_option("Any status")
        page.get_by_label("Search adapters").fill("adapter-12")
        expect(rows).to_have_count(10)
        page.get_by_label("Base model").select_option(label="Qwen/Qwen3-0.6B (250)")
        expect(rows).to_have_count(5)
        page.reload()
        expect(rows).to_have_count(5)
        page.get_by_label("Search adapters").fill("nothing like it")
        expect(page.get_by_role("heading", name="No adapter matches")).to_be_visible()
        check_light_and_dark(page)
        page.get_by_role("link", name="Show all adapters").click()
        expect(rows).to_have_count(50)


def test_one_of_five_hundred_is_found_in_the_dialog_for_attaching_and_nothing_else_is_chosen(browser, crowded):
    with visitor(browser, crowded.url) as page:
        page.goto("/ui/endpoints/endpoint-1")
        page.get_by_role("link", name="Attach adapters").first.click()
        dialog = page.get_by_role("dialog")
        choices = dialog.locator("input[name=adapter]")
        expect(choices).to_have_count(50)
        expect(dialog.locator("input[name=adapter]:checked")).to_have_count(0)
        expect(dialog).to_contain_text("150 more are there")  # 200 for its base, and attached nowhere
        dialog.get_by_label("Search adapters").fill("ADAPTER-048")
        expect(choices).to_have_count(1)
        dialog.get_by_label("adapter-048").check()
        dialog.get_by_label("Search adapters").fill("adapter-12")
        expect(dialog.get_by_label("adapter-122")).to_be_visible()
        expect(dialog.get_by_label("adapter-048")).to_be_checked()  # what is chosen stays in sight
        expect(dialog.locator("input[name=adapter]:checked")).to_have_count(1)
        expect(dialog).to_contain_text("1 selected")
        check_light_and_dark(page)


def test_a_page_of_the_list_costs_two_queries_however_many_there_are(tmp_path):
    database = open_database(tmp_path / "loradock.db")
    with database.session() as session:
        _fill(session, "tester", 60)
    asked = []
    with database.session() as session:
        account = ensure_account(session, "tester").id
        event.listen(database.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
        rows, total = search_adapters(session, account, AdapterSearch(ListQuery("name"), status=AdapterStatus.ATTACHED))
        shown = [(row.model.name, row.revision.rank, row.endpoint.display_name) for row in rows]
    database.close()
    assert (total, shown[0]) == (6, ("tester/adapter-000", 8, "harbour"))
    assert len(asked) == 2, asked


def test_an_account_without_models_is_told_what_to_do(browser, crowded):
    with visitor(browser, crowded.url, crowded.make_key("fresh")) as page:
        page.goto("/ui/models")
        expect(page.get_by_role("heading", name="No adapter yet")).to_be_visible()
        check_light_and_dark(page)
        page.goto("/")
        expect(page.get_by_role("heading", name="Getting started")).to_be_visible()
        check_light_and_dark(page)


def test_an_adapters_page_tells_what_was_inspected(page, dock):
    page.goto("/ui/models")
    page.get_by_role("link", name="tester/pirate", exact=True).click()
    facts = page.locator("dl.facts")
    for fact in ("Rank", "8", "Alpha", "16 (scaling 2)", "q_proj", "BF16"):
        expect(facts).to_contain_text(fact)
    expect(page.get_by_text("adapter_model.safetensors")).to_be_visible()
    expect(page.get_by_text("model.uploaded")).to_be_visible()
    check_light_and_dark(page)


def test_an_adapters_page_shows_how_to_call_it_and_an_attach_once(page, http, dock):
    bound = {"model_id": f"{dock['name']}:tester/shout"}
    assert http.post(f"/v1/endpoints/{dock['id']}/adapters", json=bound).status_code == 200
    page.goto("/ui/models/tester/shout")
    for language, line in (("curl", "curl -N"), ("TypeScript", "new Together"), ("openai", "from openai import")):
        page.get_by_role("radio", name=language).check()
        expect(page.locator("pre:visible")).to_have_count(1)
        expect(page.locator("pre:visible")).to_contain_text(line)
        expect(page.locator("pre:visible")).to_contain_text("tester/shout")
    events = page.locator("table.events")
    expect(events.get_by_text("attach.route")).to_be_visible()
    expect(events.get_by_text("attach.probe")).to_have_count(0)
    check_light_and_dark(page)
    page.get_by_role("link", name="All its events").click()
    expect(page.get_by_text("attach.probe")).to_be_hidden()
    page.get_by_text("8 steps in").click()
    expect(page.get_by_text("attach.probe")).to_be_visible()
    http.request("DELETE", f"/v1/endpoints/{dock['id']}/adapters", json=bound)


def test_a_text_is_copied_where_browsers_keep_their_clipboard_for_https(page, dock):
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.goto("/ui/models/tester/pirate")
    page.get_by_role("button", name="Copy digest").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    page.goto("/ui/models")
    page.get_by_label("Search adapters").press("Control+V")
    expect(page.get_by_label("Search adapters")).to_have_value(re.compile("^[0-9a-f]{64}$"))


def test_a_base_models_page_leads_to_an_endpoint_for_it(page, dock):
    page.goto("/ui/models")
    page.get_by_role("link", name="Base models").click()
    check_light_and_dark(page)
    page.get_by_role("link", name=BASE).click()
    expect(page.get_by_role("link", name="dock", exact=True)).to_be_visible()
    link = page.get_by_role("link", name="Create endpoint")
    assert link.get_attribute("href") == "/ui/endpoints/new?model=HuggingFaceTB/SmolLM2-135M-Instruct"
    check_light_and_dark(page)


def test_pages_to_read_need_no_scripts(browser, server, dock):
    with visitor(browser, server.url, java_script_enabled=False) as page:
        page.goto("/ui/models?q=pirate")
        expect(page.locator("#list tbody tr")).to_have_count(1)
        page.get_by_label("Search adapters").fill("shout")
        page.get_by_role("button", name="Filter").click()
        page.get_by_role("link", name="tester/shout").click()
        expect(page.locator("dl.facts")).to_contain_text("gate_proj")
        page.goto("/ui/keys")
        expect(page.get_by_role("row").filter(has_text="bootstrap")).to_be_visible()
        page.goto("/ui/base-models?q=smol")
        expect(page.get_by_role("link", name=BASE)).to_be_visible()


def test_another_account_sees_and_infers_nothing(browser, server, dock):
    with visitor(browser, server.url, server.make_key("rival")) as page:
        expect_status(page, 404)
        page.goto("/ui/models")
        expect(page.get_by_role("heading", name="No adapter yet")).to_be_visible()
        for path in ("", "/deploy", "/detach", "/delete", "/deployed"):
            page.goto(f"/ui/models/tester/pirate{path}")
            theirs = page.locator("main").inner_text()
            page.goto(f"/ui/models/tester/no-such-thing{path}")
            assert theirs == page.locator("main").inner_text()
            assert "Could not find model" in theirs
        page.goto(f"/ui/models/{BASE}")
        expect(page.get_by_text("No endpoint of yours runs it")).to_be_visible()


def test_a_model_is_found_only_by_those_signed_in(server, dock):
    answer = httpx.get(f"{server.url}/ui/models/tester/pirate")
    assert (answer.status_code, "sign-in" in answer.headers["location"]) == (303, True)
    assert KEY not in answer.text
