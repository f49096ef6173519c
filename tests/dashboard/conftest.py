"""A real Chromium on the dashboard of a running server. Every page is held: no console error, no request elsewhere."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.servers import KEY, RunningServer

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
AXE = Path(__file__).parent.parent / "clients" / "node" / "node_modules" / "axe-core" / "axe.min.js"
expect.set_options(timeout=15_000)
_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Closed with the last test of this folder: while Playwright runs, this thread has a running event loop, and the
    asynchronous tests of other folders could not begin theirs."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS.split())
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, server: RunningServer) -> Iterator[Page]:
    """Signed in as the first account."""
    with visitor(browser, server.url, KEY) as signed_in:
        yield signed_in


@contextmanager
def visitor(browser: Browser, url: str, key: str | None = KEY, **options) -> Iterator[Page]:
    """A browser of its own. At its end: nothing was logged as an error, nothing left the machine. `options`: of the
    browser context, e.g. color_scheme or viewport."""
    context: BrowserContext = browser.new_context(base_url=url, **options)
    page, complaints = context.new_page(), []
    page.set_default_timeout(45_000)
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: complaints.append(r.url) if not _local(r.url, url) else None)
    if key is not None:
        sign_in(page, key)
    try:
        yield page
        expected = getattr(page, "expected_statuses", ())
        assert [c for c in complaints if not any(f"status of {code}" in c for code in expected)] == []
    finally:
        context.close()


def sign_in(page: Page, key: str) -> None:
    page.goto("/ui/sign-in")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", level=1).wait_for()


def expect_status(page: Page, *codes: int) -> None:
    """Chromium logs failed answers as console errors: these are what the test is about."""
    page.expected_statuses = codes  # type: ignore[attr-defined]


def check_accessibility(page: Page) -> None:
    """No serious or critical finding of axe on the page as it stands. Runs in the page's own world, past its CSP."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [
        f"{v['id']}: {v['help']} — {[n['html'] for n in v['nodes']][:3]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == []


def check_light_and_dark(page: Page) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        check_accessibility(page)


def _local(url: str, base: str) -> bool:
    return urlsplit(url).scheme in ("data", "blob") or urlsplit(url).netloc == urlsplit(base).netloc
