"""Corrections by a fitted map: within a set (cross-PPI) and carried over to another."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evalkit.stats.crossfit import crossfit
from evalkit.stats.intervals import FloatArray
from evalkit.stats.maps import MapKind
from evalkit.stats.transport import cross_ppi, transported


def binomial_limits(repeats: int) -> tuple[float, float]:
    """Within which the held intervals of 999 studies in 1000 fall."""
    return float(stats.binom.ppf(0.0005, repeats, 0.95)), float(
        stats.binom.ppf(0.9995, repeats, 0.95)
    )


def draw(rng: np.random.Generator, n: int, *, shift: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Labels with mean 3 + .7 shift, of a judge on another scale; they correlate by .7."""
    latent = rng.normal(size=n) + shift
    return 3 + 0.7 * latent + 0.7 * rng.normal(size=n), 0.1 * latent


def test_carried_over_raw_scores_have_the_variances_of_both_sets() -> None:
    rng = np.random.default_rng(0)
    human, judge, run = rng.normal(size=12), rng.normal(size=12), rng.normal(size=30) + 4
    found = transported(human, judge, unlabelled=run)
    gaps = human - judge
    assert found.value == pytest.approx(run.mean() + gaps.mean())
    assert found.stderr == pytest.approx(math.sqrt(gaps.var(ddof=1) / 12 + run.var(ddof=1) / 30))
    assert (found.lam, found.method) == (1.0, "transported")


def test_clusters_of_one_change_nothing_carried_over() -> None:
    rng = np.random.default_rng(1)
    human, judge, run = rng.normal(size=12), rng.normal(size=12), rng.normal(size=30)
    plain = transported(human, judge, unlabelled=run)
    found = transported(human, judge, unlabelled=run, clusters=(np.arange(12), np.arange(12, 42)))
    assert (plain.low, plain.high) == pytest.approx((found.low, found.high))


# two judges' worth of shift: labels of one set say nothing of the other, the map does
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_the_level_holds_for_a_run_that_is_better_than_the_labelled_set(shift: float) -> None:
    rng, repeats, truth = np.random.default_rng(2), 400, 3 + 0.7 * shift
    n_held = n_labels = 0
    for _ in range(repeats):
        human, judge = draw(rng, 60)
        _, run = draw(rng, 300, shift=shift)
        fitted = crossfit(human, judge, groups=np.arange(60), kind="affine")
        found = transported(human, judge, unlabelled=run, fitted=fitted)
        n_held += found.low <= truth <= found.high
        n_labels += found.labels_only.low <= truth <= found.labels_only.high
    low, high = binomial_limits(repeats)
    assert low <= n_held <= high
    assert n_labels < low if shift else low <= n_labels <= high


def test_the_maps_own_error_counts_where_the_sets_differ() -> None:
    rng = np.random.default_rng(3)
    human, judge = draw(rng, 80)
    fitted = crossfit(human, judge, groups=np.arange(80), kind="affine")
    here = transported(human, judge, unlabelled=np.repeat(judge, 5), fitted=fitted)
    away = transported(human, judge, unlabelled=np.repeat(judge, 5) + 0.3, fitted=fitted)
    # the least-squares slope's error times the step, from the textbook
    slope, intercept = np.polyfit(judge, human, 1)
    rest = human - intercept - slope * judge
    of_slope = math.sqrt(float(rest @ rest) / 78 / (80 * judge.var())) * 0.3
    assert math.sqrt(away.stderr**2 - here.stderr**2) == pytest.approx(of_slope, rel=0.35)


@pytest.mark.parametrize("kind", ["affine", "isotonic"])
def test_a_mapped_judge_of_another_scale_holds_the_level_and_gains(kind: MapKind) -> None:
    rng, repeats = np.random.default_rng(4), 300
    found = []
    for _ in range(repeats):
        human, judge = draw(rng, 60)
        found.append(
            cross_ppi(
                human,
                judge,
                unlabelled=draw(rng, 500)[1],
                groups=np.arange(60),
                map_kind=kind,
            )
        )
    low, high = binomial_limits(repeats)
    assert low <= sum(f.low <= 3 <= f.high for f in found) <= high
    assert np.mean([f.n_effective for f in found]) > 1.3 * 60


def test_an_affine_change_of_the_judge_changes_nothing_behind_an_affine_map() -> None:
    rng = np.random.default_rng(5)
    human, judge = draw(rng, 40)
    others = draw(rng, 90)[1]
    groups = [f"item {i}" for i in range(40)]
    plain = cross_ppi(human, judge, unlabelled=others, groups=groups)
    moved = cross_ppi(human, 30 - 7 * judge, unlabelled=30 - 7 * others, groups=groups)
    assert (plain.value, plain.low, plain.high) == pytest.approx(
        (moved.value, moved.low, moved.high)
    )


def test_one_group_gives_nan_and_a_reason() -> None:
    human, judge = np.arange(5.0), np.array([1.0, 0, 2, 5, 3])
    found = cross_ppi(human, judge, unlabelled=judge, groups=["same"] * 5)
    assert math.isnan(found.low)
    assert "one fold" in found.reason
    fitted = crossfit(human, judge, groups=["same"] * 5, kind="affine")
    carried = transported(human, judge, unlabelled=judge, fitted=fitted)
    assert math.isnan(carried.value)
    assert "one fold" in carried.reason


def test_a_judge_off_by_the_same_everywhere_cannot_be_carried_over() -> None:
    found = transported(np.arange(5.0), np.arange(5.0) + 1, unlabelled=np.arange(9.0))
    assert math.isnan(found.low)
    assert "off by the same" in found.reason


def test_a_run_of_one_item_gives_nan_and_a_reason() -> None:
    found = transported(np.arange(5.0), np.ones(5), unlabelled=np.ones(1))
    assert math.isnan(found.low)
    assert "1 independent items in the run" in found.reason


def test_a_fit_to_other_labels_is_refused() -> None:
    fitted = crossfit(np.arange(5.0), np.arange(5.0), groups=np.arange(5), kind="affine")
    with pytest.raises(ValueError, match="other labels"):
        transported(np.arange(4.0), np.ones(4), unlabelled=np.ones(9), fitted=fitted)
