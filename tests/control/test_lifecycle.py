"""An endpoint's life, with real processes: start, failure, loss, stop, scaling, deletion."""

import asyncio
import os
import signal
import threading

import psutil
import pytest
from sqlalchemy import event

from loradock.types.enums import DesiredState, EndpointState
from loradock.types.errors import (
    BadRequest,
    EndpointMissing,
    EndpointNotRunning,
    EndpointStarting,
    ModelNotAvailable,
    NotFound,
)
from tests.rig import actor, eventually, running


@pytest.fixture
async def rig(tmp_path):
    async with running(tmp_path) as rig:
        rig.alice, rig.key = rig.account("alice")
        yield rig


def route(rig, endpoint):
    return rig.routes.resolve(endpoint.name, actor(rig.alice)).pick()


async def test_an_endpoint_starts_and_stops(rig):
    endpoint = rig.endpoint(rig.alice, "alice")
    await rig.until(endpoint, EndpointState.STARTED)
    assert route(rig, endpoint)
    pid = rig.pid(rig.replicas()[0])
    rig.set(endpoint, desired=DesiredState.STOPPED)
    await rig.until(endpoint, EndpointState.STOPPED)
    assert not psutil.pid_exists(pid)
    assert rig.replicas() == []
    assert rig.launcher.remains() == set()
    with pytest.raises(EndpointNotRunning, match=f"is STOPP.*{endpoint.id}"):
        route(rig, endpoint)


async def test_a_failed_start_tells_the_engines_last_words(rig):
    rig.faults(crash="cannot serve: this config.json names no known architecture")
    endpoint = rig.endpoint(rig.alice, "alice")
    deployment = await rig.until(endpoint, EndpointState.ERROR)
    assert deployment.message == "cannot serve: this config.json names no known architecture"
    await eventually(lambda: not rig.replicas())
    rig.faults()
    rig.set(endpoint, desired=DesiredState.STARTED)
    assert (await rig.until(endpoint, EndpointState.STARTED)).message is None


async def test_what_a_lost_replica_wrote_can_be_read(rig):
    rig.faults(crash="cannot serve: no such architecture")
    endpoint = rig.endpoint(rig.alice, "alice")
    deployment = await rig.until(endpoint, EndpointState.ERROR)
    await eventually(lambda: not rig.replicas())
    ((replica, text, end),) = await rig.controller.logs(deployment.id, None, 10, 0)
    assert "cannot serve: no such architecture" in text
    assert await rig.controller.logs(deployment.id, replica, None, end) == [(replica, "", end)]
    with pytest.raises(NotFound):
        await rig.controller.logs(deployment.id, "rep_other", 10, 0)


async def test_a_base_model_that_cannot_be_had_is_an_error(rig):
    def refuse(base_model, account, progress):
        raise BadRequest(f"{base_model} is nowhere to be found")

    rig.controller._resolve_base = refuse
    endpoint = rig.endpoint(rig.alice, "alice")
    assert (await rig.until(endpoint, EndpointState.ERROR)).message == "org/base is nowhere to be found"


async def test_what_takes_long_in_a_start_is_told_until_it_is_over(rig):
    rig.faults(load_delay=1, loading="packing the model: 1 of 2 MiB")
    endpoint = rig.endpoint(rig.alice, "alice")
    await eventually(lambda: rig.deployment(endpoint).message == "packing the model: 1 of 2 MiB")
    assert rig.deployment(endpoint).state is EndpointState.STARTING
    assert (await rig.until(endpoint, EndpointState.STARTED)).message is None


async def test_stopping_while_it_starts(rig):
    rig.faults(load_delay=60)
    endpoint = rig.endpoint(rig.alice, "alice")
    await rig.until(endpoint, EndpointState.STARTING)
    with pytest.raises(EndpointStarting):
        route(rig, endpoint)
    rig.set(endpoint, desired=DesiredState.STOPPED)
    await rig.until(endpoint, EndpointState.STOPPED)
    assert rig.launcher.running() == set()


async def test_a_lost_replica_is_replaced(rig):
    endpoint = rig.endpoint(rig.alice, "alice")
    await rig.until(endpoint, EndpointState.STARTED)
    lost = rig.replicas()[0]
    os.kill(rig.pid(lost), signal.SIGKILL)
    await eventually(lambda: rig.replicas() and rig.replicas()[0].id != lost.id)
    await rig.until(endpoint, EndpointState.STARTED)
    assert [row.id for row in rig.replicas()] != [lost.id]


