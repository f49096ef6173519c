"""An endpoint on vLLM, an engine that lets adapters starve: the control plane does not. The stub stands in for it."""

import asyncio
import sys
from collections import Counter
from dataclasses import replace

import pytest

from loradock.replicas.process import ProcessLauncher
from loradock.replicas.vllm import VllmSetup
from loradock.types.enums import EndpointState, EngineKind
from tests.rig import OPTIONS, STUB, Rig, ask, eventually, text_of


@pytest.fixture
async def rig(tmp_path):
    """`max_loras` is 1: one slot for two adapters."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} {STUB[1]} "$@"\n')
    python.chmod(0o755)
    rig = Rig(tmp_path, options=replace(OPTIONS, max_loras=1))
    rig.launcher = ProcessLauncher(tmp_path / "replicas", vllm=VllmSetup(python))
    await rig.start()
    rig.alice, rig.key = rig.account("alice")
    try:
        yield rig
    finally:
        await rig.stop()
        rig.database.close()


async def test_adapters_take_turns_and_a_flood_for_one_does_not_starve_the_other(rig):
    dock = rig.endpoint(rig.alice, "alice", engine=EngineKind.VLLM)
    await rig.until(dock, EndpointState.STARTED)
    for short in ("hot", "cold"):
        await rig.attach(rig.alice, dock, rig.adapter(rig.alice, "alice", short))
    rig.faults(token_delay=0.02)
    over = asyncio.Event()

    async def flood(client):
        while not over.is_set():
            assert "alice/hot" in text_of(await ask(client, rig.key, "hot", max_tokens=3))

    async with rig.gateway() as client:
        flooding = [asyncio.create_task(flood(client)) for _ in range(4)]
        await eventually(lambda: rig.journal()[-1]["model"] == "alice/hot")
        try:
            assert "alice/cold" in text_of(await ask(client, rig.key, "cold", max_tokens=3))
            assert text_of(await ask(client, rig.key, dock.name)).endswith("from base")
            await rig.attach(rig.alice, dock, rig.adapter(rig.alice, "alice", "late"))
        finally:
            over.set()
            await asyncio.gather(*flooding)
    assert sum(entry["model"] == "alice/hot" for entry in rig.journal()) > 10
    assert not overlapping([entry for entry in rig.journal() if entry["model"] != dock.name])


def overlapping(journal):
    """Entries at which requests for different adapters were at work together."""
    at_work, met = Counter(), []
    for entry in journal:
        at_work[entry["model"]] += 1 if entry["event"] == "begun" else -1
        met += [entry] if sum(busy > 0 for busy in at_work.values()) > 1 else []
    return met


async def test_other_arguments_of_the_operator_replace_the_replicas_that_outlived_the_server(rig):
    dock = rig.endpoint(rig.alice, "alice", engine=EngineKind.VLLM)
    await rig.until(dock, EndpointState.STARTED)
    (old,) = rig.replicas()
    await rig.stop(keep_replicas=True)
    await rig.start()
    assert [replica.id for replica in rig.replicas()] == [old.id]
    await rig.stop(keep_replicas=True)
    rig.options = replace(rig.options, vllm_arguments=("--max-model-len", "2048"))
    await rig.start()
    await eventually(lambda: old.id not in {replica.id for replica in rig.replicas()})
    await rig.until(dock, EndpointState.STARTED)
