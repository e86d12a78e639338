"""Cluster-robust least squares: against statsmodels, closed forms and quadratic-form identities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evalkit.stats.intervals import FloatArray, cluster_t_interval
from evalkit.stats.regression import ols_effects

X = np.array([0.5, -1.2, 0.3, 2.2, -0.7, 1.1, -0.4, 0.9, -1.6, 0.0, 1.7, -0.2])
Y = np.array([1.3, -0.4, 0.2, 3.9, 0.1, 0.8, -0.9, 2.4, -2.0, 0.6, 1.1, 0.3])
SIZES = (1, 3, 2, 4, 2)
GROUPS = np.repeat(np.arange(5), SIZES)


def ones(n: int) -> FloatArray:
    return np.ones((n, 1))


def test_rows_on_their_own_give_hc2() -> None:
    slope, constant = ols_effects(Y, np.column_stack((X, np.ones(12))))
    # statsmodels 0.15: OLS(y, x).fit(cov_type="HC2")
    assert (slope.estimate, slope.stderr) == pytest.approx((1.16107854630715, 0.266492898698812))
    assert constant.estimate == pytest.approx(0.365099648300117)
    assert constant.stderr == pytest.approx(0.211717483330462)


def test_a_mean_has_the_cr2_interval_of_a_mean() -> None:
    [found] = ols_effects(Y, ones(12), clusters=GROUPS)
    mean = cluster_t_interval(Y, GROUPS, correction="cr2")
    assert (found.estimate, found.stderr) == pytest.approx((mean.estimate, mean.stderr))
    assert (found.low, found.high) == pytest.approx((mean.low, mean.high))


def test_two_groups_of_independent_rows_have_welchs_error_and_bell_mccaffreys_degrees() -> None:
    # Imbens and Kolesár (2016), Rev. Econ. Stat. 98:701-712, sec. III: a binary regressor
    first, second = Y[:5], Y[5:]
    is_second = np.repeat([0.0, 1.0], [5, 7])
    gap, _ = ols_effects(Y, np.column_stack((is_second, np.ones(12))))
    assert gap.estimate == pytest.approx(second.mean() - first.mean())
    assert gap.stderr**2 == pytest.approx(first.var(ddof=1) / 5 + second.var(ddof=1) / 7)
    degrees = (1 / 5 + 1 / 7) ** 2 / (1 / (25 * 4) + 1 / (49 * 6))
    assert gap.degrees == pytest.approx(degrees)
    margin = stats.t.ppf(0.975, degrees) * gap.stderr
    assert (gap.low, gap.high) == pytest.approx((gap.estimate - margin, gap.estimate + margin))
    assert gap.p_value == pytest.approx(2 * stats.t.sf(abs(gap.estimate) / gap.stderr, degrees))


def test_pairs_as_clusters_give_the_paired_t_test() -> None:
    a, b = Y[:6], Y[6:]
    design = np.column_stack((np.repeat([0.0, 1.0], 6), np.ones(12)))
    found, _ = ols_effects(Y, design, clusters=np.tile(np.arange(6), 2))
    paired = stats.ttest_rel(b, a)
    assert (found.p_value, found.degrees) == pytest.approx((paired.pvalue, 5))


@settings(max_examples=25, deadline=None)
@given(
    arrays(float, (9, 2), elements=st.integers(-3, 3).map(float)),
    st.permutations([0, 0, 0, 1, 1, 2, 2, 3, 3]),
)
def test_the_variance_is_unbiased_and_has_satterthwaites_degrees(
    features: FloatArray, groups: list[int]
) -> None:
    # The variance is a quadratic form y'My: for independent errors of variance 1 its mean is the
    # trace of M, and its degrees trace(M)² / trace(M M), M being read off from unit vectors.
    design = np.column_stack((features, np.ones(9)))
    if np.linalg.matrix_rank(design) < 3:
        return
    basis = np.eye(9)
    probes = [ols_effects(basis[i] + basis[j], design, clusters=groups) for i, j in PAIRS]
    unit_variances = np.diag(np.linalg.inv(design.T @ design))
    for column in range(3):
        effects = [probe[column] for probe in probes]
        if any(math.isnan(effect.stderr) for effect in effects):
            continue  # decided by one cluster, or fitted exactly
        form = np.zeros((9, 9))
        for (i, j), effect in zip(PAIRS, effects, strict=True):
            form[i, j] = form[j, i] = effect.stderr**2 / (4 if i == j else 1)
        diagonal = np.diag(form).copy()
        form = (form - diagonal[:, None] - diagonal[None, :]) / 2
        np.fill_diagonal(form, diagonal)
        assert np.trace(form) == pytest.approx(unit_variances[column], rel=1e-6)
        degrees = np.trace(form) ** 2 / np.trace(form @ form)
        assert effects[0].degrees == pytest.approx(degrees, rel=1e-6)


PAIRS = [(i, j) for i in range(9) for j in range(i, 9)]


@given(st.permutations(range(12)))
def test_the_order_of_rows_and_the_names_of_clusters_do_not_matter(order: list[int]) -> None:
    design = np.column_stack((X, np.ones(12)))
    plain, _ = ols_effects(Y, design, clusters=GROUPS)
    names = np.array(["e", "d", "c", "b", "a"])[GROUPS]
    moved, _ = ols_effects(Y[order], design[order], clusters=names[order])
    assert (moved.estimate, moved.stderr) == pytest.approx((plain.estimate, plain.stderr))
    assert moved.degrees == pytest.approx(plain.degrees)


def test_an_effect_that_one_cluster_decides_has_no_error() -> None:
    design = np.column_stack((GROUPS == 3, X, np.ones(12)))
    alone, slope, _ = ols_effects(Y, design, clusters=GROUPS)
    assert math.isfinite(alone.estimate)
    assert math.isnan(alone.stderr)
    assert "single cluster" in alone.reason
    assert math.isfinite(slope.stderr)


@pytest.mark.parametrize(
    ("target", "design", "clusters", "reason"),
    [
        (Y, np.column_stack((X, 2 * X)), None, "collinear"),
        (Y, ones(12), np.zeros(12), "two clusters"),
        (np.where(X == 0, np.nan, Y), ones(12), None, "not finite"),
        (2 * X, X[:, None], None, "no residuals"),
        (np.full(12, 4.0), ones(12), None, "no residuals"),
    ],
)
def test_what_cannot_be_known_is_nan_with_a_reason(
    target: FloatArray, design: FloatArray, clusters: FloatArray | None, reason: str
) -> None:
    found = ols_effects(target, design, clusters=clusters)[0]
    assert math.isnan(found.low)
    assert math.isnan(found.p_value)
    assert reason in found.reason


def test_shapes_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match="design"):
        ols_effects(Y, np.ones((11, 1)))
    with pytest.raises(ValueError, match="label"):
        ols_effects(Y, ones(12), clusters=np.zeros(11))


def test_few_clusters_of_uneven_size_are_covered() -> None:
    # 15 clusters of 1 to 11 rows, errors with an intraclass correlation of a half
    rng = np.random.default_rng(0)
    n_inside = 0
    for _ in range(300):
        groups = np.repeat(np.arange(15), rng.integers(1, 12, 15))
        x = rng.normal(size=15)[groups] + rng.normal(size=groups.size) / 2
        y = 0.3 * x + rng.normal(size=15)[groups] + rng.normal(size=groups.size)
        found, _ = ols_effects(y, np.column_stack((x, np.ones(x.size))), clusters=groups)
        n_inside += found.low <= 0.3 <= found.high
    low, high = stats.binom.interval(0.999, 300, 0.95)
    assert low <= n_inside <= high
