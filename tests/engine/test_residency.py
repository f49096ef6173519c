"""Adapters beyond the slots and beyond the memory."""

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from loradock.engine.adapters.adapters import Adapters
from loradock.engine.adapters.residency import AdapterMemory
from loradock.engine.errors import AdapterUnreadable, UnknownModel
from loradock.types.errors import AdapterRefused, BadRequest
from tests.engine import tiny
from tests.engine.conftest import launch, wait_ready
from tests.engine.test_adapters import load, text, unload


class Disk:
    """Reads that can be held up or made to fail, by name; an adapter takes 10 bytes."""

    def __init__(self):
        self.reads, self.forgotten, self.broken = [], [], set()
        self.stuck: dict[str, threading.Event] = {}

    def read(self, name, path):
        if name in self.stuck:
            assert self.stuck[name].wait(20)
        self.reads.append(name)
        if name in self.broken:
            raise AdapterRefused("the file is cut off")
        return SimpleNamespace(name=name, path=path, bytes=10, load_id=len(self.reads))

    async def forget(self, adapter):
        self.forgotten.append(adapter.name)

    def adapters(self, max_adapters=2, max_bytes=1000):
        memory = AdapterMemory(lambda _: None, self.read, self.forget, max_adapters=max_adapters, max_bytes=max_bytes)
        return Adapters(["base"], memory, lambda: frozenset({1}), enabled=True)


@pytest.fixture
def disk():
    return Disk()


def tiers(adapters):
    return {name: str(tier) for name, _, tier in adapters.listing()}


async def register(adapters, *names):
    for name in names:
        await adapters.load(name, Path(name), lazy=True)


async def use(adapters, name):
    (await adapters.lease(name)).release()


