"""Server and replica stopped by a signal for longer than a replica may be silent: neither is to be blamed for it."""

import json
import os
import signal
import time

import pytest

from tests.servers import RunningServer, ask, create_endpoint, wait_state

SILENT_S = 62
"""Longer than a replica may be silent."""


@pytest.fixture
def docked(tmp_path):
    server = RunningServer(tmp_path / "data").start()
    try:
        with server.client() as http:
            endpoint = create_endpoint(http)
            wait_state(http, endpoint["id"], "STARTED")
            yield server, http, endpoint
    finally:
        server.stop()


def engine(server):
    (file,) = (server.data_dir / "replicas").glob("*/announce.json")
    return json.loads(file.read_text())["pid"]


def kinds(http):
    return {event["kind"] for event in http.get("/v1/events?limit=100").json()["data"]}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_server_and_replica_paused_together_and_the_replica_for_longer(docked):
    server, http, endpoint = docked
    pid = engine(server)
    for process in (pid, server.process.pid):
        os.kill(process, signal.SIGSTOP)
    time.sleep(SILENT_S)
    os.kill(server.process.pid, signal.SIGCONT)
    time.sleep(7.5)
    os.kill(pid, signal.SIGCONT)
    assert ask(http, endpoint["name"])
    assert engine(server) == pid
    assert "replica.lost" not in kinds(http)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_replica_paused_for_long_is_told_of_and_used_again(docked):
    server, http, endpoint = docked
    pid = engine(server)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(SILENT_S + 13)
    assert "replica.unready" in kinds(http)
    os.kill(pid, signal.SIGCONT)
    assert ask(http, endpoint["name"])
    assert engine(server) == pid
    assert "replica.lost" not in kinds(http)
    assert "replica.recovered" in kinds(http)
