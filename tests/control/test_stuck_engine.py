"""The built-in engine with a compute thread that is stuck: noticed, replaced, and the others' requests are answered."""

import asyncio
import sys
from dataclasses import replace

import pytest

from loradock.types.enums import EndpointState
from tests.engine import tiny
from tests.rig import OPTIONS, Rig, eventually
from tests.stuck_engine import TOKEN

ENGINE = (sys.executable, "-m", "tests.stuck_engine")


@pytest.fixture
async def rig(tmp_path):
    rig = Rig(
        tmp_path, ENGINE, replace(OPTIONS, start_timeout=240, unready_after=0.5, hung_after=3, grace=1, threads=1)
    )
    rig.base.rmdir()
    tiny.save_base(rig.base)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()
        rig.database.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_stuck_compute_thread_costs_one_replica_and_one_request(rig):
    alice, key = rig.account("alice")
    endpoint = rig.endpoint(alice, "alice")
    ended = (EndpointState.STARTED, EndpointState.ERROR)
    await eventually(lambda: rig.deployment(endpoint).state in ended, 240)
    assert rig.deployment(endpoint).state is EndpointState.STARTED, rig.deployment(endpoint).message

    def ask(client, prompt):
        body = {"model": endpoint.name, "prompt": prompt, "max_tokens": 2}
        return client.post("/v1/completions", json=body, headers={"authorization": f"Bearer {key}"}, timeout=120)

    async with rig.gateway() as client:
        assert (await ask(client, [1, 2, 3])).status_code == 200
        poison = asyncio.create_task(ask(client, [TOKEN]))
        await eventually(lambda: rig.events("replica.unready"), 60)
        refused = await poison
        assert (refused.status_code, refused.json()["error"]["code"]) == (500, "replica_lost")
        assert (await ask(client, [1, 2, 3])).status_code == 200
    lost = [event.message for event in rig.events("replica.lost")]
    assert len(lost) == 1
    assert "it has computed no step for" in lost[0]
