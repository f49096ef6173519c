"""What a step will take is learned from the steps before it."""

import random

import pytest

from loradock.engine.scheduling.cost import MOST, StepCost

WEIGHTS, TOKEN, KEY = 0.004, 0.0004, 1e-6
"""Seconds for reading the weights, for a token, for a key that it sees."""


def seconds(tokens, keys):
    return WEIGHTS + TOKEN * tokens + KEY * keys


def learned(steps=500):
    cost, dice = StepCost(), random.Random(1)
    for _ in range(steps):
        tokens = dice.randrange(1, 33)
        keys = tokens * dice.randrange(1, 3000)
        cost.record(tokens, keys, seconds(tokens, keys))
    return cost


@pytest.mark.parametrize(("tokens", "keys"), [(1, 10), (1, 3000), (14, 100), (8, 24_000), (12, 36_000)])
def test_it_learns_what_weights_tokens_and_keys_take(tokens, keys):
    assert learned().seconds(tokens, keys) == pytest.approx(seconds(tokens, keys), rel=0.1)


def test_one_more_token_takes_its_share_and_that_of_its_keys():
    cost = learned()
    assert cost.more(0) == pytest.approx(TOKEN, rel=0.2)
    assert cost.more(3000) == pytest.approx(TOKEN + 3000 * KEY, rel=0.1)


def test_what_lately_had_no_example_is_not_forgotten():
    cost = learned()
    for _ in range(500):
        cost.record(1, 20, seconds(1, 20))
    assert cost.more(3000) == pytest.approx(TOKEN + 3000 * KEY, rel=0.2)


def test_a_step_that_was_held_up_counts_for_little():
    cost = learned()
    before = cost.seconds(8, 8000)
    cost.record(8, 8000, 100.0)
    assert before < cost.seconds(8, 8000) <= 1.5 * before


def test_another_speed_is_followed():
    cost = learned()
    for _ in range(30):
        cost.record(8, 8000, 10 * seconds(8, 8000))
    assert cost.seconds(8, 8000) == pytest.approx(10 * seconds(8, 8000), rel=0.1)


def test_steps_of_many_tokens_say_nothing_of_small_ones():
    cost = StepCost()
    before = cost.seconds(8, 800)
    cost.record(MOST + 1, 1000, 1.0)
    assert cost.seconds(8, 800) == before
