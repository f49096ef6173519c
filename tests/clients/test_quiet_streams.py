"""The official clients skip the comments that a silent stream is sent."""

import json

import httpx
import openai
import pytest

from loradock.gateway.proxy.sse import COMMENT
from tests.clients.clients import VERSIONS, environment, node_client, python_client
from tests.servers import KEY, RunningServer, create_endpoint, wait_state

PROMPT = "Tell me about rain. " * 150
STREAM = (
    "import json, sys, together\n"
    "asked = dict(model=%r, messages=%r, max_tokens=8, temperature=0)\n"
    "stream = together.Together().chat.completions.create(**asked, stream=True)\n"
    "print(json.dumps(''.join(c.choices[0].delta.content or '' for c in stream if c.choices)))"
)
NODE = (
    "const stream = await new Together().chat.completions.create({model: %s, messages: %s, stream: true,"
    " max_tokens: 8, temperature: 0});\nlet text = '';\n"
    "for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';\n"
    "console.log(JSON.stringify(text));"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """With comments after 20 ms."""
    flags = ("--keep-alive", "0.02")
    running = RunningServer(tmp_path_factory.mktemp("quiet") / "data", flags=flags).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def endpoint(server):
    with server.client() as http:
        return wait_state(http, create_endpoint(http)["id"], "STARTED")


def messages(number: int) -> list[dict]:
    return [{"role": "user", "content": f"{number}. {PROMPT}"}]


def expected(server, endpoint, number: int) -> str:
    """The answer as a whole. That such prompts are sent comments is seen with another one: of this one the first token
    comes soon now."""
    body = {"model": endpoint["name"], "messages": messages(number), "max_tokens": 8, "temperature": 0}
    with server.client() as http:
        another = {**body, "messages": messages(100 + number), "stream": True}
        assert COMMENT in http.post("/v1/chat/completions", json=another).content
        return http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("version", VERSIONS)
def test_together(server, endpoint, tmp_path, version):
    env = environment(server.url, KEY, tmp_path)
    number = VERSIONS.index(version)
    said = python_client(version, STREAM % (endpoint["name"], messages(number)), env)
    assert said == expected(server, endpoint, number)


def test_together_in_typescript(server, endpoint, tmp_path):
    env = environment(server.url, KEY, tmp_path)
    said = node_client(NODE % (json.dumps(endpoint["name"]), json.dumps(messages(5))), env)
    assert said == expected(server, endpoint, 5)


def test_openai(server, endpoint):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client:
        stream = client.chat.completions.create(
            model=endpoint["name"], messages=messages(6), stream=True, max_tokens=8, temperature=0
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert said == expected(server, endpoint, 6)


def test_an_answer_that_is_cut_by_the_end_of_the_server_says_so(server, endpoint):
    """Last, as nothing is served afterwards."""
    body = {"model": endpoint["name"], "prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    with (
        httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as http,
        http.stream("POST", "/v1/completions", json=body) as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        server.process.terminate()
        server.process.send_signal(15)  # told twice: at once
        rest = [line for line in lines if line.startswith("data: ")]
    assert "stopping" in json.loads(rest[-1].removeprefix("data: "))["error"]["message"]
    assert server.process.wait(timeout=60) == 0
