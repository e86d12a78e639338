"""Weights of a checklist: planted ones are found, and noise is not taken for any."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike
from scipy.optimize import lsq_linear

from evalkit.stats.intervals import FloatArray, t_interval
from evalkit.stats.nnls_weights import ChecklistWeights, checklist_weights

FOLDS = np.arange(150) % 5
TICKS = arrays(float, (15, 3), elements=st.sampled_from([0.0, 1.0]))


def ticked(weights: list[float], *, noise: float, seed: int) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    items = (rng.random((150, len(weights))) < 0.6).astype(float)
    return items, 1 + 4 * items @ np.array(weights) + rng.normal(0, noise, 150)


def test_planted_weights_are_found_and_kept() -> None:
    items, labels = ticked([0.6, 0.3, 0.1, 0, 0], noise=0.3, seed=0)
    found = checklist_weights(items, labels, folds=FOLDS)
    assert found.is_kept
    assert found.weights == pytest.approx([0.6, 0.3, 0.1, 0, 0], abs=0.05)
    assert found.gain.low > 0
    assert found.error.low < 0.3**2 < found.error.high
    assert found.error.estimate < found.equal_error.estimate
    assert found.gain.estimate == pytest.approx(found.equal_error.estimate - found.error.estimate)


def test_equal_weights_are_kept_where_they_are_right() -> None:
    n_kept = 0
    for seed in range(20):
        items, labels = ticked([0.2] * 5, noise=0.6, seed=seed)
        found = checklist_weights(items, labels, folds=FOLDS)
        n_kept += found.is_kept
        assert found.is_kept or found.weights == pytest.approx([0.2] * 5)
    assert n_kept <= 2  # a chance of 2.5 % at the most: 3 of 20 in 1 of 80


def test_without_a_ridge_it_is_bounded_least_squares() -> None:
    items, labels = ticked([0.5, 0.4, 0.1, 0, 0], noise=1.0, seed=1)
    items[:, 4] = labels < labels.mean()  # falls with the labels: its weight is 0
    found = checklist_weights(items, labels, folds=FOLDS, ridges=[0.0])
    design = np.column_stack((items, np.ones(150)))
    limits = ([0] * 5 + [-np.inf], np.inf)
    slopes = lsq_linear(design, labels, bounds=limits, tol=1e-14).x[:5]
    assert found.fitted == pytest.approx(slopes / slopes.sum(), abs=1e-5)
    assert found.fitted[4] == pytest.approx(0, abs=1e-12)


def test_a_heavy_ridge_is_equal_weights() -> None:
    items, labels = ticked([0.6, 0.3, 0.1, 0, 0], noise=0.3, seed=2)
    found = checklist_weights(items, labels, folds=FOLDS, ridges=[1e8])
    assert found.fitted == pytest.approx([0.2] * 5, abs=1e-6)
    assert found.error.estimate == pytest.approx(found.equal_error.estimate, rel=1e-5)


def test_errors_are_of_items_left_out() -> None:
    # equal weights, by hand: a line through the other folds' sums
    items, labels = ticked([0.5, 0.5], noise=0.5, seed=3)
    sums, errors = items.mean(axis=1), np.zeros(150)
    for fold in range(5):
        out = fold != FOLDS
        slope, constant = np.polyfit(sums[out], labels[out], 1)
        errors[~out] = (labels[~out] - constant - slope * sums[~out]) ** 2
    found = checklist_weights(items, labels, folds=FOLDS)
    expected = t_interval(errors)
    assert (found.equal_error.estimate, found.equal_error.low) == pytest.approx(
        (expected.estimate, expected.low)
    )


def weights_of(items: FloatArray, labels: FloatArray, folds: ArrayLike) -> ChecklistWeights:
    return checklist_weights(items, labels, folds=folds, ridges=[0.1, 1.0])


@settings(max_examples=25, deadline=None)
@given(TICKS, st.permutations(range(15)), st.permutations(range(3)))
def test_neither_rows_nor_items_have_an_order_and_weights_add_up(
    items: FloatArray, rows: list[int], columns: list[int]
) -> None:
    labels = items @ [2.0, 1, 0.5] + np.sin(np.arange(15))
    folds = np.arange(15) % 3
    plain = weights_of(items, labels, folds)
    moved = weights_of(items[rows][:, columns], labels[rows], folds[rows])
    assert moved.fitted == pytest.approx(plain.fitted[columns], abs=1e-6)
    assert moved.error.estimate == pytest.approx(plain.error.estimate)
    for weights in (plain.weights, plain.fitted):
        assert weights.sum() == pytest.approx(1.0)
        assert weights.min() >= 0


@settings(max_examples=25, deadline=None)
@given(TICKS, st.floats(0.1, 10), st.floats(-5, 5))
def test_the_labels_scale_does_not_matter(items: FloatArray, unit: float, shift: float) -> None:
    labels = items @ [2.0, 1, 0.5] + np.sin(np.arange(15))
    folds = np.arange(15) % 3
    plain, scaled = (weights_of(items, y, folds) for y in (labels, unit * labels + shift))
    assert scaled.fitted == pytest.approx(plain.fitted, abs=1e-6)
    assert scaled.error.estimate == pytest.approx(unit**2 * plain.error.estimate)


def test_items_that_all_fall_with_the_labels_have_equal_weights() -> None:
    items, labels = ticked([0.5, 0.3, 0.2], noise=0.1, seed=4)
    found = checklist_weights(items, -labels, folds=FOLDS)
    assert found.weights == pytest.approx([1 / 3] * 3)
    assert not found.is_kept


def test_copies_in_a_cluster_add_no_certainty() -> None:
    items, labels = ticked([0.6, 0.3, 0.1, 0, 0], noise=1.0, seed=5)
    units = np.arange(150)
    one = checklist_weights(items, labels, folds=FOLDS, clusters=units, ridges=[0.1])
    two = checklist_weights(
        np.tile(items, (2, 1)),
        np.tile(labels, 2),
        folds=np.tile(FOLDS, 2),
        clusters=np.tile(units, 2),
        ridges=[0.1],
    )
    assert (two.gain.low, two.gain.high) == pytest.approx((one.gain.low, one.gain.high))
    assert two.error.low == pytest.approx(one.error.low)


def test_what_is_missing_is_nan_and_equal() -> None:
    items, labels = ticked([0.6, 0.4], noise=0.1, seed=6)
    labels[3] = math.nan
    found = checklist_weights(items, labels, folds=FOLDS)
    assert found.weights.tolist() == [0.5, 0.5]
    assert math.isnan(found.error.estimate)
    assert not found.is_kept


def test_what_does_not_fit_is_refused() -> None:
    items, labels = ticked([0.6, 0.4], noise=0.1, seed=7)
    with pytest.raises(ValueError, match="items must be"):
        checklist_weights(items[1:], labels, folds=FOLDS)
    with pytest.raises(ValueError, match="three or more"):
        checklist_weights(items, labels, folds=FOLDS % 2)
    with pytest.raises(ValueError, match="ridges"):
        checklist_weights(items, labels, folds=FOLDS, ridges=[-1.0])
    with pytest.raises(ValueError, match="several folds"):
        checklist_weights(items, labels, folds=FOLDS, clusters=np.arange(150) // 5)
