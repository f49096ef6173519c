"""The server is killed while many things go on at once: what comes back is never half of anything.

Beyond what the API shows, this looks at what the replica really holds, at every blob and at every row.
"""

import json
import random
import sqlite3
import threading
import time
from contextlib import closing, suppress

import httpx
import psutil
import pytest

from tests.servers import EXAMPLES, RunningServer, create_endpoint, upload, wait_state

NAMES = ("pirate", "json", "shout")
JOBS = "select status, count(*) from jobs group by status"
KINDS = "select kind, count(*) from events where kind in ('attach.route', 'attach.undone', 'detach.done') group by kind"


@pytest.fixture
def server(tmp_path):
    server = RunningServer(tmp_path / "data").start()
    yield server
    server.stop()


class Busy(threading.Thread):
    """Uploads, attaches, detaches and deletes at random until the server is gone; what fails, fails."""

    def __init__(self, server: RunningServer, endpoint: dict, seed: int) -> None:
        super().__init__()
        self._server, self._endpoint, self._random = server, endpoint, random.Random(seed)
        self._seed = seed

    def run(self) -> None:
        with suppress(httpx.TransportError), self._server.client() as http:
            for number in range(1000):
                self._act(http, number)

    def _act(self, http: httpx.Client, number: int) -> None:
        known = [model["id"] for model in catalogue(http)]
        choice = self._random.random()
        if choice < 0.35 or not known:
            self._upload(http, f"{self._seed}-{number}", self._random.choice(NAMES))
        elif choice < 0.65:
            change(http, "POST", self._endpoint, self._random.choice(known))
        elif choice < 0.95:
            change(http, "DELETE", self._endpoint, self._random.choice(known))
        else:
            http.delete(f"/v1/models/{self._random.choice(known)}")

    def _upload(self, http: httpx.Client, name: str, example: str) -> None:
        files = [("files", (file.name, file.read_bytes())) for file in (EXAMPLES / example).iterdir()]
        fields = {"lora_model": self._endpoint["id"]} if self._random.random() < 0.5 else {}
        http.post("/v1/models/upload", data={"model_name": name, **fields}, files=files)


def stock(server: RunningServer, seed: int) -> None:
    """Adapters that are there when the round begins; a fresh server is slow at its first upload."""
    with server.client() as http:
        for name in NAMES:
            assert upload(http, f"stock-{seed}-{name}", EXAMPLES / name)["status"] == "Complete"


def catalogue(http: httpx.Client) -> list[dict]:
    models = http.get("/v1/models", params={"catalogue": True}).json()["data"]
    return [model for model in models if model["id"].startswith("tester/")]


def change(http: httpx.Client, method: str, endpoint: dict, adapter: str) -> httpx.Response:
    body = {"model_id": f"{endpoint['name']}:{adapter}"}
    return http.request(method, f"/v1/endpoints/{endpoint['id']}/adapters", json=body)


def status_of(http: httpx.Client, model: str) -> int:
    body = {"model": model, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    return http.post("/v1/completions", json=body).status_code


def rows(server: RunningServer, query: str) -> list[tuple]:
    with closing(sqlite3.connect(server.data_dir / "loradock.db")) as database:
        return database.execute(query).fetchall()


def engines(server: RunningServer) -> set[int]:
    """Processes whose command line names a run folder of this server."""
    mine = str(server.data_dir / "replicas")
    found = psutil.process_iter(["cmdline"])
    return {process.pid for process in found if any(mine in word for word in process.info["cmdline"] or ())}


def eventually(check, what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def resident(server: RunningServer) -> set[str]:
    ((replica, secret),) = rows(server, "select id, secret from replicas")
    port = json.loads((server.data_dir / "replicas" / replica / "announce.json").read_text())["port"]
    headers = {"authorization": f"Bearer {secret}"}
    models = httpx.get(f"http://127.0.0.1:{port}/v1/models", headers=headers).json()["data"]
    return {model["id"] for model in models if model["parent"]}


def check_nothing_is_half(server: RunningServer, endpoint: dict) -> None:
    with server.client() as http:
        listed = {item["adapter_name"] for item in http.get(f"/v1/endpoints/{endpoint['id']}/adapters").json()["data"]}
        for model in catalogue(http):
            assert status_of(http, model["id"]) == (200 if model["id"] in listed else 404), (model, listed)
    assert ("ATTACHING",) not in rows(server, "select state from attachments")
    eventually(lambda: rows(server, "select 1 from attachments where state != 'ATTACHED'") == [], "detaches end")
    eventually(lambda: resident(server) == listed, "the replica holds what is listed")
    assert rows(server, "select name from models where state != 'READY'") == []
    assert rows(server, "select id from jobs where status in ('Queued', 'Running')") == []
    assert list((server.data_dir / "staging").iterdir()) == []
    blobs = {folder.name for folder in (server.data_dir / "blobs" / "sha256").iterdir()}
    assert blobs == {digest for (digest,) in rows(server, "select digest from revisions")}
    assert rows(server, "pragma integrity_check") == [("ok",)]
    assert rows(server, "pragma foreign_key_check") == []


def cut_off(server: RunningServer) -> bool:
    """Whether kills have met attaches, detaches and uploads; on a busy machine it takes more of them."""
    kinds, jobs = dict(rows(server, KINDS)), dict(rows(server, JOBS))
    return {"attach.undone", "attach.route", "detach.done"} <= set(kinds) and {"Complete", "Failed"} <= set(jobs)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_server_comes_back_with_nothing_half_done(server, rounds):
    with server.client() as http:
        endpoint = create_endpoint(http)
        wait_state(http, endpoint["id"], "STARTED")
    before = engines(server)
    assert len(before) == 1
    dice, leaving, seed = random.Random(7), 0, 0
    while seed < rounds or (rounds > 10 and seed < 3 * rounds and not cut_off(server)):
        stock(server, seed)
        busy = Busy(server, endpoint, seed)
        busy.start()
        time.sleep(dice.uniform(0.1, 1.5))
        server.kill()
        busy.join()
        leaving += len(rows(server, "select 1 from attachments where state = 'DETACHING'"))
        server.start()
        assert engines(server) == before
        check_nothing_is_half(server, endpoint)
        seed += 1
    kinds, jobs = dict(rows(server, KINDS)), dict(rows(server, JOBS))
    print(f"\n{rounds} kills: {leaving} detaches were cut off; attaches and detaches: {kinds}; uploads: {jobs}")
    if rounds > 10:  # else the dice may miss one; a run that never cuts anything off would prove nothing
        assert cut_off(server), (kinds, jobs)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", [0.1, *(pytest.param(later, marks=pytest.mark.slow) for later in (0.0, 0.5, 1.5))])
def test_a_server_killed_while_an_endpoint_starts_has_one_replica_in_the_end(server, moment):
    with server.client() as http:
        endpoint = create_endpoint(http)
    time.sleep(moment)
    server.kill()
    server.start()
    with server.client() as http:
        wait_state(http, endpoint["id"], "STARTED")
        assert status_of(http, endpoint["name"]) == 200
    assert len(engines(server)) == 1
