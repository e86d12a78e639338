"""Win rates at equal length: against a generalised linear model, and where there is no answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit

from evalkit.stats.intervals import FloatArray, wilson_mean
from evalkit.stats.length import LengthControlled, length_controlled

DIFFERENCE = np.array([3.0, -2, 5, 1, -4, 2, -1, 6, -3, 2, 4, -5, 1, 3, -2, 5, -1, 2, -6, 4])
WON = np.array([1, 0, 1, 0.5, 0, 1, 1, 1, 0, 0, 1, 0, 0.5, 1, 1, 1, 0, 1, 0, 0])
BASELINE = np.tile([18.0, 22, 20, 24], 5)
PAIRS = np.repeat(np.arange(10), 2)


def control(
    won: FloatArray = WON,
    difference: FloatArray = DIFFERENCE,
    baseline: FloatArray = BASELINE,
    clusters: ArrayLike | None = None,
) -> LengthControlled:
    return length_controlled(
        won, lengths=baseline + difference, baseline_lengths=baseline, clusters=clusters
    )


def test_it_is_a_logistic_regression_with_clustered_errors() -> None:
    found = control(clusters=PAIRS)
    # statsmodels 0.15: GLM(won, [1, tanh(d / d.std(ddof=1))], Binomial()).fit(cov_type="cluster")
    theta, error = -0.08786008567707292, 0.6017312312239063
    quantile = stats.t.ppf(0.975, 9)
    assert found.controlled.estimate == pytest.approx(expit(theta))
    assert found.controlled.low == pytest.approx(expit(theta - quantile * error))
    assert found.controlled.high == pytest.approx(expit(theta + quantile * error))
    assert found.length_effect.estimate == pytest.approx(2.141150307520876)
    assert found.length_effect.stderr == pytest.approx(0.7426404414166576)
    assert found.p_value == pytest.approx(2 * stats.t.sf(2.141150307520876 / 0.7426404414166576, 9))
    assert found.win_rate == wilson_mean(WON, PAIRS)
    assert (found.n, found.n_units, found.share_longer) == (20, 10, 0.6)


def test_lengths_that_say_nothing_leave_the_win_rate_alone() -> None:
    # in either half, longer and shorter, two in three are won
    difference = np.tile([4.0, -4], 30)
    won = np.repeat([1.0, 1, 0], 20)
    found = control(won, difference, np.tile([20.0, 24], 30))
    assert found.length_effect.estimate == pytest.approx(0, abs=1e-8)
    assert found.controlled.estimate == pytest.approx(2 / 3)


def test_a_win_rate_that_is_all_length_goes_to_a_half() -> None:
    # longer answers win three in four, whoever wrote them; the system's are longer in four of five
    difference = np.repeat([4.0, -4], [80, 20])
    won = np.concatenate((np.repeat([1.0, 0], [60, 20]), np.repeat([1.0, 0], [5, 15])))
    found = control(won, difference, np.tile([18.0, 19, 20, 21, 22], 20))
    assert found.win_rate.estimate == pytest.approx(0.65)
    assert found.controlled.estimate == pytest.approx(0.5)
    # two groups have a closed form: tanh(d / sd) is the same number up to its sign
    assert found.length_effect.estimate == pytest.approx(
        math.log(3) / math.tanh(4 / difference.std(ddof=1))
    )


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(20)), st.floats(0.1, 100))
def test_swapping_the_systems_swaps_the_verdict_and_units_do_not_matter(
    order: list[int], unit: float
) -> None:
    plain = control(clusters=PAIRS)
    swapped = length_controlled(
        1 - WON[order],
        lengths=unit * BASELINE[order],
        baseline_lengths=unit * (BASELINE + DIFFERENCE)[order],
        clusters=PAIRS[order],
    )
    assert swapped.controlled.estimate == pytest.approx(1 - plain.controlled.estimate)
    assert swapped.controlled.low == pytest.approx(1 - plain.controlled.high)
    assert swapped.length_effect.low == pytest.approx(plain.length_effect.low)
    assert swapped.share_longer == pytest.approx(1 - plain.share_longer)
    assert swapped.overlap == pytest.approx(plain.overlap)


def test_the_overlap_is_the_share_of_mass_in_common() -> None:
    # uniform on 0..99 and on 30..129: 70 % of each lies where the other is
    rng = np.random.default_rng(0)
    ours, theirs = rng.permutation(100) + 30.0, rng.permutation(100) + 0.0
    won = (rng.random(100) < 0.5).astype(float)
    found = length_controlled(won, lengths=ours, baseline_lengths=theirs)
    assert found.overlap == pytest.approx(0.7)
    assert found.reason == ""


def test_lengths_that_do_not_overlap_are_refused() -> None:
    found = control(WON, DIFFERENCE + 200)
    assert found.overlap == pytest.approx(0.0)
    assert math.isnan(found.controlled.estimate)
    assert math.isnan(found.length_effect.low)
    assert math.isnan(found.p_value)
    assert "0% of their mass in common: 20% needed" in found.reason
    assert found.win_rate.estimate == pytest.approx(WON.mean())  # as it is, it is known


def test_a_system_that_is_always_longer_is_refused_though_the_lengths_overlap() -> None:
    baseline = np.linspace(0.0, 190.0, 20)
    found = control(WON, np.abs(DIFFERENCE), baseline)
    assert found.overlap > 0.8
    assert math.isnan(found.controlled.estimate)
    assert "shorter than the baseline in 0 pairs only" in found.reason


@pytest.mark.parametrize("won", [np.ones(20), (DIFFERENCE > 0).astype(float)])
def test_preferences_without_exception_have_no_fit(won: FloatArray) -> None:
    found = control(won)
    assert math.isnan(found.controlled.estimate)
    assert "no finite fit" in found.reason


def test_nothing_and_nan_are_undefined() -> None:
    for found in (
        control(np.full(20, math.nan)),
        length_controlled([], lengths=[], baseline_lengths=[]),
    ):
        assert math.isnan(found.controlled.low)
        assert math.isnan(found.win_rate.estimate)
        assert "no pairs" in found.reason
    few = control(clusters=np.repeat([0, 1], 10))
    assert "three clusters" in few.reason


def test_copies_in_a_cluster_add_no_certainty() -> None:
    one = control()
    two = control(
        np.tile(WON, 2), np.tile(DIFFERENCE, 2), np.tile(BASELINE, 2), np.tile(np.arange(20), 2)
    )
    assert two.controlled.stderr == pytest.approx(one.controlled.stderr, rel=0.03)


def test_the_truth_is_covered() -> None:
    rng = np.random.default_rng(1)
    n_inside = 0
    for _ in range(300):
        theirs = rng.lognormal(5, 0.5, 80)
        ours = rng.lognormal(5.2, 0.5, 80)
        tilt = np.tanh((ours - theirs) / (ours - theirs).std(ddof=1))
        won = (rng.random(80) < expit(0.3 + tilt)).astype(float)
        found = length_controlled(won, lengths=ours, baseline_lengths=theirs).controlled
        n_inside += bool(found.low <= expit(0.3) <= found.high)
    low, high = stats.binom.interval(0.999, 300, 0.95)
    assert low <= n_inside <= high


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="three"):
        length_controlled(WON, lengths=BASELINE[1:], baseline_lengths=BASELINE)
    with pytest.raises(ValueError, match="within 0 and 1"):
        control(2 * WON)
    with pytest.raises(ValueError, match="20 labels"):
        control(clusters=np.zeros(3))
