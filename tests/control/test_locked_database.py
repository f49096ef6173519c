"""While another program holds the database: callers are told soon, what runs goes on, and what is lost is replaced."""

import asyncio
import logging
import os
import signal

import httpx
import pytest

from loradock.store.database import Database
from loradock.types.enums import EndpointState
from loradock.types.errors import DatabaseBusy
from tests.locked import locked
from tests.rig import Rig, ask, eventually, text_of


@pytest.fixture
async def rig(tmp_path):
    rig = Rig(tmp_path)
    rig.database.close()
    rig.file = tmp_path / "loradock.db"
    rig.database = Database(f"sqlite:///{rig.file}", patience=0.3)
    await rig.start()
    rig.alice, rig.key = rig.account("alice")
    try:
        yield rig
    finally:
        await rig.stop()
        rig.database.close()


async def started(rig):
    endpoint = rig.endpoint(rig.alice, "alice")
    await rig.until(endpoint, EndpointState.STARTED)
    return endpoint


async def test_attaches_are_refused_soon_and_inference_goes_on(rig):
    endpoint = await started(rig)
    adapters = [rig.adapter(rig.alice, "alice", f"a{number}") for number in range(24)]
    async with rig.gateway() as client:
        text_of(await ask(client, rig.key, endpoint.name))
        with locked(rig.file):
            attaching = [asyncio.create_task(rig.attach(rig.alice, endpoint, adapter)) for adapter in adapters]
            await asyncio.sleep(0.1)
            for _ in range(10):
                text_of(await ask(client, rig.key, endpoint.name))
            assert not all(task.done() for task in attaching)
            results = await asyncio.gather(*attaching, return_exceptions=True)
        assert {type(result) for result in results} == {DatabaseBusy}
        assert (results[0].status, results[0].headers()["retry-after"]) == (503, "3")
        assert rig.attachments() == []
        await rig.attach(rig.alice, endpoint, adapters[0])
        assert adapters[0] in text_of(await ask(client, rig.key, adapters[0]))


async def test_an_attach_that_cannot_be_recorded_is_undone_once_it_can(rig):
    endpoint = await started(rig)
    adapter = rig.adapter(rig.alice, "alice", "slow")
    rig.faults(adapter_delay=0.5)
    attaching = asyncio.create_task(rig.attach(rig.alice, endpoint, adapter))
    await eventually(lambda: len(rig.attachments()) == 1)
    with locked(rig.file), pytest.raises(DatabaseBusy, match=r"at step 'route'.*Nothing was changed"):
        await attaching
    await eventually(lambda: rig.attachments() == [])
    rig.faults()
    await rig.attach(rig.alice, endpoint, adapter)


async def test_a_lost_replica_is_replaced_meanwhile(rig, caplog):
    endpoint = await started(rig)
    adapter = rig.adapter(rig.alice, "alice", "kept")
    await rig.attach(rig.alice, endpoint, adapter)
    (before,) = rig.replicas()
    async with rig.gateway() as client:
        text_of(await ask(client, rig.key, adapter))
        with caplog.at_level(logging.WARNING), locked(rig.file):
            os.kill(rig.pid(before), signal.SIGKILL)

            async def answers():
                if rig.launcher.running() in (set(), {before.id}):
                    return False
                try:
                    return (await ask(client, rig.key, adapter)).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(answers, 20, "an answer of the new replica")
            assert [row.id for row in rig.replicas()] == [before.id]
        assert sum("writing to the database failed" in record.message for record in caplog.records) == 1
        assert not any(record.exc_info for record in caplog.records)
        await eventually(lambda: {row.id for row in rig.replicas()} == rig.launcher.running())
        kinds = [event.kind for event in rig.events("replica.")]
        assert kinds.count("replica.launched") == 2
        assert kinds.count("replica.lost") == 1


async def test_a_stop_does_not_wait_for_the_lock(tmp_path):
    rig = Rig(tmp_path)
    rig.database.close()
    rig.database = Database(f"sqlite:///{tmp_path / 'loradock.db'}", patience=0.3)
    await rig.start()
    alice, _ = rig.account("alice")
    await rig.until(rig.endpoint(alice, "alice"), EndpointState.STARTED)
    with locked(tmp_path / "loradock.db"):
        async with asyncio.timeout(20):
            await rig.stop()
    assert rig.launcher.running() == set()
    rig.database.close()


async def test_an_endpoint_deleted_meanwhile_keeps_no_replica(rig):
    """Its replica was launched while its row could not be written."""
    endpoint = await started(rig)
    (before,) = rig.replicas()
    with locked(rig.file):
        os.kill(rig.pid(before), signal.SIGKILL)
        await eventually(lambda: rig.launcher.running() not in (set(), {before.id}))
    await rig.controller.delete_endpoint(rig.alice, endpoint.id)
    await eventually(lambda: rig.launcher.running() == set())
    assert rig.replicas() == []


async def test_a_detach_is_refused_and_changes_nothing(rig):
    endpoint = await started(rig)
    adapter = rig.adapter(rig.alice, "alice", "bound")
    await rig.attach(rig.alice, endpoint, adapter)
    with locked(rig.file), pytest.raises(DatabaseBusy):
        await rig.detach(rig.alice, endpoint, adapter)
    assert len(rig.attachments()) == 1
