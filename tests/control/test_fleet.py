"""Several replicas behind one endpoint, with real processes: growing, shrinking, replacing, waking, resting."""

import asyncio
import contextlib
import os
import signal
from dataclasses import replace

import pytest

from loradock.control.scaling import ScalingRules
from loradock.types.enums import DesiredState, EndpointQuantization, EndpointState, Quantization
from loradock.types.errors import BadRequest, ModelNotAvailable
from tests.rig import OPTIONS, actor, ask, eventually, running, stream, text_of

QUICK = replace(OPTIONS, scaling=ScalingRules(target=2, up_window=0.5, down_window=2))


@pytest.fixture
async def rig(tmp_path):
    async with running(tmp_path, options=QUICK) as rig:
        rig.alice, rig.key = rig.account("alice")
        yield rig


def upstreams(rig, endpoint):
    try:
        return rig.routes.resolve(endpoint.name, actor(rig.alice)).upstreams
    except ModelNotAvailable:  # just created
        return ()


async def ready(rig, endpoint, count):
    def reached():
        return len(upstreams(rig, endpoint)) == count == len(rig.launcher.running())

    await eventually(reached, 40, f"{count} ready")


@contextlib.asynccontextmanager
async def traffic(rig, client, *models, clients=3):
    """Requests without a pause; every one must succeed and come from the right adapter."""
    stopping, answers = asyncio.Event(), []

    async def one(number):
        while not stopping.is_set():
            model = models[number % len(models)]
            response = await ask(client, rig.key, model, max_tokens=2)
            answers.append((model, response.status_code, response.text))

    tasks = [asyncio.create_task(one(number)) for number in range(clients)]
    await asyncio.sleep(0.3)
    try:
        yield
        await asyncio.sleep(0.3)
    finally:
        stopping.set()
        await asyncio.gather(*tasks)
    assert len(answers) >= clients
    wrong = [answer for answer in answers if answer[1] != 200 or answer[0] not in answer[2]]
    assert not wrong, wrong[:3]


async def test_each_endpoint_keeps_its_weights_in_bits_of_its_own(rig):
    rig.options = replace(rig.options, quantization=Quantization.INT8)
    await rig.stop()
    await rig.start()
    told = {}
    for asked in (None, EndpointQuantization.NONE, EndpointQuantization.INT4):
        endpoint = rig.endpoint(rig.alice, "alice", quantization=asked)
        await rig.until(endpoint, EndpointState.STARTED)
        (replica,) = [row for row in rig.replicas() if row.deployment_id == rig.deployment(endpoint).id]
        command = rig.launcher.find(replica.id)._process.cmdline()
        told[asked] = command[command.index("--quantization") + 1] if "--quantization" in command else None
    assert told == {None: "int8", EndpointQuantization.NONE: None, EndpointQuantization.INT4: "int4"}
    rig.set(endpoint, quantization=EndpointQuantization.INT8)

    async def replaced():
        rows = [row for row in rig.replicas() if row.deployment_id == rig.deployment(endpoint).id]
        return len(rows) == 1 and rows[0].id != replica.id and rows[0].id

    fresh = await eventually(replaced)
    assert "int8" in rig.launcher.find(fresh)._process.cmdline()


async def test_a_lost_replica_fails_no_request_and_comes_back_with_all_adapters(rig):
    endpoint = rig.endpoint(rig.alice, "alice", replicas=2)
    await rig.until(endpoint, EndpointState.STARTED)
    await ready(rig, endpoint, 2)
    names = [rig.adapter(rig.alice, "alice", short) for short in ("one", "two")]
    for name in names:
        await rig.attach(rig.alice, endpoint, name)
    async with rig.gateway() as client, traffic(rig, client, *names):
        lost = rig.replicas()[0]
        os.kill(rig.pid(lost), signal.SIGKILL)
        await eventually(lambda: lost.id not in {replica.id for replica in rig.replicas()})
        await ready(rig, endpoint, 2)
        for name in names:
            await eventually(lambda n=name: len(rig.routes.resolve(n, actor(rig.alice)).upstreams) == 2)


