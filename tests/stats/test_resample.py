from __future__ import annotations

import math
import time
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evalkit.stats.intervals import FloatArray
from evalkit.stats.resample import (
    bca_bounds,
    bootstrap,
    cluster_sums,
    percentile_bounds,
    resample_weights,
    resampled_sums,
)

# Efron and Tibshirani (1993), Table 14.1 (spatial test, A) and Table 3.1 (law school)
SPATIAL = np.array(
    (
        *(48.0, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6),
        *(0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41),
    )
)
LSAT = np.array([576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594.0])
GPA = np.array(
    [3.39, 3.30, 2.81, 3.03, 3.44, 3.07, 3.00, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96]
)


def all_weights(n: int, n_resamples: int, *, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    return np.concatenate([w.copy() for w in resample_weights(n, n_resamples, rng=rng)])


def mean_rows(values: FloatArray) -> FloatArray:
    return np.column_stack((values, np.ones_like(values)))


def mean(sums: FloatArray) -> FloatArray:
    return np.asarray(sums[..., 0] / sums[..., 1])


def variance(sums: FloatArray) -> FloatArray:
    """Of (x, x², 1) sums."""
    return np.asarray(sums[..., 1] / sums[..., 2] - (sums[..., 0] / sums[..., 2]) ** 2)


def correlation(sums: FloatArray) -> FloatArray:
    """Of (x, y, x², y², xy, 1) sums."""
    x, y, xx, yy, xy = (sums[..., i] / sums[..., 5] for i in range(5))
    return np.asarray((xy - x * y) / np.sqrt((xx - x**2) * (yy - y**2)))


def test_bca_of_the_spatial_variance_agrees_with_efron_and_tibshirani() -> None:
    rows = np.column_stack((SPATIAL, SPATIAL**2, np.ones_like(SPATIAL)))
    rng = np.random.default_rng(1)
    found = bootstrap(rows, variance, rng=rng, n_resamples=100_000, level=0.9)
    assert found.estimate == pytest.approx(171.534, abs=5e-4)
    # the book has (115.8, 259.6) from 2000 draws; scipy 1.17 with 100,000 has (116.0, 261.5), and
    # from seed to seed the upper bound has a standard deviation of .7
    assert (found.low, found.high) == pytest.approx((116.0, 261.5), abs=3.0)


def test_the_law_school_correlation_agrees_with_scipy() -> None:
    x, y = LSAT - LSAT.mean(), GPA - GPA.mean()
    rows = np.column_stack((x, y, x**2, y**2, x * y, np.ones_like(x)))
    rng = np.random.default_rng(2)
    found = bootstrap(rows, correlation, rng=rng, n_resamples=20_000)
    assert found.estimate == pytest.approx(0.776374, abs=5e-7)
    # scipy 1.17, BCa, 100,000 draws. At 20,000 its lower bound has a standard deviation of .01
    # from seed to seed, since it is a quantile far out in a skewed tail
    assert found.low == pytest.approx(0.332, abs=0.03)
    assert found.high == pytest.approx(0.942, abs=0.005)


@settings(max_examples=25, deadline=None)
@given(arrays(float, st.integers(5, 30), elements=st.floats(0, 1)), st.sampled_from([0.9, 0.95]))
def test_bounds_are_scipys_on_the_same_replicates(values: FloatArray, level: float) -> None:
    if np.ptp(values) < 1e-3:
        values = values + np.linspace(0, 1, values.size)
    drawn = stats.bootstrap(
        (values,), np.mean, n_resamples=200, rng=np.random.default_rng(0), method="percentile"
    )
    replicates = np.asarray(drawn.bootstrap_distribution)
    left_out = (values.sum() - values) / (values.size - 1)
    expected: list[tuple[Literal["percentile", "BCa"], tuple[float, float]]] = [
        ("percentile", percentile_bounds(replicates, level=level)),
        ("BCa", bca_bounds(replicates, float(values.mean()), left_out=left_out, level=level)),
    ]
    for method, ours in expected:
        theirs = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=0,
            bootstrap_result=drawn,
            method=method,
            confidence_level=level,
        ).confidence_interval
        assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_the_standard_error_of_a_mean_is_the_closed_form() -> None:
    values = np.random.default_rng(3).normal(size=400)
    rng = np.random.default_rng(4)
    found = bootstrap(mean_rows(values), mean, rng=rng, n_resamples=10_000)
    # the bootstrap's ideal standard error: plug-in sd over sqrt n; 10,000 draws know it to 0.7 %
    assert found.stderr == pytest.approx(values.std() / math.sqrt(values.size), rel=0.03)


def test_whole_clusters_are_resampled() -> None:
    values = np.repeat(np.random.default_rng(5).normal(size=50), 8)
    clusters = np.repeat(np.arange(50), 8)
    rng = np.random.default_rng(6)
    found = bootstrap(mean_rows(values), mean, rng=rng, n_resamples=5000, clusters=clusters)
    assert found.stderr == pytest.approx(values.std() / math.sqrt(50), rel=0.05)


