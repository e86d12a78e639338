"""Means by empirical likelihood: against statsmodels, closed forms, and what must always hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, stats

from evalkit.stats.intervals import FloatArray, cluster_t_interval
from evalkit.stats.likelihood import Sample, difference_p, exceedance_p, mean_bounds, sample_of
from evalkit.stats.paired import compare_means, mean_difference, paired_likelihood, paired_t

# twelve paired differences with a zero among them
TWELVE = np.array([0.4, -0.1, 0.3, 0.2, 0.1, 0.5, -0.2, 0.3, 0.2, 0.1, 0.0, 0.2])
# Darwin's maize, eighths of an inch: Fisher (1935), The Design of Experiments, Table 3
DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48.0])
UNIT = (-1.0, 1.0)
# sixteenths: a shift by whole numbers rounds nothing, so that ties stay ties
VALUES = arrays(float, st.integers(2, 40), elements=st.integers(-16, 16).map(lambda i: i / 16))
TAILS = st.sampled_from([0.25, 0.05, 0.025, 0.005])


def squared_root(sample: Sample, mean: float) -> float:
    """The -2 log likelihood ratio behind a p."""
    return float(stats.t.isf(exceedance_p(sample, mean), sample.degrees)) ** 2


# statsmodels 0.15, emplike.DescStat(values).test_mean(mean)[0]
@pytest.mark.parametrize(
    ("values", "mean", "expected"),
    [
        (TWELVE, 0.0, 7.902684386069874),
        (TWELVE, 0.05, 3.95488069404373),
        (TWELVE, 0.25, 2.3030852398622885),
        (DARWIN, 0.0, 3.5851101577961964),
        (DARWIN, 5.0, 2.2084318791844195),
    ],
)
def test_the_likelihood_ratio_is_that_of_statsmodels(
    values: FloatArray, mean: float, expected: float
) -> None:
    assert squared_root(sample_of(values), mean) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("k", "n", "p"), [(3, 60, 0.15), (30, 60, 0.45), (40, 200, 0.25)])
def test_of_zeros_and_ones_it_is_the_binomial_likelihood_ratio(k: int, n: int, p: float) -> None:
    sample = sample_of(np.repeat([1.0, 0.0], (k, n - k)), limits=UNIT)
    ratio = 2 * (k * math.log(k / n / p) + (n - k) * math.log((1 - k / n) / (1 - p)))
    assert squared_root(sample, p) == pytest.approx(ratio, rel=1e-9)


def test_weight_on_the_end_that_was_not_seen_makes_a_mean_likelier() -> None:
    # 3 of 60 are 1, the others 0; a mean of .02 is likeliest with some chance of a -1
    def loss(lost: float) -> float:
        won = 0.02 + lost
        return -3 * math.log(won) - 57 * math.log(1 - won - lost)

    best = optimize.minimize_scalar(loss, bounds=(0.0, 0.4), method="bounded")
    free = 3 * math.log(3 / 60) + 57 * math.log(57 / 60)
    sample = sample_of(np.repeat([1.0, 0.0], (3, 57)), limits=UNIT)
    assert squared_root(sample, 0.02) == pytest.approx(2 * (free + best.fun), rel=1e-6)
    assert best.x > 0.001


def test_fewer_than_six_differences_may_be_as_large_as_the_scale_allows() -> None:
    # 4 of 60 are .2, the others 0: a mean of -.02 is likeliest with a chance of a -1
    def loss(won: float) -> float:
        lost = 0.02 + 0.2 * won
        return -4 * math.log(won) - 56 * math.log(1 - won - lost)

    best = optimize.minimize_scalar(loss, bounds=(1e-6, 0.3), method="bounded")
    free = 4 * math.log(4 / 60) + 56 * math.log(56 / 60)
    few, enough = (sample_of(np.repeat([0.2, 0.0], (k, 60 - k)), limits=UNIT) for k in (4, 6))
    assert squared_root(few, -0.02) == pytest.approx(2 * (free + best.fun), rel=1e-6)
    assert (few.low, few.high) == UNIT
    assert (enough.low, enough.high) == pytest.approx((-0.2, 0.2))


@pytest.mark.parametrize(("n", "degrees"), [(2, 1), (20, 5), (1000, 5)])
def test_without_a_difference_the_bounds_are_the_closed_form(n: int, degrees: int) -> None:
    # n zeros have the likelihood (1 - |mean|)^n, the rest of the weight being on one end
    low, high = mean_bounds(sample_of(np.zeros(n), limits=UNIT), tail=0.025)
    bound = -math.expm1(-(stats.t.isf(0.025, degrees) ** 2) / (2 * n))
    assert (low, high) == pytest.approx((-bound, bound), rel=1e-9)


def test_where_few_lose_much_the_lower_bound_is_the_farther() -> None:
    values = np.repeat([0.0, -1.0], (95, 5))
    found = mean_bounds(sample_of(values, limits=UNIT), tail=0.025)
    assert -0.05 - found[0] > 1.5 * (found[1] + 0.05) > 0
    # Student's t goes above zero as far as below it: more pairs won than lost, from none
    assert found[1] < 0.0


def test_what_came_on_one_side_may_come_on_the_other() -> None:
    values = np.repeat([0.0, 0.5], (98, 2))
    low, _ = mean_bounds(sample_of(values, limits=UNIT), tail=0.025)
    assert -0.5 < low < 0.0


@settings(deadline=None)
@given(VALUES, TAILS)
def test_the_bounds_hold_the_mean_and_lie_within_their_ends(
    values: FloatArray, tail: float
) -> None:
    found = sample_of(values, limits=UNIT)
    low, high = mean_bounds(found, tail=tail)
    assert low <= found.mean + 1e-12
    assert found.mean <= high + 1e-12
    if values.size >= 10:
        assert found.low - 1e-12 <= low
        assert high <= found.high + 1e-12


@settings(deadline=None)
@given(VALUES, TAILS)
def test_the_mirrored_values_have_the_mirrored_bounds(values: FloatArray, tail: float) -> None:
    low, high = mean_bounds(sample_of(values, limits=UNIT), tail=tail)
    mirrored = mean_bounds(sample_of(-values, limits=UNIT), tail=tail)
    assert (-high, -low) == pytest.approx(mirrored, abs=1e-9)


@settings(deadline=None)
@given(VALUES, st.sampled_from([0.25, 2.0, 64.0]), st.integers(-4, 4))
def test_the_bounds_move_with_the_scale(values: FloatArray, factor: float, shift: float) -> None:
    found = mean_bounds(sample_of(values, limits=UNIT), tail=0.025)
    limits = (factor * (-1.0 + shift), factor * (1.0 + shift))
    moved = mean_bounds(sample_of(factor * (values + shift), limits=limits), tail=0.025)
    expected = tuple(factor * (bound + shift) for bound in found)
    assert moved == pytest.approx(expected, abs=1e-7 * factor)


@settings(deadline=None)
@given(VALUES)
def test_a_smaller_tail_never_gives_a_nearer_bound(values: FloatArray) -> None:
    found = sample_of(values, limits=UNIT)
    lows, highs = zip(*(mean_bounds(found, tail=t) for t in (0.2, 0.05, 0.01)), strict=True)
    assert np.all(np.diff(lows) <= 1e-9)
    assert np.all(np.diff(highs) >= -1e-9)


@settings(deadline=None, max_examples=200)
@given(VALUES, TAILS, st.integers(-64, 64).map(lambda i: i / 67))
def test_a_bound_and_its_test_are_one_statement(
    values: FloatArray, tail: float, mean: float
) -> None:
    found = sample_of(values, limits=UNIT)
    low, high = mean_bounds(found, tail=tail)
    if abs(low - mean) > 1e-9:
        assert (exceedance_p(found, mean) < tail) == (low > mean)
    if min(abs(low), abs(high)) > 1e-9:
        assert (difference_p(found) < 2 * tail) == (low > 0 or high < 0)


@settings(deadline=None)
@given(VALUES.filter(lambda v: np.ptp(v) > 0), st.integers(1, 4))
def test_copies_in_a_cluster_tell_nothing_new(values: FloatArray, copies: int) -> None:
    alone = mean_bounds(sample_of(values, limits=UNIT), tail=0.025)
    clusters = np.repeat(np.arange(values.size), copies)
    copied = sample_of(np.repeat(values, copies), clusters, limits=UNIT)
    assert mean_bounds(copied, tail=0.025) == pytest.approx(alone, abs=1e-7)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=9), st.integers(0, 2**32 - 1))
def test_clusters_have_the_standard_error_of_cr2_up_to_the_mean_of_their_units(
    sizes: list[int], seed: int
) -> None:
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    values = np.random.default_rng(seed).normal(size=clusters.size)
    found = sample_of(values, clusters)
    expected = cluster_t_interval(values, clusters, correction="cr2")
    assert found.mean == pytest.approx(float(values.mean()), abs=1e-9)
    # CR2 does not take the mean of the scaled residuals off, which is 0 for one size alone
    assert found.stderr <= expected.stderr * (1 + 1e-9)
    if len(set(sizes)) == 1:
        assert found.stderr == pytest.approx(expected.stderr)


@settings(deadline=None)
@given(arrays(float, st.integers(2, 9), elements=st.floats(0, 1, width=16)))
def test_fewer_than_ten_pairs_are_bounded_no_nearer_than_by_t(values: FloatArray) -> None:
    zeros = np.zeros(values.size)
    found, t = paired_likelihood(zeros, values), paired_t(zeros, values)
    if math.isfinite(t.low):
        assert found.low <= t.low + 1e-9
        assert found.high >= t.high - 1e-9


@settings(deadline=None)
@given(arrays(float, (2, 15), elements=st.integers(0, 4).map(lambda i: i / 4)), st.booleans())
def test_two_pairs_or_more_have_an_interval_once_their_scale_is_known(
    scores: FloatArray, is_clustered: bool
) -> None:
    clusters = np.arange(15) // 5 if is_clustered else None
    found = mean_difference(*scores, is_binary=False, clusters=clusters, reach=1.0)
    assert -1 <= found.low <= found.estimate + 1e-12 <= found.high + 2e-12
    assert found.high <= 1
    assert 0 <= found.p_value <= 1


def test_one_pair_or_equal_differences_without_a_scale_have_none() -> None:
    for values, reach in (([0.25], 1.0), ([0.25] * 30, math.inf)):
        found = mean_difference(np.zeros(len(values)), values, is_binary=False, reach=reach)
        assert found.estimate == 0.25
        assert all(map(math.isnan, (found.low, found.high, found.p_value)))


def test_rounding_of_large_scores_is_not_a_spread() -> None:
    a = np.linspace(1e6, 2e6, 30)
    found = mean_difference(a, a + 0.1, is_binary=False)
    assert math.isnan(found.low)


def test_p_values_of_thirty_pairs_or_more_agree_with_the_interval() -> None:
    rng = np.random.default_rng(0)
    for shift in np.linspace(-0.1, 0.1, 9):
        a = rng.random(60)
        b = a + shift - 0.2 * rng.exponential(size=60)
        found = compare_means(a, b, is_binary=False, rng=rng)
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
        assert found.method == "paired-likelihood"


def test_normal_differences_have_students_interval_once_they_are_many() -> None:
    d = 0.05 + np.asarray(stats.norm.ppf((np.arange(5000) + 0.5) / 5000))
    found, t = paired_likelihood(np.zeros(5000), d), paired_t(np.zeros(5000), d)
    assert (found.low, found.high) == pytest.approx((t.low, t.high), abs=1e-4)
    assert found.p_value == pytest.approx(t.p_value, rel=0.01)
    assert found.stderr == pytest.approx(t.stderr)
