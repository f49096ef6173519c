from hypothesis import example, given
from hypothesis import strategies as st

from loradock.engine.scheduling.prefill_budget import LEAST, STALL, Pace, split_budget


def paced(alone, each):
    """Where decoding takes `alone` of a step, and each prompt token `each`, seconds."""
    pace = Pace()
    pace.record(4, 0, alone)
    pace.record(4, 100, alone + 100 * each)
    return pace


def test_without_anything_known_a_prompt_gets_all_there_is():
    assert Pace().prompt_tokens(4, 1, 256) == 252


def test_beside_decoding_rows_a_step_takes_no_longer_than_a_stream_may_stall():
    pace = paced(STALL / 5, STALL / 100)
    assert 79 <= pace.prompt_tokens(4, 1, 256) <= 80
    assert pace.prompt_tokens(0, 1, 256) == 256
    assert pace.prompt_tokens(4, 1, 64) == 60


def test_prompts_get_half_of_the_time_where_decoding_takes_most_of_it():
    assert 199 <= paced(4 * STALL, STALL / 50).prompt_tokens(4, 1, 256) <= 200


def test_a_prompt_goes_on_however_slow_the_machine():
    assert paced(0.01, 1.0).prompt_tokens(4, 1, 256) == LEAST


def test_prompts_that_outnumber_the_streams_need_not_wait_for_them():
    assert paced(0.01, 1.0).prompt_tokens(4, 5, 256) == 5 * LEAST
    assert paced(0.01, 1.0).prompt_tokens(4, 20, 256) == 252


def test_chunks_of_few_tokens_say_nothing():
    pace = Pace()
    pace.record(4, LEAST - 1, 1.0)
    assert pace.prompt_tokens(4, 1, 256) == 252


def test_the_pace_follows_the_steps():
    pace = paced(0.01, 0.01)
    for _ in range(40):
        pace.record(4, 64, 0.01 + 64 * 0.0005)
    assert 75 <= pace.prompt_tokens(4, 1, 256) <= 80


def test_a_step_that_was_held_up_counts_for_little():
    pace = paced(0.01, 0.0005)
    pace.record(4, 64, 100.0)
    assert pace.prompt_tokens(4, 1, 256) >= 60


def test_a_clock_that_stands_still_is_no_error():
    pace = Pace()
    pace.record(0, 64, 0.0)
    assert pace.prompt_tokens(4, 1, 256) == 252


def test_short_prompts_do_not_wait_for_the_end_of_long_ones():
    assert split_budget(64, [200, 10]) == [54, 10]
    assert split_budget(16, [2000] * 6 + [10]) == [8, 0, 0, 0, 0, 0, 8]


def test_the_oldest_goes_on_however_many_short_ones_come():
    assert split_budget(16, [2000, *[3] * 9]) == [8, 3, 3, 2, 0, 0, 0, 0, 0, 0]
    assert split_budget(1, [10, 1]) == [1, 0]


@example(-2, [1, 1])
@given(st.integers(-2, 300), st.lists(st.integers(1, 500), max_size=12))
def test_all_tokens_are_given_to_who_needs_them(tokens, needs):
    counts = split_budget(tokens, needs)
    assert all(0 <= count <= need for count, need in zip(counts, needs, strict=True))
    assert sum(counts) == min(max(0, tokens), sum(needs))
