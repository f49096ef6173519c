"""The attach and detach transactions against a replica that fails on demand."""

import asyncio

import pytest

from loradock.control.options import ControlOptions
from loradock.store.tables import Model, Revision
from loradock.types.enums import AttachmentState, DesiredState, EndpointState
from loradock.types.errors import (
    AdapterRefused,
    AlreadyBound,
    BadRequest,
    Internal,
    LoradockError,
    ModelMissing,
    ModelNotAvailable,
    NotBound,
    Unavailable,
)
from tests.rig import actor, ask, eventually, running, stream, text_of


@pytest.fixture
async def rig(tmp_path):
    async with running(tmp_path) as rig:
        rig.alice, rig.key = rig.account("alice")
        rig.dock = rig.endpoint(rig.alice, "alice")
        rig.pirate = rig.adapter(rig.alice, "alice", "pirate")
        await rig.until(rig.dock, EndpointState.STARTED)
        yield rig


def replica(rig, index=0):
    return rig.controller._loops[rig.deployment(rig.dock).id].pool.ready[index]


async def loaded(rig):
    return set(await replica(rig).client.adapters())


def routed(rig, model):
    try:
        return rig.routes.resolve(model, actor(rig.alice)).upstreams
    except ModelNotAvailable:
        return None


async def test_attach_and_detach(rig):
    await rig.attach(rig.alice, rig.dock, rig.pirate)
    assert await loaded(rig) == {"alice/pirate"}
    assert routed(rig, "alice/pirate")
    assert routed(rig, f"{rig.dock.name}:alice/pirate")
    steps = [event.kind.removeprefix("attach.") for event in rig.events("attach.")]
    assert steps == ["authorize", "resolve", "compatible", "fits", "stage", "load", "probe", "route"]
    await rig.detach(rig.alice, rig.dock, rig.pirate)
    assert routed(rig, "alice/pirate") is None
    await eventually(lambda: not rig.attachments())
    assert await loaded(rig) == set()


def steps(rig):
    return [event.kind.removeprefix("attach.") for event in rig.events("attach.")]


async def test_steps_of_a_slow_attach_are_told_while_it_goes_on(rig):
    rig.faults(adapter_delay=1.0)
    attaching = asyncio.create_task(rig.attach(rig.alice, rig.dock, rig.pirate))
    await eventually(lambda: steps(rig)[-1:] == ["stage"])
    assert not attaching.done()
    await attaching
    assert steps(rig)[4:] == ["stage", "load", "probe", "route"]
    times = [event.created_at for event in rig.events("attach.")]
    assert times == sorted(times)
    assert (times[5] - times[4]).total_seconds() >= 0.9  # when it was loaded, not when that was written


async def test_attaching_again_is_a_success_and_changes_nothing(rig):
    await rig.attach(rig.alice, rig.dock, rig.pirate)
    (before,) = rig.attachments()
    await rig.attach(rig.alice, rig.dock, rig.pirate)
    (after,) = rig.attachments()
    assert (before.id, before.created_at) == (after.id, after.created_at)


@pytest.mark.parametrize(
    ("faults", "step", "error", "reason"),
    [
        ({"refuse": {"alice/pirate": "rank 512 is too much"}}, "load", AdapterRefused, "rank 512 is too much"),
        ({"die": "load"}, "load", Unavailable, "stopped before it answered"),
        ({"nan": ["alice/pirate"]}, "probe", AdapterRefused, "not finite"),
        ({"unwritable": ["alice/pirate"]}, "probe", AdapterRefused, "numbers that are not finite"),
        ({"refuse": {"alice/pirate": "no /srv/blobs/x.json"}}, "load", AdapterRefused, "no …/x.json"),
        ({"die": "probe"}, "probe", Unavailable, "stopped before it answered"),
    ],
)
async def test_a_failing_step_undoes_those_before_it(rig, faults, step, error, reason):
    replica = rig.replicas()[0].id
    rig.faults(**faults)
    with pytest.raises(error, match=f"failed at step '{step}': .*{reason}.*Nothing was changed"):
        await rig.attach(rig.alice, rig.dock, rig.pirate)
    assert rig.attachments() == []
    assert routed(rig, "alice/pirate") is None
    assert f"{step} failed: " in rig.events("attach.undone")[0].message
    assert steps(rig)[4:] == ["stage", *(["load"] if step == "probe" else []), "undone"]
    rig.faults()
    if "die" in faults:
        await eventually(lambda: [up.replica_id for up in routed(rig, rig.dock.id)] not in ([], [replica]))
    assert await loaded(rig) == set()
    await rig.attach(rig.alice, rig.dock, rig.pirate)
    assert await loaded(rig) == {"alice/pirate"}


