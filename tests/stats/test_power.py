from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evalkit.stats.power import (
    Sided,
    blocked_drop,
    difference_mde,
    difference_n,
    difference_power,
    discordant_variance,
    mcnemar_exact_power,
    mcnemar_mde,
    mcnemar_n,
    mcnemar_power,
    non_inferiority_mde,
    non_inferiority_n,
    non_inferiority_power,
    paired_variance,
    proven_drop,
)
from evalkit.stats.variance import design_effect

Method = Literal["exact", "midp"]

OMEGA2 = 1 / 9

alphas = st.sampled_from([0.01, 0.05, 0.1])
powers = st.floats(0.3, 0.99)
sides = st.sampled_from([1, 2])
variances = st.floats(0.01, 4)
differences = st.floats(0.01, 0.5).flatmap(lambda d: st.sampled_from([d, -d]))


# ---- differences


@pytest.mark.parametrize(
    ("within", "repeats", "n"),
    # Miller (2024), section 5: 969 without sampling noise; the others by his equation
    [(0.0, 1, 969), (1 / 6, 1, 3876), (1 / 6, 10, 1260)],
)
def test_the_number_of_examples_agrees_with_miller(within: float, repeats: int, n: int) -> None:
    variance = paired_variance(
        OMEGA2, within_a=within, within_b=within, repeats_a=repeats, repeats_b=repeats
    )
    assert difference_n(0.03, variance) == n


def test_the_smallest_difference_agrees_with_miller() -> None:
    assert difference_mde(1000, OMEGA2) == pytest.approx(0.02953130116098865, abs=1e-12)


def test_each_system_has_its_own_noise_and_repeats() -> None:
    # 1/9 + 1/6 / 2 + 1/12 / 5
    found = paired_variance(OMEGA2, within_a=1 / 6, within_b=1 / 12, repeats_a=2, repeats_b=5)
    assert found == pytest.approx(0.2111111, abs=1e-7)


@given(differences, variances, alphas, powers, sides)
def test_differences_n_is_the_least_with_the_power(
    difference: float, variance: float, alpha: float, power: float, sided: Sided
) -> None:
    n = difference_n(difference, variance, alpha=alpha, power=power, sided=sided)
    found = difference_power(n, difference, variance=variance, alpha=alpha, sided=sided)
    assert found >= power - 1e-9
    if n > 1:
        fewer = difference_power(n - 1, difference, variance=variance, alpha=alpha, sided=sided)
        assert fewer < power


@given(st.integers(1, 100_000), variances, alphas, powers, sides)
def test_differences_of_the_smallest_visible_size_have_the_power(
    n: int, variance: float, alpha: float, power: float, sided: Sided
) -> None:
    smallest = difference_mde(n, variance, alpha=alpha, power=power, sided=sided)
    found = difference_power(n, smallest, variance=variance, alpha=alpha, sided=sided)
    assert found == pytest.approx(power, abs=1e-9)


@given(st.integers(2, 10_000), st.integers(1, 10_000), differences, variances)
def test_more_examples_see_more(n: int, more: int, difference: float, variance: float) -> None:
    assert difference_mde(n + more, variance) < difference_mde(n, variance)
    few = difference_power(n, difference, variance=variance)
    assert difference_power(n + more, difference, variance=variance) >= few


def test_the_power_agrees_with_a_simulation_with_repeats() -> None:
    rng = np.random.default_rng(2)
    n, repeats, n_studies = 200, 4, 4000
    # expected scores differ by 0.05 with sd 0.2; answers add noise of sd 0.3 to each score
    expected = rng.normal(0.05, 0.2, size=(n_studies, n))
    noise = rng.normal(0, 0.3, size=(2, n_studies, n, repeats)).mean(axis=-1)
    d = expected + noise[0] - noise[1]
    t = d.mean(axis=1) / d.std(axis=1, ddof=1) * math.sqrt(n)
    variance = paired_variance(
        0.04, within_a=0.09, within_b=0.09, repeats_a=repeats, repeats_b=repeats
    )
    power = difference_power(n, 0.05, variance=variance)
    assert 0.6 < power < 0.8
    assert (t > stats.t.isf(0.025, n - 1)).mean() == pytest.approx(power, abs=0.025)


# ---- accuracies


