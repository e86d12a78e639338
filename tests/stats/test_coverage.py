"""Intervals hold the truth as often as they say; `interval_coverage.py` has the whole table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    clopper_pearson,
    cluster_t_interval,
    jeffreys,
    t_interval,
    wilson,
    wilson_mean,
)
from evalkit.stats.likelihood import exceedance_p, sample_of
from evalkit.stats.ratio import perplexity_interval, ratio_interval
from evalkit.stats.resample import bootstrap

IntArray = NDArray[np.int64]

BAND = (0.935, 0.965)
CHANCES = (0.5, 0.9, 0.98)
REPEATS = 2000
NOISE = 3 * math.sqrt(0.95 * 0.05 / REPEATS)  # three standard errors of a simulated coverage


def exact(method: Callable[[int, int], Interval], n: int, p: float) -> float:
    """The chance that the interval of a binomial count holds p."""
    bounds = [method(k, n) for k in range(n + 1)]
    held = [found.low <= p <= found.high for found in bounds]
    return float(stats.binom.pmf(np.arange(n + 1), n, p) @ np.array(held))


def simulated(method: Callable[[FloatArray], Interval], samples: FloatArray, truth: float) -> float:
    found = [method(sample) for sample in samples]
    return sum(i.low <= truth <= i.high for i in found) / len(found)


def graded(n: int, p: float, *, seed: int) -> tuple[FloatArray, float]:
    """Scores of 1 to 5 on a scale of 0 to 1, the best with chance p and the others alike."""
    rng = np.random.default_rng(seed)
    scores = np.where(rng.random((REPEATS, n)) < p, 4, rng.integers(0, 4, size=(REPEATS, n)))
    return scores / 4, p + (1 - p) * 1.5 / 4


@pytest.mark.parametrize("p", CHANCES)
@pytest.mark.parametrize("n", [20, 100, 1000])
def test_wilson_covers_a_proportion_at_every_size(n: int, p: float) -> None:
    assert BAND[0] < exact(wilson, n, p) < BAND[1]


# the same sum over statsmodels 0.15, proportion_confint(method="wilson" and "beta"), in percent
@pytest.mark.parametrize(
    ("n", "p", "of_wilson", "of_clopper_pearson"),
    [
        (10, 0.9, 92.98, 98.72),
        (30, 0.9, 97.42, 99.22),
        (30, 0.98, 97.83, 97.83),
        (100, 0.98, 94.92, 98.45),
    ],
)
def test_the_exact_coverages_are_those_of_statsmodels(
    n: int, p: float, of_wilson: float, of_clopper_pearson: float
) -> None:
    assert 100 * exact(wilson, n, p) == pytest.approx(of_wilson, abs=0.005)
    assert 100 * exact(clopper_pearson, n, p) == pytest.approx(of_clopper_pearson, abs=0.005)


@pytest.mark.parametrize("n", [5, 20, 100])
def test_clopper_pearson_never_covers_less_than_its_level(n: int) -> None:
    assert min(exact(clopper_pearson, n, p) for p in np.linspace(0.005, 0.995, 40)) >= 0.95


@pytest.mark.parametrize("p", CHANCES)
@pytest.mark.parametrize("n", [20, 100, 1000])
def test_jeffreys_covers_at_least_the_lower_end_of_the_band(n: int, p: float) -> None:
    assert exact(jeffreys, n, p) > BAND[0]


def test_t_covers_the_mean_of_normal_values_exactly() -> None:
    samples = np.random.default_rng(0).normal(size=(REPEATS, 8))
    assert simulated(t_interval, samples, 0.0) == pytest.approx(0.95, abs=NOISE)


@pytest.mark.parametrize("p", CHANCES)
@pytest.mark.parametrize("n", [20, 100])
def test_the_wilson_mean_covers_graded_scores_at_every_size(n: int, p: float) -> None:
    coverage = simulated(wilson_mean, *graded(n, p, seed=n))
    assert BAND[0] - NOISE < coverage < BAND[1] + NOISE


def test_t_does_not_cover_graded_scores_near_the_top_of_their_scale() -> None:
    assert simulated(t_interval, *graded(20, 0.98, seed=20)) < 0.5
    assert simulated(t_interval, *graded(100, 0.98, seed=100)) < 0.85


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_bootstrap_covers_a_mean_that_is_not_near_an_end(
    method: Literal["percentile", "bca"],
) -> None:
    samples, truth = graded(100, 0.5, seed=1)
    rng = np.random.default_rng(2)

    def interval(values: FloatArray) -> Interval:
        rows = np.column_stack((values, np.ones_like(values)))
        return bootstrap(
            rows,
            lambda sums: np.asarray(sums[..., 0] / sums[..., 1]),
            rng=rng,
            n_resamples=500,
            method=method,
        )

    assert BAND[0] - NOISE < simulated(interval, samples, truth) < BAND[1] + NOISE


UNEQUAL = np.repeat(np.arange(20), np.maximum(1, np.arange(20) // 2))


def clustered(p: float, *, seed: int) -> FloatArray:
    """0/1 values in 20 clusters of 1 to 9, with an intraclass correlation of 0.2."""
    rng = np.random.default_rng(seed)
    levels = rng.beta(4 * p, 4 * (1 - p), size=(REPEATS, 20))
    return (rng.random((REPEATS, UNEQUAL.size)) < levels[:, UNEQUAL]).astype(float)


@pytest.mark.parametrize("p", CHANCES)
def test_the_clustered_wilson_mean_covers_at_least_the_lower_end_of_the_band(p: float) -> None:
    coverage = simulated(lambda v: wilson_mean(v, UNEQUAL), clustered(p, seed=3), p)
    assert BAND[0] - NOISE < coverage


def test_clusters_taken_for_independent_answers_are_not_covered() -> None:
    samples = clustered(0.5, seed=3)
    assert simulated(wilson_mean, samples, 0.5) < 0.88
    robust = simulated(lambda v: cluster_t_interval(v, UNEQUAL, correction="cr2"), samples, 0.5)
    assert BAND[0] - NOISE < robust < BAND[1] + NOISE


def test_cr2_covers_few_clusters_of_unequal_sizes_better_than_cr1() -> None:
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(8), [1, 1, 2, 2, 3, 5, 9, 25])
    samples = rng.normal(size=(REPEATS, 48)) + 0.3 * rng.normal(size=(REPEATS, 8))[:, clusters]
    cr1 = simulated(lambda v: cluster_t_interval(v, clusters), samples, 0.0)
    cr2 = simulated(lambda v: cluster_t_interval(v, clusters, correction="cr2"), samples, 0.0)
    assert cr1 < 0.9
    assert BAND[0] - NOISE < cr2 < BAND[1] + NOISE


@pytest.mark.parametrize("p", [0.5, 0.9])
@pytest.mark.parametrize("intraclass", [0.0, 0.5])
def test_ten_unequal_clusters_are_covered_whatever_their_correlation(
    p: float, intraclass: float
) -> None:
    rng = np.random.default_rng(6)
    clusters = np.repeat(np.arange(10), np.arange(1, 11))
    levels = np.full((REPEATS, 10), p)
    if intraclass:
        levels = rng.beta(p, 1 - p, size=(REPEATS, 10))  # a + b = 1 / .5 - 1
    samples = (rng.random((REPEATS, 55)) < levels[:, clusters]).astype(float)
    coverage = simulated(lambda v: wilson_mean(v, clusters), samples, p)
    assert BAND[0] - NOISE < coverage
    assert coverage < (BAND[1] + NOISE if p == 0.5 else 0.99)


def held(samples: FloatArray, truth: float, clusters: IntArray | None = None) -> float:
    """How often neither tail's test of likelihood rejects the true mean difference at 2.5 %."""
    found = [exceedance_p(sample_of(d, clusters, limits=(-1.0, 1.0)), truth) for d in samples]
    return float(np.mean([0.025 <= p <= 0.975 for p in found]))