async def test_files_that_are_gone_fail_the_stage_step(rig):
    for file in rig.blobs.glob("*/adapter_model.safetensors"):
        file.unlink()
    with pytest.raises(Internal, match=r"step 'stage': adapter_model\.safetensors is missing on the server") as refused:
        await rig.attach(rig.alice, rig.dock, rig.pirate)
    assert str(rig.blobs.parent) not in refused.value.message
    assert rig.attachments() == []


async def test_a_failure_at_the_last_step_unloads_again(rig, monkeypatch):
    def fail(*_):
        raise Internal("the disk is full")

    monkeypatch.setattr("loradock.control.attach.attach._complete", fail)
    with pytest.raises(Internal, match="step 'route': the disk is full"):
        await rig.attach(rig.alice, rig.dock, rig.pirate)
    assert (rig.attachments(), await loaded(rig), routed(rig, "alice/pirate")) == ([], set(), None)


async def test_what_does_not_fit_is_refused_with_the_numbers(tmp_path):
    options = ControlOptions(tick=0.2, max_attachments=2)
    async with running(tmp_path, options=options) as rig:
        alice, _ = rig.account("alice")
        dock = rig.endpoint(alice, "alice")
        big = rig.adapter(alice, "alice", "big", rank=128)
        with pytest.raises(BadRequest, match=r"rank 128 .* up to 64"):
            await rig.attach(alice, dock, big)
        for short in ("one", "two"):
            await rig.attach(alice, dock, rig.adapter(alice, "alice", short))
        with pytest.raises(BadRequest, match=r"takes 2 adapters .* 2 \+ 1 > 2"):
            await rig.attach(alice, dock, rig.adapter(alice, "alice", "three"))
        assert len(rig.attachments()) == 2


async def test_what_the_memory_of_all_replicas_cannot_hold_is_refused_with_the_numbers(rig):
    huge = rig.adapter(rig.alice, "alice", "huge")
    with rig.database.session() as session:
        (revision,) = [row for row in session.query(Revision) if row.model.name == huge]
        revision.size_bytes = 2**50
    rig.set(rig.dock, replicas=3)
    with pytest.raises(BadRequest, match=r"1048576\.0 GiB .* in each replica .* 3 \* 1048576\.0 = 3145728\.0 > "):
        await rig.attach(rig.alice, rig.dock, huge)
    assert rig.attachments() == []


async def test_others_adapters_and_endpoints_do_not_exist(rig):
    bob, _ = rig.account("bob")
    stolen = rig.adapter(bob, "bob", "mine")
    with pytest.raises(ModelMissing):
        await rig.attach(rig.alice, rig.dock, stolen)
    with pytest.raises(LoradockError, match="No endpoint with this id exists"):
        await rig.attach(bob, rig.dock, stolen)


async def test_one_adapter_to_two_endpoints_at_once_ends_on_exactly_one(rig):
    other = rig.endpoint(rig.alice, "alice")
    await rig.until(other, EndpointState.STARTED)
    outcomes = await asyncio.gather(
        *(rig.attach(rig.alice, dock, rig.pirate) for dock in (rig.dock, other) * 3), return_exceptions=True
    )
    lost = [outcome for outcome in outcomes if outcome is not None]
    assert len(lost) == 3
    assert all(isinstance(outcome, AlreadyBound) for outcome in lost)
    assert [row.state for row in rig.attachments()] == [AttachmentState.ATTACHED]


async def test_detach_lets_a_running_stream_finish(rig):
    await rig.attach(rig.alice, rig.dock, rig.pirate)
    rig.faults(token_delay=0.1)
    async with rig.gateway() as client, stream(client, rig.key, "alice/pirate", max_tokens=8) as response:
        events = response.aiter_lines()
        await anext(events)
        await rig.detach(rig.alice, rig.dock, rig.pirate)
        refused = await ask(client, rig.key, "alice/pirate")
        assert refused.status_code == 404
        assert [row.state for row in rig.attachments()] == [AttachmentState.DETACHING]
        rest = [line async for line in events if line]
        assert rest[-1] == "data: [DONE]"
        assert len(rest) == 11
    await eventually(lambda: not rig.attachments())
    assert await loaded(rig) == set()