async def test_a_replacement_that_does_not_start_is_tried_again(rig):
    endpoint = rig.endpoint(rig.alice, "alice")
    await rig.until(endpoint, EndpointState.STARTED)
    rig.faults(crash="no memory just now")
    os.kill(rig.pid(rig.replicas()[0]), signal.SIGKILL)
    await eventually(lambda: "no memory just now" in (rig.deployment(endpoint).message or ""))
    assert rig.deployment(endpoint).state is EndpointState.STARTING
    rig.faults()
    assert (await rig.until(endpoint, EndpointState.STARTED)).message is None
    assert not rig.events("endpoint.error")


async def test_a_replacement_that_never_starts_becomes_an_error_with_its_words(rig):
    endpoint = rig.endpoint(rig.alice, "alice")
    await rig.until(endpoint, EndpointState.STARTED)
    rig.faults(crash="the disk is gone")
    os.kill(rig.pid(rig.replicas()[0]), signal.SIGKILL)
    assert (await rig.until(endpoint, EndpointState.ERROR, 40)).message == "the disk is gone"
    rig.faults()
    rig.set(endpoint, desired=DesiredState.STARTED)
    await rig.until(endpoint, EndpointState.STARTED)


async def test_new_settings_that_do_not_start_leave_the_old_replica_and_tell_the_owner(rig):
    endpoint = rig.endpoint(rig.alice, "alice")
    await rig.until(endpoint, EndpointState.STARTED)
    (old,) = rig.replicas()
    rig.faults(crash="this rank is too much")
    rig.set(endpoint, max_lora_rank=512)
    await eventually(lambda: "0 of 1 replicas run as set" in (rig.deployment(endpoint).message or ""))
    assert "this rank is too much" in rig.deployment(endpoint).message
    assert rig.deployment(endpoint).state is EndpointState.STARTED
    assert route(rig, endpoint).replica_id == old.id
    rig.faults()
    await eventually(lambda: route(rig, endpoint).replica_id != old.id, 40)
    await eventually(lambda: rig.deployment(endpoint).message is None)


async def test_one_that_is_lost_again_and_again_becomes_an_error(tmp_path):
    async with running(tmp_path) as rig:
        rig.alice, _ = rig.account("alice")
        endpoint = rig.endpoint(rig.alice, "alice")

        def kill_what_is_ready():
            state = rig.deployment(endpoint).state
            if state is EndpointState.STARTED:
                for row in rig.replicas():
                    if found := rig.launcher.find(row.id):
                        os.kill(found.pid, signal.SIGKILL)
            return state is EndpointState.ERROR

        await eventually(kill_what_is_ready, timeout=40)
        assert rig.deployment(endpoint).message


async def test_only_the_logs_of_the_last_lost_replicas_stay(rig, monkeypatch):
    monkeypatch.setattr("loradock.control.fleet.lost_logs._KEPT", 1)
    endpoint = rig.endpoint(rig.alice, "alice")
    await rig.until(endpoint, EndpointState.STARTED)
    lost = []
    for _ in range(3):
        lost.append(rig.replicas()[0].id)
        os.kill(rig.pid(rig.replicas()[0]), signal.SIGKILL)
        await eventually(lambda: any(row.id not in lost for row in rig.replicas()))
        await eventually(lambda: rig.routes.resolve(endpoint.name, actor(rig.alice)).upstreams)
        await eventually(lambda: rig.launcher.remains() == {lost[-1], *(row.id for row in rig.replicas())})


async def test_many_lost_at_once_are_no_reason_to_give_up(rig):
    endpoint = rig.endpoint(rig.alice, "alice", replicas=5)
    await rig.until(endpoint, EndpointState.STARTED)

    def all_ready():
        return len(rig.routes.resolve(endpoint.name, actor(rig.alice)).upstreams) == 5

    await eventually(all_ready)
    lost = {replica.id: rig.pid(replica) for replica in rig.replicas()}
    for pid in lost.values():
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not set(lost) & {replica.id for replica in rig.replicas()})
    await eventually(all_ready)
    assert not rig.events("endpoint.error")


async def test_min_replicas_scale_up_and_down(rig):
    endpoint = rig.endpoint(rig.alice, "alice", replicas=3)
    await rig.until(endpoint, EndpointState.STARTED)
    await eventually(lambda: len(rig.routes.resolve(endpoint.name, actor(rig.alice)).upstreams) == 3)
    rig.set(endpoint, replicas=1)
    await eventually(lambda: len(rig.launcher.running()) == 1)
    await eventually(lambda: len(rig.replicas()) == 1)
    assert rig.deployment(endpoint).state is EndpointState.STARTED


