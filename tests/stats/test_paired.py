from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evalkit.stats.intervals import FloatArray
from evalkit.stats.paired import (
    Difference,
    approximate_randomisation,
    compare_means,
    discordance,
    mcnemar,
    paired_binary,
    paired_bootstrap,
    paired_likelihood,
    paired_t,
    paired_wilcoxon,
    sign_flip,
)
from evalkit.stats.paired_replicates import differences_of, expanded_share

# twelve paired differences with a zero among them; scipy 1.17 ttest_1samp, statsmodels 0.15
TWELVE = np.array([0.4, -0.1, 0.3, 0.2, 0.1, 0.5, -0.2, 0.3, 0.2, 0.1, 0.0, 0.2])
ZEROS = np.zeros(12)
# Darwin's maize, eighths of an inch: Fisher (1935), The Design of Experiments, Table 3
DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48.0])
SCORES = arrays(float, 12, elements=st.integers(0, 4).map(float))
BITS = arrays(np.int64, 40, elements=st.integers(0, 1))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rows(values: FloatArray) -> FloatArray:
    return np.column_stack((values, np.ones_like(values)))


def ratio(sums: FloatArray) -> FloatArray:
    return np.asarray(sums[..., 0] / sums[..., 1])


def table(n_both: int, n_only_a: int, n_only_b: int, n_neither: int) -> tuple[FloatArray, ...]:
    a = np.repeat([1.0, 1, 0, 0], [n_both, n_only_a, n_only_b, n_neither])
    b = np.repeat([1.0, 0, 1, 0], [n_both, n_only_a, n_only_b, n_neither])
    return a, b


def undefined(found: Difference) -> list[bool]:
    return [math.isnan(x) for x in (found.estimate, found.stderr, found.low, found.p_value)]


# statsmodels 0.15, contingency_tables.mcnemar; mid-p by Fagerland et al. (2013). 16 and 6 are
# Cavo et al. (2012) in the R package contingencytables: .052479 and .034690
@pytest.mark.parametrize(
    ("b", "c", "exact", "midp"),
    [
        (25, 15, 0.1538599441628321, 0.1172752059574122),
        (11, 1, 0.00634765625, 0.00341796875),
        (86, 150, 3.7159361395713866e-05, 2.893389517615428e-05),
        (10, 2, 0.03857421875, 0.022460937499999976),
        (0, 6, 0.03125, 0.015625),
        (5, 5, 1.0, 0.876953125),
        (16, 6, 0.052479, 0.034690),
        (0, 0, 1.0, 1.0),
    ],
)
def test_mcnemar_agrees_with_statsmodels_and_r(b: int, c: int, exact: float, midp: float) -> None:
    assert mcnemar(b, c, method="exact") == pytest.approx(exact, rel=2e-5)
    assert mcnemar(c, b) == pytest.approx(midp, rel=2e-5)


@pytest.mark.parametrize("n", [1, 20, 100_000])
def test_without_a_discordant_pair_the_interval_is_the_closed_form(n: int) -> None:
    z2 = float(stats.norm.ppf(0.975)) ** 2
    found = paired_binary(*table(n, 0, 0, 0))
    assert (found.low, found.high) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), abs=1e-9)
    assert (found.estimate, found.p_value) == (0.0, 1.0)
    assert math.isnan(found.stderr)


@pytest.mark.parametrize(("right", "bound"), [((0, 9, 0, 0), -1.0), ((0, 0, 9, 0), 1.0)])
def test_the_interval_reaches_the_end_only_when_all_pairs_do(
    right: tuple[int, int, int, int], bound: float
) -> None:
    found = paired_binary(*table(*right))
    assert bound in (found.low, found.high)
    assert -1 <= found.low < found.high <= 1


def test_discordance_counts_pairs() -> None:
    found = discordance(*table(3, 4, 5, 6))
    assert (found.n_both, found.n_only_a, found.n_only_b, found.n_neither) == (3, 4, 5, 6)


def test_a_score_between_right_and_wrong_is_not_binary() -> None:
    with pytest.raises(ValueError, match="0 or 1"):
        discordance([0, 0.5], [1, 1])
    with pytest.raises(ValueError, match="0 or 1"):
        paired_binary([math.nan], [1])


