"""Tokens from logits."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loradock.engine.kernels.sampling import draw, largest

fuzzed = settings(max_examples=100, deadline=None)
seeds = st.integers(0, 2**32 - 1)
WIDTHS = st.one_of(st.integers(1, 70), st.integers(240, 1100))


@fuzzed
@given(st.integers(1, 12), WIDTHS, seeds)
def test_a_token_is_where_the_running_sum_passes_its_random_number(table, rows, width, seed):
    dice = np.random.default_rng(seed)
    logits = (dice.standard_normal((rows, width)) * dice.choice([0.1, 3, 30], (rows, 1))).astype(np.float32)
    logits[dice.random(logits.shape) < dice.choice([0, 0.5, 0.99])] = -np.inf
    logits[np.arange(rows), dice.integers(width, size=rows)] = 1
    temperatures = dice.choice([1e-5, 0.3, 1, 2], rows).astype(np.float32)
    uniform = dice.choice([0, dice.random(), 1 - 2**-24], rows).astype(np.float32)
    tokens = draw(logits, temperatures, uniform)
    distances = (logits.astype(np.float64) - logits.max(axis=1, keepdims=True)) / temperatures[:, None]
    weights = np.where(distances > -80, np.exp(distances), 0)
    sums = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    for row, token in enumerate(tokens):
        before = sums[row, token - 1] if token else 0
        assert weights[row, token] > 0
        assert before - 1e-5 <= uniform[row] <= sums[row, token] + 1e-5


def test_rows_without_any_logit_have_no_token(table):
    logits = np.full((2, 300), -np.inf, np.float32)
    logits[1, 299] = 0
    ones = np.ones(2, np.float32)
    assert draw(logits, ones, ones / 2).tolist() == [-1, 299]


@fuzzed
@given(st.integers(1, 12), WIDTHS, st.sampled_from([0, np.nan, np.inf, -np.inf]), seeds)
def test_the_first_of_the_largest_logits(table, rows, width, value, seed):
    dice = np.random.default_rng(seed)
    logits = np.round(dice.standard_normal((rows, width)) * 3).astype(np.float32)
    if dice.random() < 0.5:
        logits[dice.integers(rows), dice.integers(width)] = value
    tokens, usable = largest(logits)
    wanted = ~np.isnan(logits).any(axis=1) & np.isfinite(np.max(logits, axis=1))
    assert usable.tolist() == wanted.tolist()
    assert tokens[usable].tolist() == logits.argmax(axis=1)[usable].tolist()
    assert ((tokens >= 0) & (tokens < width)).all()
