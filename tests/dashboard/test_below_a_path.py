"""The dashboard behind a real nginx, below a path: every way to tell the server where it is."""

import re
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import expect_status, visitor
from tests.nginx import nginx
from tests.servers import KEY, RunningServer, free_port, wait_state

TOLD = "proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;"


@pytest.fixture(scope="module")
def knowing(tmp_path_factory):
    """A server that was told its public address, below a path; and that address."""
    public = f"http://127.0.0.1:{free_port()}/loradock"
    folder = tmp_path_factory.mktemp("knowing")
    running = RunningServer(folder / "data", flags=("--public-url", public)).start()
    yield running, public
    running.stop()


@pytest.fixture(scope="module")
def addresses(tmp_path_factory, server, knowing):
    """How the proxy and the server go together → where the dashboard is."""
    running, public = knowing
    named = f"proxy_set_header X-Forwarded-Prefix /loradock; {TOLD}"
    at = {name: free_port() for name in ("kept", "stripped", "silent")}
    rules = {
        urlsplit(public).port: f"location /loradock/ {{ proxy_pass {running.url}/; }}",
        at["kept"]: f"location /loradock/ {{ proxy_pass {server.url}; {named} }}",
        at["stripped"]: f"location /loradock/ {{ proxy_pass {server.url}/; {named} }}",
        at["silent"]: f"location / {{ proxy_pass {server.url}; }}",
    }
    with nginx(tmp_path_factory.mktemp("nginx"), rules):
        urls = {name: f"http://127.0.0.1:{port}/loradock" for name, port in at.items()}
        yield {**urls, "told": public, "silent": f"http://127.0.0.1:{at['silent']}"}


@pytest.mark.parametrize("way", ["told", "kept", "stripped"])
def test_a_visit(browser, addresses, way):
    url = addresses[way]
    with visitor(browser, url, key=None) as page:
        page.goto(f"{url}/ui/keys")
        expect(page).to_have_url(re.compile(f"^{re.escape(url)}/ui/sign-in"))
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="API keys")).to_be_visible()
        expect(page).to_have_url(f"{url}/ui/keys")
        [cookie] = page.context.cookies()
        assert (cookie["path"], cookie["httpOnly"]) == ("/loradock", True)
        page.get_by_label("Name").fill(way)
        page.get_by_role("button", name="Create key").click()
        expect(page.locator("#new-key")).to_be_visible()
        page.get_by_role("link", name="Overview").click()
        expect(page).to_have_url(f"{url}/")
        for link in ("My Models", "Endpoints", "Usage", "Events"):
            page.get_by_role("navigation", name="Main").get_by_role("link", name=link, exact=True).click()
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            assert page.url.startswith(f"{url}/ui/")
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(re.compile(f"^{re.escape(url)}/ui/sign-in"))
        assert page.context.cookies() == []


@pytest.fixture(scope="module")
def started(server, dock):
    with server.client() as http:
        return wait_state(http, dock["id"], "STARTED")


def test_the_playground_and_live_pages(browser, addresses, started):
    url = addresses["kept"]
    with visitor(browser, url, key=None) as page:
        page.goto(f"{url}/ui/sign-in")
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Sign in").click()
        with page.expect_response(
            lambda answer: answer.url.startswith(f"{url}/ui/endpoints/{started['id']}/live")
        ) as live:
            page.goto(f"{url}/ui/endpoints/{started['id']}")
        assert live.value.status == 200
        assert live.value.headers["cache-control"] == "no-cache, no-transform"
        page.goto(f"{url}/ui/playground?endpoint={started['id']}")
        expect(page.get_by_text(f"{url}/v1/chat/completions").first).to_be_attached()
        page.locator("#prompt").fill("Say hello.")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#answers")).to_contain_text("done", timeout=30_000)


def test_a_form_from_an_address_that_the_server_does_not_know_names_the_setting(addresses):
    """Over plain http from another machine, browsers tell only the origin; nginx rewrites the host."""
    origin = {"origin": "http://machine.example:8080"}
    refused = httpx.post(f"{addresses['silent']}/ui/sign-in", data={"key": KEY}, headers=origin)
    assert refused.status_code == 403
    assert "serve --public-url http://machine.example:8080" in refused.text


def test_the_known_origin_is_taken_though_the_host_was_rewritten(addresses):
    parts = urlsplit(addresses["told"])
    for origin, status in ((f"http://{parts.netloc}", 303), ("http://elsewhere.example", 403)):
        answer = httpx.post(f"{addresses['told']}/ui/sign-in", data={"key": KEY}, headers={"origin": origin})
        assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")


def test_the_api_answers_with_and_without_the_prefix(addresses, server):
    key = {"authorization": f"Bearer {KEY}"}
    for url in (*addresses.values(), server.url):
        assert httpx.get(f"{url}/v1/models", headers=key).status_code == 200
        body = {"model": "nobody/nothing", "messages": []}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=key)
        assert answer.json()["error"]["code"] == "model_not_available"


def test_pages_that_are_missing_lead_back_below_the_path(browser, addresses):
    with visitor(browser, addresses["told"], key=None) as page:
        expect_status(page, 404)
        page.goto(f"{addresses['told']}/ui/nothing")
        assert page.locator('link[rel="stylesheet"][href^="/loradock/ui/static/"]').count() == 1


def test_live_pages_ask_proxies_not_to_gather_them(server, started):
    with httpx.Client(base_url=server.url) as client:
        client.post("/ui/sign-in", data={"key": KEY})
        with client.stream("GET", f"/ui/endpoints/{started['id']}/live") as live:
            assert (live.headers["x-accel-buffering"], live.headers["cache-control"]) == (
                "no",
                "no-cache, no-transform",
            )
