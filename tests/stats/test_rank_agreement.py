from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalkit.stats.intervals import FloatArray
from evalkit.stats.rank_agreement import (
    correlation,
    count_pairs,
    grouped_pair_accuracy,
    pair_accuracy,
    pearson,
    tie_calibration,
)
from evalkit.stats.weighted_correlation import Kind, rowwise_correlation, weighted_correlation

KINDS: tuple[Kind, ...] = ("pearson", "spearman", "kendall-b", "kendall-c")
# Efron and Tibshirani (1993), Table 3.1: the law school data
LSAT = np.array([576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594.0])
GPA = np.array(
    [3.39, 3.30, 2.81, 3.03, 3.44, 3.07, 3.00, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96]
)
# google-research/mt-metrics-eval, stats_test.py: scores of a metric and of people
METRIC, HUMAN = [2, 1, 1.5, 5, 3], [1, 2, 2, 3, 4]

SERIES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30)


def of_scipy(x: FloatArray, y: FloatArray, kind: Kind) -> float:
    """scipy's value; nan where it warns that a series is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    if kind == "pearson":
        return float(stats.pearsonr(x, y)[0])
    if kind == "spearman":
        return float(stats.spearmanr(x, y)[0])
    return float(stats.kendalltau(x, y, variant="b" if kind == "kendall-b" else "c")[0])


def columns(rows: list[tuple[int, int]]) -> tuple[FloatArray, FloatArray]:
    x, y = np.array(rows, dtype=float).T
    return x, y


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# scipy 1.17's own documentation of kendalltau and spearmanr, and the cell counts of mt-metrics-eval
@pytest.mark.parametrize(
    ("x", "y", "kind", "value"),
    [
        ([12, 2, 1, 12, 2], [1, 4, 7, 1, 0], "kendall-b", -0.47140452),
        ([12, 2, 1, 12, 2], [1, 4, 7, 1, 0], "kendall-c", -0.48),
        ([1, 2, 3, 4, 5], [5, 6, 7, 8, 7], "spearman", 0.82078268),
        (METRIC, HUMAN, "kendall-b", 0.31622777),
        (METRIC, HUMAN, "kendall-c", 0.32),
    ],
)
def test_correlations_agree_with_published_values(
    x: list[float], y: list[float], kind: Kind, value: float
) -> None:
    found = correlation(x, y, kind=kind, rng=rng(), n_resamples=2)
    assert found.estimate == pytest.approx(value, abs=5e-9)


@given(SERIES, st.sampled_from(KINDS))
def test_correlations_agree_with_scipy(rows: list[tuple[int, int]], kind: Kind) -> None:
    x, y = columns(rows)
    expected = pytest.approx(of_scipy(x, y, kind), abs=1e-9, nan_ok=True)
    assert float(weighted_correlation(x, y, kind=kind)(np.ones((1, x.size)))[0, 0]) == expected
    assert float(rowwise_correlation(x[None], y[None], kind=kind)[0]) == expected


@given(SERIES, st.sampled_from(KINDS[:3]), st.data())
def test_a_weight_counts_a_row_as_often(
    rows: list[tuple[int, int]], kind: Kind, data: st.DataObject
) -> None:
    x, y = columns(rows)
    counts = st.lists(st.integers(0, 3), min_size=x.size, max_size=x.size)
    weights = np.array(data.draw(counts))
    found = weighted_correlation(x, y, kind=kind)(weights[None].astype(float))[0, 0]
    x, y = np.repeat(x, weights), np.repeat(y, weights)
    expected = of_scipy(x, y, kind) if x.size else math.nan
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)


# scipy 1.17, stats.bootstrap(paired=True, method="BCa") with 20,000 resamples; from seed to seed
# the lower bound, far out in a tail, has a standard deviation of .01
@pytest.mark.parametrize(
    ("kind", "value", "low", "high"),
    [("spearman", 0.79642857, 0.430, 0.963), ("kendall-b", 0.63809524, 0.284, 0.876)],
)
def test_bootstrap_bounds_agree_with_scipy(
    kind: Kind, value: float, low: float, high: float
) -> None:
    found = correlation(LSAT, GPA, kind=kind, rng=rng(), n_resamples=20_000)
    assert found.estimate == pytest.approx(value, abs=5e-9)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_in_clusters_do_not_narrow_the_bounds(kind: Kind) -> None:
    once = correlation(LSAT, GPA, kind=kind, rng=rng(), n_resamples=1000)
    rows = np.repeat(np.arange(15), 4)
    found = correlation(
        LSAT[rows], GPA[rows], kind=kind, rng=rng(), n_resamples=1000, clusters=rows
    )
    # tau-c has the factor 1 - 1/n, and so fewer rows a smaller value
    assert (found.low, found.high) == pytest.approx((once.low, once.high), abs=0.1)


def test_fishers_interval_of_the_law_school_data() -> None:
    # tanh(atanh(.776374) ± 1.959964 / sqrt(12))
    found = pearson(LSAT, GPA)
    assert found.estimate == pytest.approx(0.776374, abs=5e-7)
    expected = stats.pearsonr(LSAT, GPA).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_series_that_does_not_vary_has_no_correlation(kind: Kind) -> None:
    found = correlation([0.1, 0.1, 0.1, 0.1], [1, 2, 3, 4], kind=kind, rng=rng(), n_resamples=20)
    assert math.isnan(found.estimate)
    assert math.isnan(found.low)


def test_too_few_rows_give_nan() -> None:
    nothing: list[float] = []
    assert math.isnan(pearson(nothing, nothing).estimate)
    assert math.isnan(pearson([1, 2, 3], [1, 3, 2]).low)
    assert math.isnan(pearson([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]).low)
    for kind in KINDS:
        assert math.isnan(correlation(nothing, nothing, kind=kind, rng=rng()).estimate)
        assert math.isnan(correlation([1], [2], kind=kind, rng=rng()).estimate)
    assert math.isnan(pair_accuracy([1], [2], rng=rng()).estimate)


def test_rows_that_lack_a_score_are_left_out() -> None:
    x, y = [*LSAT, math.nan, 600], [*GPA, 3.0, math.nan]
    assert pearson(x, y) == pearson(LSAT, GPA)
    assert count_pairs(x, y) == count_pairs(LSAT, GPA)


def test_pairs_are_counted_as_in_mt_metrics_eval() -> None:
    # stats_test.py of mt-metrics-eval: 13 concordant, 2 discordant, ties 3 (human), 2 (metric), 1
    found = count_pairs([1, 1, 2, 2, 4, 3, 3], [1, 1, 1, 2, 2, 3, 4])
    assert (found.n_concordant, found.n_discordant) == (13, 2)
    assert (found.n_tied_x, found.n_tied_y, found.n_tied_both) == (2, 3, 1)


# stats_test.py of mt-metrics-eval: acc23 of these scores
@pytest.mark.parametrize(("epsilon", "accuracy"), [(0.0, 0.6), (2.0, 0.4)])
def test_pair_accuracy_agrees_with_mt_metrics_eval(epsilon: float, accuracy: float) -> None:
    found = pair_accuracy(METRIC, HUMAN, epsilon=epsilon, rng=rng(), n_resamples=2)
    assert found.estimate == pytest.approx(accuracy, abs=1e-12)


def test_tie_calibration_agrees_with_mt_metrics_eval() -> None:
    # tau_optimization_test.py: thresholds 0 2 4 6 8 have the accuracies 1/2 1/2 2/3 2/3 1/2
    metric, human = [0, 2, 6, 8], [1, 1, 1, 4]
    found = tie_calibration(metric, human)
    assert (found.epsilon, found.accuracy) == pytest.approx((4.0, 4 / 6))
    accuracies = [
        pair_accuracy(metric, human, epsilon=e, rng=rng(), n_resamples=2).estimate
        for e in (0.0, 2.0, 4.0, 6.0, 8.0)
    ]
    assert accuracies == pytest.approx([1 / 2, 1 / 2, 2 / 3, 2 / 3, 1 / 2])


def test_groups_weigh_alike_whatever_their_size() -> None:
    # the first has one pair, in order; the second three, of which one; the third has no pair
    x, y = [1, 2, 1, 2, 3, 9], [1, 2, 3, 1, 2, 9]
    found = grouped_pair_accuracy(x, y, ["a", "a", "b", "b", "b", "c"])
    assert found.interval.estimate == pytest.approx((1 + 1 / 3) / 2)
    assert (found.n_groups, found.n_skipped) == (2, 1)


def test_ties_are_calibrated_within_groups() -> None:
    # the second group alone would take 0: the mean of both is best at 1, where the first gains all
    x, y = [1, 2, 3, 1, 2, 3], [5, 5, 5, 1, 2, 3]
    groups = [0, 0, 0, 1, 1, 1]
    found = tie_calibration(x, y, groups=groups)
    # epsilon 0: (0 + 1) / 2; 1: (2/3 + 1/3) / 2; 2: (1 + 0) / 2, all the same: the smallest
    assert (found.epsilon, found.accuracy) == pytest.approx((0.0, 0.5))
    best = tie_calibration([1, 2, 3, 1, 4, 7], y, groups=groups)
    # the second group's differences are 3 and more, so a tie at 2 costs it nothing
    assert (best.epsilon, best.accuracy) == pytest.approx((2.0, 1.0))


def test_without_pairs_there_is_nothing_to_calibrate() -> None:
    assert math.isnan(tie_calibration([1.0], [1.0]).epsilon)


@given(SERIES, st.sampled_from((0.0, 1.0, 2.0)))
def test_pair_accuracy_is_the_share_of_pairs_counted_right(
    rows: list[tuple[int, int]], epsilon: float
) -> None:
    x, y = columns(rows)
    counts = count_pairs(x, y, epsilon=epsilon)
    right = counts.n_concordant + counts.n_tied_both
    found = pair_accuracy(x, y, epsilon=epsilon, rng=rng(), n_resamples=2)
    assert found.estimate == pytest.approx(right / (x.size * (x.size - 1) / 2), abs=1e-12)


@given(SERIES)
def test_no_other_epsilon_does_better_than_the_calibrated_one(
    rows: list[tuple[int, int]],
) -> None:
    x, y = columns(rows)
    found = tie_calibration(x, y)
    others = [pair_accuracy(x, y, epsilon=e, rng=rng(), n_resamples=2).estimate for e in range(5)]
    assert found.accuracy == pytest.approx(max(others), abs=1e-12)
    assert others[int(found.epsilon)] == pytest.approx(found.accuracy, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(SERIES, st.sampled_from(KINDS))
def test_reversing_a_series_reverses_the_correlation_and_its_bounds(
    rows: list[tuple[int, int]], kind: Kind
) -> None:
    x, y = columns(rows)
    one = correlation(x, y, kind=kind, rng=rng(), n_resamples=50)
    other = correlation(x, -y, kind=kind, rng=rng(), n_resamples=50)
    assert one.estimate == pytest.approx(-other.estimate, abs=1e-9, nan_ok=True)
    assert one.stderr == pytest.approx(other.stderr, abs=1e-9, nan_ok=True)


def test_a_row_and_its_own_copy_are_no_pair_in_a_resample() -> None:
    # discordant throughout: the accuracy is 0 in every resample, and so without bounds
    found = pair_accuracy([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], rng=rng(), n_resamples=200)
    assert found.estimate == 0.0
    assert math.isnan(found.low)


def test_points_are_counted_in_blocks_without_a_seam() -> None:
    x = rng(1).normal(size=1500)  # more than a block of the matrix of pairs
    y = x + rng(2).normal(size=1500)
    found = weighted_correlation(x, y, kind="kendall-b")(np.ones((1, 1500)))[0, 0]
    assert found == pytest.approx(of_scipy(x, y, "kendall-b"), abs=1e-12)
    counts = count_pairs(x, y)
    excess = counts.n_concordant - counts.n_discordant
    assert excess / (1500 * 1499 / 2) == pytest.approx(found, abs=1e-12)
