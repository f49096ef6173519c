"""On a disk without a byte left: what makes things is refused, what ends things works, and what is lost is replaced."""

import asyncio
import logging
import os
import signal

import pytest

from loradock.types.enums import EndpointState
from loradock.types.errors import StorageFull
from tests.rig import Rig, ask, eventually, text_of
from tests.small_disk import small_disk


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        yield disk


@pytest.fixture
async def rig(disk):
    rig = Rig(disk.folder)
    rig.database.reserve.restore()
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


async def test_making_is_refused_and_ending_works(rig, disk):
    endpoint = await started(rig)
    held, new = (rig.adapter(rig.alice, "alice", name) for name in ("held", "new"))
    await rig.attach(rig.alice, endpoint, held)
    disk.fill()
    async with rig.gateway() as client:
        assert held in text_of(await ask(client, rig.key, held))
        with pytest.raises(StorageFull, match="disk is full") as refused:
            for _ in repeatedly(disk):
                await rig.attach(rig.alice, endpoint, new)
                await rig.detach(rig.alice, endpoint, new)
        assert refused.value.status == 507
        with pytest.raises(StorageFull):
            for _ in repeatedly(disk):
                rig.endpoint(rig.alice, "alice")
        disk.fill()
        await rig.detach(rig.alice, endpoint, held)
        await eventually(lambda: rig.attachments() == [])
        disk.fill()
        await rig.controller.delete_endpoint(rig.alice, endpoint.id)
        await eventually(lambda: rig.launcher.running() == set())
    disk.make_room()
    rig.database.reserve.restore()
    assert [piece.stat().st_size for piece in (disk.folder / "reserve").iterdir()] == [128 << 10] * 4
    await started(rig)


def repeatedly(disk):
    """The journal of the database may have room for a few more writes."""
    for _ in range(200):
        yield
        disk.fill()


async def test_a_lost_replica_is_replaced_and_a_stop_ends(rig, disk, caplog):
    endpoint = await started(rig)
    (before,) = rig.replicas()
    disk.fill()
    with caplog.at_level(logging.WARNING):
        async with rig.gateway() as client:
            os.kill(rig.pid(before), signal.SIGKILL)

            async def answers():
                if rig.launcher.running() in (set(), {before.id}):
                    return False
                return (await ask(client, rig.key, endpoint.name)).status_code == 200

            await eventually(answers, 20, "an answer of the new replica")
            disk.fill()
            await asyncio.sleep(2)
        async with asyncio.timeout(20):
            await rig.stop()
    assert rig.launcher.running() == set()
    assert not any(record.exc_info for record in caplog.records)
    assert len([record for record in caplog.records if "failed and is tried again" in record.message]) <= 3
