"""Memory is reckoned by what replicas were promised, not by what they take today."""

import json
from dataclasses import replace

import pytest

from loradock.checkpoints.memory_plan import MemoryPlan
from loradock.control.fleet.memory_budget import Memory, why_not
from loradock.replicas.launcher import ProcessUse
from loradock.types.enums import EndpointState
from loradock.types.errors import ModelTooLarge
from tests.engine.tiny import CONFIG
from tests.rig import OPTIONS, eventually, running

MIB = 2**20


class Replica:
    def __init__(self, planned, private):
        self.plan = planned and MemoryPlan(planned * MIB, 0, 0, 0, 0)
        self._private = private * MIB

    def use(self):
        return ProcessUse(resident=self._private + 99, private=self._private)


@pytest.mark.parametrize(
    ("replicas", "free"),
    [
        ([], 1000),
        ([(300, 0)], 700),
        ([(300, 100)], 800),
        ([(300, 400)], 1000),
        ([(None, 100)], 1000),
        ([(300, 100), (500, 0)], 300),
        ([(900, 0), (900, 0)], 0),
    ],
)
async def test_what_is_promised_and_not_yet_taken_is_not_free(replicas, free):
    memory = Memory(lambda: 1000 * MIB, lambda: 2000 * MIB)
    takers = [Replica(*replica) for replica in replicas]
    for taker in takers:
        memory.add(taker)
    assert await memory.free() == free * MIB
    for taker in takers:
        memory.remove(taker)
    assert await memory.free() == 1000 * MIB


async def test_why_a_replica_cannot_be_launched():
    plan = MemoryPlan(512 * MIB, 256 * MIB, 0, 256 * MIB, 2048)
    assert await why_not(plan, 1024 * MIB, [], 0) is None
    assert await why_not(plan, 900 * MIB, [], 0) == (
        "a replica needs 1.0 GiB of memory (1.0 GiB: 0.5 weights, 0.25 KV cache, 0.0 adapters, 0.25 program) and 0.88"
        " GiB are free. Stop an endpoint, or lower max_replicas"
    )
    assert await why_not(None, 0, [], 3) is None
    assert "0.1 GiB of memory and 0.0 GiB are free" in await why_not(None, 200 * MIB, [Replica(None, 100)], 2)
    memory = Memory(lambda: 0, lambda: 1024 * MIB)
    memory.check_possible(plan)
    with pytest.raises(ModelTooLarge, match=r"needs 1\.0 GiB .* 0\.5 GiB in all"):
        Memory(lambda: 0, lambda: 512 * MIB).check_possible(plan)


async def with_model(rig):
    (rig.base / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 1000}))
    rig.alice, rig.key = rig.account("alice")


async def test_a_replica_that_has_not_taken_its_memory_yet_keeps_it_from_others(tmp_path):
    free = 900 * MIB
    async with running(tmp_path, options=replace(OPTIONS, free_memory=lambda: free, total_memory=lambda: 2**40)) as rig:
        await with_model(rig)
        endpoint = rig.endpoint(rig.alice, "alice", replicas=2)
        told = "1 of 2 replicas run as set; a replica needs 0."
        await eventually(lambda: told in (rig.deployment(endpoint).message or ""))
        (facts,) = await rig.controller.replicas(rig.deployment(endpoint).id)
        assert facts.resident < facts.plan.total // 2
        assert facts.plan.total <= free
        free = 2000 * MIB
        await eventually(lambda: len(rig.launcher.running()) == 2)
        await eventually(lambda: rig.deployment(endpoint).message is None)
        plans = [facts.plan for facts in await rig.controller.replicas(rig.deployment(endpoint).id)]
        await rig.stop(keep_replicas=True)
        await rig.start()
        await rig.until(endpoint, EndpointState.STARTED)
        assert [facts.plan for facts in await rig.controller.replicas(rig.deployment(endpoint).id)] == plans


async def test_the_first_replica_waits_for_memory_and_says_so(tmp_path):
    free = 100 * MIB
    async with running(tmp_path, options=replace(OPTIONS, free_memory=lambda: free, total_memory=lambda: 2**40)) as rig:
        await with_model(rig)
        endpoint = rig.endpoint(rig.alice, "alice")
        await eventually(lambda: "0.1 GiB are free" in (rig.deployment(endpoint).message or ""))
        assert rig.deployment(endpoint).state is EndpointState.PENDING
        assert rig.launcher.running() == set()
        free = 2**30
        await rig.until(endpoint, EndpointState.STARTED)


async def test_a_model_that_this_machine_can_never_hold_is_told_at_once(tmp_path):
    options = replace(OPTIONS, free_memory=lambda: 0, total_memory=lambda: 256 * MIB)
    async with running(tmp_path, options=options) as rig:
        await with_model(rig)
        endpoint = rig.endpoint(rig.alice, "alice")
        await rig.until(endpoint, EndpointState.ERROR)
        assert "0.25 GiB in all" in rig.deployment(endpoint).message
