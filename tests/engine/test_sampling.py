import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loradock.engine.core import SamplingParams, Sequence
from loradock.engine.generation.logprobs import token_logprobs
from loradock.engine.generation.sampling import Sampler, largest


def sequence(number=1, output=(), prompt=(0,), **params):
    return Sequence(
        number, list(prompt), SamplingParams(**{"temperature": 1.0, "seed": number, **params}), output=list(output)
    )


def draws(logits, count=4000, **params):
    sampler, drawn = Sampler(), sequence(**params)
    return np.array([sampler.sample([logits], [drawn], [sampler.chance(drawn)])[0] for _ in range(count)])


def test_draws_follow_the_probabilities():
    probabilities = np.array([0.5, 0.3, 0.15, 0.05], np.float32)
    shares = np.bincount(draws(np.log(probabilities)), minlength=4) / 4000
    assert shares == pytest.approx(probabilities, abs=0.04)


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.7}, {0, 1}),
        ({"top_p": 0.9}, {0, 1, 2}),
        ({"min_p": 0.25}, {0, 1, 2}),
        ({"top_k": 3, "top_p": 0.8}, {0, 1}),
        ({"top_p": 0.0}, {0}),
        ({"temperature": 0.01}, {0}),
    ],
)
def test_cuts_leave_the_likeliest(params, kept):
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    assert set(draws(logits, 400, **params).tolist()) == kept


def test_a_flat_distribution_wider_than_the_candidates_is_cut_exactly():
    logits = np.zeros(2000, np.float32)
    logits[:1000] = 1.0
    drawn = draws(logits, 600, top_p=0.5)
    assert drawn.max() < 1000
    assert len(np.unique(drawn)) > 300


@given(st.lists(st.sampled_from([0.0, 0.7, 1.5]), min_size=1, max_size=6), st.integers(0, 9))
def test_a_row_is_drawn_alike_alone_and_in_any_batch(temperatures, seed):
    logits = list(np.random.default_rng(seed).standard_normal((len(temperatures), 300), np.float32))
    rows = [sequence(i + 1, temperature=t, top_p=0.8) for i, t in enumerate(temperatures)]
    sampler = Sampler()
    chances = [sampler.chance(row) for row in rows]
    together = sampler.sample(logits, rows, chances)
    alone = [sampler.sample([logits[i]], [row], [chances[i]])[0] for i, row in enumerate(rows)]
    assert together == alone


def test_penalties_are_openai_s_and_ctrl_s():
    logits = np.array([2.0, -2.0, 1.0, 1.0], np.float32)
    Sampler().penalize(
        logits,
        sequence(
            prompt=[0],
            output=[1, 1, 2],
            repetition_penalty=2.0,
            presence_penalty=0.5,
            frequency_penalty=0.25,
            logit_bias={3: -5.0},
        ),
    )
    assert logits.tolist() == [1.0, -4.0 - 0.5 - 0.5, 0.5 - 0.5 - 0.25, -4.0]


def test_biases_of_a_request_are_read_once_for_all_its_choices():
    class Read(dict):
        times = 0

        def __iter__(self):
            self.times += 1
            return super().__iter__()

    bias, sampler, logits = Read({0: 5.0, 3: -5.0}), Sampler(), np.zeros(4, np.float32)
    choices = [sequence(number, logit_bias=bias) for number in range(8)]
    for _ in range(10):
        for one in choices:
            logits.fill(0)
            sampler.penalize(logits, one)
    assert logits.tolist() == [5, 0, 0, -5]
    assert bias.times == 1
    for one in choices:
        sampler.forget(one)
    assert not sampler._biases


def test_penalties_take_no_logit_out_of_float32():
    logits = np.array([3.0, -3.0, 1.0], np.float32)
    Sampler().penalize(logits, sequence(prompt=[0, 1, 1], repetition_penalty=1e-30))
    assert logits == pytest.approx([3e6, -3e-6, 1.0])


def test_penalties_follow_the_output_as_it_grows():
    sampler, growing = Sampler(), sequence(frequency_penalty=1.0)
    for count in range(3):
        logits = np.zeros(4, np.float32)
        sampler.penalize(logits, growing)
        assert logits[2] == -count
        growing.output.append(2)


def test_logprobs_are_of_the_whole_distribution():
    logits = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, -np.inf]], np.float32)
    first, second = token_logprobs(list(logits), [0, 2], [2, 0])
    expected = logits[0] - np.log(np.exp(logits[0]).sum())
    assert first.logprob == pytest.approx(expected[0])
    assert [token for token, _ in first.top] == [2, 1]
    assert (second.logprob, second.top) == (-9999.0, [])


def test_the_largest_logit_is_the_first_of_them_and_no_row_with_nan_is_usable():
    logits = np.random.default_rng(0).standard_normal((8, 1000), np.float32)
    logits[0, 500] = logits[0, 400] = 9
    logits[1] = -np.abs(logits[1]) - 1
    logits[2, 3], logits[3, 4], logits[4, 5] = np.nan, -np.nan, np.inf
    tokens, usable = largest(logits)
    assert usable == [True, True, False, False, False, True, True, True]
    assert [tokens[i] for i, good in enumerate(usable) if good] == logits.argmax(axis=1)[usable].tolist()
    assert tokens[0] == 400


def test_all_logits_of_minus_infinity_leave_nothing_to_choose():
    assert largest(np.full((2, 5), -np.inf, np.float32))[1] == [False, False]