@pytest.mark.parametrize(
    ("difference", "discordance", "power", "sided", "n"),
    [
        # powerandsamplesize.com, McNemar's z-test, after Connor (1987) p. 209
        (0.4, 0.5, 0.8, 2, 23),
        (-0.4, 0.5, 0.9, 1, 23),
    ],
)
def test_paired_accuracies_need_the_number_of_connor(
    difference: float, discordance: float, power: float, sided: Sided, n: int
) -> None:
    assert mcnemar_n(difference, discordance, power=power, sided=sided) == n


def test_the_power_of_connor_agrees_with_the_r_package_mess() -> None:
    # the validated results in the tests of power_mcnemar_test(paid=.05, psi=9, power=.8): 22 pairs
    # two-sided and 17 one-sided, both rounded
    assert mcnemar_power(22, 0.4, discordance=0.5) == pytest.approx(0.8, abs=1e-2)
    assert mcnemar_power(17, 0.4, discordance=0.5, sided=1) == pytest.approx(0.8, abs=1e-2)
    # (1.959964 sqrt(0.375) + 1.281552 sqrt(0.375 - 0.125^2))^2 / 0.125^2 = 248.00
    assert mcnemar_power(248, 0.125, discordance=0.375) == pytest.approx(0.9, abs=1e-4)


def test_the_exact_power_agrees_with_the_r_package_mess() -> None:
    # power_mcnemar_test(144, paid=.25, psi=45/25, method="exact", "one.sided", sig.level=.025)
    found = mcnemar_exact_power(144, 0.2, discordance=0.7, alpha=0.025, sided=1, method="exact")
    assert round(found, 2) == 0.80


@given(st.floats(0.02, 1), st.floats(0.05, 1), alphas, powers, sides)
def test_accuracies_n_is_the_least_with_the_power(
    discordance: float, share: float, alpha: float, power: float, sided: Sided
) -> None:
    difference = share * discordance
    n = mcnemar_n(difference, discordance, alpha=alpha, power=power, sided=sided)
    found = mcnemar_power(n, difference, discordance=discordance, alpha=alpha, sided=sided)
    assert found >= power - 1e-6
    if n > 1:
        fewer = mcnemar_power(n - 1, difference, discordance=discordance, alpha=alpha, sided=sided)
        assert fewer < power + 1e-6


@given(st.integers(1, 100_000), st.floats(0.01, 1), alphas, powers, sides)
def test_accuracies_that_differ_by_the_smallest_visible_size_have_the_power(
    n: int, discordance: float, alpha: float, power: float, sided: Sided
) -> None:
    smallest = mcnemar_mde(n, discordance, alpha=alpha, power=power, sided=sided)
    if math.isnan(smallest):
        largest = mcnemar_power(n, discordance, discordance=discordance, alpha=alpha, sided=sided)
        assert largest < power
    elif smallest < discordance * (1 - 1e-9):
        found = mcnemar_power(n, smallest, discordance=discordance, alpha=alpha, sided=sided)
        assert found == pytest.approx(power, abs=1e-6)


def test_five_examples_cannot_see_any_difference() -> None:
    assert math.isnan(mcnemar_mde(5, 0.1))
    # the least two-sided p-value of 5 discordant examples is 2/32
    assert mcnemar_exact_power(5, 1.0, discordance=1.0, method="exact") == 0
    assert mcnemar_exact_power(6, 1.0, discordance=1.0, method="exact") == pytest.approx(1)
    # whose mid-p is 1/32: below 0.05 already
    assert mcnemar_exact_power(5, 1.0, discordance=1.0) == pytest.approx(1)


@pytest.mark.parametrize("sided", [1, 2])
@pytest.mark.parametrize("method", ["exact", "midp"])
def test_the_exact_power_agrees_with_a_simulation_of_the_test(sided: Sided, method: Method) -> None:
    rng = np.random.default_rng(7)
    n, n_studies = 60, 20_000
    counts = rng.multinomial(n, [0.05, 0.2, 0.75], size=n_studies)
    found = 0
    pairs, times = np.unique(counts[:, :2], axis=0, return_counts=True)
    for (losses, wins), n_times in zip(pairs.tolist(), times.tolist(), strict=True):
        if losses + wins == 0:
            continue
        p = stats.binomtest(losses, losses + wins, 0.5, alternative="less").pvalue
        if method == "midp":
            p -= stats.binom.pmf(losses, losses + wins, 0.5) / 2
        found += n_times * (sided * p <= 0.05)
    expected = mcnemar_exact_power(60, 0.15, discordance=0.25, sided=sided, method=method)
    assert found / n_studies == pytest.approx(expected, abs=0.012)


