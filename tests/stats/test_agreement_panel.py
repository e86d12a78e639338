from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalkit.stats.agreement import Weights, prevalence_and_bias
from evalkit.stats.intervals import FloatArray, Interval
from evalkit.stats.panel_agreement import (
    brennan_prediger,
    conger_kappa,
    fleiss_kappa,
    gwet_ac,
    label_counts,
    pairwise_agreement,
)

N = None
# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, example C: four raters
FOUR_RATERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3),
    (N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N),
)
RATINGS = np.array(FOUR_RATERS, dtype=object).T
COUNTS = label_counts(RATINGS, labels=range(1, 6))
# Fleiss's worked example as Wikipedia has it: 10 subjects, 14 raters, 5 labels
FLEISS = (
    *((0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1)),
    *((7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7)),
)
COEFFICIENTS: tuple[Callable[..., Interval], ...] = (gwet_ac, fleiss_kappa, brennan_prediger)

TABLES = arrays(np.int64, st.tuples(st.integers(1, 15), st.just(3)), elements=st.integers(0, 2))


# irrCAC (Gwet's R package; the Python port 0.4.4 gives the same): coefficient and standard error
@pytest.mark.parametrize(
    ("coefficient", "value", "stderr"),
    [
        (gwet_ac, 0.77544, 0.14295),
        (fleiss_kappa, 0.76117, 0.15302),
        (brennan_prediger, 0.77273, 0.14472),
    ],
)
def test_coefficients_with_missing_ratings_agree_with_irrcac(
    coefficient: Callable[[FloatArray], Interval], value: float, stderr: float
) -> None:
    found = coefficient(COUNTS)
    assert (found.estimate, found.stderr) == pytest.approx((value, stderr), abs=5.1e-6)


def test_congers_kappa_agrees_with_irrcac() -> None:
    found = conger_kappa(RATINGS, labels=range(1, 6))
    assert (found.estimate, found.stderr) == pytest.approx((0.76207, 0.15011), abs=5.1e-6)


def test_bounds_of_ac1_agree_with_irrcac_and_end_at_one() -> None:
    found = gwet_ac(COUNTS)
    assert (found.low, found.high) == pytest.approx((0.46081, 1.0), abs=5.1e-6)


@pytest.mark.parametrize(("weights", "value"), [("quadratic", 0.91400), ("linear", 0.85874)])
def test_ac2_agrees_with_irrcac(weights: Weights, value: float) -> None:
    assert gwet_ac(COUNTS, weights=weights).estimate == pytest.approx(value, abs=5.1e-6)


def test_fleiss_kappa_agrees_with_the_worked_example() -> None:
    # Wikipedia prints .210; statsmodels 0.15 fleiss_kappa gives .20993070
    found = fleiss_kappa(np.array(FLEISS, dtype=float))
    assert found.estimate == pytest.approx(0.20993070, abs=5e-9)


def test_raters_who_always_give_the_same_label_have_an_ac1_of_one_and_no_kappa() -> None:
    counts = label_counts([["good", "good", "good"]] * 8, labels=("good", "bad"))
    assert gwet_ac(counts).estimate == 1.0
    assert math.isnan(gwet_ac(counts).low)
    assert math.isnan(fleiss_kappa(counts).estimate)
    assert pairwise_agreement(counts).estimate == 1.0


def test_under_one_prevalent_label_kappa_falls_and_ac1_does_not() -> None:
    pairs = [("+", "+")] * 118 + [("+", "-")] * 5 + [("-", "+")] * 2
    counts = label_counts(pairs, labels=("+", "-"))
    # by hand: the share of "-" is 7/250, so Scott's chance is 1 - 2 q and Gwet's is q
    q = 2 * (7 / 250) * (243 / 250)
    assert fleiss_kappa(counts).estimate == pytest.approx((118 / 125 - 1 + q) / q, abs=1e-12)
    assert gwet_ac(counts).estimate == pytest.approx((118 / 125 - q) / (1 - q), abs=1e-12)
    assert fleiss_kappa(counts).estimate < 0 < 0.9 < gwet_ac(counts).estimate