async def test_scaling_up_and_down_fails_no_request(rig):
    endpoint = rig.endpoint(rig.alice, "alice")
    await rig.until(endpoint, EndpointState.STARTED)
    name = rig.adapter(rig.alice, "alice", "one")
    await rig.attach(rig.alice, endpoint, name)
    async with rig.gateway() as client, traffic(rig, client, name):
        rig.set(endpoint, replicas=3)
        await ready(rig, endpoint, 3)
        rig.set(endpoint, replicas=1)
        await ready(rig, endpoint, 1)


async def test_new_settings_replace_every_replica_and_fail_no_request(rig):
    endpoint = rig.endpoint(rig.alice, "alice", replicas=2)
    await ready(rig, endpoint, 2)
    name = rig.adapter(rig.alice, "alice", "one")
    await rig.attach(rig.alice, endpoint, name)
    old = {replica.id for replica in rig.replicas()}
    least = 2
    async with rig.gateway() as client, traffic(rig, client, name):
        rig.set(endpoint, max_lora_rank=128)

        def replaced():
            nonlocal least
            # Routes may leave one out for a moment: others are preferred while a look at it finds something amiss.
            least = min(least, sum(len(loop.pool.ready) for loop in rig.controller._loops.values()))
            return not old & {replica.id for replica in rig.replicas()} and len(upstreams(rig, endpoint)) == 2

        await eventually(replaced, 40, "both replaced")
    assert least == 2
    assert rig.deployment(endpoint).state is EndpointState.STARTED


async def test_replicas_whose_weights_have_other_bits_are_replaced(rig):
    endpoint = rig.endpoint(rig.alice, "alice")
    await ready(rig, endpoint, 1)
    old = {replica.id for replica in rig.replicas()}
    await rig.stop(keep_replicas=True)
    rig.options = replace(rig.options, quantization=Quantization.INT8)
    await rig.start()
    await eventually(lambda: rig.replicas() and not old & {replica.id for replica in rig.replicas()}, 40, "replaced")
    await ready(rig, endpoint, 1)
    (new,) = rig.launcher.running()
    assert rig.launcher.find(new)._process.cmdline()[-2:] == ["--quantization", "int8"]


async def test_settings_that_would_hurt_what_is_attached_are_refused(rig):
    endpoint = rig.endpoint(rig.alice, "alice")
    await rig.until(endpoint, EndpointState.STARTED)
    await rig.attach(rig.alice, endpoint, rig.adapter(rig.alice, "alice", "one", rank=32))
    with pytest.raises(BadRequest, match="1 adapters are attached"):
        rig.set(endpoint, lora_enabled=False)
    with pytest.raises(BadRequest, match="rank 32"):
        rig.set(endpoint, max_lora_rank=16)


async def test_replicas_follow_the_load(rig):
    rig.faults(token_delay=0.2)
    endpoint = rig.endpoint(rig.alice, "alice", replicas=1, most=3)
    await rig.until(endpoint, EndpointState.STARTED)
    async with rig.gateway() as client, traffic(rig, client, endpoint.name, clients=6):
        await ready(rig, endpoint, 3)
    await ready(rig, endpoint, 1)
    told = [event.message for event in rig.events("endpoint.scaled")]
    assert told[0].startswith("1 → ")
    assert told[-1].endswith("→ 1 replicas: 0 requests in flight")
    assert len({event.message for event in rig.events("replica.ready")}) == 3


async def test_an_idle_endpoint_stops_and_says_so(tmp_path):
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    clock = Clock()
    async with running(tmp_path, options=replace(OPTIONS, clock=clock)) as rig:
        alice, key = rig.account("alice")
        endpoint = rig.endpoint(alice, "alice", inactive_timeout=10)
        await rig.until(endpoint, EndpointState.STARTED)
        clock.now = 599
        await asyncio.sleep(1)
        assert rig.deployment(endpoint).state is EndpointState.STARTED
        clock.now = 1300
        await rig.until(endpoint, EndpointState.STOPPED)
        assert "no request for 10 minutes" in rig.events("endpoint.idle")[0].message
        async with rig.gateway() as client:
            response = await ask(client, key, endpoint.name)
        assert response.status_code == 503
        assert f"loradock endpoints start {endpoint.id}" in response.text


