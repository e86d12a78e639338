from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    clopper_pearson,
    jeffreys,
    t_interval,
    wilson,
    wilson_mean,
)

VALUES = arrays(float, st.integers(2, 40), elements=st.floats(0, 1, width=32))


# Newcombe (1998), Statist. Med. 17:857-872, Table I, method 3
@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_newcombe(k: int, n: int, low: float, high: float) -> None:
    found = wilson(k, n)
    assert (low, high) == pytest.approx((found.low, found.high), abs=5e-5)
    assert found.method == "wilson"


# Newcombe (1998), Table I, method 5; 10/10 and 45/50 from statsmodels 0.15
@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
        (10, 10, 0.6915, 1.0),
        (45, 50, 0.7819, 0.9667),
    ],
)
def test_clopper_pearson_agrees_with_newcombe(k: int, n: int, low: float, high: float) -> None:
    found = clopper_pearson(k, n)
    assert (low, high) == pytest.approx((found.low, found.high), abs=5e-5)


# statsmodels 0.15, proportion_confint(method="jeffreys"); its ends for 0/20 and 10/10, 2.4e-5 and
# 0.99995, are 0 and 1 here, as in Brown, Cai and DasGupta (2001)
@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (81, 263, 0.2545219349910236, 0.36564749917408246),
        (15, 148, 0.060448517009296425, 0.15764314347874112),
        (0, 20, 0.0, 0.11663898290487543),
        (1, 29, 0.003746173649057073, 0.15007768600223176),
        (10, 10, 0.7828037324907894, 1.0),
        (45, 50, 0.7946451719769524, 0.9608056356058162),
    ],
)
def test_jeffreys_agrees_with_statsmodels(k: int, n: int, low: float, high: float) -> None:
    found = jeffreys(k, n)
    assert (low, high) == pytest.approx((found.low, found.high), abs=1e-9)


