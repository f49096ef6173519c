"""Loradock's own restart under traffic: while it is away nobody can be answered, and nothing else fails."""

import threading
import time
from dataclasses import dataclass, field

import httpx
import psutil
import pytest

from tests.servers import RunningServer, create_endpoint, upload, wait_state

NAMES = ("pirate", "json", "shout")
CLIENTS = 4


@dataclass
class Traffic:
    """Clients without a pause, each on connections it keeps. `answers`: (model, status, text); `cut`: begin and end
    of each that met a refused or broken connection."""

    server: RunningServer
    answers: list[tuple[str, int, str]] = field(default_factory=list)
    cut: list[tuple[float, float]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Traffic":
        self.threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _client(self, number: int) -> None:
        with self.server.client() as http:
            while not self.over.is_set():
                begun = time.monotonic()
                try:
                    self._ask(http, f"tester/{NAMES[number % len(NAMES)]}", streaming=number % 2 == 1)
                except httpx.TransportError:
                    self.cut.append((begun, time.monotonic()))
                    time.sleep(0.05)

    def _ask(self, http: httpx.Client, model: str, *, streaming: bool) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8, "temperature": 0}
        response = http.post("/v1/chat/completions", json={**body, "stream": streaming})
        self.answers.append((model, response.status_code, response.text))

    def until_answered(self, more: int) -> None:
        goal, deadline = len(self.answers) + more, time.monotonic() + 120
        while len(self.answers) < goal:
            assert time.monotonic() < deadline, "nobody is answered any more"
            time.sleep(0.02)


@pytest.fixture
def docked(tmp_path):
    server = RunningServer(tmp_path / "data", flags=("--keep-replicas",)).start()
    try:
        with server.client() as http:
            endpoint = create_endpoint(http)
            wait_state(http, endpoint["id"], "STARTED")
            for name in NAMES:
                assert upload(http, name)["status"] == "Complete"
                body = {"model_id": f"{endpoint['name']}:tester/{name}"}
                assert http.post(f"/v1/endpoints/{endpoint['id']}/adapters", json=body).status_code == 200
        yield server, endpoint
    finally:
        server.stop()
        for process in engines(server):
            process.terminate()


def engines(server: RunningServer) -> list[psutil.Process]:
    ours = str(server.data_dir / "replicas")
    return [p for p in psutil.process_iter(["cmdline"]) if any(w.startswith(ours) for w in p.info["cmdline"] or ())]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("end", [RunningServer.stop, RunningServer.kill])
def test_only_what_is_asked_while_it_is_away_fails(docked, end):
    server, _ = docked
    before = {process.pid for process in engines(server)}
    away = []
    with Traffic(server) as traffic:
        for _ in range(3):
            traffic.until_answered(2 * CLIENTS)
            begun = time.monotonic()
            end(server)
            server.start()
            away.append((begun, time.monotonic()))
        traffic.until_answered(2 * CLIENTS)
    wrong = [answer for answer in traffic.answers if answer[1] != 200 or '"error"' in answer[2]]
    assert not wrong, wrong[:3]
    assert all(any(begun < back and left < ended for left, back in away) for begun, ended in traffic.cut)
    assert {process.pid for process in engines(server)} == before
    assert len(before) == 1
