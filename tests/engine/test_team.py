"""Threads that meet: nobody goes on before all are there, and nobody waits for one who is gone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import njit

from loradock.engine.kernels.compiled.memory import aligned
from loradock.engine.kernels.compiled.team import announce, await_number, leave, meet, share, team_of

ROUNDS = 2000


@njit(nogil=True)
def count_together(team, places):
    """How often a member found another's number of the round before, or of the next, after they had met."""
    wrong = 0
    for turn in range(ROUNDS):
        places[team.number, 0] = turn
        meet(team)
        for member in range(team.size):
            wrong += places[member, 0] != turn
        meet(team)
    return wrong


@njit(nogil=True)
def meet_once(team):
    meet(team)


@njit
def parts(count, teams):
    return [share(count, team) for team in teams]


@njit(nogil=True)
def follow(place, seen, last):
    for turn in range(1, last + 1):
        await_number(place, turn)
        seen[turn - 1] = place[0] >= turn


@njit(nogil=True)
def lead(place, last):
    for turn in range(1, last + 1):
        announce(place, turn)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_nobody_goes_on_before_all_are_there_even_with_fewer_processors_than_members(size):
    places = np.zeros((size, 8), np.int64)
    with ThreadPoolExecutor(size) as pool:
        wrong = list(pool.map(lambda team: count_together(team, places), team_of(size)))
    assert wrong == [0] * size


def test_nobody_waits_for_a_member_that_is_gone():
    first, second = team_of(2)
    waiting = threading.Thread(target=meet_once, args=(first,), daemon=True)
    waiting.start()
    leave(second)
    waiting.join(30)
    assert not waiting.is_alive()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 9, 576])
def test_members_share_all_of_the_work_and_nothing_twice(count, size):
    found = [number for first, end in parts(count, tuple(team_of(size))) for number in range(first, end)]
    assert found == list(range(count))


def test_who_follows_goes_on_when_it_is_announced():
    place, seen = np.zeros(1, np.int64), np.zeros(1000, np.bool_)
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(follow, place, seen, len(seen)), pool.submit(lead, place, len(seen))]
        for future in done:
            future.result()
    assert seen.all()


@pytest.mark.parametrize("shape", [3, (0, 5), (7, 9)])
def test_arrays_begin_a_line(shape):
    array = aligned(shape, np.float32)
    assert array.size == 0 or array.ctypes.data % 64 == 0
    array[:] = 1
    assert array.shape == (shape if isinstance(shape, tuple) else (shape,))