@settings(deadline=None)
@given(st.integers(1, 500), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_exact_interval_holds_that_of_jeffreys(
    n: int, data: st.DataObject, level: float
) -> None:
    k = data.draw(st.integers(0, n))
    outer, inner = clopper_pearson(k, n, level=level), jeffreys(k, n, level=level)
    assert outer.low <= inner.low <= k / n <= inner.high <= outer.high
    mirrored = jeffreys(n - k, n, level=level)
    assert (inner.low, inner.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-9)


@pytest.mark.parametrize("method", [clopper_pearson, jeffreys])
def test_a_proportion_of_nothing_is_nan(method: Callable[[int, int], Interval]) -> None:
    found = method(0, 0)
    assert all(map(math.isnan, (found.estimate, found.stderr, found.low, found.high)))


@settings(deadline=None)
@given(st.integers(1, 500), st.data())
def test_wilson_mirrors_when_right_and_wrong_change_places(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    one, other = wilson(k, n), wilson(n - k, n)
    assert one.low == pytest.approx(1 - other.high, abs=1e-12)
    assert 0 <= one.low <= k / n <= one.high <= 1


def score_bounds(p: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson (1927), for any n: the p0 with (p - p0)² = quantile² p0 (1 - p0) / n."""
    a, b, c = 1 + quantile**2 / n, 2 * p + quantile**2 / n, p**2
    root = math.sqrt(b * b - 4 * a * c)
    return (b - root) / (2 * a), (b + root) / (2 * a)


@given(st.integers(2, 300), st.data())
def test_the_wilson_mean_of_zeros_and_ones_is_wilsons_for_one_answer_fewer(
    n: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, n - 1))
    found = wilson_mean(np.repeat([1.0, 0.0], (k, n - k)))
    assert found.estimate == k / n
    assert found.stderr == pytest.approx(wilson(k, n).stderr)
    assert (found.low, found.high) == pytest.approx(score_bounds(k / n, n - 1, 1.959964), abs=1e-6)


@settings(deadline=None)
@given(VALUES, st.floats(0.1, 100), st.floats(-50, 50))
def test_the_wilson_mean_moves_with_its_scale(
    values: FloatArray, factor: float, shift: float
) -> None:
    bounds = (shift, shift + factor)
    moved = np.clip(values * factor + shift, *bounds)
    found, expected = wilson_mean(moved, bounds=bounds), wilson_mean(values)
    assert bounds[0] <= found.low <= found.high <= bounds[1]
    if values.std() > 1e-3:
        back = ((found.low - shift) / factor, (found.high - shift) / factor)
        assert back == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_far_from_the_ends_the_wilson_mean_nears_the_t_interval() -> None:
    values = np.random.default_rng(0).beta(4, 5, size=20_000)
    found, expected = wilson_mean(values), t_interval(values)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=2e-6)


def test_copies_in_a_cluster_leave_the_wilson_mean_as_it_is() -> None:
    values, copies = np.repeat([1.0, 0.0], (23, 17)), 6
    found = wilson_mean(np.repeat(values, copies), np.repeat(np.arange(40), copies))
    # 39 answers, whatever the copies, and t of 1.5 * 39 degrees at .975
    quantile = float(stats.t.isf(0.025, 58.5))
    assert (found.low, found.high) == pytest.approx(score_bounds(23 / 40, 39, quantile), abs=1e-6)
    assert found.method == "cluster-wilson"


def test_few_clusters_with_errors_count_each_cluster_once() -> None:
    values = np.ones(200)
    values[[3, 57, 120, 121]] = 0.0  # three clusters of twenty
    found = wilson_mean(values, np.arange(200) // 10)
    # 20 answers, where the variance alone would make it more: as Wilson's, whatever the variance
    assert (found.low, found.high) == pytest.approx(score_bounds(0.98, 20, 1.959964), abs=1e-6)


def test_a_mean_without_spread_counts_each_cluster_as_an_answer() -> None:
    alone, clustered = wilson_mean(np.ones(24)), wilson_mean(np.ones(24), np.arange(24) // 4)
    assert alone.low == pytest.approx(wilson(24, 24).low)
    assert clustered.low == pytest.approx(wilson(6, 6).low)
    assert math.isnan(alone.stderr)
    assert math.isnan(clustered.stderr)


def test_values_outside_of_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="not within"):
        wilson_mean(np.array([0.0, 5.0]))


@pytest.mark.parametrize("values", [[], [0.5, math.nan]])
def test_a_wilson_mean_of_nothing_or_of_nan_is_nan(values: list[float]) -> None:
    found = wilson_mean(np.array(values))
    assert all(map(math.isnan, (found.estimate, found.stderr, found.low, found.high)))


def test_a_single_cluster_has_no_wilson_mean_interval() -> None:
    found = wilson_mean(np.array([0.0, 1.0]), ["a", "a"])
    assert found.estimate == 0.5
    assert math.isnan(found.low)


def test_wilson_of_nothing_is_nan() -> None:
    found = wilson(0, 0)
    assert math.isnan(found.estimate)
    assert math.isnan(found.low)


@pytest.mark.parametrize("k", [0, 20])
def test_a_proportion_without_exception_has_no_standard_error(k: int) -> None:
    assert math.isnan(wilson(k, 20).stderr)


@settings(deadline=None)
@given(VALUES.filter(lambda v: v.std() > 1e-6), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_t_interval_is_that_of_scipys_one_sample_test(values: FloatArray, level: float) -> None:
    found = t_interval(values, level=level)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("values", [[], [0.4], [0.1] * 30])
def test_too_little_to_see_a_spread_gives_nan(values: list[float]) -> None:
    found = t_interval(np.array(values))
    assert all(map(math.isnan, (found.stderr, found.low, found.high)))


def test_bounds_clip_the_interval() -> None:
    values = np.array([0.0, 0.0, 0.0, 1.0])
    free, bound = t_interval(values), t_interval(values, bounds=(0.0, 1.0))
    assert free.low < 0 < 1 < free.high
    assert (bound.low, bound.high) == (0.0, 1.0)
    assert bound.stderr == free.stderr
