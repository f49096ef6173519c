"""A flood of long prompts holds up neither the first token of others nor their share, however many prompts it has."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loradock.engine.pace import BRIEF, STALL, Pace
from loradock.engine.shares import LIGHT, WINDOW, Shares, Turnover
from loradock.engine.waiting import WaitingLine
from tests.engine.test_scheduler import scheduler, sequence, step

EACH = 0.001
"""Seconds that a prompt token takes."""


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def crowded(floods=12, adapter=1):
    """A scheduler, the clock it looks at, and a flood of long prompts that has begun; a short prompt came before."""
    s, clock = scheduler(blocks=4000, sequences=64, step=256, slots=8), Clock()
    s.shares = Shares(clock)
    s.pace.record(0, 100, 100 * EACH)
    s.add([sequence(1, 20, adapter=2, max_tokens=1)])
    step(s)
    for n in range(floods):
        s.add([sequence(10 + n, 3000, adapter=adapter, max_tokens=4)])
    return s, clock


def tokens(steps):
    return [sum(count for _, count in rows) for rows in steps]


def test_steps_of_a_flood_are_brief_while_someone_else_may_come():
    s, clock = crowded()
    assert max(tokens([step(s) for _ in range(5)])) <= BRIEF / EACH
    clock.now = WINDOW + 1
    assert tokens([step(s)]) == [256]


def test_steps_of_a_flood_are_large_when_nobody_else_has_come():
    s, _ = crowded(adapter=2)
    assert tokens([step(s) for _ in range(3)]) == [256] * 3


def test_a_short_prompt_is_computed_at_once_beside_a_flood():
    s, _ = crowded()
    for _ in range(60):
        step(s)
    s.add([sequence(100, 30, adapter=2, max_tokens=2)])
    rows = dict(step(s))
    assert rows[100] == 30
    assert sum(rows.values()) <= STALL / EACH
    assert (100, 1) in step(s)


@pytest.mark.parametrize("by", ["adapter", "account"])
def test_two_who_flood_get_the_same_whatever_the_number_of_their_prompts(by):
    s, had = scheduler(blocks=8000, sequences=64, step=256, slots=8), Counter()
    for n in range(1, 13):
        one = sequence(n, 3000, adapter=1 + (by == "adapter" and n == 12))
        one.account = "b" if by == "account" and n == 12 else "a"
        s.add([one])
    for _ in range(10):
        for number, count in step(s):
            had[number == 12] += count
    assert abs(had[True] - had[False]) <= LIGHT


def test_the_oldest_goes_on_however_many_others_come():
    s, _ = crowded(floods=1)
    for n in range(200):
        s.add([sequence(100 + n, 40, adapter=3 + n % 50, max_tokens=1)])
        assert dict(step(s)).get(10, 0) >= 1


def test_who_comes_back_after_a_pause_is_owed_little():
    turnover = Turnover()
    for _ in range(100):
        assert turnover.split(100, {"a": 1000}) == {"a": 100}
    first = [turnover.split(100, {"a": 1000, "b": 1000}) for _ in range(20)]
    assert sum(given["b"] for given in first[:5]) == 500
    assert abs(first[-1]["a"] - first[-1]["b"]) <= 1


NEEDS = st.dictionaries(st.integers(0, 5), st.integers(0, 400), min_size=1)


@given(st.lists(st.tuples(st.integers(-3, 300), NEEDS), max_size=12))
def test_all_tokens_are_given_to_who_needs_them(rounds):
    turnover = Turnover()
    for budget, needs in rounds:
        given = turnover.split(budget, needs)
        assert all(0 <= given[key] <= need for key, need in needs.items())
        assert sum(given.values()) == min(max(0, budget), sum(needs.values()))


@given(st.integers(0, 300), st.lists(st.tuples(st.integers(1, 500), st.integers(0, 2), st.sampled_from("ab"))))
def test_a_steps_tokens_are_divided_among_prompts(budget, prompts):
    shares, sequences = Shares(), []
    for n, (length, adapter, account) in enumerate(prompts):
        sequences.append(sequence(n, length, adapter=adapter))
        sequences[-1].account = account
    counts = shares.divide(budget, sequences)
    assert all(0 <= count <= length for count, (length, _, _) in zip(counts, prompts, strict=True))
    assert sum(counts) == min(budget, sum(length for length, _, _ in prompts))


def test_a_brief_step_holds_the_short_prompts_and_little_else():
    pace = Pace()
    assert pace.brief_tokens(4, 30, 256) == 252
    pace.record(4, 0, 0.005)
    pace.record(4, 50, 0.005 + 50 * EACH)
    assert pace.brief_tokens(4, 0, 256) == 15
    assert pace.brief_tokens(4, 30, 256) == 35
    assert 44 <= pace.brief_tokens(4, 400, 256) <= 45


def test_where_decoding_takes_long_a_flood_gets_as_much_time():
    pace = Pace()
    pace.record(4, 0, 0.5)
    pace.record(4, 50, 0.5 + 50 * 0.01)
    assert pace.brief_tokens(4, 0, 256) == 50
    assert pace.brief_tokens(0, 0, 256) == 100


def test_of_one_adapters_accounts_the_one_with_fewest_running_is_next():
    line = WaitingLine()
    for n in range(1, 4):
        one = sequence(n, adapter=1)
        one.account = "flood" if n < 3 else "other"
        line.add(one)
    running = [sequence(9, adapter=1)]
    running[0].account = "flood"
    assert line.next(running).id == 3