async def test_a_request_wakes_an_endpoint_that_starts_on_request(rig):
    endpoint = rig.endpoint(rig.alice, "alice", auto_start=True)
    await rig.until(endpoint, EndpointState.STARTED)
    name = rig.adapter(rig.alice, "alice", "one")
    await rig.attach(rig.alice, endpoint, name)
    rig.set(endpoint, desired=DesiredState.STOPPED)
    await rig.until(endpoint, EndpointState.STOPPED)
    async with rig.gateway() as client:
        answers = await asyncio.gather(*(ask(client, rig.key, name, max_tokens=2) for _ in range(3)))
        assert all(name in text_of(answer) for answer in answers)
    assert len(rig.events("endpoint.woken")) == 1


async def test_a_request_that_waits_wakes_an_endpoint_that_is_stopped_again(rig):
    endpoint = rig.endpoint(rig.alice, "alice", auto_start=True, desired=DesiredState.STOPPED)
    await rig.until(endpoint, EndpointState.STOPPED)
    rig.faults(load_delay=2)
    async with rig.gateway() as client:
        asking = asyncio.create_task(ask(client, rig.key, endpoint.name))
        await rig.until(endpoint, EndpointState.STARTING)
        rig.set(endpoint, desired=DesiredState.STOPPED)
        assert (await asking).status_code == 200


async def test_a_woken_endpoint_that_cannot_start_gives_its_reason(rig):
    endpoint = rig.endpoint(rig.alice, "alice", auto_start=True, desired=DesiredState.STOPPED)
    await rig.until(endpoint, EndpointState.STOPPED)
    rig.faults(crash="no such weights")
    async with rig.gateway() as client:
        response = await ask(client, rig.key, endpoint.name)
    assert response.status_code == 503
    assert "ERROR" in response.text


async def test_a_replica_that_is_to_go_lets_its_streams_finish(rig):
    rig.faults(token_delay=0.3)
    endpoint = rig.endpoint(rig.alice, "alice", replicas=2)
    await ready(rig, endpoint, 2)
    async with rig.gateway() as client, contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(stream(client, rig.key, endpoint.name, max_tokens=8)) for _ in range(2)
        ]
        rig.set(endpoint, replicas=1)
        await eventually(lambda: len(upstreams(rig, endpoint)) == 1)
        for response in streams:
            text = (await response.aread()).decode()
            assert text.rstrip().endswith("data: [DONE]"), text
        await ready(rig, endpoint, 1)


async def test_no_more_replicas_than_the_memory_holds_and_the_owner_is_told(tmp_path):
    machine = 0

    def used():
        found = (rig.launcher.find(replica) for replica in rig.launcher.running())
        return sum(instance.use().resident for instance in found if instance)

    async with running(tmp_path, options=replace(QUICK, free_memory=lambda: machine - used())) as rig:
        rig.alice, rig.key = rig.account("alice")
        endpoint = rig.endpoint(rig.alice, "alice")
        await rig.until(endpoint, EndpointState.STARTED)
        rig.set(endpoint, replicas=3)
        await eventually(lambda: "1 of 3 replicas run as set" in (rig.deployment(endpoint).message or ""))
        assert "0.0 GiB are free" in rig.deployment(endpoint).message
        assert len(rig.launcher.running()) == 1
        machine = used() * 5 // 2
        await ready(rig, endpoint, 2)
        await eventually(lambda: "2 of 3 replicas run as set" in (rig.deployment(endpoint).message or ""))
        machine = 2**40
        await ready(rig, endpoint, 3)
        await eventually(lambda: rig.deployment(endpoint).message is None)
        assert len(rig.events("endpoint.insufficient_memory")) >= 1


