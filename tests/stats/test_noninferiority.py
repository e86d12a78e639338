from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evalkit.stats.intervals import FloatArray
from evalkit.stats.noninferiority import (
    bootstrap_bounds,
    bootstrap_non_inferiority_p,
    bounds,
    non_inferiority_p,
    tost,
)
from evalkit.stats.paired import paired_bootstrap

TWELVE = np.array([0.4, -0.1, 0.3, 0.2, 0.1, 0.5, -0.2, 0.3, 0.2, 0.1, 0.0, 0.2])
ZEROS = np.zeros(12)
BITS = arrays(np.int64, 50, elements=st.integers(0, 1))
GRADES = arrays(float, 24, elements=st.floats(0, 1, width=16))
MARGINS = st.floats(0.01, 0.9)
ALPHAS = st.sampled_from([0.01, 0.025, 0.05, 0.2])


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rows(values: FloatArray) -> FloatArray:
    return np.column_stack((values, np.ones_like(values)))


def ratio(sums: FloatArray) -> FloatArray:
    return np.asarray(sums[..., 0] / sums[..., 1])


def pairs(n_both: int, n_only_a: int, n_only_b: int, n_neither: int) -> tuple[FloatArray, ...]:
    counts = [n_both, n_only_a, n_only_b, n_neither]
    return np.repeat([1.0, 1, 0, 0], counts), np.repeat([1.0, 0, 1, 0], counts)


def test_many_symmetrical_graded_differences_agree_with_scipys_t() -> None:
    d = 0.01 + np.asarray(stats.norm.ppf((np.arange(2000) + 0.5) / 2000))
    zeros = np.zeros(2000)
    found = bounds(zeros, d, is_binary=False)
    low, high = stats.ttest_1samp(d, 0).confidence_interval(0.90)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    assert (found.alpha, found.method) == (0.05, "paired-likelihood")
    above = stats.ttest_1samp(d, -0.03, alternative="greater").pvalue
    below = stats.ttest_1samp(d, 0.03, alternative="less").pvalue
    p = non_inferiority_p(zeros, d, margin=0.03, is_binary=False)
    assert p == pytest.approx(above, rel=0.01)
    assert tost(zeros, d, margin=0.03, is_binary=False) == pytest.approx(below, rel=0.01)


def test_equal_graded_scores_are_non_inferior_once_their_scale_is_known_and_they_are_many() -> None:
    # n zeros exclude a mean of -m where m >= 1 - exp(-t² / 2n), t(5) at .05 being 2.015048
    for n, is_shown in ((100, False), (101, True)):
        p = non_inferiority_p(np.ones(n), np.ones(n), margin=0.02, is_binary=False, reach=1.0)
        assert (p < 0.05) is is_shown
        found = bounds(np.ones(n), np.ones(n), is_binary=False, reach=1.0)
        assert found.low == pytest.approx(math.expm1(-(2.015048**2) / (2 * n)), rel=1e-6)


def test_a_binary_bound_agrees_with_r() -> None:
    # PropCIs 0.3 scoreci.mp(25, 28, 618, .90): one-sided bounds at .05
    found = bounds(*pairs(300, 25, 28, 265), is_binary=True)
    assert (round(found.low, 4), round(found.high, 4)) == (-0.0148, 0.0247)
    assert found.method == "tango-score"


def test_a_margin_at_the_bound_of_r_has_p_alpha() -> None:
    # contingencytables 3.0 on Cavo et al. (2012): the 95 % interval begins at -0.1240
    p = non_inferiority_p(*pairs(59, 16, 6, 80), margin=0.1240, is_binary=True)
    assert p == pytest.approx(0.025, abs=2e-4)


def test_two_systems_that_answered_alike_are_non_inferior_once_there_are_enough() -> None:
    # the score statistic without a discordant pair is sqrt(n m / (1 - m)); m = .02, z(.05) = 1.645
    for n, is_shown in ((132, False), (133, True)):
        p = non_inferiority_p(*pairs(n, 0, 0, 0), margin=0.02, is_binary=True)
        assert p == pytest.approx(float(stats.norm.sf(math.sqrt(n * 0.02 / 0.98))))
        assert (p < 0.05) is is_shown


def test_graded_scores_that_are_all_alike_bound_nothing() -> None:
    values = np.linspace(0, 1, 30)
    found = bounds(values, values, is_binary=False)
    assert math.isnan(found.low)
    assert math.isnan(non_inferiority_p(values, values, margin=0.1, is_binary=False))
    alike = bootstrap_bounds(rows(values), rows(values), ratio, rng=generator())
    assert math.isnan(alike.low)


@pytest.mark.parametrize("is_binary", [True, False])
def test_no_pairs_give_nan(is_binary: bool) -> None:
    assert math.isnan(bounds([], [], is_binary=is_binary).low)
    assert math.isnan(non_inferiority_p([], [], margin=0.1, is_binary=is_binary))
    assert math.isnan(tost([], [], margin=0.1, is_binary=is_binary))


