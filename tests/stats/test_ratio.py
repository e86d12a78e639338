from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from evalkit.stats.intervals import FloatArray, cluster_t_interval, t_interval
from evalkit.stats.ratio import perplexity_interval, ratio_interval

VALUES = arrays(float, st.integers(2, 40), elements=st.floats(0, 1, width=32))


def summed(values: FloatArray, clusters: NDArray[np.int64]) -> FloatArray:
    return np.array([values[clusters == c].sum() for c in range(int(clusters.max()) + 1)])


@settings(deadline=None)
@given(VALUES.filter(lambda v: v.std() > 1e-3), st.integers(1, 3))
def test_a_ratio_to_a_constant_is_a_mean(values: FloatArray, size: int) -> None:
    ones, clusters = np.full(values.size, 2.0), np.arange(values.size) // size
    equal = clusters < values.size // size  # clusters of one size
    values, ones, clusters = values[equal], ones[equal], clusters[equal]
    alone, clustered = ratio_interval(values, ones), ratio_interval(values, ones, clusters=clusters)
    mean, cluster_mean = t_interval(values), cluster_t_interval(values, clusters, correction="cr2")
    for ratio, expected in ((alone, mean), (clustered, cluster_mean)):
        assert 2 * ratio.estimate == pytest.approx(expected.estimate, nan_ok=True)
        bounds = (expected.stderr, expected.low, expected.high)
        found = (2 * ratio.stderr, 2 * ratio.low, 2 * ratio.high)
        assert found == pytest.approx(bounds, abs=1e-9, nan_ok=True)


def test_the_standard_error_of_a_ratio_nears_that_of_the_textbook_formula() -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(1, 50, size=4000).astype(float)
    y = 0.3 * x + rng.normal(size=4000)
    ratio, covariance = y.sum() / x.sum(), np.cov(y, x)
    # Cochran (1977), ch. 6: (s_y² + R² s_x² - 2 R s_xy) / (n mean(x)²)
    variance = covariance[0, 0] + ratio**2 * covariance[1, 1] - 2 * ratio * covariance[0, 1]
    found = ratio_interval(y, x)
    assert found.stderr == pytest.approx(math.sqrt(variance / 4000) / x.mean(), rel=1e-3)
    assert found.high - found.estimate == pytest.approx(1.961 * found.stderr, rel=1e-3)


def dense_ratio(y: FloatArray, x: FloatArray, growth: float) -> tuple[float, float]:
    """Standard error and degrees of freedom of a ratio, from the matrices of a regression.

    Bell and McCaffrey (2002), eq. 5 and 9, for y = ratio x in weights 1 / x: residuals y - ratio x
    are M y, and a working covariance of y that is diagonal with x**growth.
    """
    n = x.size
    residual_maker = np.eye(n) - np.outer(x, np.ones(n)) / x.sum()
    working = np.diag(x**growth)
    residual_covariance = residual_maker @ working @ residual_maker.T
    scale = np.sqrt(np.diag(working) / np.diag(residual_covariance))
    variance = float(((scale * (residual_maker @ y)) ** 2).sum()) / x.sum() ** 2
    found = np.linalg.eigvalsh(residual_covariance * np.outer(scale, scale))
    return math.sqrt(variance), float(found.sum() ** 2 / (found**2).sum())


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), min_size=2, max_size=12), st.integers(0, 2**32 - 1))
def test_the_precision_of_a_ratio_is_that_of_the_regression(sizes: list[int], seed: int) -> None:
    x = np.array(sizes, dtype=np.float64)
    y = x * np.random.default_rng(seed).normal(size=x.size)
    found = ratio_interval(y, x)
    stderr, degrees = dense_ratio(y, x, 1.5)
    assert found.stderr == pytest.approx(stderr, rel=1e-6)
    half = float(stats.t.isf(0.025, degrees)) * stderr
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=1e-5)


def test_a_cluster_counts_as_one_numerator_and_one_denominator() -> None:
    rng = np.random.default_rng(3)
    y, x, clusters = rng.normal(size=30), rng.uniform(1, 2, size=30), np.arange(30) % 7
    joined = ratio_interval(summed(y, clusters), summed(x, clusters))
    found = ratio_interval(y, x, clusters=clusters)
    assert (found.stderr, found.low, found.high) == pytest.approx(
        (joined.stderr, joined.low, joined.high)
    )


@pytest.mark.parametrize(
    ("numerators", "denominators"),
    [
        ([], []),
        ([1.0], [2.0]),
        ([1.0, 2.0], [0.0, 0.0]),
        ([1.0, 2.0], [2.0, 4.0]),
        ([1.0, 2.0], [0.0, 4.0]),
    ],
    ids=["nothing", "one example", "no denominator", "one ratio without exception", "all in one"],
)
def test_a_ratio_with_too_little_to_say_has_no_interval(
    numerators: list[float], denominators: list[float]
) -> None:
    found = ratio_interval(np.array(numerators), np.array(denominators))
    assert all(map(math.isnan, (found.stderr, found.low, found.high)))


def test_perplexity_is_exp_of_the_nats_per_token_and_so_are_its_bounds() -> None:
    logprobs, n_tokens = np.array([-10.0, -30.0, -25.0, -8.0]), np.array([5.0, 10.0, 9.0, 4.0])
    nats = ratio_interval(-logprobs, n_tokens)
    found = perplexity_interval(logprobs, n_tokens)
    assert found.estimate == pytest.approx(math.exp(73 / 28))
    assert (found.low, found.high) == pytest.approx((math.exp(nats.low), math.exp(nats.high)))
    # d exp(x) = exp(x) dx
    assert found.stderr == pytest.approx(nats.stderr * math.exp(73 / 28))
    assert found.high - found.estimate > found.estimate - found.low > 0


def test_the_perplexity_of_an_impossible_text_is_infinite() -> None:
    found = perplexity_interval(np.array([-1e6, -2e6, -3.0]), np.ones(3))
    assert found.estimate == math.inf
    assert math.isnan(perplexity_interval(np.array([-math.inf, -1.0]), np.ones(2)).low)


def test_clusters_of_texts_widen_the_perplexity() -> None:
    rng = np.random.default_rng(4)
    shared = np.repeat(rng.normal(size=20), 5)
    logprobs, n_tokens = -20 - 3 * shared, np.full(100, 10.0)
    alone = perplexity_interval(logprobs, n_tokens)
    clustered = perplexity_interval(logprobs, n_tokens, clusters=np.repeat(np.arange(20), 5))
    # five copies of each: sqrt 5 times the standard error, but for (n - 1) against (g - 1)
    assert clustered.stderr / alone.stderr == pytest.approx(math.sqrt(99 / 19), rel=1e-9)
