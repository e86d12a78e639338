from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evalkit.stats.intervals import FloatArray
from evalkit.stats.multiplicity import benjamini_hochberg, benjamini_yekutieli, hochberg, holm

Adjust = Callable[[FloatArray], FloatArray]
ALL: list[Adjust] = [holm, hochberg, benjamini_hochberg, benjamini_yekutieli]
P_VALUES = arrays(float, st.integers(1, 12), elements=st.floats(0, 1))

# Benjamini and Hochberg (1995), sec. 3.1: fifteen tests of a myocardial infarction trial
FIFTEEN = np.array(
    (
        *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459),
        *(0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
    )
)


# R p.adjust; statsmodels 0.15 multipletests (hochberg: simes-hochberg)
@pytest.mark.parametrize(
    ("adjust", "expected"),
    [
        (holm, [0.05, 0.08, 0.09, 0.09, 0.09]),
        (hochberg, [0.05] * 5),
        (benjamini_hochberg, [0.05] * 5),
        (benjamini_yekutieli, [0.11416666666666667] * 5),
    ],
)
def test_five_p_values_agree_with_r(adjust: Adjust, expected: list[float]) -> None:
    assert adjust(np.array([0.01, 0.02, 0.03, 0.04, 0.05])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("adjust", "expected"),
    [
        (holm, [0.0015, 0.0056, 0.0247, 0.114, 0.2211, 0.278, 0.278, 0.278, 0.3213]),
        (hochberg, [0.0015, 0.0056, 0.0247, 0.114, 0.2211, 0.2682, 0.2682, 0.2752, 0.3213]),
        (
            benjamini_hochberg,
            [0.0015, 0.003, 0.0095, 0.035625, 0.0603, *[0.06385714285714286] * 2, 0.0645, 0.0765],
        ),
        (
            benjamini_yekutieli,
            [
                *(0.004977343489843491, 0.009954686979686982, 0.03152317543567544),
                *(0.11821190788378289, 0.20008920829170831, 0.21189262285333715),
                *(0.21189262285333715, 0.2140257700632701, 0.253844517982018),
            ],
        ),
    ],
)
def test_the_fifteen_of_1995_agree_with_statsmodels(adjust: Adjust, expected: list[float]) -> None:
    assert adjust(FIFTEEN)[:9] == pytest.approx(expected)


def test_the_fifteen_of_1995_reject_as_the_paper_says() -> None:
    assert np.count_nonzero(benjamini_hochberg(FIFTEEN) <= 0.05) == 4
    assert np.count_nonzero(holm(FIFTEEN) <= 0.05) == 3


@given(P_VALUES)
def test_the_false_discovery_rates_are_scipys(p: FloatArray) -> None:
    expected = stats.false_discovery_control(p, method="bh")
    assert benjamini_hochberg(p) == pytest.approx(expected, abs=1e-12)
    expected = stats.false_discovery_control(p, method="by")
    assert benjamini_yekutieli(p) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("adjust", ALL)
@given(p=P_VALUES, seed=st.integers(0, 99))
def test_order_does_not_matter(adjust: Adjust, p: FloatArray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(p.size)
    assert np.array_equal(adjust(p)[order], adjust(p[order]))


@given(P_VALUES)
def test_adjusted_values_are_ordered_by_strictness(p: FloatArray) -> None:
    bonferroni = np.minimum(1.0, p.size * p)
    eps = 1e-12
    assert (p <= benjamini_hochberg(p) + eps).all()
    assert (benjamini_hochberg(p) <= hochberg(p) + eps).all()
    assert (hochberg(p) <= holm(p) + eps).all()
    assert (holm(p) <= bonferroni + eps).all()
    assert (benjamini_hochberg(p) <= benjamini_yekutieli(p) + eps).all()


@pytest.mark.parametrize("adjust", ALL)
@given(p=P_VALUES)
def test_nan_stays_nan_and_does_not_count(adjust: Adjust, p: FloatArray) -> None:
    holed = np.insert(p, [0, p.size], math.nan)
    found = adjust(holed)
    assert np.isnan(found[[0, -1]]).all()
    assert np.array_equal(found[1:-1], adjust(p))


@pytest.mark.parametrize("adjust", ALL)
def test_nothing_to_adjust_gives_nothing(adjust: Adjust) -> None:
    assert adjust(np.empty(0)).size == 0
    assert np.isnan(adjust(np.array([math.nan]))).all()


@pytest.mark.parametrize("adjust", ALL)
def test_what_is_no_probability_is_refused(adjust: Adjust) -> None:
    for p in ([1.1], [-0.1, 0.5]):
        with pytest.raises(ValueError, match="0 and 1"):
            adjust(np.array(p))
    with pytest.raises(ValueError, match=r"\(m,\)"):
        adjust(np.ones((2, 2)))