@settings(max_examples=200, deadline=None)
@given(BITS, BITS, MARGINS, ALPHAS)
def test_the_binary_bound_and_its_test_agree(
    a: FloatArray, b: FloatArray, margin: float, alpha: float
) -> None:
    found = bounds(a, b, is_binary=True, alpha=alpha)
    p = non_inferiority_p(a, b, margin=margin, is_binary=True)
    assume(abs(found.low + margin) > 1e-9)
    assert (p < alpha) == (found.low > -margin)
    both = tost(a, b, margin=margin, is_binary=True)
    assume(abs(found.high - margin) > 1e-9)
    assert (both < alpha) == (found.low > -margin and found.high < margin)


@settings(max_examples=100, deadline=None)
@given(GRADES, GRADES, MARGINS, ALPHAS, st.booleans(), st.booleans())
def test_the_likelihood_bound_and_its_test_agree(
    a: FloatArray, b: FloatArray, margin: float, alpha: float, is_clustered: bool, is_binary: bool
) -> None:
    if is_binary:
        is_clustered, a, b = True, (a > 0.5).astype(float), (b > 0.5).astype(float)
    clusters = np.repeat(np.arange(6), 4) if is_clustered else None
    found = bounds(a, b, is_binary=is_binary, alpha=alpha, clusters=clusters)
    p = non_inferiority_p(a, b, margin=margin, is_binary=is_binary, clusters=clusters)
    assume(not abs(found.low + margin) < 1e-9)
    assert (p < alpha) == (found.low > -margin)


@settings(max_examples=100, deadline=None)
@given(GRADES, GRADES, st.floats(0.001, 0.5), ALPHAS, st.booleans(), st.integers(0, 9))
def test_the_bootstrap_bound_and_its_test_agree(
    a: FloatArray, b: FloatArray, margin: float, alpha: float, is_clustered: bool, seed: int
) -> None:
    clusters = np.repeat(np.arange(8), 3) if is_clustered else None
    found = bootstrap_bounds(
        rows(a),
        rows(b),
        ratio,
        alpha=alpha,
        rng=generator(seed),
        n_resamples=300,
        clusters=clusters,
    )
    p = bootstrap_non_inferiority_p(
        rows(a),
        rows(b),
        ratio,
        margin=margin,
        rng=generator(seed),
        n_resamples=300,
        clusters=clusters,
    )
    assert (p < alpha) == (found.low > -margin)


@settings(max_examples=100, deadline=None)
@given(BITS, BITS, st.floats(0.01, 0.5), st.floats(0.01, 0.4))
def test_a_wider_margin_is_never_harder_to_keep(
    a: FloatArray, b: FloatArray, margin: float, more: float
) -> None:
    narrow = non_inferiority_p(a, b, margin=margin, is_binary=True)
    wide = non_inferiority_p(a, b, margin=margin + more, is_binary=True)
    assert wide <= narrow + 1e-12


def test_bootstrap_bounds_are_the_two_sided_interval_at_twice_alpha() -> None:
    a, b = generator(1).random((2, 80))
    two = paired_bootstrap(rows(a), rows(b), ratio, rng=generator(2), level=0.9)
    one = bootstrap_bounds(rows(a), rows(b), ratio, alpha=0.05, rng=generator(2))
    assert (one.low, one.high) == (two.low, two.high)


def test_too_few_resamples_for_the_quantile_give_nan() -> None:
    a, b = generator(3).random((2, 80))
    found = bootstrap_bounds(rows(a), rows(b), ratio, alpha=0.01, rng=generator(4), n_resamples=50)
    assert math.isnan(found.low)


def test_the_bootstrap_p_is_near_that_of_t() -> None:
    rng = generator(5)
    a = rng.random(300)
    b = a + rng.normal(-0.01, 0.2, size=300)
    p = bootstrap_non_inferiority_p(
        rows(a), rows(b), ratio, margin=0.02, rng=rng, n_resamples=10_000
    )
    expected = non_inferiority_p(a, b, margin=0.02, is_binary=False)
    assert p == pytest.approx(expected, abs=0.02)


def test_a_margin_or_alpha_out_of_range_is_refused() -> None:
    for margin in (0.0, -0.1, math.nan, 1.0):
        with pytest.raises(ValueError, match="margin must be between 0 and 1"):
            non_inferiority_p([0, 1], [1, 1], margin=margin, is_binary=True)
    with pytest.raises(ValueError, match="margin must be positive"):
        non_inferiority_p([0.0], [1.0], margin=0, is_binary=False)
    for alpha in (0.0, 0.5, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            bounds([0, 1], [1, 1], is_binary=True, alpha=alpha)