@given(st.integers(1, 400), st.floats(0.01, 1), alphas, sides)
def test_the_exact_test_keeps_its_level(
    n: int, discordance: float, alpha: float, sided: Sided
) -> None:
    level = mcnemar_exact_power(
        n, 0.0, discordance=discordance, alpha=alpha, sided=sided, method="exact"
    )
    assert level <= alpha / sided + 1e-12
    mid_p = mcnemar_exact_power(n, 0.0, discordance=discordance, alpha=alpha, sided=sided)
    assert mid_p >= level - 1e-12


@pytest.mark.parametrize(("difference", "discordance"), [(0.03, 0.1), (0.05, 0.2), (0.02, 0.05)])
def test_connor_is_close_to_the_exact_power(difference: float, discordance: float) -> None:
    n = mcnemar_n(difference, discordance)
    exact = mcnemar_exact_power(n, difference, discordance=discordance, method="exact")
    mid_p = mcnemar_exact_power(n, difference, discordance=discordance)
    assert exact == pytest.approx(0.8, abs=0.04)
    assert mid_p == pytest.approx(0.8, abs=0.015)
    assert exact < mid_p


def test_no_discordance_shows_nothing() -> None:
    assert mcnemar_exact_power(100, 0.0, discordance=0.0) == 0


def test_a_difference_as_large_as_the_discordance_is_seen_or_it_is_not() -> None:
    # all discordant examples go one way: the variance of the score statistic is all in their number
    assert mcnemar_power(4, 1.0, discordance=1.0) == 1
    assert mcnemar_power(3, 1.0, discordance=1.0) == 0


# ---- non-inferiority


@pytest.mark.parametrize(
    ("n", "points"), [(50, 11.1), (100, 7.9), (200, 5.6), (500, 3.5), (1000, 2.5)]
)
def test_the_smallest_margin_at_ten_percent_discordance(n: int, points: float) -> None:
    # (1.645 + 0.842) sqrt(0.1 / n), in points
    found = 100 * non_inferiority_mde(n, discordant_variance(0.1))
    assert found == pytest.approx(points, abs=0.05)


def test_non_inferiority_at_a_margin_is_a_one_sided_test_of_that_difference() -> None:
    assert non_inferiority_n(0.03, OMEGA2) == difference_n(0.03, OMEGA2, sided=1)
    # (1.644854 + 0.841621)^2 / 9 / 0.0009
    assert non_inferiority_n(0.03, OMEGA2) == math.ceil(2.486475**2 / 9 / 0.0009)


@given(st.floats(0.005, 0.3), variances, alphas, powers, st.floats(-0.9, 2))
def test_non_inferiority_n_is_the_least_with_the_power(
    margin: float, variance: float, alpha: float, power: float, share: float
) -> None:
    truth = share * margin
    n = non_inferiority_n(margin, variance, true_difference=truth, alpha=alpha, power=power)
    found = non_inferiority_power(n, margin, variance=variance, true_difference=truth, alpha=alpha)
    assert found >= power - 1e-6
    if n > 1:
        fewer = non_inferiority_power(
            n - 1, margin, variance=variance, true_difference=truth, alpha=alpha
        )
        assert fewer < power + 1e-6


@given(st.integers(1, 100_000), variances, alphas, powers)
def test_the_smallest_margin_passes_an_unchanged_candidate_with_the_power(
    n: int, variance: float, alpha: float, power: float
) -> None:
    margin = non_inferiority_mde(n, variance, alpha=alpha, power=power)
    found = non_inferiority_power(n, margin, variance=variance, alpha=alpha)
    assert found == pytest.approx(power, abs=1e-9)


@given(st.integers(1, 10_000), st.floats(0.005, 0.3), variances, alphas)
def test_a_drop_of_the_margin_passes_with_probability_alpha(
    n: int, margin: float, variance: float, alpha: float
) -> None:
    found = non_inferiority_power(
        n, margin, variance=variance, true_difference=-margin, alpha=alpha
    )
    assert found == pytest.approx(alpha, abs=1e-9)