async def test_an_end_that_fails_is_tried_again(rig, monkeypatch):
    endpoint = rig.endpoint(rig.alice, "alice", replicas=2)
    await rig.until(endpoint, EndpointState.STARTED)
    await eventually(lambda: len(rig.routes.resolve(endpoint.name, actor(rig.alice)).upstreams) == 2)
    fleet = rig.controller._loops[rig.deployment(endpoint).id].fleet
    failures = iter([RuntimeError("the database is busy")] * 2)
    forget = fleet._forget

    async def fail_twice(replica):
        if error := next(failures, None):
            raise error
        await forget(replica)

    monkeypatch.setattr(fleet, "_forget", fail_twice)
    rig.set(endpoint, replicas=1)
    await eventually(lambda: len(rig.replicas()) == 1)
    assert next(failures, None) is None
    assert len(rig.launcher.running()) == 1


async def test_a_deleted_endpoint_is_gone_at_once_and_its_replicas_follow(rig):
    endpoint = rig.endpoint(rig.alice, "alice")
    await rig.until(endpoint, EndpointState.STARTED)
    await rig.controller.delete_endpoint(rig.alice, endpoint.id)
    with pytest.raises(EndpointMissing):
        await rig.controller.delete_endpoint(rig.alice, endpoint.id)
    await eventually(lambda: not rig.launcher.running())


async def test_a_deleted_endpoint_takes_its_attachments_along_when_told_to(rig):
    endpoint = rig.endpoint(rig.alice, "alice")
    await rig.until(endpoint, EndpointState.STARTED)
    names = [rig.adapter(rig.alice, "alice", f"a{number}") for number in range(3)]
    for name in names:
        await rig.attach(rig.alice, endpoint, name)
    with pytest.raises(BadRequest, match="3 adapters"):
        await rig.controller.delete_endpoint(rig.alice, endpoint.id)
    await rig.controller.delete_endpoint(rig.alice, endpoint.id, detach=True)
    assert rig.attachments() == []
    for name in (endpoint.name, *names):
        with pytest.raises(ModelNotAvailable):
            rig.routes.resolve(name, actor(rig.alice))
    await eventually(lambda: not rig.launcher.running())
    other = rig.endpoint(rig.alice, "alice")
    await rig.attach(rig.alice, other, names[0])


async def test_adopts_what_still_runs_and_ends_what_nobody_wants(tmp_path):
    async with running(tmp_path) as rig:
        alice, _ = rig.account("alice")
        kept = rig.endpoint(alice, "alice")
        deleted = rig.endpoint(alice, "alice")
        await rig.until(kept, EndpointState.STARTED)
        await rig.until(deleted, EndpointState.STARTED)
        pid = rig.pid(next(row for row in rig.replicas() if row.deployment_id == rig.deployment(kept).id))
        await rig.stop(keep_replicas=True)
        with rig.database.session() as session:
            session.delete(session.merge(deleted))
        await rig.start()
        assert rig.routes.resolve(kept.name, actor(alice)).pick()
        assert {rig.launcher.find(row.id).pid for row in rig.replicas()} == {pid}
        assert len(rig.launcher.running()) == 1


async def test_a_replica_that_died_with_the_server_is_started_anew(tmp_path):
    async with running(tmp_path) as rig:
        alice, _ = rig.account("alice")
        endpoint = rig.endpoint(alice, "alice")
        await rig.until(endpoint, EndpointState.STARTED)
        lost = rig.replicas()[0]
        await rig.stop(keep_replicas=True)
        os.kill(rig.pid(lost), signal.SIGKILL)
        await eventually(lambda: rig.launcher.find(lost.id) is None)
        await rig.start()
        await eventually(lambda: rig.routes.resolve(endpoint.name, actor(alice)).upstreams)
        assert [row.id for row in rig.replicas()] != [lost.id]


async def test_a_launch_that_was_being_recorded_when_the_server_stopped_leaves_no_row_behind(tmp_path):
    async with running(tmp_path) as rig:
        alice, _ = rig.account("alice")
        writing, go_on = threading.Event(), threading.Event()

        @event.listens_for(rig.database.engine, "before_cursor_execute")
        def hold_the_first_launch(_connection, _cursor, statement, parameters, *_):
            said = f"{statement} {parameters}"
            if ("INTO replicas" in said or "replica.launched" in said) and not writing.is_set():
                writing.set()
                go_on.wait()

        endpoint = rig.endpoint(alice, "alice")
        await asyncio.to_thread(writing.wait)
        again = asyncio.create_task(stop_and_start(rig))
        await asyncio.wait({again}, timeout=1)
        go_on.set()
        await again
        await rig.until(endpoint, EndpointState.STARTED)
        await eventually(lambda: {row.id for row in rig.replicas()} == rig.launcher.running())


async def stop_and_start(rig):
    await rig.stop(keep_replicas=True)
    await rig.start()