@settings(deadline=None)
@given(arrays(float, (12, 3), elements=st.integers(-100, 100)))
def test_cluster_sums_keep_the_total(rows: FloatArray) -> None:
    sums = cluster_sums(rows, ["a", "b", "c"] * 4)
    assert sums.shape == (3, 3)
    assert np.array_equal(sums.sum(axis=0), rows.sum(axis=0))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_each_resample_draws_n_rows(n: int, n_resamples: int, seed: int) -> None:
    sums = resampled_sums(np.ones((n, 1)), n_resamples, rng=np.random.default_rng(seed))
    assert np.array_equal(sums, np.full((n_resamples, 1), float(n)))


def test_what_is_drawn_does_not_depend_on_how_many_statistics_there_are() -> None:
    rows = np.random.default_rng(7).integers(0, 9, size=(30, 4)).astype(float)
    wide = resampled_sums(rows, 100, rng=np.random.default_rng(8))
    narrow = resampled_sums(rows[:, :1], 100, rng=np.random.default_rng(8))
    assert np.array_equal(wide[:, :1], narrow)


@pytest.mark.parametrize("method", ["bca", "percentile"])
@pytest.mark.parametrize(
    "values", [[], [1.0], [0.1] * 20, [1.0, math.inf, 2.0]], ids=["none", "one", "same", "infinite"]
)
def test_too_little_to_say_gives_nan(values: list[float], method: str) -> None:
    found = bootstrap(
        mean_rows(np.array(values)),
        mean,
        rng=np.random.default_rng(0),
        n_resamples=200,
        method="bca" if method == "bca" else "percentile",
    )
    assert all(map(math.isnan, (found.stderr, found.low, found.high)))


def test_a_single_cluster_gives_nan() -> None:
    rows = mean_rows(np.arange(10.0))
    found = bootstrap(rows, mean, rng=np.random.default_rng(0), clusters=["a"] * 10)
    assert math.isnan(found.stderr)


def test_a_statistic_undefined_on_many_resamples_has_no_interval() -> None:
    rows = np.zeros((20, 2))
    rows[0] = 1.0  # only the resamples with the first row, 1 - (19/20)^20 = 64 %, are defined

    def rate(sums: FloatArray) -> FloatArray:
        out = np.full(sums.shape[:-1], np.nan)
        np.divide(sums[..., 0], sums[..., 1], out=out, where=sums[..., 1] > 0)
        return out

    found = bootstrap(rows, rate, rng=np.random.default_rng(0))
    assert found.estimate == 1.0
    assert math.isnan(found.low)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_weights_are_counts_of_n_draws(n: int, n_resamples: int, seed: int) -> None:
    weights = all_weights(n, n_resamples, seed=seed)
    assert weights.shape == (n_resamples, n)
    assert np.array_equal(weights, np.floor(weights))
    assert weights.min() >= 0
    assert np.array_equal(weights.sum(axis=1), np.full(n_resamples, float(n)))


@pytest.mark.parametrize("n", [7, 40_001], ids=["many resamples a chunk", "few resamples a chunk"])
def test_the_first_resamples_are_the_same_however_many_follow(n: int) -> None:
    few, many = all_weights(n, 5, seed=3), all_weights(n, 23, seed=3)
    assert np.array_equal(few, many[:5])


@pytest.mark.parametrize("n", [2, 9, 10, 41, 300])
def test_weights_are_multinomial(n: int) -> None:
    n_resamples = 400_000 // n
    weights = all_weights(n, n_resamples, seed=n)
    # a multinomial's margins are Binomial(n, 1 / n)
    counts = np.bincount(weights.astype(int).reshape(-1), minlength=n + 1)[:5]
    expected = stats.binom.pmf(np.arange(5), n, 1 / n) * weights.size
    spread = np.sqrt(expected * (1 - expected / weights.size))
    assert np.abs(counts[: n + 1] - expected[: n + 1]).max() < 4 * spread.max()
    # and a sum over half of the rows Binomial(n, half): their covariance is -1 / n
    halves = weights[:, : n // 2].sum(axis=1)
    law = stats.binom(n, (n // 2) / n)
    assert halves.mean() == pytest.approx(law.mean(), abs=4 * law.std() / math.sqrt(n_resamples))
    assert halves.var() == pytest.approx(law.var(), rel=6 / math.sqrt(n_resamples))


def test_every_row_is_as_likely_as_any_other() -> None:
    weights = all_weights(1000, 4000, seed=11)
    squares = np.sum((weights.sum(axis=0) - 4000) ** 2 / 4000)
    # Pearson's chi-squared with 999 degrees; draws of a resample add up to n, as in a multinomial
    assert 1e-4 < stats.chi2.sf(squares, 999) < 1 - 1e-4


def test_generators_of_other_kinds_and_later_states_draw_otherwise() -> None:
    rng = np.random.default_rng(0)
    first, second = (resampled_sums(SPATIAL[:, None], 5, rng=rng) for _ in range(2))
    assert not np.array_equal(first, second)
    other = resampled_sums(SPATIAL[:, None], 5, rng=np.random.Generator(np.random.MT19937(0)))
    assert not np.array_equal(first, other)


def test_ten_thousand_resamples_of_ten_thousand_rows_take_less_than_two_seconds() -> None:
    rows = np.random.default_rng(9).integers(0, 40, size=(10_000, 10)).astype(float)
    start = time.process_time()
    bootstrap(rows, mean, rng=np.random.default_rng(0), n_resamples=10_000)
    assert time.process_time() - start < 4.0  # CPU time, of up to two threads
