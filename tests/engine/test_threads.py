import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from loradock.engine.threads import FIRST, LONGEST, TRIAL, Helpers, ThreadCount, current_processor, processors


def run(count, steps, seconds):
    """The numbers of threads chosen, where a step on n threads takes `seconds[n]`."""
    chosen = []
    for _ in range(steps):
        chosen.append(count.choose())
        count.record(seconds[chosen[-1]])
    return chosen


def test_all_threads_are_used_where_they_are_faster():
    chosen = run(ThreadCount(4), 200, {1: 2.0, 4: 1.0})
    assert chosen[: FIRST + 1] == [1] * FIRST + [4]
    assert chosen.count(4) > 150


def test_what_is_slower_is_tried_ever_more_seldom():
    chosen = run(ThreadCount(4), 3000, {1: 1.0, 4: 9.0})
    assert chosen.count(4) <= 12
    assert 4 in chosen[-LONGEST - TRIAL - 1 :]


def test_a_choice_that_is_hardly_slower_is_tried_for_several_steps():
    chosen = run(ThreadCount(4), FIRST + TRIAL, {1: 1.0, 4: 1.2})
    assert chosen == [1] * FIRST + [4] * TRIAL


def test_one_thread_takes_over_at_once_when_the_others_are_held_up():
    count = ThreadCount(4)
    run(count, 2000, {1: 2.0, 4: 1.0})
    assert run(count, 20, {1: 2.0, 4: 90.0}).count(4) <= 1 + TRIAL


def test_a_single_core_has_no_choice():
    assert set(run(ThreadCount(1), 100, {1: 1.0})) == {1}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells on which processor a thread is")
def test_helpers_keep_off_the_processor_of_the_compute_thread():
    mine, helpers = processors(), Helpers(1)
    with ThreadPoolExecutor(1, initializer=helpers.join) as pool, ThreadPoolExecutor(1) as compute:
        pool.submit(int).result()
        for processor in sorted(mine):
            compute.submit(os.sched_setaffinity, 0, {processor}).result()
            assert compute.submit(current_processor).result() == processor
            compute.submit(os.sched_setaffinity, 0, mine).result()
            here = compute.submit(_keep_off, helpers).result()
            others = mine - {here} or mine
            assert pool.submit(os.sched_getaffinity, 0).result() == others
            assert pool.submit(current_processor).result() in others
    assert processors() == mine


def _keep_off(helpers):
    """Where the compute thread was."""
    while True:
        here = current_processor()
        helpers.keep_off()
        if current_processor() == here:
            return here


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells on which processor a thread is")
def test_more_helpers_than_other_processors_stay_where_the_system_puts_them():
    helpers = Helpers(len(processors()))
    with ThreadPoolExecutor(1, initializer=helpers.join) as pool:
        pool.submit(int).result()
        helpers.keep_off()
        assert pool.submit(os.sched_getaffinity, 0).result() == processors()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells on which processor a thread is")
def test_a_helper_that_has_ended_is_no_error():
    helpers = Helpers(1)
    with ThreadPoolExecutor(1, initializer=helpers.join) as pool:
        pool.submit(int).result()
    helpers.keep_off()
