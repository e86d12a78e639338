"""Rogan and Gladen's correction: agreement with Lee's code, refusals, and its level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evalkit.stats.intervals import FloatArray
from evalkit.stats.rogan_gladen import rogan_gladen


def labelled(
    sensitivity: float, m1: int, specificity: float, m0: int
) -> tuple[FloatArray, FloatArray]:
    """Human labels and judge verdicts with exactly these rates."""
    k1, k0 = round(sensitivity * m1), round(specificity * m0)
    human = np.repeat([1.0, 1.0, 0.0, 0.0], [k1, m1 - k1, k0, m0 - k0])
    return human, np.repeat([1.0, 0.0, 0.0, 1.0], [k1, m1 - k1, k0, m0 - k0])


# UW-Madison-Lee-Lab/LLM-judge-reporting @082884d (Lee et al. 2025), inputs of its README
@pytest.mark.parametrize(
    ("p", "specificity", "sensitivity", "m", "expected"),
    [
        (0.4, 0.7, 0.9, 200, (0.16666666666666666, 0.05635072484160894, 0.2627330257859588)),
        (0.8, 0.85, 0.9, 100, (0.8666666666666667, 0.7982014862634387, 0.9581358093493232)),
    ],
)
def test_the_interval_agrees_with_lees_code(
    p: float, specificity: float, sensitivity: float, m: int, expected: tuple[float, ...]
) -> None:
    human, judge = labelled(sensitivity, m, specificity, m)
    run = np.repeat([1.0, 0.0], [round(1000 * p), 1000 - round(1000 * p)])
    found = rogan_gladen(human, judge, unlabelled=run, is_prevalence_shifted=True)
    assert (found.value, found.low, found.high) == pytest.approx(expected, abs=1e-9)
    assert found.naive.estimate == pytest.approx(p)


def test_the_level_holds_where_labels_are_half_and_half_but_the_run_is_not() -> None:
    rng, repeats, truth = np.random.default_rng(0), 1000, 0.8
    n_held = n_labels = n_naive = 0
    for _ in range(repeats):
        human = np.repeat([1.0, 0.0], 100)
        judge = (rng.random(200) < np.where(human == 1, 0.85, 0.25)).astype(float)
        is_one = rng.random(500) < truth
        run = (rng.random(500) < np.where(is_one, 0.85, 0.25)).astype(float)
        found = rogan_gladen(human, judge, unlabelled=run, is_prevalence_shifted=True)
        n_held += found.low <= truth <= found.high
        n_labels += found.labels_only.low <= truth <= found.labels_only.high
        n_naive += found.naive.low <= truth <= found.naive.high
    low, high = stats.binom.ppf(0.0005, repeats, 0.95), stats.binom.ppf(0.9995, repeats, 0.95)
    assert low <= n_held <= high
    assert max(n_labels, n_naive) < 0.2 * repeats


def test_without_a_declared_shift_it_refuses() -> None:
    human, judge = labelled(0.9, 50, 0.9, 50)
    found = rogan_gladen(human, judge, unlabelled=judge, is_prevalence_shifted=False)
    assert math.isnan(found.value)
    assert "no prevalence shift" in found.reason


@pytest.mark.parametrize(("specificity", "is_refused"), [(0.5, True), (0.6, True), (0.9, False)])
def test_a_judge_that_may_know_nothing_is_refused(specificity: float, is_refused: bool) -> None:
    human, judge = labelled(0.5, 50, specificity, 50)
    found = rogan_gladen(human, judge, unlabelled=judge, is_prevalence_shifted=True)
    assert math.isnan(found.low) == is_refused
    assert ("not above 1" in found.reason) == is_refused


def test_a_class_without_labels_is_refused() -> None:
    found = rogan_gladen(np.ones(9), np.ones(9), unlabelled=np.ones(9), is_prevalence_shifted=True)
    assert math.isnan(found.value)
    assert "0 of 0" in found.reason


def test_anything_but_zeros_and_ones_is_an_error() -> None:
    with pytest.raises(ValueError, match="unlabelled has values"):
        rogan_gladen(np.ones(2), np.ones(2), unlabelled=np.array([0.5]), is_prevalence_shifted=True)
    with pytest.raises(ValueError, match="2 labels but 3"):
        rogan_gladen(np.ones(2), np.ones(3), unlabelled=np.ones(2), is_prevalence_shifted=True)