async def test_attaching_while_it_drains_away_revives_it(rig):
    await rig.attach(rig.alice, rig.dock, rig.pirate)
    (first,) = rig.attachments()
    rig.faults(token_delay=0.1)
    async with rig.gateway() as client, stream(client, rig.key, "alice/pirate", max_tokens=8) as response:
        events = response.aiter_lines()
        await anext(events)
        await rig.detach(rig.alice, rig.dock, rig.pirate)
        await rig.attach(rig.alice, rig.dock, rig.pirate)
        assert "alice/pirate" in text_of(await ask(client, rig.key, "pirate"))
        assert [line async for line in events if line][-1] == "data: [DONE]"
    await asyncio.sleep(0.5)
    assert [(row.id, row.state) for row in rig.attachments()] == [(first.id, AttachmentState.ATTACHED)]
    assert await loaded(rig) == {"alice/pirate"}


async def test_detaching_what_is_not_attached(rig):
    with pytest.raises(NotBound):
        await rig.detach(rig.alice, rig.dock, rig.pirate)


async def test_moving_an_adapter_does_not_wait_for_its_old_endpoint(rig):
    other = rig.endpoint(rig.alice, "alice")
    await rig.until(other, EndpointState.STARTED)
    await rig.attach(rig.alice, rig.dock, rig.pirate)
    rig.faults(token_delay=0.1)
    async with rig.gateway() as client, stream(client, rig.key, "pirate", max_tokens=8) as response:
        events = response.aiter_lines()
        await anext(events)
        await rig.detach(rig.alice, rig.dock, rig.pirate)
        await rig.attach(rig.alice, other, rig.pirate)
        assert [line async for line in events if line][-1] == "data: [DONE]"
    await eventually(lambda: [row.state for row in rig.attachments()] == [AttachmentState.ATTACHED])


async def test_an_attachment_of_a_stopped_endpoint_is_loaded_when_it_comes_up(rig):
    rig.set(rig.dock, desired=DesiredState.STOPPED)
    await rig.until(rig.dock, EndpointState.STOPPED)
    await rig.attach(rig.alice, rig.dock, rig.pirate)
    async with rig.gateway() as client:
        response = await ask(client, rig.key, "pirate")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "model_not_available")
        assert f"loradock endpoints start {rig.dock.id}" in response.json()["message"]
        rig.set(rig.dock, desired=DesiredState.STARTED)
        await rig.until(rig.dock, EndpointState.STARTED)
        assert "alice/pirate" in text_of(await ask(client, rig.key, "pirate"))


async def test_every_replica_gets_every_adapter(rig):
    await rig.attach(rig.alice, rig.dock, rig.pirate)
    rig.set(rig.dock, replicas=3)
    await eventually(lambda: len(routed(rig, "alice/pirate")) == 3)
    second = rig.adapter(rig.alice, "alice", "second")
    await rig.attach(rig.alice, rig.dock, second)
    assert len(routed(rig, "alice/second")) == 3


async def test_a_new_revision_under_the_same_name_is_loaded_anew(rig):
    await rig.attach(rig.alice, rig.dock, rig.pirate)
    stale = replica(rig).residency.held["alice/pirate"]
    await rig.detach(rig.alice, rig.dock, rig.pirate)
    await eventually(lambda: not rig.attachments())
    await replica(rig).client.load("alice/pirate", stale)
    replica(rig).residency.held["alice/pirate"] = stale
    with rig.database.session() as session:
        session.delete(session.query(Model).one())
    renewed = rig.adapter(rig.alice, "alice", "pirate")
    await rig.attach(rig.alice, rig.dock, renewed)
    assert (await replica(rig).client.adapters())["alice/pirate"] != str(stale)


async def test_a_restart_of_the_server_finds_all_as_it_was(rig):
    await rig.attach(rig.alice, rig.dock, rig.pirate)
    pid = rig.pid(rig.replicas()[0])
    await rig.stop(keep_replicas=True)
    await rig.start()
    assert rig.pid(rig.replicas()[0]) == pid
    assert routed(rig, "alice/pirate")


@pytest.mark.parametrize("state", [AttachmentState.ATTACHING, AttachmentState.DETACHING])
async def test_a_transaction_cut_off_by_a_kill_is_undone_or_finished(rig, state):
    await rig.attach(rig.alice, rig.dock, rig.pirate)
    await rig.stop(keep_replicas=True)
    with rig.database.session() as session:
        session.merge(rig.attachments()[0]).state = state
    await rig.start()
    assert routed(rig, "alice/pirate") is None
    await eventually(lambda: not rig.attachments())

    async def unloaded():
        return not await loaded(rig)

    await eventually(unloaded)


async def test_an_attach_runs_to_its_end_when_its_caller_leaves(rig):
    rig.faults(adapter_delay=0.3)
    attaching = asyncio.create_task(rig.attach(rig.alice, rig.dock, rig.pirate))
    await asyncio.sleep(0.1)
    attaching.cancel()
    await eventually(lambda: routed(rig, "alice/pirate"))
