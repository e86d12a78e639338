"""Intervals hold the truth as often as they say; `interval_coverage.py` has the whole table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
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
from evalkit.stats.ratio import perplexity_interval, ratio_interval
from evalkit.stats.resample import bootstrap

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


def test_the_delta_method_covers_nats_per_token_and_perplexity() -> None:
    rng = np.random.default_rng(5)
    n_tokens = np.ceil(np.exp(rng.normal(4.0, 0.5, size=(REPEATS, 100))))
    nats = 2.5 * rng.gamma(8.0, 1 / 8, size=(REPEATS, 100)) * n_tokens
    both = np.stack((nats, n_tokens), axis=1)
    coverage = simulated(lambda v: ratio_interval(v[0], v[1]), both, 2.5)
    assert BAND[0] - NOISE < coverage < BAND[1] + NOISE
    # exp is monotone: the perplexity is held where the nats are
    assert simulated(lambda v: perplexity_interval(-v[0], v[1]), both, math.exp(2.5)) == coverage
