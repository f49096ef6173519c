"""One thread or all of them: whichever is faster where it runs, with few steps lost to finding out."""

from loradock.engine.runtime.thread_count import FIRST, LONGEST, LONGEST_AWAY, TRIAL, ThreadCount

IDLE, BUSY = {1: 1.5, 4: 1.0}, {1: 1.5, 4: 2.4}


def run(count, steps, seconds):
    """The numbers of threads chosen, where a step on n threads takes `seconds[n]`."""
    chosen = []
    for _ in range(steps):
        chosen.append(count.choose(1))
        count.record(1, seconds[chosen[-1]])
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


def test_steps_held_up_a_few_times_in_a_row_bring_a_trial_at_once():
    count = ThreadCount(4, begin_with_all=True)
    run(count, 1000, IDLE)
    assert run(count, TRIAL + 1, BUSY) == [4] * TRIAL + [1]
    assert run(count, 500, BUSY).count(4) <= 16


def test_one_step_that_is_held_up_for_long_is_enough():
    count = ThreadCount(4, begin_with_all=True)
    run(count, 1000, IDLE)
    assert run(count, 10, {1: 1.5, 4: 20.0}) == [4] + [1] * 9


def test_single_slow_steps_bring_none():
    count = ThreadCount(4, begin_with_all=True)
    run(count, 1000, IDLE)
    chosen = [run(count, 1, BUSY if step % TRIAL else IDLE)[0] for step in range(LONGEST // 2)]
    assert chosen.count(1) <= 2


def test_all_threads_are_used_again_soon_after_the_others_are_gone():
    count = ThreadCount(4, begin_with_all=True)
    run(count, 1000, IDLE)
    run(count, 3000, BUSY)
    assert run(count, LONGEST_AWAY + TRIAL, IDLE)[-1] == 4


def test_sizes_share_a_choice_and_large_steps_try_nothing():
    count = ThreadCount(4, begin_with_all=True, few=8)
    chosen = {4: [], 29: []}
    for load in (IDLE, BUSY, IDLE):
        for step in range(600):
            size = 29 if step % 10 == 9 else 4
            threads = count.choose(size)
            chosen[size].append(threads)
            count.record(size, load[threads] * size)
    assert chosen[29][:60] == [4] * 60
    assert chosen[29][61:120] == [1] * 59  # it was found out by the smaller ones
    assert chosen[29][-40:] == [4] * 40
    assert 1 in chosen[4][:20]


def test_a_step_of_a_size_that_was_never_seen_tries_nothing():
    count = ThreadCount(4, begin_with_all=True)
    for size in range(1, 200):
        assert count.choose(size) == 4
        count.record(size, 1.0)


def test_large_steps_find_out_by_themselves_where_there_are_no_others():
    count = ThreadCount(4, begin_with_all=True, few=8)
    for load, best in ((IDLE, 4), (BUSY, 1), (IDLE, 4)):
        chosen = []
        for _ in range(1000):
            chosen.append(count.choose(12))
            count.record(12, load[chosen[-1]])
        assert chosen[-200:].count(best) > 190


def test_one_thread_that_is_held_up_does_not_bring_the_others():
    count = ThreadCount(4)
    run(count, 1000, {1: 1.0, 4: 2.5})
    chosen = [run(count, 1, {1: 1.0 if step % 20 else 5.0, 4: 2.5})[0] for step in range(1000)]
    assert chosen.count(4) <= 20
