from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.stats.agreement import (
    Weights,
    cohen_kappa,
    confusion_matrix,
    label_codes,
    percent_agreement,
    prevalence_and_bias,
)
from evalkit.stats.intervals import wilson

Table = Sequence[Sequence[int]]
# Agresti (1990), Categorical Data Analysis: husbands and wives on sexual fun
SEXUAL_FUN = ((7, 7, 2, 3), (2, 8, 3, 7), (1, 5, 4, 9), (2, 8, 9, 14))

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


def ratings(table: Table) -> tuple[list[int], list[int]]:
    """Two raters whose confusion matrix is ``table``."""
    cells = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
    return [i for i, _ in cells], [j for _, j in cells]


# kappa: the worked examples of Wikipedia, "Cohen's kappa"; standard errors and bounds: statsmodels
# 0.15, cohens_kappa, which has Fleiss, Cohen and Everitt's variance
@pytest.mark.parametrize(
    ("table", "kappa", "stderr", "low", "high"),
    [
        (((20, 5), (10, 15)), 0.4, 0.12699606, 0.15109229, 0.64890771),
        (((45, 15), (25, 15)), 0.13043478, 0.09866154, -0.06293828, 0.32380784),
        (((25, 35), (5, 35)), 0.25925926, 0.07715973, 0.10802897, 0.41048955),
    ],
)
def test_kappa_agrees_with_statsmodels(
    table: Table, kappa: float, stderr: float, low: float, high: float
) -> None:
    a, b = ratings(table)
    found = cohen_kappa(a, b, labels=(0, 1))
    expected = pytest.approx((kappa, stderr, low, high), abs=1e-8)
    assert (found.estimate, found.stderr, found.low, found.high) == expected


# vcd 1.4 for R, Kappa(SexualFun), prints .1293 (.0686) and .2374 (.0783); all digits: statsmodels
@pytest.mark.parametrize(
    ("weights", "kappa", "stderr"),
    [
        ("none", 0.12933025, 0.06859853),
        ("linear", 0.23738063, 0.07831634),
        ("quadratic", 0.33204559, 0.09729752),
    ],
)
def test_weighted_kappa_agrees_with_vcd(weights: Weights, kappa: float, stderr: float) -> None:
    a, b = ratings(SEXUAL_FUN)
    found = cohen_kappa(a, b, labels=range(4), weights=weights)
    assert (found.estimate, found.stderr) == pytest.approx((kappa, stderr), abs=1e-8)


def test_weights_are_those_of_the_whole_scale_even_if_a_label_never_occurs() -> None:
    a, b = [1, 1, 2, 4, 4], [1, 2, 2, 4, 1]
    # distances 0 1 0 0 3 of the longest, 3: observed 1 - 4/15. By chance, rows (2, 1, 2)/5 and
    # columns (2, 2, 1)/5 on 1, 2, 4: the mean distance is 34/25, so 1 - 34/75
    expected = 1 - (4 / 15) / (34 / 75)
    found = cohen_kappa(a, b, labels=(1, 2, 3, 4), weights="linear")
    assert found.estimate == pytest.approx(expected, abs=1e-12)
    # with the labels that occur alone, 2 and 4 were neighbours: 0 1 0 0 2 of 2, and 23/25
    reduced = cohen_kappa(a, b, labels=(1, 2, 4), weights="linear")
    assert reduced.estimate == pytest.approx(1 - (3 / 10) / (23 / 50), abs=1e-12)


def test_raters_who_always_give_the_same_label_have_no_kappa_but_agree() -> None:
    a = ["good"] * 12
    labels = ("good", "bad")
    assert math.isnan(cohen_kappa(a, a, labels=labels).estimate)
    same = percent_agreement(a, a, labels=labels)
    # Wilson's lower bound for n of n is n / (n + z²)
    assert (same.estimate, same.low) == pytest.approx((1.0, 12 / (12 + 1.959964**2)), abs=1e-6)


def test_one_rater_who_never_varies_gives_a_kappa_of_zero_without_bounds() -> None:
    found = cohen_kappa([1, 1, 1, 1, 1, 1, 1], [1, 2, 1, 2, 2, 1, 2], labels=(1, 2))
    assert found.estimate == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(found.low)


def test_perfect_agreement_has_a_kappa_of_one_without_bounds() -> None:
    found = cohen_kappa([1, 2, 3], [1, 2, 3], labels=(1, 2, 3))
    assert found.estimate == 1.0
    assert math.isnan(found.low)
    assert math.isnan(found.stderr)


def test_perfect_disagreement_has_a_kappa_of_minus_one() -> None:
    found = cohen_kappa([1, 2, 1, 2], [2, 1, 2, 1], labels=(1, 2))
    assert found.estimate == pytest.approx(-1.0, abs=1e-12)


