"""The same anchors, judged before and now: stable, drifted, or too few to tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evalkit.stats.drift import Drift, DriftVerdict, agreement_drift, score_drift
from evalkit.stats.intervals import FloatArray
from evalkit.stats.noninferiority import bounds
from evalkit.stats.paired import compare_means, mcnemar

SCALE = (1.0, 5.0)
GRADES = arrays(float, 12, elements=st.integers(1, 5).map(float))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def drift(before: FloatArray, now: FloatArray, margin: float = 0.25) -> Drift:
    return score_drift(before, now, margin=margin, scale=SCALE, rng=rng())


def noisy(n: int, shift: float, *, seed: int) -> tuple[FloatArray, FloatArray]:
    source = np.random.default_rng(seed)
    before = source.uniform(1.5, 3.5, n)
    return before, before + shift + source.uniform(-0.5, 0.5, n)


@pytest.mark.parametrize(
    ("n", "shift", "verdict"),
    [
        (200, 0.0, DriftVerdict.STABLE),
        (200, 0.5, DriftVerdict.DRIFTED),
        (6, 0.0, DriftVerdict.TOO_FEW),
        (6, 0.2, DriftVerdict.TOO_FEW),
        (2000, 0.1, DriftVerdict.STABLE),  # a change there is, but within the margin
    ],
)
def test_anchors_say_stable_drifted_or_too_few(n: int, shift: float, verdict: DriftVerdict) -> None:
    assert drift(*noisy(n, shift, seed=1)).verdict is verdict


def test_bounds_and_chance_are_those_of_a_paired_comparison() -> None:
    before, now = noisy(50, 0.1, seed=2)
    found = drift(before, now)
    assert found.change == compare_means(before, now, is_binary=False, rng=rng())
    expected = bounds(before, now, is_binary=False, alpha=0.05)
    assert (found.low, found.high) == (expected.low, expected.high)
    # with so many of them any sound method is near to Student's t
    test = stats.ttest_rel(now, before)
    assert found.change.p_value == pytest.approx(test.pvalue, rel=0.1)
    narrow, error = test.confidence_interval(0.9), found.change.stderr
    assert (found.low, found.high) == pytest.approx((narrow.low, narrow.high), abs=error / 10)
    assert found.n == 50


def test_a_judge_that_gives_the_same_scores_is_stable_once_there_are_enough() -> None:
    grades = np.tile([1.0, 2, 3, 4, 5], 20)
    same = drift(grades, grades)
    # none of 100 changed: at most 1 - .05^(1/100) = 2.9513 % do, by 4 points at most
    assert (same.low, same.high) == pytest.approx((-0.11805, 0.11805), abs=5e-6)
    assert same.verdict is DriftVerdict.STABLE
    few = drift(grades[:10], grades[:10])
    assert few.high == pytest.approx(4 * (1 - 0.05**0.1))
    assert few.verdict is DriftVerdict.TOO_FEW


def test_one_change_does_not_tell_more_than_none() -> None:
    grades = np.tile([1.0, 2, 3, 4, 5], 20)
    once = grades.copy()
    once[0] = 2.0
    found = drift(grades, once)
    # Clopper and Pearson: one of 100, upper 95 % bound 4.66 %
    assert found.high == pytest.approx(4 * 0.0466, abs=2e-4)
    assert found.high > drift(grades, grades).high


def test_clusters_of_copies_add_no_certainty() -> None:
    before, now = noisy(40, 0.1, seed=3)
    one = score_drift(before, now, margin=0.25, scale=SCALE, rng=rng(), clusters=np.arange(40))
    two = score_drift(
        np.tile(before, 2),
        np.tile(now, 2),
        margin=0.25,
        scale=SCALE,
        rng=rng(),
        clusters=np.tile(np.arange(40), 2),
    )
    assert (two.low, two.high, two.n) == pytest.approx((one.low, one.high, 40))


@settings(max_examples=40, deadline=None)
@given(GRADES, GRADES, st.permutations(range(12)))
def test_time_has_a_direction_and_anchors_no_order(
    before: FloatArray, now: FloatArray, order: list[int]
) -> None:
    plain = drift(before, now)
    back = drift(now[order], before[order])
    assert back.change.estimate == pytest.approx(-plain.change.estimate)
    assert (back.low, back.high) == pytest.approx((-plain.high, -plain.low), nan_ok=True)
    assert back.verdict is plain.verdict


@settings(max_examples=40, deadline=None)
@given(GRADES, GRADES, st.floats(0.01, 4), st.floats(0.01, 4))
def test_a_wider_margin_never_makes_a_stable_judge_drift(
    before: FloatArray, now: FloatArray, one: float, other: float
) -> None:
    strict, loose = (drift(before, now, margin) for margin in sorted((one, other)))
    assert strict.verdict is not DriftVerdict.STABLE or loose.verdict is DriftVerdict.STABLE


def test_as_many_anchors_as_are_asked_for_tell_8_times_in_10() -> None:
    pilot = drift(*noisy(400, 0.0, seed=4), margin=0.1)
    # spread of a uniform error on -.5 to .5: 1 / sqrt 12; (1.645 + 1.282)² / 12 / .1² = 71.4
    assert pilot.n_needed == pytest.approx(71.4, rel=0.15)
    n = int(pilot.n_needed)
    n_stable = sum(
        drift(*noisy(n, 0.0, seed=seed), margin=0.1).verdict is DriftVerdict.STABLE
        for seed in range(200)
    )
    low, high = stats.binom.interval(0.999, 200, 0.8)
    assert low <= n_stable <= high


def test_a_judge_at_the_margin_is_called_stable_as_seldom_as_is_said() -> None:
    n_stable = sum(
        drift(*noisy(60, 0.25, seed=seed)).verdict is DriftVerdict.STABLE for seed in range(400)
    )
    assert n_stable <= stats.binom.ppf(0.999, 400, 0.05)


def agreed(n_both: int, n_lost: int, n_won: int, n_neither: int) -> tuple[FloatArray, ...]:
    """Labels, verdicts before and now, for so many anchors of each kind."""
    counts = [n_both, n_lost, n_won, n_neither]
    labels = np.ones(sum(counts))
    return labels, np.repeat([1.0, 1, 2, 2], counts), np.repeat([1.0, 2, 1, 2], counts)


def test_agreement_is_tested_by_mcnemar() -> None:
    labels, before, now = agreed(60, 25, 15, 20)
    found = agreement_drift(before, now, labels=labels, margin=0.05, rng=rng())
    assert found.change.estimate == pytest.approx(-10 / 120)
    assert found.change.p_value == pytest.approx(mcnemar(25, 15))
    assert found.change.p_value == pytest.approx(0.117275, abs=5e-7)  # statsmodels, mid-p by hand
    assert found.verdict is DriftVerdict.TOO_FEW


def test_a_judge_may_keep_its_mean_and_lose_its_sense() -> None:
    labels = np.tile([1.0, 2], 100)
    found = agreement_drift(labels, 3 - labels, labels=labels, margin=0.1, rng=rng())
    scores = score_drift(labels, 3 - labels, margin=0.5, scale=(1, 2), rng=rng())
    assert scores.verdict is DriftVerdict.STABLE
    assert found.verdict is DriftVerdict.DRIFTED
    assert found.change.estimate == -1.0


def test_the_same_verdicts_agree_as_they_did() -> None:
    labels, before, _ = agreed(80, 0, 0, 20)
    found = agreement_drift(before, before, labels=labels, margin=0.05, rng=rng())
    # without a discordant pair Tango's bounds are z² / (n + z²), z being 1.645
    assert found.high == pytest.approx(2.7055435 / 102.7055435)
    assert found.verdict is DriftVerdict.STABLE


def test_a_verdict_that_is_no_longer_given_is_no_agreement() -> None:
    labels, before, _ = agreed(100, 0, 0, 0)
    now = np.where(np.arange(100) < 30, math.nan, before)
    found = agreement_drift(before, now, labels=labels, margin=0.05, rng=rng())
    assert found.change.estimate == pytest.approx(-0.3)
    assert found.verdict is DriftVerdict.DRIFTED


def test_what_is_missing_is_nan() -> None:
    before, now = noisy(30, 0.0, seed=5)
    hole = np.where(np.arange(30) == 3, math.nan, now)
    for found in (drift(before, hole), drift(before[:0], now[:0])):
        assert math.isnan(found.low)
        assert found.verdict is DriftVerdict.TOO_FEW
        assert math.isnan(found.n_needed)


def test_what_does_not_fit_is_refused() -> None:
    before, now = noisy(30, 0.0, seed=6)
    with pytest.raises(ValueError, match="two"):
        drift(before, now[1:])
    with pytest.raises(ValueError, match="margin"):
        drift(before, now, margin=0.0)
    with pytest.raises(ValueError, match="within the scale"):
        score_drift(before, now + 5, margin=0.1, scale=SCALE, rng=rng())
    with pytest.raises(ValueError, match="label"):
        agreement_drift(before, now, labels=np.full(30, math.nan), margin=0.1, rng=rng())
