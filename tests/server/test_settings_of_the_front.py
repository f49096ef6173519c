"""The real server process: pages of other origins, revoked keys, large bodies, and its end."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import httpx
import pytest

from tests.servers import KEY, RunningServer

ORIGIN = "http://localhost:3000"
ASKED = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type, x-stainless-os",
}
ALLOWED = "access-control-allow-origin"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    flags = ("--allow-origin", f"{ORIGIN},https://app.example.com/", "--drain-timeout", "1", "--host", "::")
    running = RunningServer(tmp_path_factory.mktemp("front") / "data", flags=flags).start()
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/endpoints/x", "/chat/completions"])
def test_a_preflight_needs_no_key(server, path):
    answer = httpx.options(server.url + path, headers=ASKED)
    assert answer.status_code == 204
    assert answer.headers[ALLOWED] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == ASKED["access-control-request-headers"]
    assert "Origin" in answer.headers["vary"]


def test_a_preflight_of_another_origin_is_refused_with_the_setting(server):
    answer = httpx.options(f"{server.url}/v1/models", headers=ASKED | {"origin": "https://elsewhere.example"})
    assert answer.status_code == 403
    assert "--allow-origin https://elsewhere.example" in answer.json()["message"]
    assert ALLOWED not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "/v1/models", KEY, 200),
        ("GET", "/v1/models", "wrong", 401),
        ("POST", "/v1/chat/completions", "wrong", 401),
        ("POST", "/v1/chat/completions", KEY, 404),
        ("POST", "//v1/chat/completions", KEY, 404),
        ("GET", "/v1/nothing", KEY, 404),
        ("PUT", "/v1/models", KEY, 405),
    ],
)
def test_answers_and_errors_may_be_read_by_pages_of_the_allowed_origins(server, method, path, key, status):
    body = {"model": "x", "messages": [], "stream": True}
    for origin, seen in ((ORIGIN, ORIGIN), ("https://app.example.com", "https://app.example.com"), ("null", None)):
        headers = {"authorization": f"Bearer {key}", "origin": origin}
        answer = httpx.request(method, server.url + path, json=body if method == "POST" else None, headers=headers)
        assert (answer.status_code, answer.headers.get(ALLOWED)) == (status, seen)
        assert answer.headers.get_list("vary") == ["Origin"]
        assert "access-control-allow-credentials" not in answer.headers


def test_the_dashboard_is_for_no_other_origin(server):
    with httpx.Client(base_url=server.url) as client:
        signed_in = client.post("/ui/sign-in", data={"key": KEY})
        token = client.get("/ui/keys").text.partition('name="csrf-token" content="')[2].partition('"')[0]
        own = {"x-csrf-token": token}
        answers = [signed_in, client.get("/ui/api/v1/models", headers=own)]
        assert [answer.status_code for answer in answers] == [303, 200]
        for path in ("/", "/ui/keys", "/ui/api/v1/models", "/ui/api/v1/chat/completions"):
            answers += [client.options(path, headers=ASKED), client.get(path, headers={**own, "origin": ORIGIN})]
        assert {path for answer in answers for path in answer.headers if path.startswith("access-control")} == set()


def test_without_the_setting_nothing_is_allowed(tmp_path):
    running = RunningServer(tmp_path / "data").start()
    try:
        answers = [httpx.options(f"{running.url}/v1/models", headers=ASKED)]
        answers.append(httpx.get(f"{running.url}/v1/models", headers={"origin": ORIGIN}))
        assert {name for answer in answers for name in answer.headers if name.startswith("access-control")} == set()
    finally:
        running.stop()


@pytest.mark.parametrize(
    "origin", ["localhost:3000", "http://a.example/page", "app.example.com", "https://u@a.example", "http://[a"]
)
def test_what_is_no_origin_is_refused_at_the_start(tmp_path, origin):
    command = [
        sys.executable,
        "-m",
        "loradock.cli.main",
        "serve",
        "--data-dir",
        str(tmp_path),
        "--allow-origin",
        origin,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert origin in ended.stderr + ended.stdout


def large(chunked: bool):
    return iter([b"x" * (1 << 20)] * 40) if chunked else b"x" * (40 << 20)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/endpoints", "/ui/sign-in"])
def test_a_body_over_the_limit_gets_a_413_whatever_the_client_does_first(server, path, chunked):
    """urllib sends all of it before it reads, on a connection that is to be closed."""
    kind = "application/x-www-form-urlencoded" if path.startswith("/ui") else "application/json"
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": kind}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(server.url + path, data=large(chunked), headers=headers))
    with refused.value as answer:
        assert answer.code == 413
        if path.startswith("/v1"):
            assert json.loads(answer.read())["error"]["type"] == "invalid_request_error"


def test_both_families_are_answered(server):
    assert httpx.get(f"http://[::1]:{server.port}/health").status_code == 200
    assert f"http://[::1]:{server.port}/v1" in server.log()


def test_an_upload_that_the_end_of_the_server_interrupts_gets_a_503(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
        head = f"POST /v1/models/upload HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9999\r\n"
        slow.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n".encode())
        time.sleep(0.5)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        answer = slow.makefile("rb").read()
        stopping.join()
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"retry-after" in answer.lower()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "service_unavailable"
    assert server.process.returncode == 0
    assert "Traceback" not in server.log()
