"""Odd requests beside steady streams: whatever one asks for, it gets an answer, and nobody else notices.

`ODD_REQUESTS=400` in the environment makes so many for each family.
"""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from tests.engine.conftest import SECRET, launch, wait_ready
from tests.engine.odd_requests import requests
from tests.tokenizers import save_base

FAMILIES = ("qwen3", "llama3", "mistral", "smollm2", "gemma3")
FEW = 25
INSIDE = ("Traceback", "<state>", "llguidance", "Parser", "object at 0x", "engine failed", "backtrace", "/home", "/tmp")


class Streams:
    """Four streams that say the same over and over."""

    def __init__(self, url):
        self._http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {SECRET}"}, timeout=120)
        self._over = threading.Event()
        self.heard = 0
        with ThreadPoolExecutor(1) as pool:
            self._alone = [text for text, _ in pool.map(self._say, range(4))]
        self._pool = ThreadPoolExecutor(4)
        self._running = [self._pool.submit(self._repeat, number) for number in range(4)]

    def _say(self, number):
        body = {"model": "base", "prompt": f"Stream {number}", "max_tokens": 24, "ignore_eos": True, "seed": number}
        body |= {"temperature": number % 2, "stream": True, "logprobs": 1}
        answer = self._http.post("/v1/completions", json=body)
        return answer.text.replace(_varying(answer.text), ""), answer.status_code

    def _repeat(self, number):
        while not self._over.is_set():
            said, status = self._say(number)
            assert status == 200
            assert said == self._alone[number]
            self.heard += 1

    def check(self):
        for stream in self._running:
            if stream.done():
                stream.result()

    def stop(self):
        self._over.set()
        for stream in self._running:
            stream.result(120)
        self._http.close()


def _varying(events):
    """Of a stream's events what differs each time: the id and the time."""
    first = json.loads(events.split("\n", 1)[0].removeprefix("data: "))
    return f'"id":"{first["id"]}","object":"{first["object"]}","created":{first["created"]},'


@pytest.fixture(scope="module", params=FAMILIES)
def engine(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    base = save_base(folder / "base", request.param, max_position_embeddings=512, num_hidden_layers=1)
    options = ("--dtype", "float32", "--threads", "1", "--kv-cache-gib", "0.01")
    running = wait_ready(launch(folder / "engine", base, *options))
    yield running
    running.process.terminate()
    assert running.process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def streams(engine):
    running = Streams(engine.url)
    yield running
    running.stop()
    assert running.heard > 0


@settings(
    max_examples=int(os.environ.get("ODD_REQUESTS", FEW)),
    deadline=None,
    derandomize="ODD_REQUESTS" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(requests)
def test_any_request_gets_an_answer_and_no_stream_is_disturbed(engine, streams, request_and_dialect):
    (path, body), dialect = request_and_dialect
    with engine.http as http:
        sent = json.dumps(body)  # lone surrogates go as the escapes that some clients send
        answer = http.post(path, content=sent, headers={"x-loradock-dialect": dialect})
    check_answer(answer, body)
    streams.check()
    assert engine.process.poll() is None


def check_answer(answer, body):
    found = [inner for inner in INSIDE if inner in answer.text]
    assert not found or any(inner in json.dumps(body) for inner in found)
    if answer.headers["content-type"].startswith("text/event-stream"):
        events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        last = events[-1] if events[-1] != "[DONE]" else "{}"
        assert json.loads(last).get("error", {}).get("type") in (None, "invalid_request_error"), last
        return
    told = answer.json()
    if answer.status_code != 200:
        assert answer.status_code in (400, 404), answer.text
        assert told["error"]["message"]
        return
    for choice in told["choices"]:
        for call in (choice.get("message") or {}).get("tool_calls") or []:
            json.loads(call["function"]["arguments"])
