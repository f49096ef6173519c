"""kill -9 of the server in the middle of uploads, attaches and detaches: no half state afterwards."""

import json
import random
import sqlite3
import threading
import time

import httpx
import psutil
import pytest

from tests.servers import EXAMPLES, RunningServer, create_endpoint, upload, wait_state

ROUNDS = 15
JOBS = "select status, count(*) from jobs group by status"
NAMES = ("pirate", "json", "shout")


@pytest.fixture
def docked(tmp_path):
    server = RunningServer(tmp_path / "data", flags=("--keep-replicas",)).start()
    try:
        with server.client() as http:
            endpoint = create_endpoint(http)
            for name in NAMES:
                assert upload(http, name)["status"] == "Complete"
            wait_state(http, endpoint["id"], "STARTED")
        yield server, endpoint
    finally:
        server.stop()
        for pid in _engines(server).values():
            psutil.Process(pid).terminate()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kill_at_random_points(docked):
    server, endpoint = docked
    chance = random.Random(7)
    engines = _engines(server)
    assert len(engines) == 1
    for number in range(ROUNDS):
        acting = threading.Thread(target=_act, args=(server, endpoint, number, chance.choice(NAMES)))
        acting.start()
        time.sleep(chance.uniform(0, 0.4))
        server.kill()
        acting.join()
        server.start()
        with server.client() as http:
            wait_state(http, endpoint["id"], "STARTED")
            _check_adapters(http, endpoint)
            _check_models(http, server)
        assert _engines(server) == engines, "the replica was not adopted"


def _act(server: RunningServer, endpoint: dict, number: int, name: str) -> None:
    """An upload, an attach and a detach in a row; the server dies under one of them."""
    body = {"model_id": f"{endpoint['name']}:tester/{name}"}
    path = f"/v1/endpoints/{endpoint['id']}/adapters"
    files = [("files", (file.name, file.read_bytes())) for file in (EXAMPLES / name).iterdir()]
    steps = [
        lambda http: http.post("/v1/models/upload", data={"model_name": f"copy-{number}"}, files=files),
        lambda http: http.post(path, json=body),
        lambda http: http.request("DELETE", path, json=body),
    ]
    try:
        with server.client() as http:
            for step in steps[number % 3 :] + steps[: number % 3]:
                step(http)
    except httpx.TransportError:
        return


def _check_adapters(http: httpx.Client, endpoint: dict) -> None:
    """An adapter is either listed and answers as itself, or neither."""
    listed = {row["adapter_name"] for row in http.get(f"/v1/endpoints/{endpoint['id']}/adapters").json()["data"]}
    for name in NAMES:
        body = {"model": f"tester/{name}", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 3}
        status = http.post("/v1/chat/completions", json=body).status_code
        assert status == (200 if f"tester/{name}" in listed else 404), name


def _check_models(http: httpx.Client, server: RunningServer) -> None:
    """Nothing is half uploaded: not in the API, not in the database, not on the disk."""
    assert {job["status"] for job in http.get("/v1/jobs").json()["data"]} <= {"Complete", "Failed"}
    own = [model for model in http.get("/v1/models?catalogue=true").json()["data"] if "state" in model]
    assert {model["state"] for model in own} == {"READY"}
    assert list((server.data_dir / "staging").iterdir()) == []
    digests = {folder.name for folder in (server.data_dir / "blobs" / "sha256").iterdir()}
    assert digests == {model["digest"] for model in own}
    with sqlite3.connect(server.data_dir / "loradock.db") as database:
        states = {row[0] for row in database.execute("SELECT state FROM attachments")}
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    assert "ATTACHING" not in states


def _engines(server: RunningServer) -> dict[str, int]:
    """Replica → process id, of those that live."""
    found = {}
    for file in (server.data_dir / "replicas").glob("*/announce.json"):
        pid = json.loads(file.read_text())["pid"]
        if psutil.pid_exists(pid):
            found[file.parent.name] = pid
    return found
