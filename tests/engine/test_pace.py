from loradock.engine.pace import LEAST, STALL, Pace


def test_without_anything_known_a_prompt_gets_all_there_is():
    assert Pace().prompt_tokens(4, 256) == 252


def test_beside_decoding_rows_a_step_takes_no_longer_than_a_stream_may_stall():
    pace = Pace()
    pace.record(100, 100 * STALL / 64)
    assert pace.prompt_tokens(4, 256) == 60
    assert pace.prompt_tokens(0, 256) == 256


def test_prompts_get_half_of_the_time_however_slow_the_machine():
    pace = Pace()
    pace.record(LEAST, 1.0)
    assert pace.prompt_tokens(4, 256) == LEAST
    assert pace.prompt_tokens(40, 256) == 40
    assert pace.prompt_tokens(200, 256) == 56


def test_short_steps_say_nothing():
    pace = Pace()
    pace.record(LEAST - 1, 1.0)
    assert pace.prompt_tokens(4, 256) == 252


def test_the_pace_follows_the_steps():
    pace = Pace()
    for seconds in (1.0, *[0.064] * 40):
        pace.record(64, seconds)
    assert 45 <= pace.prompt_tokens(1, 256) <= 49
