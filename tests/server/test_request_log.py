"""One line for every request, for those who ask for it."""

import re
import subprocess
import sys
import time

import pytest

from tests.servers import RunningServer


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    flags = ("--log-requests", "--log-level", "warning")
    running = RunningServer(tmp_path_factory.mktemp("logged") / "data", flags=flags).start()
    yield running
    running.stop()


def lines(server, part, count=1):
    """Once there are so many: a line is written when its answer is gone."""
    deadline = time.monotonic() + 10
    while True:
        found = [line for line in server.log().splitlines() if "loradock.requests" in line and part in line]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.05)


def test_who_asked_what_and_how_it_ended(logged):
    with logged.client() as http:
        answer = http.get("/v1/models", params={"search": "secret-query"})
        asked = http.post("/v1/completions", json={"model": "no\nbody", "prompt": "a secret prompt"})
    (line,) = lines(logged, "/v1/models")
    assert re.search(r"INFO loradock\.requests: GET /v1/models 200 in \d+ ms", line)
    assert "bootstrap …ount" in line and answer.headers["x-request-id"] in line
    (line,) = lines(logged, "/v1/completions")
    assert "POST /v1/completions 404 in" in line
    assert "model 'no\\nbody'" in line and "bootstrap …ount" in line and asked.headers["x-request-id"] in line
    with logged.client("ld-nobody-has-this-key") as http:
        http.get("/v1/endpoints")
        http.get("/v1/endpoints/a%0AINFO%20forged")
    refused, forged = lines(logged, "/v1/endpoints", 2)
    assert " 401 in " in refused and "key" not in refused
    assert "/v1/endpoints/a%0AINFO%20forged" in forged
    assert "secret" not in logged.log() and "\nINFO forged" not in logged.log()


def test_the_log_level_holds_for_the_rest(logged):
    assert " INFO " not in "\n".join(line for line in logged.log().splitlines() if "loradock.requests" not in line)


def test_calls_of_replicas_are_not_in_the_log():
    code = (
        "import httpcore\n"
        "from loradock.server.run import write_log\n"
        "write_log('debug')\n"
        "answer = httpcore.MockBackend([b'HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n'])\n"
        "assert httpcore.ConnectionPool(network_backend=answer).request('GET', 'http://replica/health').status == 200\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert "httpcore" not in told


def test_without_the_flag_there_is_no_line(tmp_path):
    quiet = RunningServer(tmp_path / "data").start()
    with quiet.client() as http:
        assert http.get("/v1/models").status_code == 200
    quiet.stop()
    assert "loradock.requests" not in quiet.log()