@contextlib.contextmanager
def hung(pid):
    """It accepts connections and answers nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def test_a_hung_replica_gets_no_requests_and_is_used_again_when_it_answers(rig):
    endpoint = rig.endpoint(rig.alice, "alice", replicas=2)
    await ready(rig, endpoint, 2)
    name = rig.adapter(rig.alice, "alice", "one")
    await rig.attach(rig.alice, endpoint, name)
    stuck = rig.replicas()[0]
    with hung(rig.pid(stuck)):
        await eventually(lambda: len(upstreams(rig, endpoint)) == 1)
        assert stuck.id != upstreams(rig, endpoint)[0].replica_id
        facts = await rig.controller.replicas(rig.deployment(endpoint).id)
        assert sorted(name in replica.adapters for replica in facts) == [False, True]
        async with rig.gateway() as client:
            answers = await asyncio.gather(*(ask(client, rig.key, name) for _ in range(6)))
            assert all(name in text_of(answer) for answer in answers)
    await ready(rig, endpoint, 2)
    assert stuck.id in {replica.id for replica in rig.replicas()}


async def test_attaching_does_not_wait_for_a_hung_replica(rig):
    endpoint = rig.endpoint(rig.alice, "alice", replicas=2)
    await ready(rig, endpoint, 2)
    name = rig.adapter(rig.alice, "alice", "one")
    with hung(rig.pid(rig.replicas()[0])):
        await eventually(lambda: len(upstreams(rig, endpoint)) == 1)
        await rig.attach(rig.alice, endpoint, name)
        async with rig.gateway() as client:
            assert name in text_of(await ask(client, rig.key, name))
    await eventually(lambda: len(rig.routes.resolve(name, actor(rig.alice)).upstreams) == 2)


async def test_a_hot_adapter_spreads_over_the_replicas_though_each_adapter_has_a_home(tmp_path):
    async with running(tmp_path, options=replace(OPTIONS, max_loras=1)) as rig:
        rig.alice, rig.key = rig.account("alice")
        endpoint = rig.endpoint(rig.alice, "alice", replicas=2)
        await ready(rig, endpoint, 2)
        hot, cold = (rig.adapter(rig.alice, "alice", short) for short in ("hot", "cold"))
        for name in (hot, cold):
            await rig.attach(rig.alice, endpoint, name)
        async with rig.gateway() as client:
            for _ in range(4):
                await ask(client, rig.key, cold)
            assert sorted(upstream.accepted for upstream in upstreams(rig, endpoint)) == [0, 4]
            rig.faults(token_delay=0.2)
            asked = [asyncio.create_task(ask(client, rig.key, hot)) for _ in range(8)]
            await eventually(lambda: all(upstream.busy(hot) >= 3 for upstream in upstreams(rig, endpoint)))
            assert all(hot in text_of(answer) for answer in await asyncio.gather(*asked))


async def test_a_replica_that_stays_hung_is_replaced_and_what_waited_for_it_is_answered(tmp_path):
    async with running(tmp_path, options=replace(QUICK, hung_after=2, grace=1)) as rig:
        rig.alice, rig.key = rig.account("alice")
        endpoint = rig.endpoint(rig.alice, "alice", replicas=2)
        await ready(rig, endpoint, 2)
        stuck = rig.replicas()[0].id
        async with rig.gateway() as client:
            with hung(rig.pid(rig.replicas()[0])):
                asked = [asyncio.create_task(ask(client, rig.key, endpoint.name)) for _ in range(4)]
                await eventually(lambda: stuck not in {replica.id for replica in rig.replicas()}, 30)
                assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200] * 4
        await ready(rig, endpoint, 2)


async def test_stopping_an_endpoint_does_not_wait_for_a_replica_that_was_given_more_time_to_go(rig):
    rig.faults(token_delay=0.3)
    endpoint = rig.endpoint(rig.alice, "alice", replicas=2)
    await ready(rig, endpoint, 2)
    async with rig.gateway() as client, contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(stream(client, rig.key, endpoint.name, max_tokens=400)) for _ in range(2)
        ]
        rig.set(endpoint, replicas=1)
        await eventually(lambda: len(upstreams(rig, endpoint)) == 1)
        rig.set(endpoint, desired=DesiredState.STOPPED)
        await rig.until(endpoint, EndpointState.STOPPED)
        for response in streams:
            assert '"replica_lost"' in (await response.aread()).decode()
