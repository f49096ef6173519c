"""What an engine tells of its progress, for whoever has to find out whether it is stuck."""

import logging
import threading
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from loradock.checkpoints.architecture import Architecture
from loradock.engine.http.server import EngineServer
from loradock.engine.kernels.structures import Format
from loradock.engine.models import packing
from loradock.engine.models.packed_layout import lay_out
from loradock.engine.process.loading_news import tell_of_loading
from loradock.engine.scheduling import loop as loops
from tests.engine.test_loop import loop, run  # noqa: F401

SECRET = {"authorization": "Bearer s"}


@pytest.fixture
def health(loop):  # noqa: F811
    server = EngineServer("s")
    server.ready(SimpleNamespace(loop=loop))
    client = TestClient(server.app)
    return lambda headers=SECRET: client.get("/health", headers=headers).json()


def test_who_asks_during_a_start_is_told_what_is_done_with_the_model(monkeypatch, caplog):
    server = EngineServer(None)
    client = TestClient(server.app)
    tell_of_loading(server)
    assert client.get("/health").json() == {"status": "loading"}
    monkeypatch.setattr(packing, "_EVERY_S", -1)
    layout = lay_out(Architecture("llama", 96, 64, 96, 2, 4, 2, 16, 1e4, 1e-5, 64), Format.INT8)
    with caplog.at_level(logging.INFO):
        packing.Progress(layout).add(layout.head)
    told = client.get("/health")
    assert told.status_code == 503
    assert told.json() == {"status": "loading", "reason": "packing the model: 0 of 0 MiB"}


def test_only_who_has_the_secret_is_told(health):
    assert health({}) == health({"authorization": "Bearer x"}) == {"status": "ok"}
    assert set(health()) == {"status", "steps", "work", "compute_seconds"}


def test_steps_are_counted_and_nothing_waits_in_the_end(loop, health):  # noqa: F811
    before = health()["steps"]
    run(loop, 1)
    assert health()["steps"] >= before + 3
    loop.call(lambda: None).result(5)
    assert health()["work"] == 0


def test_a_compute_thread_that_is_stuck_is_seen_by_steps_that_stand_still_while_work_waits(loop, health):  # noqa: F811
    freed, reached = threading.Event(), threading.Event()
    stuck = loop.call(lambda: reached.set() or freed.wait(20))
    assert reached.wait(5)
    waiting = loop.call(lambda: None)
    first, second = health(), health()
    assert first["work"] == 2
    assert (first["steps"], first["compute_seconds"]) == (second["steps"], second["compute_seconds"])
    freed.set()
    assert stuck.result(5)
    waiting.result(5)
    assert health()["steps"] > first["steps"]


def test_a_long_step_is_seen_by_the_processor_time_it_takes(loop, health):  # noqa: F811
    freed, reached = threading.Event(), threading.Event()

    def long():
        reached.set()
        while not freed.is_set():
            sum(range(1000))

    step = loop.call(long)
    assert reached.wait(5)
    first = health()
    while health()["compute_seconds"] <= first["compute_seconds"]:
        assert not step.done()
    assert health()["steps"] == first["steps"]
    freed.set()
    step.result(5)


def test_an_engine_that_rests_gives_unused_blocks_back(monkeypatch, request):
    monkeypatch.setattr(loops, "_REST_S", 0.01)
    monkeypatch.setattr(loops, "_KEPT_S", 0.0)
    resting = request.getfixturevalue("loop")
    rested = threading.Event()
    give_back = resting.scheduler.cache.give_back
    monkeypatch.setattr(resting.scheduler.cache, "give_back", lambda kept: (give_back(kept), rested.set())[0])
    run(resting, 1)
    assert rested.wait(5)
    assert resting.call(lambda: resting.scheduler.cache.available).result(5) == resting.scheduler.cache.blocks
    assert len(run(resting, 2)[0]) > 0
