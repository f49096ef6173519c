"""One adapter comes and goes, again and again, while others are asked without a pause."""

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.servers import RunningServer, create_endpoint, upload, wait_state

# Few tokens in which the adapters already differ: what is compared must not hang on the last bits of bfloat16.
TOKENS = 6
QUESTION = "Tell me about rain."


def ask(http: httpx.Client, model: str) -> httpx.Response:
    messages = [{"role": "user", "content": QUESTION}]
    body = {"model": model, "messages": messages, "max_tokens": TOKENS, "temperature": 0}
    return http.post("/v1/chat/completions", json=body)


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


class Traffic:
    """Asks one model after the other until told to stop, and remembers every answer that is not the expected one."""

    def __init__(self, server: RunningServer, expected: dict[str, str]) -> None:
        self.answered, self.wrong = 0, []
        self._server, self._expected = server, expected
        self._stop = threading.Event()

    @contextlib.contextmanager
    def flowing(self, clients: int = 2) -> Iterator[None]:
        threads = [threading.Thread(target=self._flow, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _flow(self, offset: int) -> None:
        models = list(self._expected)
        with self._server.client() as http:
            while not self._stop.is_set():
                model = models[(self.answered + offset) % len(models)]
                self._check(model, ask(http, model))

    def _check(self, model: str, response: httpx.Response) -> None:
        self.answered += 1
        if response.status_code != 200 or text_of(response) != self._expected[model]:
            self.wrong.append((model, response.status_code, response.text))


@pytest.fixture(scope="module")
def dock(tmp_path_factory):
    """A server with a started endpoint; pirate and json attached, shout only uploaded."""
    server = RunningServer(tmp_path_factory.mktemp("soak") / "data").start()
    with server.client() as http:
        endpoint = create_endpoint(http)
        for name in ("pirate", "json", "shout"):
            assert upload(http, name)["status"] == "Complete"
        wait_state(http, endpoint["id"], "STARTED")
        for name in ("pirate", "json"):
            attach(http, endpoint, name)
        yield server, http, endpoint
    server.stop()


def attach(http: httpx.Client, endpoint: dict, name: str) -> None:
    body = {"model_id": f"{endpoint['name']}:tester/{name}"}
    response = http.post(f"/v1/endpoints/{endpoint['id']}/adapters", json=body)
    assert response.status_code == 200, response.text


def detach(http: httpx.Client, endpoint: dict, name: str) -> None:
    body = {"model_id": f"{endpoint['name']}:tester/{name}"}
    response = http.request("DELETE", f"/v1/endpoints/{endpoint['id']}/adapters", json=body)
    assert response.status_code == 200, response.text


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cycles", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_no_answer_fails_or_comes_from_the_wrong_adapter(dock, cycles):
    server, http, endpoint = dock
    expected = {name: text_of(ask(http, name)) for name in ("tester/pirate", "tester/json", endpoint["name"])}
    attach(http, endpoint, "shout")
    shout = text_of(ask(http, "tester/shout"))
    detach(http, endpoint, "shout")
    assert len({*expected.values(), shout}) == 4

    traffic, took = Traffic(server, expected), []
    with traffic.flowing():
        for _ in range(cycles):
            began = time.perf_counter()
            attach(http, endpoint, "shout")
            took.append((time.perf_counter() - began) * 1000)
            assert text_of(ask(http, "shout")) == shout
            detach(http, endpoint, "shout")
            assert ask(http, "tester/shout").status_code == 404
    assert traffic.wrong == []
    assert traffic.answered >= cycles
    took.sort()
    figures = f"{cycles} cycles, {traffic.answered} answers beside them; attach ms: median"
    print(f"\n{figures} {statistics.median(took):.0f}, p99 {took[int(len(took) * 0.99)]:.0f}")
