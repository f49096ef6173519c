"""Shares of prompts go by adapter and account, however many prompts each of them has."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loradock.engine.scheduling.shares import LIGHT, Shares, Turnover
from loradock.engine.scheduling.wait_queue import WaitingLine
from tests.engine.test_scheduler import scheduler, sequence, step


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


def test_of_one_adapters_accounts_the_one_with_fewest_running_is_next():
    line = WaitingLine()
    for n in range(1, 4):
        one = sequence(n, adapter=1)
        one.account = "flood" if n < 3 else "other"
        line.add(one)
    running = [sequence(9, adapter=1)]
    running[0].account = "flood"
    assert line.next(running).id == 3