def held_by_t(samples: FloatArray, truth: float) -> float:
    """The same of Student's t; equal differences hold nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (samples.mean(axis=1) - truth) / stats.sem(samples, axis=1)
    return float(np.mean(np.abs(t) <= stats.t.isf(0.025, samples.shape[1] - 1)))


def graded_pairs(n: int, p: float, *, drop: float, seed: int) -> FloatArray:
    """Differences of two runs' scores of 1 to 5 on a scale of 0 to 1, two in five alike."""
    rng = np.random.default_rng(seed)

    def scores(u: FloatArray, mean: float) -> FloatArray:
        others = (1 - mean) / 0.625  # not the top score, but one of the four below it
        return np.where(u < others, np.floor(4 * u / others) / 4, 1.0)

    u, v = rng.random((2, REPEATS, n))
    v = np.where(rng.random((REPEATS, n)) < 0.4, u, v)
    return scores(v, p - drop) - scores(u, p)


@pytest.mark.parametrize(
    ("n", "p", "drop"), [(20, 0.5, 0.0), (100, 0.5, 0.05), (100, 0.9, 0.0), (100, 0.9, 0.05)]
)
def test_paired_differences_of_graded_scores_are_covered(n: int, p: float, drop: float) -> None:
    coverage = held(graded_pairs(n, p, drop=drop, seed=7), -drop)
    assert BAND[0] - NOISE < coverage < BAND[1] + NOISE


