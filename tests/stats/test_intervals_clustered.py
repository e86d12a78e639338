from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from evalkit.stats.intervals import (
    FloatArray,
    cluster_t_interval,
    clustered_stderr,
)

VALUES = arrays(float, st.integers(2, 40), elements=st.floats(0, 1, width=32))
CORRECTIONS: tuple[Literal["cr1", "cr2"], ...] = ("cr1", "cr2")


# statsmodels 0.15 OLS(cov_type="cluster", use_correction=False) gives CR0 = .117851 for these data;
# the factor sqrt(g / (g - 1)) = sqrt(4 / 3) makes it .136083
CLUSTERED = np.array([1.0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1])
CLUSTERS = np.repeat(["a", "b", "c", "d"], 3)


def test_clustered_stderr_agrees_with_statsmodels() -> None:
    assert clustered_stderr(CLUSTERED, CLUSTERS) == pytest.approx(0.1360827634879544, abs=1e-12)


def test_the_clustered_interval_has_one_degree_less_than_clusters() -> None:
    found = cluster_t_interval(CLUSTERED, CLUSTERS)
    # t(3) at .975 is 3.182446 (Fisher's table)
    assert found.high - found.low == pytest.approx(2 * 3.182446 * 0.1360827634879544, abs=1e-6)


def test_a_clustered_proportion_stays_within_0_and_1() -> None:
    found = cluster_t_interval(CLUSTERED, CLUSTERS, bounds=(0.0, 1.0))
    assert found.high == 1.0


def dense_cr2(values: FloatArray, clusters: NDArray[np.int64]) -> tuple[float, float]:
    """Standard error and degrees of freedom of a mean, from the matrices of a regression.

    Bell and McCaffrey (2002), eq. 5 and 9: X = 1, H = X (X'X)^-1 X', A_g = (I - H)_gg^-1/2.
    """
    n = values.size
    x = np.ones((n, 1))
    residual_maker = np.eye(n) - x @ x.T / n
    vectors, variance = [], 0.0
    for cluster in np.unique(clusters):
        at = np.flatnonzero(clusters == cluster)
        roots, axes = np.linalg.eigh(residual_maker[np.ix_(at, at)])
        adjustment = axes @ np.diag(roots**-0.5) @ axes.T
        weights = adjustment @ x[at, 0] / n
        vectors.append(residual_maker[:, at] @ weights)
        variance += float(weights @ (values - values.mean())[at]) ** 2
    found = np.linalg.eigvalsh(np.array(vectors) @ np.array(vectors).T)
    return math.sqrt(variance), float(found.sum() ** 2 / (found**2).sum())


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=9), st.integers(0, 2**32 - 1))
def test_cr2_is_that_of_the_regression_on_a_constant(sizes: list[int], seed: int) -> None:
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    values = np.random.default_rng(seed).normal(size=clusters.size)
    stderr, degrees = dense_cr2(values, clusters)
    found = cluster_t_interval(values, clusters, correction="cr2")
    assert found.method == "cluster-t-cr2"
    assert found.stderr == pytest.approx(stderr, rel=1e-9)
    half = float(stats.t.ppf(0.975, degrees)) * stderr
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=1e-9)


@settings(deadline=None)
@given(VALUES.filter(lambda v: v.std() > 1e-3), st.integers(1, 4))
def test_for_clusters_of_one_size_both_corrections_are_the_same(
    values: FloatArray, size: int
) -> None:
    spread = np.repeat(values, size) + np.tile(np.linspace(0, 0.1, size), values.size)
    clusters = np.repeat(np.arange(values.size), size)
    one, other = (
        cluster_t_interval(spread, clusters, correction=correction) for correction in CORRECTIONS
    )
    assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-9)


def test_cr2_is_unbiased_where_cr1_is_not() -> None:
    sizes = np.array([40, 2, 2, 2, 2, 2])
    clusters = np.repeat(np.arange(6), sizes)
    draws = np.random.default_rng(1).normal(size=(4000, 50))
    squares = {
        correction: np.mean(
            [cluster_t_interval(v, clusters, correction=correction).stderr ** 2 for v in draws]
        )
        for correction in CORRECTIONS
    }
    # of 50 independent values the mean has the variance .02; 3 % is four standard errors here
    assert squares["cr2"] == pytest.approx(0.02, rel=0.06)
    assert squares["cr1"] < 0.9 * 0.02


def test_a_single_cluster_has_no_cr2() -> None:
    found = cluster_t_interval(np.array([0.0, 1.0, 1.0]), ["a"] * 3, correction="cr2")
    assert all(map(math.isnan, (found.stderr, found.low, found.high)))


@settings(deadline=None)
@given(VALUES)
def test_clusters_of_one_give_the_plain_standard_error(values: FloatArray) -> None:
    plain = values.std(ddof=1) / math.sqrt(values.size)
    assert plain == pytest.approx(clustered_stderr(values, np.arange(values.size)), abs=1e-12)


@settings(deadline=None)
@given(VALUES, st.integers(2, 5))
def test_copies_in_a_cluster_add_no_certainty(values: FloatArray, copies: int) -> None:
    alone = clustered_stderr(values, np.arange(values.size))
    copied = clustered_stderr(np.repeat(values, copies), np.repeat(np.arange(values.size), copies))
    assert copied == pytest.approx(alone, abs=1e-9)


def test_a_single_cluster_gives_nan() -> None:
    values = np.array([0.0, 1.0, 1.0])
    assert math.isnan(clustered_stderr(values, ["a"] * 3))
    found = cluster_t_interval(values, ["a"] * 3)
    assert all(map(math.isnan, (found.stderr, found.low, found.high)))


def test_clusters_that_all_agree_give_nan() -> None:
    found = cluster_t_interval(np.array([0.0, 1.0, 0.0, 1.0]), [0, 0, 1, 1])
    assert math.isnan(found.low)
