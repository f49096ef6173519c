"""Sessions: in with a key, out again, and nothing for anybody else."""

import httpx
import pytest

from tests.dashboard.conftest import check_light_and_dark, expect_status, visitor
from tests.servers import KEY


def test_a_key_signs_in_and_out(browser, server):
    with visitor(browser, server.url, None) as page:
        page.goto("/ui/models?q=x")
        assert "/ui/sign-in?next=" in page.url
        check_light_and_dark(page)
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="My Models").wait_for()
        assert page.url.endswith("/ui/models?q=x")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("heading", name="Sign in to Loradock").wait_for()
        page.goto("/ui/models")
        assert "/ui/sign-in" in page.url


def test_a_wrong_key_is_told_so_beside_the_field(browser, server):
    with visitor(browser, server.url, None) as page:
        expect_status(page, 401)
        page.goto("/ui/sign-in")
        page.get_by_label("API key").fill("ld-nobody")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("No valid key reads like this").wait_for()
        check_light_and_dark(page)


def test_the_session_cookie_is_out_of_reach_of_scripts(page):
    (cookie,) = [c for c in page.context.cookies() if c["name"] == "loradock_session"]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Lax"
    assert page.evaluate("document.cookie") == ""


@pytest.fixture
def signed_in(server):
    with httpx.Client(base_url=server.url) as client:
        assert client.post("/ui/sign-in", data={"key": KEY}).status_code == 303
        yield client


def test_what_changes_something_needs_the_secret_of_the_session(signed_in):
    assert signed_in.post("/ui/sign-out").status_code == 403
    assert signed_in.post("/ui/sign-out", data={"csrf": "guessed"}).status_code == 403
    assert signed_in.get("/ui/api/v1/endpoints").status_code == 403
    assert signed_in.get("/ui/models").status_code == 200


def test_another_site_cannot_sign_anybody_in(server):
    neighbour = {"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-site"}
    for foreign in ({"origin": "http://elsewhere.example"}, {"origin": "null"}, neighbour):
        assert httpx.post(f"{server.url}/ui/sign-in", data={"key": KEY}, headers=foreign).status_code == 403


@pytest.mark.parametrize("header", ["origin", "referer", "hx-current-url"])
def test_headers_that_hold_no_address_are_as_if_they_were_of_elsewhere(server, header):
    headers = {header: "http://[x", **({"hx-request": "true"} if header == "hx-current-url" else {})}
    assert httpx.post(f"{server.url}/ui/keys", headers=headers).status_code in (204, 303)
    signed_in = httpx.post(f"{server.url}/ui/sign-in", data={"key": KEY}, headers=headers)
    assert signed_in.status_code == (403 if header == "origin" else 303)


def test_a_proxy_may_call_the_server_by_another_name(server):
    proxied = {"origin": "https://loradock.example", "sec-fetch-site": "same-origin"}
    assert httpx.post(f"{server.url}/ui/sign-in", data={"key": KEY}, headers=proxied).status_code == 303


def test_the_api_of_the_pages_is_the_api(signed_in):
    csrf = signed_in.get("/ui/models").text.partition('name="csrf-token" content="')[2].partition('"')[0]
    answer = signed_in.get("/ui/api/v1/models", headers={"x-csrf-token": csrf})
    assert answer.status_code == 200, answer.text
    assert httpx.get(signed_in.base_url.join("/ui/api/v1/models"), headers={"x-csrf-token": csrf}).status_code == 401


def test_no_page_runs_scripts_or_styles_that_are_not_its_own(signed_in):
    policy = signed_in.get("/ui/models").headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy


def test_signing_in_leads_only_to_own_pages(server):
    answer = httpx.post(f"{server.url}/ui/sign-in?next=//elsewhere.example/", data={"key": KEY})
    assert answer.headers["location"] == "/"