@pytest.mark.parametrize(("n", "p"), [(20, 0.9), (20, 0.98), (100, 0.98)])
def test_few_differing_pairs_are_covered_at_least_as_often_as_is_said(n: int, p: float) -> None:
    samples = graded_pairs(n, p, drop=0.02, seed=8)
    coverage = held(samples, -0.02)
    assert BAND[0] - NOISE < coverage
    # of which Student's t misses many, or says nothing
    assert held_by_t(samples, -0.02) < coverage - 0.005


def test_lopsided_differences_that_t_misses_on_one_side_are_covered() -> None:
    # one less a standard exponential: mean 0, most win a little and few lose much
    samples = 1 - np.random.default_rng(9).exponential(size=(REPEATS, 100))
    found = np.array([exceedance_p(sample_of(d), 0.0) for d in samples])
    coverage = float(np.mean((found >= 0.025) & (found <= 0.975)))
    assert BAND[0] - NOISE < coverage < BAND[1] + NOISE
    # passes at alpha .05 of a drop of just the margin, taken as 0 here
    by_likelihood = float(np.mean(found < 0.05))
    by_t = np.mean(stats.ttest_1samp(samples, 0.0, axis=1, alternative="greater").pvalue < 0.05)
    assert by_likelihood < 0.05 + 3 * math.sqrt(0.05 * 0.95 / REPEATS) < by_t


@pytest.mark.parametrize("drop", [0.0, 0.05])
def test_paired_differences_in_clusters_are_covered(drop: float) -> None:
    rng = np.random.default_rng(10)
    shapes = 4 * np.array([0.1 + drop, 0.1, 0.8 - drop])  # intraclass correlation .2
    drawn = rng.gamma(shapes, size=(REPEATS, 20, 3))
    levels = (drawn / drawn.sum(axis=2, keepdims=True))[:, UNEQUAL]
    u = rng.random((REPEATS, UNEQUAL.size))
    samples = (u > 1 - levels[..., 1]).astype(float) - (u < levels[..., 0])
    coverage = held(samples, -drop, UNEQUAL)
    assert BAND[0] - NOISE < coverage < BAND[1] + NOISE


def test_a_ratio_of_few_texts_of_very_unequal_lengths_is_covered() -> None:
    rng = np.random.default_rng(11)
    n_tokens = np.ceil(np.exp(rng.normal(4.0, 0.8, size=(REPEATS, 20))))
    nats = 2.5 * rng.gamma(8.0, 1 / 8, size=(REPEATS, 20)) * n_tokens
    both = np.stack((nats, n_tokens), axis=1)
    coverage = simulated(lambda v: ratio_interval(v[0], v[1]), both, 2.5)
    assert BAND[0] < coverage < BAND[1] + NOISE


def test_the_delta_method_covers_nats_per_token_and_perplexity() -> None:
    rng = np.random.default_rng(5)
    n_tokens = np.ceil(np.exp(rng.normal(4.0, 0.5, size=(REPEATS, 100))))
    nats = 2.5 * rng.gamma(8.0, 1 / 8, size=(REPEATS, 100)) * n_tokens
    both = np.stack((nats, n_tokens), axis=1)
    coverage = simulated(lambda v: ratio_interval(v[0], v[1]), both, 2.5)
    assert BAND[0] - NOISE < coverage < BAND[1] + NOISE
    # exp is monotone: the perplexity is held where the nats are
    assert simulated(lambda v: perplexity_interval(-v[0], v[1]), both, math.exp(2.5)) == coverage