@given(st.integers(1, 10_000), st.floats(0.005, 0.3), variances, alphas, powers)
def test_a_blocked_drop_is_blocked_with_the_power(
    n: int, margin: float, variance: float, alpha: float, power: float
) -> None:
    drop = blocked_drop(n, margin, variance=variance, alpha=alpha, power=power)
    passes = non_inferiority_power(n, margin, variance=variance, true_difference=-drop, alpha=alpha)
    assert 1 - passes == pytest.approx(power, abs=1e-9)
    assert drop <= proven_drop(n, margin, variance=variance, alpha=alpha, power=power) + 1e-12


@pytest.mark.parametrize("margin", [0.01, 0.08])
def test_drops_agree_with_a_simulation_of_the_gate(margin: float) -> None:
    rng = np.random.default_rng(12)
    n, variance = 400, 0.1
    stderr = math.sqrt(variance / n)
    half = stats.norm.isf(0.05) * stderr
    blocked = blocked_drop(n, margin, variance=variance)
    means = rng.normal(-blocked, stderr, size=40_000)
    assert (means - half <= -margin).mean() == pytest.approx(0.8, abs=0.01)
    proven = proven_drop(n, margin, variance=variance)
    means = rng.normal(-proven, stderr, size=40_000)
    is_proven = (means - half <= -margin) & (means + half < 0)
    assert is_proven.mean() == pytest.approx(0.8, abs=0.01)


# ---- clusters


def test_the_design_effect_gives_clusters_their_power() -> None:
    rng = np.random.default_rng(13)
    n_studies, n_clusters, size = 4000, 100, 6
    # differences of mean 0.15 and variance 1, a fifth of it shared within a cluster
    shared = rng.normal(0.15, math.sqrt(0.2), size=(n_studies, n_clusters, 1))
    own = rng.normal(0, math.sqrt(0.8), size=(n_studies, n_clusters, size))
    means = np.asarray((shared + own).sum(axis=2) / size)
    t = means.mean(axis=1) / means.std(axis=1, ddof=1) * math.sqrt(n_clusters)
    variance = 1.0 * design_effect([size], icc=0.2)
    power = difference_power(n_clusters * size, 0.15, variance=variance)
    assert 0.7 < power < 0.85
    assert (t > stats.t.isf(0.025, n_clusters - 1)).mean() == pytest.approx(power, abs=0.025)


# ---- what has no answer


@pytest.mark.parametrize("power", [0.0, 0.01, 1.0, math.nan])
def test_a_power_that_is_not_above_alpha_is_refused(power: float) -> None:
    asked: list[Callable[[], float]] = [
        lambda: difference_n(0.1, 1.0, power=power),
        lambda: difference_mde(10, 1.0, power=power),
        lambda: mcnemar_n(0.1, 0.2, power=power),
        lambda: mcnemar_mde(10, 0.2, power=power),
        lambda: non_inferiority_n(0.1, 1.0, power=power),
        lambda: blocked_drop(10, 0.1, variance=1.0, power=power),
        lambda: proven_drop(10, 0.1, variance=1.0, power=power),
    ]
    for ask in asked:
        with pytest.raises(ValueError, match="power must lie between"):
            ask()


def test_a_difference_of_zero_or_beyond_the_discordance_is_refused() -> None:
    asked: list[Callable[[], float]] = [lambda: difference_n(0, 1.0), lambda: mcnemar_n(0, 0.2)]
    for ask in asked:
        with pytest.raises(ValueError, match="difference of 0"):
            ask()
    answers: list[Callable[[], float]] = [
        lambda: mcnemar_n(0.3, 0.2),
        lambda: mcnemar_power(10, 0.3, discordance=0.2),
        lambda: mcnemar_exact_power(10, -0.3, discordance=0.2),
        lambda: discordant_variance(0.5, 0.6),
        lambda: discordant_variance(1.1),
    ]
    for answer in answers:
        with pytest.raises(ValueError, match="discordance must lie between"):
            answer()
    with pytest.raises(ValueError, match="must be above"):
        non_inferiority_n(0.02, 1.0, true_difference=-0.02)


@pytest.mark.parametrize("variance", [0.0, -1.0, math.inf, math.nan])
def test_a_variance_that_is_not_positive_is_refused(variance: float) -> None:
    with pytest.raises(ValueError, match="variance must be positive"):
        difference_n(0.1, variance)
    with pytest.raises(ValueError, match="variance must be positive"):
        non_inferiority_power(10, 0.1, variance=variance)
