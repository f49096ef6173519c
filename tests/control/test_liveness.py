"""The state machine of a replica's life: by example, and by whatever may happen in whatever order."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from loradock.control.awake import AwakeClock
from loradock.control.replicas.liveness import Health, Liveness, Observation, Patience
from loradock.replicas.vitals import Answer

PATIENCE = Patience(unready=5, lost=60, stretched=300, checks=3)
SILENT = Observation(0, 5, Answer.TIMED_OUT)
STALLED = Observation(0, 0.1, Answer.GOOD, progressed=False, working=True)


def running():
    liveness = Liveness(PATIENCE)
    liveness.observe(Observation(0, 0.1))
    liveness.started()
    return liveness


def looks(liveness, kind, seconds, every=6.0, **changed):
    """The same look again and again for so long; returns the states gone through."""
    took, seen = kind.until - kind.at, []
    for number in range(int(seconds / every)):
        at = number * every
        health = liveness.observe(replace(kind, at=at, until=at + took, **changed))
        if health not in seen:
            seen.append(health)
    return seen


def test_one_that_is_silent_is_suspect_then_unready_then_lost_and_the_reason_says_for_how_long():
    liveness = running()
    assert looks(liveness, SILENT, 40) == [Health.SUSPECT, Health.UNREADY]
    assert "health checks in a row" in liveness.reason
    assert looks(running(), SILENT, 72) == [Health.SUSPECT, Health.UNREADY, Health.LOST]


def test_one_silent_check_is_forgiven():
    liveness = running()
    assert liveness.observe(SILENT) is Health.SUSPECT
    assert liveness.observe(Observation(6, 6.1)) is Health.READY
    assert liveness.reason == ""


def test_steps_that_stand_still_while_work_waits_are_noticed_though_checks_are_answered():
    liveness = running()
    assert looks(liveness, STALLED, 72) == [Health.SUSPECT, Health.UNREADY, Health.LOST]
    assert liveness.reason == "it has computed no step for 60 s while work waits, and uses no processor"
    assert looks(running(), STALLED, 72, working=False) == [Health.READY]


def test_a_long_step_is_progress_for_a_while():
    assert looks(running(), STALLED, 60, computing=True) == [Health.READY]
    assert looks(running(), STALLED, 290, computing=True) == [Health.READY, Health.UNREADY]
    assert looks(running(), STALLED, 400, computing=True)[-1] is Health.LOST


def test_one_that_computes_or_is_held_while_it_is_silent_is_given_more_time():
    for kind in ({"computing": True}, {"held": True}):
        assert looks(running(), SILENT, 290, **kind) == [Health.SUSPECT, Health.UNREADY]
        assert looks(running(), SILENT, 400, **kind)[-1] is Health.LOST


def test_a_process_that_is_gone_is_lost_at_once():
    assert running().observe(Observation(1, 2, gone=True)) is Health.LOST


def test_what_this_server_slept_through_is_not_held_against_it():
    liveness = running()
    looks(liveness, SILENT, 54)
    assert liveness.observe(replace(SILENT, at=1000, until=1005, paused=True)) is Health.UNREADY
    assert liveness.observe(replace(SILENT, at=1006, until=1011)) is Health.UNREADY
    assert liveness.observe(Observation(1012, 1012.1)) is Health.READY


@st.composite
def histories(draw):
    """Looks one after the other, and where in between it has started."""
    at, found = 0.0, []
    for _ in range(draw(st.integers(1, 40))):
        until = at + draw(st.sampled_from([0.01, 1, 5, 30]))
        flags = {
            name: draw(st.booleans() if name != "gone" else st.integers(0, 30).map(lambda n: n == 0))
            for name in ("progressed", "working", "computing", "held", "paused", "gone")
        }
        found.append(Observation(at, until, draw(st.sampled_from(Answer)), **flags))
        at = until + draw(st.sampled_from([0.1, 1, 20]))
    return found, draw(st.integers(0, len(found)))


def good(look):
    return look.answer is Answer.GOOD and (look.progressed or not look.working)


@given(histories())
def test_whatever_happens(history):
    looks, start = history
    liveness, before, row = Liveness(PATIENCE), Health.STARTING, []
    for number, look in enumerate(looks):
        if number == start:
            liveness.started()
            before = liveness.health
        health = liveness.observe(look)
        row = [] if look.paused or good(look) else [*row, look]
        if before is Health.LOST or look.gone:
            assert health is Health.LOST
        elif health is Health.LOST:  # not without warning, and not without enough looks and time since all was well
            assert before is Health.UNREADY
            assert len(row) >= PATIENCE.checks
            quiet = not any(bad.computing or bad.held for bad in row[-PATIENCE.checks :])
            assert look.until - row[0].at >= (PATIENCE.lost if quiet else PATIENCE.stretched)
        elif look.paused:
            assert health is before
        elif good(look):
            assert health is (Health.READY if number >= start else Health.STARTING)
        assert bool(liveness.reason) or health in (Health.READY, Health.STARTING)
        before = health


def test_the_clock_stands_still_while_the_process_does():
    now = 100.0
    clock = AwakeClock(lambda: now)
    first = clock.now()
    for _ in range(40):
        now += 0.25
        clock.tick()
    assert clock.now() - first == 10
    now += 75
    assert clock.now() - first <= 12
    assert clock.slept >= 73
    clock.tick()
    now += 0.5
    assert 11 <= clock.now() - first <= 12.5
