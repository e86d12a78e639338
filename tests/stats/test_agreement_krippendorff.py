from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalkit.stats.intervals import FloatArray, Interval
from evalkit.stats.krippendorff import Scale, krippendorff_alpha
from evalkit.stats.panel_agreement import fleiss_kappa, label_counts

N = math.nan
SCALES: tuple[Scale, ...] = ("nominal", "ordinal", "interval", "ratio")
FOUR_RATERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3),
    (N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N),
)
THREE_RATERS = (
    (N, N, N, N, N, 3, 4, 1, 2, 1, 1, 3, 3, N, 3),
    (1, N, 2, 1, 3, 3, 4, 3, N, N, N, N, N, N, N),
    (N, N, 2, 1, 3, 4, 4, N, 2, 1, 1, 3, 3, N, 4),
)
TWO_RATERS = ((0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0))

TABLES = arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(2, 4)),
    elements=st.sampled_from((1.0, 2.0, 3.0, 4.0, N)),
)


def alpha(ratings: object, scale: Scale, *, n_resamples: int = 2, seed: int = 0) -> Interval:
    rng = np.random.default_rng(seed)
    table = np.asarray(ratings, dtype=float)
    return krippendorff_alpha(table, scale=scale, rng=rng, n_resamples=n_resamples)


# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability: examples C (.743 .815 .849 .797)
# and A (.095); Wikipedia for three raters (.691, .811); digits from krippendorff 0.9.0
@pytest.mark.parametrize(
    ("raters", "scale", "value"),
    [
        (FOUR_RATERS, "nominal", 0.74342105),
        (FOUR_RATERS, "ordinal", 0.81538750),
        (FOUR_RATERS, "interval", 0.84910714),
        (FOUR_RATERS, "ratio", 0.79740277),
        (THREE_RATERS, "nominal", 0.69135802),
        (THREE_RATERS, "ordinal", 0.80672142),
        (THREE_RATERS, "interval", 0.81084489),
        (THREE_RATERS, "ratio", 0.80894367),
        (TWO_RATERS, "nominal", 0.09523810),
    ],
)
def test_alpha_agrees_with_krippendorff(
    raters: tuple[tuple[float, ...], ...], scale: Scale, value: float
) -> None:
    assert alpha(np.transpose(raters), scale).estimate == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize("scale", SCALES)
def test_perfect_agreement_gives_one_without_bounds(scale: Scale) -> None:
    found = alpha([[1, 1], [2, 2], [4, 4]], scale, n_resamples=200)
    assert found.estimate == 1.0
    assert math.isnan(found.low)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "ratings",
    [
        [[N, N], [N, N]],
        [[1, N], [N, 2]],
        [[3, 3], [3, 3]],
        [[0.1, 0.1, 0.1], [0.1, N, 0.1]],
        np.empty((0, 2)),
    ],
)
def test_alpha_is_nan_where_nothing_can_disagree(ratings: object, scale: Scale) -> None:
    assert math.isnan(alpha(ratings, scale).estimate)


@pytest.mark.parametrize("scale", SCALES)
def test_one_unit_in_two_minds_has_an_alpha_of_zero_without_bounds(scale: Scale) -> None:
    # the only pair that chance can draw is the pair that was seen
    found = alpha([[1, 2]], scale)
    assert found.estimate == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(found.low)


def test_the_ratio_scale_has_no_negative_ratings() -> None:
    with pytest.raises(ValueError, match="negative"):
        alpha([[1, -1], [2, 2]], "ratio")


@pytest.mark.parametrize("scale", SCALES)
def test_clusters_of_one_are_no_clusters(scale: Scale) -> None:
    ratings = np.transpose(FOUR_RATERS)
    clustered = krippendorff_alpha(
        ratings, scale=scale, rng=np.random.default_rng(3), clusters=np.arange(12)
    )
    assert clustered == alpha(ratings, scale, n_resamples=2000, seed=3)


def test_copies_in_clusters_do_not_narrow_the_bounds() -> None:
    ratings = np.transpose(FOUR_RATERS)
    twice = np.repeat(ratings, 2, axis=0)
    rng = np.random.default_rng(0)
    found = krippendorff_alpha(
        twice, scale="interval", rng=rng, clusters=np.repeat(np.arange(12), 2)
    )
    once = alpha(ratings, "interval", n_resamples=2000)
    assert found.high - found.low == pytest.approx(once.high - once.low, rel=0.1)


@pytest.mark.parametrize("scale", SCALES)
def test_two_thousand_resamples_of_five_hundred_units_take_less_than_a_second(
    scale: Scale,
) -> None:
    ratings = np.random.default_rng(0).integers(1, 6, size=(500, 3))
    started = time.process_time()
    found = alpha(ratings, scale, n_resamples=2000)
    assert time.process_time() - started < 1.0
    assert found.low < 0.0 < found.high  # ratings at random


@settings(deadline=None)
@given(TABLES, st.sampled_from(SCALES), st.integers(0, 100))
def test_alpha_does_not_depend_on_who_rated_or_on_the_order_of_units(
    table: FloatArray, scale: Scale, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(table, axis=1)[rng.permutation(len(table))]
    expected = alpha(table, scale).estimate
    assert alpha(shuffled, scale).estimate == pytest.approx(expected, abs=1e-9, nan_ok=True)


@settings(deadline=None)
@given(TABLES)
def test_each_scale_ignores_what_it_should(table: FloatArray) -> None:
    relabelled = np.select([table == 1, table == 2, table == 3, table == 4], [3, 1, 4, 2], table)
    changes: dict[Scale, FloatArray] = {
        "nominal": relabelled,
        "ordinal": table**3,
        "interval": 7 - 2.5 * table,
        "ratio": 2.5 * table,
    }
    for scale, changed in changes.items():
        one, other = alpha(table, scale).estimate, alpha(changed, scale).estimate
        assert one == pytest.approx(other, abs=1e-9, nan_ok=True)


@settings(deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 20), st.just(2)), elements=st.integers(1, 3)))
def test_nominal_alpha_of_two_raters_is_scotts_pi_but_for_small_samples(
    table: FloatArray,
) -> None:
    # Krippendorff (2004), Human Commun. Res. 30:411-433: alpha = pi + (1 - pi) / 2n
    pi = fleiss_kappa(label_counts(table, labels=(1, 2, 3))).estimate
    expected = pi + (1 - pi) / (2 * len(table))
    assert alpha(table, "nominal").estimate == pytest.approx(expected, abs=1e-9, nan_ok=True)
