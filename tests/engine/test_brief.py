"""While somebody floods, the steps are brief and others' answers begin at once, whatever the flood is at."""

from collections import Counter

import pytest

from loradock.engine.scheduling.brief import BEGINNING, BRIEF
from loradock.engine.scheduling.cost import StepCost
from loradock.engine.scheduling.prefill_budget import STALL
from loradock.engine.scheduling.shares import WINDOW, Shares
from tests.engine.test_cost import TOKEN, learned, seconds
from tests.engine.test_scheduler import scheduler, sequence, step


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Steps:
    """A scheduler that has learned, a flood of long prompts on adapter 1, and another adapter that had a short one."""

    def __init__(self, floods=12, adapter=1, cost=None, length=3000, **params):
        self.clock = Clock()
        self.scheduler = scheduler(blocks=4000, sequences=64, step=256, slots=8)
        self.scheduler.shares = Shares(self.clock)
        learned_cost = cost or learned()
        self.scheduler.cost._parts = learned_cost._parts
        self.ask(1, 20)
        self()
        for n in range(floods):
            self.scheduler.add([sequence(10 + n, length, adapter=adapter, **{"max_tokens": 1500, **params})])

    def ask(self, number, length, **params):
        self.scheduler.add([sequence(number, length, adapter=2, **{"max_tokens": 1, **params})])

    def __call__(self):
        """The step's counts by sequence, and what it takes."""
        before = {s.id: s.computed for s in [*self.scheduler.running, *self._waiting()]}
        rows = dict(step(self.scheduler))
        keys = sum(count * (before[number] + count // 2) for number, count in rows.items())
        return rows, seconds(sum(rows.values()), keys)

    def _waiting(self):
        return [s for queue in self.scheduler.waiting._queues.values() for s in queue]

    def until_decoding(self):
        """Quickly, while nobody else is expected; then somebody else comes again."""
        self.clock.now += WINDOW + 1
        self()
        while not all(s.output for s in self.scheduler.running):
            self()
        self.ask(2, 20)
        assert self()[0] == {2: 20}


def flooding(rows):
    return {number: count for number, count in rows.items() if 10 <= number < 100}


def test_steps_of_a_flood_are_brief_at_any_depth_while_someone_else_may_come():
    steps = Steps()
    for _ in range(400):
        rows, took = steps()
        assert flooding(rows)
        assert took <= 1.25 * BRIEF


def test_steps_of_a_flood_are_large_once_nobody_else_has_come_for_long():
    steps = Steps()
    assert sum(steps()[0].values()) < 100
    steps.clock.now = WINDOW + 1
    assert sum(steps()[0].values()) == 256


def test_steps_of_a_flood_are_large_when_nobody_else_has_come():
    steps = Steps(adapter=2)
    assert [sum(steps()[0].values()) for _ in range(3)] == [256] * 3


@pytest.mark.parametrize("decoding", [False, True])
def test_an_answer_begins_in_steps_of_its_own(decoding):
    steps = Steps(length=1000)
    if decoding:
        steps.until_decoding()
    steps()
    steps.ask(100, 30, max_tokens=10)
    assert [steps()[0] for _ in range(BEGINNING)] == [{100: 30}, {100: 1}, {100: 1}]
    rows, took = steps()
    assert flooding(rows)
    assert rows[100] == 1
    assert took <= 1.25 * BRIEF


def test_a_flood_that_decodes_takes_turns():
    steps, had = Steps(length=2000), Counter()
    steps.until_decoding()
    for _ in range(120):
        rows, took = steps()
        had.update(rows)
        assert took <= 1.25 * BRIEF
    assert set(had) == {10 + n for n in range(12)}
    assert max(had.values()) - min(had.values()) <= 1


def test_a_floods_rows_are_all_decoded_where_that_is_quick():
    steps = Steps(length=600, cost=fast())
    steps.until_decoding()
    assert len(steps()[0]) == 12


def test_a_flood_goes_on_however_many_others_come():
    steps = Steps()
    got = []
    for n in range(100):
        steps.ask(100 + n, 40)
        rows, took = steps()
        assert took <= 1.25 * STALL
        got.append(bool(flooding(rows)))
    assert all(any(got[n : n + 4]) for n in range(len(got) - 4))


def test_one_long_answer_beside_others_is_decoded_in_every_step():
    steps = Steps(floods=1, length=4200)
    steps.until_decoding()
    assert all(steps()[0] == {10: 1} for _ in range(5))


def fast():
    cost = StepCost()
    for _ in range(200):
        cost.record(12, 12 * 600, TOKEN)
        cost.record(1, 10, TOKEN / 10)
    return cost
