"""What somebody would try: forged forms, other people's addresses, texts that are markup. No page may be forgotten."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from playwright.sync_api import expect
from starlette.routing import Route

from loradock.dashboard import app
from tests.dashboard.conftest import visitor
from tests.servers import EXAMPLES, KEY, create_endpoint, upload

ROUTES = [route for route in app._ROUTES if isinstance(route, Route)]
CHANGES = [route.path for route in ROUTES if "POST" in route.methods and route.path != "/ui/sign-in"]
ADDRESSED = [(method, route.path) for route in ROUTES if "{" in route.path for method in route.methods - {"HEAD"}]
MARKUP = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}"


@contextmanager
def _signed_in(server, key: str = KEY) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        assert client.post("/ui/sign-in", data={"key": key}).status_code == 303
        yield client


def _csrf(client: httpx.Client) -> str:
    return client.get("/ui/keys").text.partition('name="csrf-token" content="')[2].partition('"')[0]


@pytest.fixture(scope="module")
def owner(server):
    with _signed_in(server) as client:
        yield client


@pytest.fixture(scope="module")
def rival(server):
    with _signed_in(server, server.make_key("attacker")) as client:
        client.headers["x-csrf-token"] = _csrf(client)
        yield client


@pytest.fixture(scope="module")
def addresses(server, dock, owner):
    """The owner's own things, by the first parts of their pages' addresses."""
    with server.client() as http:
        job = upload(http, "watched", EXAMPLES / "pirate")
        replica = http.get(f"/v1/endpoints/{dock['id']}/replicas").json()["data"][0]["id"]
    run = owner.post("/ui/bulk", data={"csrf": _csrf(owner), "do": "detach", "adapter": "tester/watched"})
    assert run.status_code == 303
    key = re.search(r"/ui/keys/([^/]+)/revoke", owner.get("/ui/keys").text)
    return {
        "/ui/endpoints/": {"id": dock["id"], "replica": replica},
        "/ui/models/": {"account": "tester", "name": "watched"},
        "/ui/jobs/": {"id": job["job_id"]},
        "/ui/keys/": {"id": key and key[1]},
        "/ui/bulk/": {"id": run.headers["location"].rpartition("/")[2]},
    }


@pytest.mark.parametrize("path", CHANGES)
def test_what_changes_something_is_refused_without_the_secret(owner, path):
    path = re.sub(r"{\w+}", "anything", path)
    for sent in ({}, {"csrf": ""}, {"csrf": "guessed"}):
        assert owner.post(path, data=sent).status_code == 403
    elsewhere = {"origin": "http://elsewhere.example", "x-csrf-token": _csrf(owner)}
    assert owner.post(path, headers=elsewhere).status_code == 403


@pytest.mark.parametrize(("method", "path"), ADDRESSED)
def test_somebody_elses_address_leads_nowhere(owner, rival, addresses, method, path):
    values = next(values for start, values in addresses.items() if path.startswith(start))
    address = path.format(**values)
    sent = {"adapter": "tester/watched", "endpoint": addresses["/ui/endpoints/"]["id"]}
    answer = rival.request(method, address, data=sent if method == "POST" else None)
    assert answer.status_code == 404, address
    absent = {**values, "id": "nothing", "name": "nothing"}
    said = rival.request(method, path.format(**absent), data=sent if method == "POST" else None).text
    for part, value in values.items():  # some repeat what they were asked for
        said = said.replace(absent[part], value)
    assert answer.text == said


def test_the_owner_is_answered_where_others_are_not(owner, addresses):
    endpoint = addresses["/ui/endpoints/"]
    for address in (f"/ui/endpoints/{endpoint['id']}/replicas/{endpoint['replica']}/log", "/ui/models/tester/watched"):
        assert owner.get(address).status_code == owner.head(address).status_code == 200
    assert owner.get(f"/ui/jobs/{addresses['/ui/jobs/']['id']}").status_code == 200


def test_a_form_sent_after_the_session_has_ended_leads_back_to_its_page(server, browser):
    with visitor(browser, server.url) as page:
        page.goto("/ui/keys")
        page.context.clear_cookies()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="API keys")).to_be_visible()


def test_every_answer_is_protected_and_kept_by_nobody(owner):
    for address in ("/", "/ui/nothing", "/ui/sign-out", "/ui/usage/download", "/ui/endpoints/nothing/live"):
        headers = owner.get(address).headers
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize(("headers", "secure"), [({}, False), ({"x-forwarded-proto": "https"}, True)])
def test_the_cookie_stays_on_https_where_a_proxy_on_this_machine_says_so(server, headers, secure):
    answer = httpx.post(f"{server.url}/ui/sign-in", data={"key": KEY}, headers=headers)
    assert ("secure" in answer.headers["set-cookie"].lower()) is secure


def test_texts_that_are_markup_stay_texts(server, browser, dock):
    with server.client() as http, visitor(browser, server.url) as page:
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        upload(http, "hostile", EXAMPLES / "pirate", description=MARKUP)
        endpoint = create_endpoint(http, display_name=MARKUP, state="STOPPED")
        page.goto("/ui/keys")
        page.get_by_label("Name").fill(MARKUP[:64])
        page.get_by_role("button", name="Create key").click()
        expect(page.locator("#new-key")).to_be_visible()
        for address in (
            "/",
            "/ui/keys",
            "/ui/models?q=hostile",
            "/ui/models?q=%3Cimg%20src=x%3E",
            "/ui/models/tester/hostile",
            "/ui/endpoints",
            f"/ui/endpoints/{endpoint['id']}",
            f"/ui/endpoints/{endpoint['id']}/edit",
            f"/ui/endpoints/{endpoint['id']}/delete",
            f"/ui/playground?endpoint={endpoint['id']}&system=%3Cimg%20src=x%3E",
            "/ui/upload?name=%3Cimg%20src=x%3E",
            "/ui/events",
            "/ui/events?q=%3Cimg%20src=x%3E",
            "/ui/jobs?q=%3Cimg%20src=x%3E",
            f"/ui/endpoints/{endpoint['id']}/stop",
            f"/ui/endpoints/{endpoint['id']}/detach?adapter=%3Cimg%20src=x%3E",
            f"/ui/endpoints/{endpoint['id']}/attach?q=%3Cimg%20src=x%3E",
            f"/ui/endpoints/{endpoint['id']}/logs",
            "/ui/bulk?do=attach&adapter=tester/hostile",
            "/ui/bulk?do=%3Cimg%20src=x%3E&adapter=%3Cimg%20src=x%3E",
            "/ui/usage",
        ):
            page.goto(address)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            expect(page.locator("img[src=x], main script")).to_have_count(0)
        page.goto(f"/ui/endpoints/{endpoint['id']}")
        http.patch(f"/v1/endpoints/{endpoint['id']}", json={"display_name": f"renamed {MARKUP}"})
        expect(page.get_by_role("heading", level=1)).to_have_text(f"renamed {MARKUP}")
        expect(page.locator("img[src=x]")).to_have_count(0)
        http.delete(f"/v1/endpoints/{endpoint['id']}")
        http.delete("/v1/models/tester/hostile")
