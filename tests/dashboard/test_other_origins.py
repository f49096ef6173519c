"""A page of another origin in a real Chromium, with and without leave to call the API."""

import functools
import http.server
import threading

import pytest

from tests.servers import KEY, RunningServer, free_port

CALL = """
async ([url, key]) => {
  try {
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json", "x-stainless-os": "Linux" };
    const body = JSON.stringify({ model: "nobody/nothing", messages: [], stream: true });
    const answer = await fetch(url, { method: "POST", headers, body });
    return [answer.status, (await answer.json()).error.code, answer.headers.get("x-request-id") !== null];
  } catch (error) {
    return [0, error.message, false];
  }
}"""


@pytest.fixture(scope="module")
def page_elsewhere(tmp_path_factory):
    """The address of an empty page on another port."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "index.html").write_text("<!doctype html><title>x</title>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory, page_elsewhere):
    flags = ("--allow-origin", page_elsewhere)
    running = RunningServer(tmp_path_factory.mktemp("cors") / "data", flags=flags).start()
    yield running
    running.stop()


@pytest.mark.parametrize(
    ("path", "key", "seen"),
    [
        ("/v1/chat/completions", KEY, [404, "model_not_available", True]),
        ("/v1/chat/completions", "wrong", [401, "invalid_api_key", True]),
        ("/ui/api/v1/chat/completions", KEY, [0, "Failed to fetch", False]),
    ],
)
def test_an_allowed_page_reads_answers_and_errors_of_the_api_alone(browser, server, page_elsewhere, path, key, seen):
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(page_elsewhere)
        assert page.evaluate(CALL, [server.url + path, key]) == seen


def test_other_pages_read_nothing(browser, server, page_elsewhere):
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(page_elsewhere.replace("127.0.0.1", "localhost"))
        assert page.evaluate(CALL, [f"{server.url}/v1/chat/completions", KEY]) == [0, "Failed to fetch", False]
