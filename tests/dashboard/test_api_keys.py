"""API keys: shown once, revoked for good, the account's own only."""

import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import check_light_and_dark, expect_status, visitor


@pytest.fixture(scope="module")
def rival(server):
    return server.make_key("key-rival")


def test_a_new_key_is_shown_once_works_and_is_revoked(page, server):
    expect_status(page, 401)
    page.goto("/ui/keys")
    check_light_and_dark(page)
    page.get_by_label("Name").fill("for the test")
    page.get_by_role("button", name="Create key").click()
    key = page.locator("#new-key").inner_text()
    check_light_and_dark(page)
    with server.client(key) as client:
        assert client.get("/v1/endpoints").status_code == 200
        page.reload()
        expect(page.locator("#new-key")).to_have_count(0)
        assert key not in page.content()
        page.get_by_role("link", name="Revoke for the test").click()
        check_light_and_dark(page)
        page.get_by_role("button", name="Revoke key").click()
        expect(page.get_by_role("link", name="Revoke for the test")).to_have_count(0)
        assert client.get("/v1/endpoints").status_code == 401
    expect(page.locator("tr", has_text="for the test")).to_contain_text("revoked")


def test_a_key_without_a_name_is_not_made(page, server):
    expect_status(page, 422)
    page.goto("/ui/keys")
    page.get_by_label("Name").fill("   ")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#name-error")).to_contain_text("Give it a name")


def test_revoking_the_key_one_is_signed_in_with_ends_the_session(browser, server, page):
    page.goto("/ui/keys")
    page.get_by_label("Name").fill("mine")
    page.get_by_role("button", name="Create key").click()
    with visitor(browser, server.url, page.locator("#new-key").inner_text()) as holder:
        holder.goto("/ui/keys")
        holder.get_by_role("link", name="Revoke mine").click()
        expect(holder.get_by_role("dialog")).to_contain_text("You are signed in with this key")
        holder.get_by_role("button", name="Revoke key").click()
        expect(holder.get_by_role("heading", name="Sign in to Loradock")).to_be_visible()


def test_another_accounts_keys_are_out_of_reach(browser, server, page, rival):
    page.goto("/ui/keys")
    address = page.get_by_role("link", name="Revoke bootstrap").get_attribute("href")
    with visitor(browser, server.url, rival) as other:
        expect_status(other, 404)
        other.goto("/ui/keys")
        expect(other.get_by_text("bootstrap")).to_have_count(0)
        other.goto(address)
        expect(other.get_by_role("main")).to_contain_text("There is no such key")
        csrf = other.locator('meta[name="csrf-token"]').get_attribute("content")
        assert other.request.post(address, form={"csrf": csrf}).status == 404
    page.reload()
    expect(page.get_by_role("link", name="Revoke bootstrap")).to_be_visible()
