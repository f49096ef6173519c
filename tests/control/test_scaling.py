"""Scaling and idle time on a simulated clock."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loradock.control.options import ControlOptions
from loradock.control.reconcile.sizing import Sizing
from loradock.control.scaling import Autoscaler, ScalingRules
from loradock.control.snapshot import Snapshot
from loradock.gateway.routing.routes import EndpointFacts
from loradock.gateway.routing.upstream import Upstream
from loradock.types.enums import DesiredState, EndpointState, EngineKind

RULES = ScalingRules(target=8, up_window=10, down_window=300)


def run(loads: list[int], low: int = 1, high: int = 4, current: int = 1) -> list[int]:
    """Replicas wanted, second by second."""
    scaler, wanted = Autoscaler(RULES), []
    for second, load in enumerate(loads):
        current = scaler.wanted(second, load, current, low, high)
        wanted.append(current)
    return wanted


def test_load_that_stays_is_followed_after_the_upward_window():
    wanted = run([24] * 30)
    assert wanted[:10] == [1] * 10
    assert wanted[10:] == [3] * 20


def test_load_that_leaves_is_followed_after_the_downward_window():
    wanted = run([24] * 20 + [2] * 400)
    assert wanted[20:319] == [3] * 299
    assert wanted[-1] == 1


def test_a_burst_starts_nothing_and_a_lull_stops_nothing():
    assert set(run([4] * 20 + [30] * 2 + [4] * 20)) == {1}
    assert set(run(([24] * 30 + [0] * 200) * 3)[20:]) == {3}


def test_a_single_look_after_a_long_gap_starts_and_stops_nothing():
    scaler = Autoscaler(RULES)
    assert {scaler.wanted(second, 8, 2, 1, 4) for second in range(30)} == {2}
    assert scaler.wanted(1000, 32, 2, 1, 4) == 2
    assert scaler.wanted(5000, 0, 2, 1, 4) == 2
    assert [scaler.wanted(5000 + second, 32, 2, 1, 4) for second in range(12)][-1] == 4


def test_load_near_the_target_changes_nothing():
    assert set(run([17] * 700, current=2)) == {2}


def test_zero_load_falls_to_the_least():
    assert run([0] * 400, low=2, current=4)[-1] == 2


@given(st.lists(st.integers(0, 200), min_size=1, max_size=60), st.integers(1, 5), st.integers(0, 5))
def test_never_below_the_least_nor_above_the_most(loads, low, more):
    assert all(low <= wanted <= low + more for wanted in run(loads, low, low + more))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def snapshot(**changed) -> Snapshot:
    facts = EndpointFacts("endpoint-1", "alice/base-1", "acc_1", "alice", False, EndpointState.STARTED)
    whole = Snapshot(
        id="dep_1",
        endpoint=facts,
        base_model="base",
        desired=DesiredState.STARTED,
        message=None,
        min_replicas=1,
        max_replicas=4,
        inactive_timeout=5,
        hardware="cpu",
        quantization=None,
        engine=EngineKind.EMBEDDED,
        lora_enabled=True,
        max_lora_rank=64,
        attachments=(),
    )
    return replace(whole, **changed)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sizing(clock) -> Sizing:
    return Sizing(ControlOptions(clock=clock, scaling=RULES))


def test_idle_time_begins_anew_with_every_request(sizing, clock):
    upstream = Upstream("rep_1", "http://x", "secret")
    for second in range(0, 1000):
        clock.now = second
        if second % 200 == 0:  # it comes and goes between two looks
            with upstream.lease("a"):
                pass
        sizing.wanted(snapshot(), [upstream], 1)
        assert not sizing.idle_too_long(snapshot())
    clock.now = 800 + 301
    sizing.wanted(snapshot(), [upstream], 1)
    assert sizing.idle_too_long(snapshot())
    assert not sizing.idle_too_long(snapshot(inactive_timeout=None))


def test_a_long_request_is_no_idle_time(sizing, clock):
    upstream = Upstream("rep_1", "http://x", "secret")
    with upstream.lease("a"):
        clock.now = 5000
        sizing.wanted(snapshot(), [upstream], 1)
        assert not sizing.idle_too_long(snapshot())


def test_a_new_loop_goes_on_from_the_replicas_there_are(sizing):
    assert sizing.wanted(snapshot(), [], 3) == 3
    assert sizing.wanted(snapshot(max_replicas=2), [], 3) == 2


def test_many_in_flight_on_several_replicas_count_together(sizing, clock):
    replicas = [Upstream(f"rep_{n}", "http://x", "secret") for n in range(2)]
    leases = [replica.lease("a") for replica in replicas for _ in range(12)]
    for lease in leases:
        lease.__enter__()
    for second in range(12):
        clock.now = second
        wanted = sizing.wanted(snapshot(), replicas, 2)
    assert wanted == 3