@settings(max_examples=50, deadline=None)
@given(BITS, BITS)
def test_swapping_the_systems_mirrors_the_difference(a: FloatArray, b: FloatArray) -> None:
    one, other = paired_binary(a, b), paired_binary(b, a)
    assert one.low == pytest.approx(-other.high, abs=1e-9)
    assert (one.estimate, one.p_value) == (-other.estimate, other.p_value)
    assert one.low <= one.estimate <= one.high


@settings(max_examples=50, deadline=None)
@given(BITS, BITS)
def test_the_binary_standard_error_is_that_of_the_differences(a: FloatArray, b: FloatArray) -> None:
    differences = b - a
    found = paired_binary(a, b)
    if np.ptp(differences) == 0:
        assert math.isnan(found.stderr)
    else:
        assert found.stderr == pytest.approx(float(stats.sem(differences)), rel=1e-9)
    assert found.estimate == pytest.approx(float(differences.mean()))


def test_the_paired_t_agrees_with_scipy_and_statsmodels() -> None:
    found = paired_t(ZEROS, TWELVE)
    assert found.estimate == pytest.approx(0.16666666666666666)
    assert found.stderr == pytest.approx(0.05817076915288628)
    assert found.p_value == pytest.approx(0.015374961897564375)
    ninety = paired_t(ZEROS, TWELVE, level=0.9)
    assert (ninety.low, ninety.high) == pytest.approx((0.06219866545266069, 0.2711346678806726))
    assert (found.n, found.method) == (12, "paired-t")


def test_the_clustered_t_agrees_with_statsmodels() -> None:
    clusters = np.repeat(["w", "x", "y", "z"], [2, 3, 3, 4])
    found = paired_t(ZEROS, TWELVE, clusters=clusters)
    # statsmodels 0.15 OLS(cov_type="cluster", use_correction=False) has .0184256933; sqrt(4 / 3)
    assert found.stderr == pytest.approx(0.021276158, rel=1e-7)
    # t(3) at .975 is 3.182446 (Fisher's table)
    assert found.high - found.low == pytest.approx(2 * 3.182446 * 0.021276158, rel=1e-6)
    assert found.p_value == pytest.approx(float(2 * stats.t.sf(1 / 6 / 0.021276158, 3)), rel=1e-6)
    assert found.n == 4


@settings(max_examples=50, deadline=None)
@given(SCORES, SCORES)
def test_the_paired_t_is_scipys(a: FloatArray, b: FloatArray) -> None:
    found = paired_t(a, b)
    if np.ptp(b - a) == 0:
        assert math.isnan(found.low)
        assert found.p_value == 1.0 or b[0] != a[0]
    else:
        expected = stats.ttest_rel(b, a)
        assert found.p_value == pytest.approx(float(expected.pvalue), abs=1e-12)
        interval = expected.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_wilcoxon_agrees_with_the_exact_table() -> None:
    # scipy 1.17's documentation for Darwin's maize: 0.041259765625
    assert paired_wilcoxon(np.zeros(15), DARWIN) == pytest.approx(0.041259765625)
    assert paired_wilcoxon(ZEROS, ZEROS) == 1.0
    assert math.isnan(paired_wilcoxon([], []))


def test_all_sign_patterns_are_gone_through_when_they_are_few() -> None:
    # by full enumeration of 2^12
    assert sign_flip(ZEROS, TWELVE, rng=generator()) == 0.025390625


def test_darwins_maize_gives_fishers_p() -> None:
    # Fisher (1935), sec. 21: 5.267 % of 2^15 patterns; 99,999 draws have a standard error of .0007
    p = sign_flip(np.zeros(15), DARWIN, rng=generator(1), n_resamples=99_999)
    assert p == pytest.approx(0.05267, abs=0.0028)


def test_whole_clusters_flip_together() -> None:
    sums = np.array([0.5, 0.25, -0.125, 0.75, 0.5])
    parts = np.column_stack((sums / 4, sums / 4, sums / 2)).ravel()
    found = sign_flip(np.zeros(15), parts, clusters=np.repeat(np.arange(5), 3), rng=generator())
    signs = np.array(list(itertools.product([-1, 1], repeat=5)))
    assert found == np.mean(np.abs(signs @ sums) >= abs(sums.sum()))


def test_drawn_signs_give_the_normal_p_when_there_are_many() -> None:
    rng = generator(2)
    a = rng.random(100_000)
    b = a + rng.normal(0.0005, 0.3, size=a.size)
    p = sign_flip(a, b, rng=rng)
    assert p == pytest.approx(paired_t(a, b).p_value, abs=0.02)  # 4 standard errors of 9999 draws