@pytest.mark.parametrize("pairs", [((), ()), ((None, 1.0), (1.0, math.nan))])
def test_nothing_rated_twice_gives_nan(pairs: tuple[Sequence[object], ...]) -> None:
    a, b = pairs
    assert math.isnan(cohen_kappa(a, b, labels=(1, 2)).estimate)
    assert math.isnan(percent_agreement(a, b, labels=(1, 2)).estimate)


def test_missing_ratings_leave_their_items_out() -> None:
    a, b = ratings(((20, 5), (10, 15)))
    full = cohen_kappa(a, b, labels=(0, 1))
    holed = cohen_kappa([*a, None, 1, math.nan], [*b, 0, None, None], labels=(0, 1))
    assert holed == full


def test_none_is_a_label_where_it_is_named_as_one() -> None:
    found = label_codes([None, "a", None], labels=("a", None))
    assert found.tolist() == [1, 0, 1]


def test_an_unknown_label_is_refused_with_its_name() -> None:
    with pytest.raises(ValueError, match="'c' is not among"):
        label_codes(["a", "c"], labels=("a", "b"))


def test_a_confusion_matrix_has_the_first_rater_in_rows() -> None:
    assert confusion_matrix([0, 0, 1], [1, 1, 0], labels=(0, 1)).tolist() == [[0, 2], [1, 0]]


def test_clusters_of_one_give_the_variance_with_n_minus_one() -> None:
    a, b = ratings(SEXUAL_FUN)
    n = len(a)
    plain = cohen_kappa(a, b, labels=range(4), weights="linear")
    alone = cohen_kappa(a, b, labels=range(4), weights="linear", clusters=np.arange(n))
    assert alone.estimate == pytest.approx(plain.estimate, abs=1e-12)
    assert alone.stderr == pytest.approx(plain.stderr * math.sqrt(n / (n - 1)), rel=1e-12)


def test_copies_in_clusters_tell_no_more_than_one_of_them() -> None:
    a, b = ratings(((20, 5), (10, 15)))
    once = cohen_kappa(a, b, labels=(0, 1), clusters=np.arange(50))
    thrice = cohen_kappa(a * 3, b * 3, labels=(0, 1), clusters=np.tile(np.arange(50), 3))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=1e-12)


# Byrt, Bishop and Carlin (1993): of the table (45, 15; 25, 15), PI = (a - d) / n, BI = (b - c) / n
# and PABAK = 2 p - 1
def test_prevalence_and_bias_are_byrt_bishop_and_carlins() -> None:
    a, b = ratings(((45, 15), (25, 15)))
    found = prevalence_and_bias(a, b, labels=(0, 1))
    assert found.prevalence.estimate == pytest.approx(0.30)
    assert found.bias.estimate == pytest.approx(-0.10)
    assert found.pabak.estimate == pytest.approx(0.20)
    share = wilson(60, 100)
    assert found.pabak.low == pytest.approx(2 * share.low - 1)
    assert found.bias.low < -0.10 < found.bias.high


def test_prevalence_is_of_two_labels() -> None:
    with pytest.raises(ValueError, match="two labels, not 3"):
        prevalence_and_bias([1], [1], labels=(1, 2, 3))


@given(PAIRS, st.sampled_from(("none", "linear", "quadratic")))
def test_kappa_is_the_same_whoever_comes_first(
    pairs: list[tuple[int, int]], weights: Weights
) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    one = cohen_kappa(a, b, labels=range(4), weights=weights)
    other = cohen_kappa(b, a, labels=range(4), weights=weights)
    assert one.estimate == pytest.approx(other.estimate, abs=1e-12, nan_ok=True)
    assert one.stderr == pytest.approx(other.stderr, abs=1e-9, nan_ok=True)


@given(PAIRS, st.permutations(range(4)))
def test_unweighted_kappa_does_not_depend_on_the_order_of_labels(
    pairs: list[tuple[int, int]], labels: list[int]
) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    one, other = cohen_kappa(a, b, labels=range(4)), cohen_kappa(a, b, labels=labels)
    assert one.estimate == pytest.approx(other.estimate, abs=1e-12, nan_ok=True)


@given(PAIRS)
def test_quadratic_kappa_is_one_less_squared_distance_over_that_of_chance(
    pairs: list[tuple[int, int]],
) -> None:
    a, b = (np.array(x, dtype=float) for x in zip(*pairs, strict=True))
    # the squared distance of ratings drawn independently, from their means and variances
    by_chance = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    expected = 1 - np.mean((a - b) ** 2) / by_chance if by_chance > 1e-12 else math.nan
    found = cohen_kappa(a, b, labels=range(4), weights="quadratic")
    assert found.estimate == pytest.approx(expected, abs=1e-9, nan_ok=True)