def test_two_raters_and_two_labels_give_pabak() -> None:
    a, b = [0] * 60 + [1] * 40, [0] * 45 + [1] * 15 + [0] * 25 + [1] * 15
    counts = label_counts(np.column_stack((a, b)), labels=(0, 1))
    pabak = prevalence_and_bias(a, b, labels=(0, 1)).pabak.estimate
    assert brennan_prediger(counts).estimate == pytest.approx(pabak, abs=1e-12)


def test_two_raters_without_missing_ratings_make_congers_kappa_cohens() -> None:
    # Wikipedia, "Cohen's kappa": (20, 5; 10, 15) has .4
    rows = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    found = conger_kappa(rows, labels=("y", "n"))
    assert found.estimate == pytest.approx(0.4, abs=1e-12)
    # irrCAC's variance divides by n - 1 where Fleiss, Cohen and Everitt's, .126996, has n
    assert found.stderr == pytest.approx(0.12699606 * math.sqrt(50 / 49), abs=1e-8)


def test_a_rater_without_ratings_leaves_congers_kappa_undefined() -> None:
    assert math.isnan(conger_kappa([[1, N], [2, N]], labels=(1, 2)).estimate)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_units_with_a_single_rating_are_no_agreement_and_no_disagreement(
    coefficient: Callable[[FloatArray], Interval],
) -> None:
    assert math.isnan(coefficient(label_counts([[1, N], [N, 2]], labels=(1, 2))).estimate)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_nothing_rated_gives_nan(coefficient: Callable[[FloatArray], Interval]) -> None:
    assert math.isnan(coefficient(label_counts([[N, N], [N, N]], labels=(1, 2))).estimate)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_one_unit_has_a_coefficient_without_bounds(
    coefficient: Callable[[FloatArray], Interval],
) -> None:
    found = coefficient(label_counts([[1, 2, 1]], labels=(1, 2)))
    assert math.isfinite(found.estimate)
    assert math.isnan(found.low)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_fewer_than_two_labels_are_refused(
    coefficient: Callable[[FloatArray], Interval],
) -> None:
    with pytest.raises(ValueError, match="two or more labels"):
        coefficient(np.ones((3, 1)))


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_copies_in_clusters_tell_no_more_than_one_of_them(
    coefficient: Callable[..., Interval],
) -> None:
    units = np.arange(len(COUNTS))
    once = coefficient(COUNTS, clusters=units)
    twice = coefficient(np.repeat(COUNTS, 2, axis=0), clusters=np.repeat(units, 2))
    assert (twice.estimate, twice.stderr) == pytest.approx((once.estimate, once.stderr), abs=1e-12)
    assert once.stderr == pytest.approx(coefficient(COUNTS).stderr, abs=1e-12)


def test_pairwise_agreement_is_the_mean_share_of_agreeing_pairs() -> None:
    # of three raters: all agree; two do, one pair of three; none; and one unit rated once
    counts = label_counts([[1, 1, 1], [1, 1, 2], [1, 2, 3], [1, N, N]], labels=(1, 2, 3))
    assert pairwise_agreement(counts).estimate == pytest.approx((1 + 1 / 3 + 0) / 3, abs=1e-12)


@given(TABLES, st.sampled_from(("none", "linear", "quadratic")), st.sampled_from(COEFFICIENTS))
def test_no_coefficient_exceeds_one_or_depends_on_the_order_of_units(
    table: FloatArray, weights: Weights, coefficient: Callable[..., Interval]
) -> None:
    counts = np.asarray(table, dtype=float)
    one, other = coefficient(counts, weights=weights), coefficient(counts[::-1], weights=weights)
    assert one.estimate == pytest.approx(other.estimate, abs=1e-12, nan_ok=True)
    assert one.stderr == pytest.approx(other.stderr, abs=1e-9, nan_ok=True)
    assert not one.estimate > 1 + 1e-12


@given(TABLES, st.sampled_from(COEFFICIENTS))
def test_labels_change_places_without_effect(
    table: FloatArray, coefficient: Callable[[FloatArray], Interval]
) -> None:
    counts = np.asarray(table, dtype=float)
    one, other = coefficient(counts), coefficient(counts[:, [2, 0, 1]])
    assert one.estimate == pytest.approx(other.estimate, abs=1e-12, nan_ok=True)