def test_the_p_value_of_draws_is_never_zero() -> None:
    assert sign_flip(np.zeros(50), np.ones(50), rng=generator(), n_resamples=99) == 0.01


def test_swaps_of_a_mean_are_sign_flips() -> None:
    for clusters in (None, np.repeat(np.arange(6), 2)):
        swaps = approximate_randomisation(
            rows(ZEROS), rows(TWELVE), ratio, rng=generator(), clusters=clusters
        )
        assert swaps == sign_flip(ZEROS, TWELVE, rng=generator(), clusters=clusters)


@settings(max_examples=20, deadline=None)
@given(arrays(float, (7, 4), elements=st.integers(1, 9).map(float)))
def test_swaps_of_a_ratio_are_those_of_full_enumeration(both: FloatArray) -> None:
    a, b = both[:, :2], both[:, 2:]
    distances = []
    for pattern in itertools.product([False, True], repeat=7):
        is_swapped = np.array(pattern)[:, None]
        one, other = np.where(is_swapped, b, a), np.where(is_swapped, a, b)
        distances.append(abs(ratio(other.sum(axis=0)) - ratio(one.sum(axis=0))))
    expected = np.mean(np.array(distances) >= distances[0] - 1e-12)
    assert approximate_randomisation(a, b, ratio, rng=generator()) == expected


def test_drawn_swaps_are_near_the_exact_share() -> None:
    values = generator(3).normal(0.4, 1, size=14)
    exact = approximate_randomisation(
        rows(np.zeros(14)), rows(values), ratio, rng=generator(), n_resamples=10
    )
    # a fifteenth difference, too small to matter, is past what is gone through
    more = np.append(values, 1e-9)
    drawn = approximate_randomisation(
        rows(np.zeros(15)), rows(more), ratio, rng=generator(4), n_resamples=40_000
    )
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 40_000))


def test_the_bootstrap_spreads_as_the_closed_form() -> None:
    rng = generator(5)
    a, noise = rng.normal(size=400), rng.normal(0.05, 0.5, size=400)
    found = paired_bootstrap(rows(a), rows(a + noise), ratio, rng=rng, n_resamples=10_000)
    t = paired_t(a, a + noise)
    assert found.estimate == pytest.approx(t.estimate)
    # 10,000 draws know a standard error to 0.7 %, a bound at .025 to 3 % of it
    assert found.stderr == pytest.approx(t.stderr, rel=0.03)
    assert (found.low, found.high) == pytest.approx((t.low, t.high), abs=0.15 * t.stderr)
    assert found.p_value == pytest.approx(t.p_value, abs=0.02)


def test_few_units_are_bounded_as_wide_as_students_t() -> None:
    values = np.asarray(stats.norm.ppf((np.arange(10) + 0.5) / 10))
    found = paired_bootstrap(
        rows(np.zeros(10)), rows(values), ratio, rng=generator(6), n_resamples=20_000
    )
    t = paired_t(np.zeros(10), values)
    # a plain percentile interval would be narrower by z / t * sqrt((n - 1) / n): 18 %
    assert found.high - found.low == pytest.approx(t.high - t.low, rel=0.04)


@given(st.floats(1e-4, 0.9999), st.integers(2, 1000))
def test_expansion_turns_a_normal_tail_into_students(p: float, n: int) -> None:
    quantile = float(stats.t.ppf(p, n - 1)) * math.sqrt(n / (n - 1))
    share = float(stats.norm.cdf(quantile))
    if 1e-12 < share < 1 - 1e-9:
        assert expanded_share(share, n) == pytest.approx(p, rel=1e-5)


def test_the_bootstrap_resamples_whole_clusters() -> None:
    rng = generator(7)
    a = np.repeat(rng.normal(size=60), 5)
    b = np.repeat(rng.normal(size=60), 5)
    clusters = np.repeat(np.arange(60), 5)
    found = paired_bootstrap(rows(a), rows(b), ratio, rng=rng, clusters=clusters)
    assert found.stderr == pytest.approx(paired_t(a, b, clusters=clusters).stderr, rel=0.08)
    assert found.n == 60


def test_the_bootstrap_rejects_as_often_as_it_says() -> None:
    n_rejected = 0
    for seed in range(600):
        rng = generator(seed)
        a = rng.normal(size=25)
        b = a + rng.normal(size=25)
        found = paired_bootstrap(rows(a), rows(b), ratio, rng=rng, n_resamples=399)
        n_rejected += found.p_value <= 0.05
    # 600 tests at .05: a standard error of .9 %
    assert n_rejected / 600 == pytest.approx(0.05, abs=0.027)


