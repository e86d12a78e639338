from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.stats.calibration_error import (
    brier_decomposition,
    brier_score,
    calibration_errors,
)
from evalkit.stats.intervals import FloatArray

# ten forecasts, one in each bin of a tenth
EVENTS = [1, 0, 1, 1, 0, 0, 1, 0, 1, 1]
FORECASTS = [0.95, 0.15, 0.85, 0.75, 0.35, 0.45, 0.65, 0.05, 0.55, 0.25]
# sixty forecasts of three probabilities: 5 of 20, 14 of 25, 11 of 15 came true
THREE = np.repeat([0.15, 0.45, 0.85], [20, 25, 15])
CAME_TRUE = np.concatenate([np.arange(n) < k for n, k in ((20, 5), (25, 14), (15, 11))])

ROWS = st.lists(
    st.tuples(st.sampled_from((0.0, 0.1, 0.3, 0.5, 0.8, 1.0)), st.integers(0, 1)),
    min_size=2,
    max_size=30,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def errors_of(forecasts: FloatArray, slope: float) -> FloatArray:
    return 0.5 + slope * (forecasts - 0.5)


def test_ece_is_the_mean_distance_over_bins() -> None:
    # Guo et al. (2017): distances .05 .15 .15 .25 .35 .45 .35 .05 .45 .75, a forecast each
    found = calibration_errors(FORECASTS, EVENTS, rng=rng(), n_resamples=50)
    assert found.ece.estimate == pytest.approx(0.3)
    assert found.largest == pytest.approx(0.75)


def test_debiased_errors_agree_with_those_of_kumar() -> None:
    # uncertainty-calibration 0.1.4 (the package of Kumar et al. 2019): unbiased_square_ce, and
    # normal_debiased_ce with power 1 and 4,000,000 draws; the plain one is plugin_ce
    found = calibration_errors(THREE, CAME_TRUE, rng=rng(), n_resamples=50)
    assert found.squared.estimate == pytest.approx(0.00071846282, abs=1e-11)
    assert found.debiased_ece.estimate == pytest.approx(0.0931088, abs=1e-4)
    assert found.ece.estimate == pytest.approx(0.10833333, abs=1e-8)


def test_brier_score_agrees_with_scikit_learn() -> None:
    # scikit-learn 1.9, brier_score_loss
    assert brier_score(THREE, CAME_TRUE).estimate == pytest.approx(0.22583333, abs=1e-8)
    assert brier_score(FORECASTS, EVENTS).estimate == pytest.approx(0.1325)


def test_murphys_parts_are_those_of_the_definition() -> None:
    # by hand: frequencies 1/4, 14/25, 11/15 of 20, 25, 15; in all 30 of 60
    reliability = (20 * 0.10**2 + 25 * 0.11**2 + 15 * (0.85 - 11 / 15) ** 2) / 60
    resolution = (20 * 0.25**2 + 25 * 0.06**2 + 15 * (11 / 15 - 0.5) ** 2) / 60
    found = brier_decomposition(THREE, CAME_TRUE, rng=rng(), n_resamples=200)
    assert found.reliability.estimate == pytest.approx(reliability)
    assert found.resolution.estimate == pytest.approx(resolution)
    assert found.uncertainty.estimate == pytest.approx(0.25)
    assert found.within_bins == pytest.approx(0.0, abs=1e-12)


def test_forecasts_that_differ_within_a_bin_leave_something_over() -> None:
    # one bin: confidence .5, frequency .5. The score is 0, the uncertainty .25
    found = brier_decomposition([0.0, 1.0], [0, 1], rng=rng(), n_bins=1, n_resamples=20)
    assert found.within_bins == pytest.approx(-0.25)


def test_uncertainty_is_bounded_over_wilsons_interval_of_the_rate() -> None:
    found = brier_decomposition([0.5] * 20, [1] * 20, rng=rng(), n_resamples=20).uncertainty
    # Newcombe (1998), Table I: 0 of 20 has the upper bound .1611
    assert found.estimate == 0.0
    assert found.high == pytest.approx(0.1611 * (1 - 0.1611), abs=5e-5)
    half = brier_decomposition([0.5] * 20, [0, 1] * 10, rng=rng(), n_resamples=20).uncertainty
    assert half.high == 0.25


@pytest.mark.parametrize("slope", [1.0, 0.8])
def test_bounds_hold_the_true_error(slope: float) -> None:
    # forecasts spread evenly, true at a slope: in bins of a tenth the true ECE is (1 - slope) / 4,
    # the squared error (1 - slope)² (1/12 - 1/1200)
    ece, squared = (1 - slope) / 4, (1 - slope) ** 2 * (1 / 12 - 1 / 1200)
    random, n_runs = rng(5), 150
    held = np.zeros(3)
    for _ in range(n_runs):
        forecasts = random.random(200)
        events = random.random(200) < errors_of(forecasts, slope)
        found = calibration_errors(forecasts, events, rng=random, n_resamples=200)
        intervals = (found.ece, found.debiased_ece, found.squared)
        held += [
            i.low <= true + 1e-12 and true <= i.high
            for i, true in zip(intervals, (ece, ece, squared), strict=True)
        ]
    # three standard deviations below .915, the least that they held in 2,000 such runs
    assert (held / n_runs > 0.915 - 3 * math.sqrt(0.915 * 0.085 / n_runs)).all()


def test_debiasing_takes_off_most_of_the_error_of_right_forecasts() -> None:
    random = rng(6)
    plain, debiased, squared = [], [], []
    for _ in range(200):
        forecasts = random.random(100)
        found = calibration_errors(
            forecasts, random.random(100) < forecasts, rng=random, n_resamples=2
        )
        plain.append(found.ece.estimate)
        debiased.append(found.debiased_ece.estimate)
        squared.append(found.squared.estimate)
    assert np.mean(debiased) < 0.7 * np.mean(plain)
    # the squared error is unbiased
    assert abs(np.mean(squared)) < 4 * np.std(squared) / math.sqrt(200)


def test_perfect_certainty_has_no_error_and_no_bounds() -> None:
    found = calibration_errors([0.0, 1.0, 1.0], [0, 1, 1], rng=rng(), n_resamples=50)
    assert found.ece.estimate == 0.0
    assert math.isnan(found.ece.high)


def test_without_forecasts_all_is_nan() -> None:
    found = calibration_errors([], [], rng=rng())
    parts = brier_decomposition([], [], rng=rng())
    for value in (found.ece, found.debiased_ece, found.squared, parts.score, parts.resolution):
        assert math.isnan(value.estimate)
    assert math.isnan(found.largest)
    assert math.isnan(parts.within_bins)


def test_one_forecast_has_an_error_without_bounds() -> None:
    found = calibration_errors([0.7], [1], rng=rng())
    assert found.ece.estimate == pytest.approx(0.3)
    assert math.isnan(found.ece.high)


def test_copies_in_clusters_do_not_narrow_the_bounds() -> None:
    rows = np.repeat(np.arange(60), 3)
    once = calibration_errors(THREE, CAME_TRUE, rng=rng(), n_resamples=500)
    found = calibration_errors(
        THREE[rows], CAME_TRUE[rows], rng=rng(), n_resamples=500, clusters=rows
    )
    assert found.ece.stderr == pytest.approx(once.ece.stderr, rel=1e-9)
    parts = brier_decomposition(
        THREE[rows], CAME_TRUE[rows], rng=rng(), n_resamples=50, clusters=rows
    )
    assert (
        parts.uncertainty.low
        < brier_decomposition(
            THREE[rows], CAME_TRUE[rows], rng=rng(), n_resamples=50
        ).uncertainty.low
    )


@settings(deadline=None)
@given(ROWS)
def test_murphys_parts_add_up_where_each_forecast_has_its_bin(
    rows: list[tuple[float, int]],
) -> None:
    forecasts, events = zip(*rows, strict=True)
    found = brier_decomposition(
        forecasts, events, rng=rng(), n_bins=len(rows), binning="mass", n_resamples=5
    )
    assert found.within_bins == pytest.approx(0.0, abs=1e-12)


@settings(deadline=None)
@given(ROWS)
def test_estimates_lie_within_their_bounds_and_limits(rows: list[tuple[float, int]]) -> None:
    forecasts, events = zip(*rows, strict=True)
    found = calibration_errors(forecasts, events, rng=rng(), n_resamples=50)
    for interval in (found.ece, found.debiased_ece, found.squared):
        assert math.isnan(interval.low) or interval.low <= interval.estimate <= interval.high
    assert 0 <= found.debiased_ece.estimate <= found.ece.estimate + 1e-12
    assert found.ece.estimate <= found.largest + 1e-12


@settings(deadline=None)
@given(ROWS, st.permutations(range(10)))
def test_the_order_of_forecasts_does_not_matter(
    rows: list[tuple[float, int]], order: list[int]
) -> None:
    shuffled = [rows[i] for i in order if i < len(rows)] + rows[10:]
    one, other = (
        calibration_errors(*zip(*r, strict=True), rng=rng(), n_resamples=2)
        for r in (rows, shuffled)
    )
    assert one.ece.estimate == pytest.approx(other.ece.estimate)
    assert one.squared.estimate == pytest.approx(other.squared.estimate)
