from loradock.engine.threads import FIRST, LONGEST, TRIAL, ThreadCount


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
    assert chosen.count(4) <= 12 * TRIAL
    assert 4 in chosen[-LONGEST - TRIAL - 1 :]


def test_one_thread_takes_over_at_once_when_the_others_are_held_up():
    count = ThreadCount(4)
    run(count, 2000, {1: 2.0, 4: 1.0})
    assert run(count, 20, {1: 2.0, 4: 90.0}).count(4) <= 1 + TRIAL


def test_a_single_core_has_no_choice():
    assert set(run(ThreadCount(1), 100, {1: 1.0})) == {1}
