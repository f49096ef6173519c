"""Histograms merge like sums and their percentiles are right to within a bucket."""

import math

from hypothesis import given
from hypothesis import strategies as st

from loradock.telemetry.histogram import BOUNDS, Histogram

TIMES = st.lists(st.floats(min_value=0, max_value=BOUNDS[-1]), max_size=200)


def of(times):
    histogram = Histogram()
    for seconds in times:
        histogram.observe(seconds)
    return histogram


def same(one, other):
    return one.counts == other.counts and math.isclose(one.total, other.total, abs_tol=1e-6)


@given(TIMES, TIMES)
def test_adding_is_observing_all(some, others):
    merged = of(some)
    merged.add(of(others))
    assert same(merged, of(some + others))
    assert merged.count == len(some) + len(others)


@given(TIMES)
def test_packing_loses_nothing(times):
    assert same(Histogram.unpacked(of(times).packed()), of(times))


@given(TIMES.filter(bool), st.floats(min_value=0.001, max_value=1))
def test_a_percentile_is_off_by_a_bucket_at_most(times, share):
    exact = sorted(times)[math.ceil(share * len(times)) - 1]
    found = of(times).percentile(share)
    assert exact / 1.26 - 0.001 <= found <= exact * 1.26 + 0.001


@given(TIMES)
def test_cumulated_counts_are_those_at_or_below_a_bound(times):
    bounds = BOUNDS[::3]
    assert of(times).cumulated(bounds) == [sum(t <= bound for t in times) for bound in bounds]


def test_nothing_has_no_percentile_and_what_is_beyond_counts():
    assert Histogram().percentile(0.5) is None
    assert of([1000.0]).count == 1
    assert of([1000.0]).percentile(0.5) == BOUNDS[-1]
