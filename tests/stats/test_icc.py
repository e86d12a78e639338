from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalkit.stats.icc import Form, icc, spearman_brown
from evalkit.stats.intervals import FloatArray

# Shrout and Fleiss (1979), Psychol. Bull. 86:420-428, Table 2: six targets, four judges
TARGETS = ((9, 2, 5, 8), (6, 1, 3, 2), (8, 4, 6, 8), (7, 1, 2, 6), (10, 5, 6, 9), (6, 2, 4, 7))
FORMS: tuple[Form, ...] = ("1,1", "2,1", "3,1", "1,k", "2,k", "3,k")

RATINGS = arrays(
    np.float64,
    st.tuples(st.integers(2, 8), st.integers(2, 4)),
    elements=st.integers(1, 5).map(float),
)


# values: Table 4 has .17 .29 .71 .44 .62 .91, the digits are pingouin 0.7's, as are the bounds
@pytest.mark.parametrize(
    ("form", "value", "low", "high"),
    [
        ("1,1", 0.165742, -0.13, 0.72),
        ("2,1", 0.289764, 0.02, 0.76),
        ("3,1", 0.714841, 0.34, 0.95),
        ("1,k", 0.442797, -0.88, 0.91),
        ("2,k", 0.620051, 0.07, 0.93),
        ("3,k", 0.909316, 0.68, 0.99),
    ],
)
def test_icc_agrees_with_shrout_and_fleiss(
    form: Form, value: float, low: float, high: float
) -> None:
    found = icc(TARGETS, form=form)
    assert found.estimate == pytest.approx(value, abs=5e-7)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-3)


@pytest.mark.parametrize("form", FORMS)
def test_a_constant_table_has_no_reliability(form: Form) -> None:
    assert math.isnan(icc(np.full((4, 3), 0.1), form=form).estimate)


@pytest.mark.parametrize("form", FORMS)
def test_perfect_agreement_gives_one_without_bounds(form: Form) -> None:
    found = icc(np.array([[1, 1], [2, 2], [4, 4]]), form=form)
    assert found.estimate == pytest.approx(1.0)
    assert math.isnan(found.low)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ratings", [np.ones((1, 2)), np.array([[1], [2]]), np.empty((0, 3))])
def test_one_item_or_one_rater_tells_nothing(ratings: FloatArray, form: Form) -> None:
    assert math.isnan(icc(ratings, form=form).estimate)


def test_a_level_of_the_rater_counts_only_where_raters_are_any() -> None:
    ratings = np.array([[1, 2], [2, 3], [4, 5], [3, 4]])  # the second rates everything one higher
    assert icc(ratings, form="3,1").estimate == pytest.approx(1.0)
    # mean squares: items 10/3 (the variance 5/3 of each rater's, twice), raters 2, the rest 0
    expected = 4 * (10 / 3) / (4 * (10 / 3) + 2 * 2)
    assert icc(ratings, form="2,1").estimate == pytest.approx(expected)


def test_items_that_differ_less_than_raters_have_a_negative_icc() -> None:
    found = icc(np.array([[1, 3], [3, 1], [2, 2.5]]), form="1,1")
    assert found.low < found.estimate < 0


def test_a_missing_rating_is_refused() -> None:
    with pytest.raises(ValueError, match="leave incomplete items out"):
        icc(np.array([[1, math.nan], [2, 2]]), form="1,1")


# Spearman (1910): two halves that correlate .5 make a whole with reliability 2/3
def test_spearman_brown_of_two_halves() -> None:
    assert spearman_brown(0.5, 2) == pytest.approx(2 / 3)


@given(st.floats(0.01, 0.99), st.floats(1.0, 20.0))
def test_spearman_brown_is_undone_by_the_inverse_factor(reliability: float, factor: float) -> None:
    there = spearman_brown(reliability, factor)
    assert there >= reliability - 1e-12
    assert spearman_brown(there, 1 / factor) == pytest.approx(reliability)


def test_spearman_brown_is_nan_where_it_would_be_infinite() -> None:
    assert math.isnan(spearman_brown(-0.5, 3))


@given(RATINGS, st.sampled_from(FORMS))
def test_the_mean_of_k_raters_is_spearman_browns_of_one(ratings: FloatArray, form: Form) -> None:
    n_raters = ratings.shape[1]
    single: Form = {"1": "1,1", "2": "2,1", "3": "3,1"}[form[0]]  # type: ignore[assignment]
    mean: Form = {"1": "1,k", "2": "2,k", "3": "3,k"}[form[0]]  # type: ignore[assignment]
    one, many = icc(ratings, form=single), icc(ratings, form=mean)
    expected = spearman_brown(one.estimate, n_raters)
    assert many.estimate == pytest.approx(expected, nan_ok=True)


@given(RATINGS, st.sampled_from(FORMS), st.floats(0.1, 10), st.floats(-50, 50))
def test_icc_does_not_depend_on_unit_or_origin(
    ratings: FloatArray, form: Form, unit: float, origin: float
) -> None:
    one, other = icc(ratings, form=form), icc(ratings * unit + origin, form=form)
    assert one.estimate == pytest.approx(other.estimate, abs=1e-6, nan_ok=True)
    assert one.low == pytest.approx(other.low, abs=1e-6, nan_ok=True)


@given(RATINGS, st.sampled_from(FORMS))
def test_bounds_hold_the_estimate(ratings: FloatArray, form: Form) -> None:
    found = icc(ratings, form=form)
    if math.isfinite(found.low) and math.isfinite(found.high):
        assert found.low - 1e-9 <= found.estimate <= found.high + 1e-9
