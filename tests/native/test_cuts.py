"""The likeliest tokens in their order, and draws from what cuts leave of them."""

import numpy as np
import pytest

from loradock.engine.kernels.sampling import Draw, choose, likeliest

pytestmark = pytest.mark.usefixtures("table")
WIDTHS = [1, 2, 15, 17, 300, 1025, 5003, 40_000]
CUTS = [
    {},
    {"top_p": 0.9},
    {"top_p": 0.999},
    {"top_p": 0.0},
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": 1500},
    {"top_k": 10_000_000},
    {"min_p": 0.05},
    {"min_p": 1e-5},
    {"min_p": 1.0},
    {"top_k": 50, "top_p": 0.9},
    {"top_p": 0.8, "min_p": 0.02},
    {"top_k": 60, "top_p": 0.95, "min_p": 0.1},
]


def spread(kind, rows, width, seed=0):
    random = np.random.default_rng(seed)
    logits = random.standard_normal((rows, width)) * {"flat": 0.1, "usual": 2.5, "steep": 20}.get(kind, 3)
    if kind == "equal":
        logits = np.round(logits)
    if kind == "masked":
        logits[:, random.random(width) < 0.95] = -np.inf
        logits[:, width // 2] = 0
    return logits.astype(np.float32)


KINDS = ["flat", "usual", "steep", "equal", "masked"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_likeliest_come_in_order_and_of_equal_ones_the_first(kind, width):
    logits = spread(kind, 5, width)
    order = np.argsort(-logits, axis=1, kind="stable")
    weights = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    expected = np.log(weights.sum(axis=1)) + logits.max(axis=1)
    for count in (0, 1, 5, 20, 700, width):
        tokens, found, log_sums = likeliest(list(logits), count)
        assert (tokens == order[:, :count]).all()
        assert (found == np.take_along_axis(logits, tokens, axis=1)).all()
        assert log_sums == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_zeros_are_equal_whatever_their_sign():
    logits = np.array([-1, -0.0, 0.0, -0.0, -2], np.float32)
    assert likeliest([logits], 4)[0].tolist() == [[1, 2, 3, 0]]
    assert choose([logits], [Draw(0, 0)]) == [1]


def interval(row, token, temperature, top_k=0, top_p=1.0, min_p=0.0):
    """From where to where in [0, 1] a token is drawn, in float64. Tokens stand in the order of their logits where
    something is cut, else as they are."""
    scaled = row.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    if not top_k and top_p == 1 and not min_p:
        ends = weights.cumsum() / weights.sum()
        return ends[token] - weights[token] / weights.sum(), ends[token]
    order = np.argsort(-row, kind="stable")
    likeliest = (1 - 1e-9) / weights.sum()  # sums in another order are rounded otherwise
    p = weights[order][: top_k or None]
    p /= p.sum()
    cut = (p < min_p * likeliest) | ((p.cumsum() - p >= top_p) if top_p < 1 else False)
    cut[0] = False
    ends = p[: cut.argmax() if cut.any() else len(p)].cumsum()
    place = order.tolist().index(token)
    assert place < len(ends)
    return (ends[place] - p[place]) / ends[-1], ends[place] / ends[-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_draws_invert_what_the_cuts_leave(kind, cuts):
    random = np.random.default_rng(1)
    for width in WIDTHS[1::2]:
        logits = spread(kind, 6, width, seed=width)
        uniform = random.random(6).astype(np.float32)
        temperatures = random.choice([0.2, 0.7, 1.0, 1.6], 6).tolist()
        draws = [Draw(t, float(at), **cuts) for t, at in zip(temperatures, uniform, strict=True)]
        for row, token, draw in zip(logits, choose(list(logits), draws), draws, strict=True):
            low, high = interval(row, token, draw.temperature, **cuts)
            assert low - 1e-5 <= draw.uniform <= high + 1e-5


def test_a_cut_leaves_no_more_than_it_should():
    logits = spread("usual", 1, 5003)[0]
    order = np.argsort(-logits, kind="stable")
    p = np.exp(logits[order].astype(np.float64))
    p /= p.sum()
    last = {
        "top_k": (40, 39),
        "top_p": (0.9, int(np.searchsorted(p.cumsum(), 0.9))),
        "min_p": (0.05, int(np.flatnonzero(p >= 0.05 * p[0])[-1])),
    }
    for name, (value, place) in last.items():
        (token,) = choose([logits], [Draw(1.0, 1.0, **{name: value})])
        assert token == order[place]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_a_chance_that_rounds_to_one_draws_a_token_with_some_probability(cuts):
    logits = np.full(1000, -70, np.float32)
    logits[3:6] = 5
    assert choose([logits], [Draw(1.0, 1 - 2**-40, **cuts)])[0] in (3, 4, 5)


def test_nothing_is_chosen_from_rows_that_cannot_be_used():
    logits = spread("usual", 7, 1000)
    logits[0, 500] = logits[0, 400] = 30
    logits[1, 3], logits[2, 999], logits[3, 5], logits[4] = np.nan, -np.nan, np.inf, -np.inf
    usable = [True, False, False, False, False, True, True]
    greedy = choose(list(logits), [Draw(0, 0)] * 7)
    assert greedy == [int(row.argmax()) if good else -1 for row, good in zip(logits, usable, strict=True)]
    for cuts in CUTS:
        assert [token >= 0 for token in choose(list(logits), [Draw(1.0, 0.5, **cuts)] * 7)] == usable
    assert np.isnan(likeliest(list(logits), 3)[2]).tolist() == [not good for good in usable]


def test_rows_are_read_where_they_lie_and_not_changed():
    logits = spread("usual", 9, 3000)
    logits.setflags(write=False)
    draws = [Draw(0, 0), Draw(1.0, 0.3), Draw(1.0, 0.6, top_p=0.8)]
    together = choose([logits[8], logits[0], logits[4]], draws)
    assert together == [choose([logits[i]], [draw])[0] for i, draw in zip((8, 0, 4), draws, strict=True)]


def test_rows_of_another_kind_are_refused():
    logits = spread("usual", 4, 100)
    for rows in ([logits[0].astype(np.float64)], [logits[0], logits[1][:50]], [logits[:, 0][:3], logits[0, ::2]]):
        with pytest.raises(ValueError, match="is wanted in one piece"):
            choose(rows, [Draw(0, 0)] * len(rows))
        with pytest.raises(ValueError, match="is wanted in one piece"):
            likeliest(rows, 2)
