"""A whole server on a full disk."""

import time
from pathlib import Path

import pytest

from tests.servers import EXAMPLES, RunningServer, create_endpoint, upload
from tests.small_disk import small_disk


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    with small_disk(tmp_path_factory.mktemp("small") / "disk", 48) as disk:
        yield disk


@pytest.fixture(scope="module")
def server(disk):
    running = RunningServer(disk.folder / "data").start()
    yield running
    if running.process.poll() is None:
        running.kill()


def pieces(server) -> list[Path]:
    return list((server.data_dir / "reserve").glob("*"))


def refused(response):
    assert response.status_code == 507, response.text
    assert "disk is full" in response.json()["error"]["message"]
    assert response.headers["x-should-retry"] == "false"


def until_refused(disk, call):
    """The database's journal may have room for a few more writes."""
    for _ in range(100):
        response = call()
        if response.status_code != 200:
            break
        disk.fill()
    refused(response)


def test_a_full_disk_is_told_deleting_works_and_the_server_stops(server, disk):
    with server.client() as http:
        endpoint = create_endpoint(http, state="STOPPED")
        assert upload(http, "pirate")["status"] == "Complete"
        _until(lambda: len(pieces(server)) == 4)
        disk.fill()
        files = [("files", (file.name, file.read_bytes())) for file in (EXAMPLES / "json").iterdir()]
        refused(http.post("/v1/models/upload", data={"model_name": "json"}, files=files))
        body = {"model": endpoint["model"], "hardware": "", "state": "STOPPED"}
        until_refused(disk, lambda: http.post("/v1/endpoints", json=body))
        disk.fill()
        assert http.delete("/v1/models/tester/pirate").status_code == 200
        disk.fill()
        assert http.delete(f"/v1/endpoints/{endpoint['id']}").status_code == 204
        assert len(pieces(server)) < 4
        disk.fill()
    server.stop()
    assert server.process.returncode == 0
    disk.make_room()
    server.start()
    with server.client() as http:
        assert upload(http, "pirate")["status"] == "Complete"
        _until(lambda: len(pieces(server)) == 4)


def _until(check):
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)
