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


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"place": {"$ref": "#/$defs/Place"}},
            "required": ["place"],
            "additionalProperties": False,
            "$defs": {"Place": {"enum": ["Lyon", "<tool_call>"]}},
        },
    },
}
# Family → how a model writes two calls with text around where it can, in Lark.
WRITTEN = {
    "qwen3": '"Well. " <[151657]> "{0}" <[151658]> "\\n" <[151657]> "{0}" <[151658]>',
    "llama3": '"{1}"',
    "mistral": '<[9]> "[{0}, {0}]"',
}
OBJECT = '{{\\"name\\": \\"weather\\", \\"{}\\": {{\\"place\\": \\"Lyon\\"}}}}'


def ask(engine, stream, dialect="openai", **fields):
    """(status, text, calls) of a chat."""
    body = {"model": "base", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 200, "stream": stream}
    with engine.http as http:
        answer = http.post("/v1/chat/completions", json={**body, **fields}, headers={"x-loradock-dialect": dialect})
    if answer.status_code != 200:
        return answer.status_code, answer.json()["error"]["message"], []
    if stream:
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        choices = [json.loads(line)["choices"][0] for line in lines[:-1]]
        said = [choice["delta"] for choice in choices]
        finish = choices[-1]["finish_reason"]
    else:
        choice = answer.json()["choices"][0]
        said, finish = [choice["message"]], choice["finish_reason"]
    calls = [call["function"] for part in said for call in part.get("tool_calls") or []]
    assert not calls or finish == "tool_calls"
    found = [(call["name"], json.loads(call["arguments"])) for call in calls]
    return 200, "".join(part.get("content") or "" for part in said), found


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["openai", "together"])
def test_tools_are_called_in_the_family_s_form_or_refused_where_its_template_cannot_show_them(
    engine, streams, dialect, stream
):
    family = engine.folder.parent.name.removesuffix("0")
    named = {"type": "function", "function": {"name": "weather"}}
    for choice in ("required", named):
        status, text, calls = ask(engine, stream, dialect, tools=[WEATHER], tool_choice=choice)
        if family in WRITTEN:
            assert (status, text, [name for name, _ in calls]) == (200, "", ["weather"])
            assert calls[0][1]["place"] in ("Lyon", "<tool_call>")
        else:
            assert status == 400
            assert "cannot offer tools" in text
    status, text, _ = ask(engine, stream, dialect, tools=[WEATHER], max_tokens=2)
    assert status == (200 if family in WRITTEN else 400)
    status, _, calls = ask(engine, stream, dialect, tools=[WEATHER], tool_choice="none", max_tokens=2)
    assert (status, calls) == (200, [])
    streams.check()


@pytest.mark.parametrize("stream", [False, True])
def test_calls_that_a_model_makes_by_itself_are_read(engine, streams, stream):
    family = engine.folder.parent.name.removesuffix("0")
    if family not in WRITTEN:
        assert ask(engine, stream, tools=[WEATHER])[0] == 400
        return
    text = WRITTEN[family].format(OBJECT.format("arguments"), OBJECT.format("parameters"))
    status, said, calls = ask(engine, stream, tools=[WEATHER], guided_grammar=f"start: {text}")
    assert (status, said.strip()) == (200, "Well." if family == "qwen3" else "")
    assert calls == [("weather", {"place": "Lyon"})] * (1 if family == "llama3" else 2)


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