Compare = Callable[[FloatArray, FloatArray], Difference]
GRADED: list[Compare] = [
    paired_t,
    paired_likelihood,
    lambda a, b: paired_likelihood(a, b, clusters=np.arange(a.size)),
    lambda a, b: paired_t(a, b, clusters=np.arange(a.size)),
    lambda a, b: compare_means(a, b, is_binary=False, rng=generator()),
    lambda a, b: paired_bootstrap(rows(a), rows(b), ratio, rng=generator(), n_resamples=200),
]


@pytest.mark.parametrize("compare", [*GRADED, paired_binary])
def test_no_pairs_give_nan(compare: Compare) -> None:
    nothing = np.empty(0)
    assert undefined(compare(nothing, nothing)) == [True] * 4


@pytest.mark.parametrize("compare", GRADED)
def test_equal_graded_scores_give_no_difference_and_no_bounds(compare: Compare) -> None:
    values = np.linspace(0.1, 0.9, 40)
    found = compare(values, values)
    assert (found.estimate, found.p_value) == (0.0, 1.0)
    assert undefined(found) == [False, True, True, False]


def test_rounding_is_not_a_difference() -> None:
    a, b = np.full(20, 0.3), np.full(20, 0.1 + 0.2)
    b[::2] = 0.3
    for compare in GRADED[:5]:
        assert compare(a, b).p_value == 1.0
        assert math.isnan(compare(a, b).low)
    assert sign_flip(a, b, rng=generator()) == 1.0


@pytest.mark.parametrize("compare", GRADED[:5])
def test_a_score_that_is_not_finite_gives_nan(compare: Compare) -> None:
    values = np.linspace(0, 1, 20)
    for broken in (math.nan, math.inf):
        holed = values.copy()
        holed[3] = broken
        assert undefined(compare(values, holed)) == [True] * 4


def test_permutations_of_nothing_or_of_nan_give_nan() -> None:
    nothing, broken = np.empty(0), np.array([1.0, math.nan])
    for values in (nothing, broken):
        assert math.isnan(sign_flip(values, values, rng=generator()))
        p = approximate_randomisation(rows(values), rows(values), ratio, rng=generator())
        assert math.isnan(p)


def test_arrays_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="paired scores"):
        paired_t([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="a label for each of 2"):
        paired_t([1.0, 2.0], [1.0, 3.0], clusters=[0])
    with pytest.raises(ValueError, match="paired statistics"):
        paired_bootstrap(np.ones((3, 2)), np.ones((4, 2)), ratio, rng=generator())


def test_the_default_comparison_is_chosen_by_the_data() -> None:
    rng = generator(8)
    a, b = rng.integers(0, 2, size=(2, 60))
    few = np.repeat(np.arange(12), 5)
    binary = compare_means(a, b, is_binary=True, rng=rng)
    assert binary == paired_binary(a, b)
    graded = compare_means(a, b, is_binary=False, rng=rng)
    assert graded == paired_likelihood(a, b)
    clustered = compare_means(a, b, is_binary=True, clusters=few, rng=rng)
    assert clustered.method == "paired-cluster-likelihood/sign-flip"
    assert clustered.p_value == sign_flip(a, b, clusters=few, rng=rng)  # 2^12 patterns: exact
    assert clustered.low == paired_likelihood(a, b, clusters=few).low


def test_clustered_proportions_stay_within_their_range() -> None:
    a, b = np.array([1.0, 1, 1, 0]), np.array([0.0, 0, 0, 0])
    found = compare_means(a, b, is_binary=True, clusters=[0, 0, 1, 1], rng=generator())
    assert (found.low, found.high) == (-1.0, 1.0)


def test_differences_that_are_all_equal_still_have_a_permutation_p() -> None:
    found = compare_means(np.zeros(40), np.full(40, 0.1), is_binary=False, rng=generator())
    assert math.isnan(found.low)
    assert found.p_value == pytest.approx(1 / 10_000)


def test_a_difference_of_infinite_scores_is_not_rounding() -> None:
    a, b = np.array([-math.inf, 1.0, -math.inf]), np.array([2.0, -math.inf, -math.inf])
    found = differences_of(a, b)
    assert found[:2].tolist() == [math.inf, -math.inf]
    assert math.isnan(found[2])