async def test_the_least_recently_used_leaves_memory(disk):
    adapters = disk.adapters()
    for name in "abc":
        await adapters.load(name, Path(name))
    assert tiers(adapters) == {"a": "disk", "b": "ram", "c": "ram"}
    await use(adapters, "b")
    await use(adapters, "a")
    assert tiers(adapters) == {"a": "ram", "b": "ram", "c": "disk"}
    await asyncio.sleep(0)
    assert disk.forgotten == ["a", "c"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere niceness is a process's")
async def test_who_reads_yields_to_who_computes():
    """The other way round, each token of all streams would wait for the reading of a new adapter."""
    found = []

    def read(name, path):
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return SimpleNamespace(name=name, path=path, bytes=10, load_id=1)

    memory = AdapterMemory(lambda _: None, read, Disk().forget, max_adapters=2, max_bytes=1000)
    await Adapters(["base"], memory, frozenset, enabled=True).load("a", Path("a"))
    assert found[0] > os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_bytes_are_bounded_too(disk):
    adapters = disk.adapters(max_adapters=9, max_bytes=25)
    for name in "abc":
        await adapters.load(name, Path(name))
    assert tiers(adapters) == {"a": "disk", "b": "ram", "c": "ram"}


async def test_lazy_reads_at_the_first_request_only(disk):
    adapters = disk.adapters()
    await register(adapters, "a")
    assert (tiers(adapters), disk.reads) == ({"a": "disk"}, [])
    await use(adapters, "a")
    await use(adapters, "a")
    assert (tiers(adapters), disk.reads) == ({"a": "active"}, ["a"])


async def test_requests_for_the_same_adapter_share_a_read(disk):
    adapters = disk.adapters()
    await register(adapters, "a")
    leases = await asyncio.gather(*(adapters.lease("a") for _ in range(5)))
    assert len({id(lease.adapter) for lease in leases}) == 1
    assert disk.reads == ["a"]


async def test_what_is_in_use_stays_and_may_exceed_the_limit_for_a_while(disk):
    adapters = disk.adapters(max_adapters=1)
    await register(adapters, "a", "b")
    first, second = await adapters.lease("a"), await adapters.lease("b")
    assert "disk" not in tiers(adapters).values()
    first.release()
    first.release()
    second.release()
    assert list(tiers(adapters).values()).count("disk") == 1


async def test_a_slow_read_does_not_hold_up_the_others(disk):
    disk.stuck["a"] = threading.Event()
    adapters = disk.adapters()
    await register(adapters, "a", "b")
    slow = asyncio.create_task(adapters.lease("a"))
    await use(adapters, "b")
    assert not slow.done()
    disk.stuck["a"].set()
    assert (await slow).adapter.name == "a"


async def test_a_read_that_fails_fails_only_those_who_wanted_it_and_can_be_tried_again(disk):
    adapters = disk.adapters(max_adapters=1)
    await register(adapters, "a", "b")
    disk.broken.add("a")
    results = await asyncio.gather(*map(adapters.lease, "aba"), return_exceptions=True)
    assert [type(r) is AdapterUnreadable for r in results] == [True, False, True]
    assert "'a'" in results[0].message
    assert "cut off" in results[0].message
    disk.broken.clear()
    results[1].release()
    await use(adapters, "a")
    assert tiers(adapters) == {"a": "ram", "b": "disk"}


async def test_a_file_that_is_gone_is_told_without_its_place_on_the_server(disk, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "read", lambda _name, path: (path / "adapter_config.json").read_bytes())
    adapters = disk.adapters()
    await adapters.load("a", tmp_path / "gone", lazy=True)
    with pytest.raises(AdapterUnreadable) as refused:
        await adapters.lease("a")
    assert refused.value.message == "The adapter 'a' cannot be read from this engine's disk: No such file or directory"
    assert refused.value.status == 503


async def test_unloading_during_a_read_waits_for_the_request_that_wanted_it(disk):
    disk.stuck["a"] = threading.Event()
    adapters = disk.adapters()
    await register(adapters, "a")
    wanted = asyncio.create_task(adapters.lease("a"))
    await asyncio.sleep(0)
    unloading = asyncio.create_task(adapters.unload("a"))
    await asyncio.sleep(0)
    with pytest.raises(UnknownModel):
        await adapters.lease("a")
    disk.stuck["a"].set()
    lease = await wanted
    assert not unloading.done()
    lease.release()
    await unloading
    assert (disk.forgotten, tiers(adapters)) == (["a"], {})


async def test_unloading_during_a_read_that_nobody_waits_for_frees_what_it_reads(disk):
    disk.stuck["a"] = threading.Event()
    adapters = disk.adapters()
    await register(adapters, "a")
    left = asyncio.create_task(adapters.lease("a"))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    unloading = asyncio.create_task(adapters.unload("a"))
    disk.stuck["a"].set()
    await unloading
    assert disk.forgotten == ["a"]


async def test_unloading_from_disk(disk):
    adapters = disk.adapters()
    await register(adapters, "a")
    await adapters.unload("a")
    assert (tiers(adapters), disk.reads, disk.forgotten) == ({}, [], [])


async def test_another_path_is_refused_also_during_the_first_load(disk):
    disk.stuck["a"] = threading.Event()
    adapters = disk.adapters()
    first = asyncio.create_task(adapters.load("a", Path("a")))
    await asyncio.sleep(0)
    with pytest.raises(BadRequest, match="loaded from a"):
        await adapters.load("a", Path("b"))
    disk.stuck["a"].set()
    await first
    assert tiers(adapters) == {"a": "active"}


def test_more_adapters_than_slots_and_memory_say_what_they_say_alone(tmp_path, base_folder):
    flags = ["--dtype", "float32", "--max-loras", "2", "--max-cpu-loras", "3", "--kv-cache-gib", "0.01"]
    folders = {f"a{n}": tiny.save_adapter(tmp_path / f"a{n}", base_folder, seed=n, rank=2 * n) for n in range(1, 6)}
    engine = wait_ready(launch(tmp_path / "engine", base_folder, *flags))
    with engine.http as http, ThreadPoolExecutor(15) as pool:
        for name, path in folders.items():
            body = {"lora_name": name, "lora_path": str(path), "lazy": True}
            assert http.post("/v1/load_lora_adapter", json=body).status_code == 200
        assert entries(http) == dict.fromkeys(folders, "disk")
        models = [*folders, "base"]
        alone = {model: text(http, model) for model in models}
        assert len(set(alone.values())) == len(models)
        assert list(entries(http).values()).count("ram") == 3
        assert engine.metric("adapters_disk") == 2
        assert list(pool.map(lambda model: text(http, model), models * 5)) == [alone[m] for m in models * 5]
        assert engine.metric("adapter_reads_total") >= 5
        assert all(unload(http, name).status_code == 200 for name in folders)
        assert entries(http) == {}
    engine.process.terminate()
    assert engine.process.wait(20) == 0


def test_lazy_still_refuses_what_it_can_see_without_reading(http, base_folder, tmp_path):
    big = tiny.save_adapter(tmp_path / "big", base_folder, seed=1, rank=9)
    hollow = tiny.save_adapter(tmp_path / "hollow", base_folder, seed=1)
    (hollow / "adapter_model.safetensors").unlink()
    short = tiny.save_adapter(tmp_path / "short", base_folder, seed=1)
    os.truncate(short / "adapter_model.safetensors", (short / "adapter_model.safetensors").stat().st_size - 1)
    damaged = (hollow, "adapter_model"), (short, "adapter_model"), (tmp_path / "none", "no folder")
    for path, word in ((big, "rank 9"), *damaged):
        body = {"lora_name": "lazy", "lora_path": str(path), "lazy": True}
        answer = http.post("/v1/load_lora_adapter", json=body)
        assert answer.status_code == 400
        assert word in answer.json()["message"]
    assert load(http, "lazy", big).status_code == 400


def entries(http):
    return {entry["id"]: entry["tier"] for entry in http.get("/v1/models").json()["data"] if entry["parent"]}
