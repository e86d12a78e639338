from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from evalkit.stats.paired_score import score_interval, score_z


# R packages contingencytables 3.0 (Bentur 2009, Cavo 2012), ratesci and PropCIs 0.3 (25, 28, 618)
@pytest.mark.parametrize(
    ("only_a", "only_b", "n", "level", "low", "high", "digits"),
    [
        (7, 1, 21, 0.95, -0.517, -0.026, 3),
        (16, 6, 161, 0.95, -0.1240, -0.0054, 4),
        (25, 28, 618, 0.90, -0.0148, 0.0247, 4),
    ],
)
def test_the_score_interval_agrees_with_r(
    only_a: int, only_b: int, n: int, level: float, low: float, high: float, digits: int
) -> None:
    found = score_interval(only_a, only_b, n, level=level)
    assert tuple(round(x, digits) for x in found) == (low, high)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 30), st.integers(1, 30), st.integers(1, 60), st.sampled_from([-0.4, -0.05, 0.2])
)
def test_the_score_variance_is_that_of_the_most_likely_table(
    x: int, y: int, rest: int, difference: float
) -> None:
    n = x + y + rest

    def minus_log(share: float) -> float:
        return -float(
            x * np.log(share)
            + y * np.log(share + difference)
            + rest * np.log(1 - 2 * share - difference)
        )

    start, stop = max(0.0, -difference), (1 - difference) / 2
    best = optimize.minimize_scalar(
        minus_log, bounds=(start + 1e-12, stop - 1e-12), options={"xatol": 1e-12}
    ).x
    expected = (y - x - n * difference) / math.sqrt(
        n * (2 * best + difference - difference * difference)
    )
    assert score_z(x, y, n, difference=difference) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_at_no_difference_the_score_is_mcnemars() -> None:
    # R package contingencytables on Cavo et al. (2012): Z = -2.132
    assert score_z(16, 6, 161, difference=0.0) == pytest.approx(-2.132, abs=5e-4)


def coverage(n: int, p_only_a: float, p_only_b: float) -> float:
    """The share of all tables of ``n`` pairs, as likely as they are, whose interval covers."""
    covered = 0.0
    for x, y in itertools.product(range(n + 1), repeat=2):
        if x + y > n:
            continue
        low, high = score_interval(x, y, n, level=0.95)
        shares = [p_only_a, p_only_b, 1 - p_only_a - p_only_b]
        if low <= p_only_b - p_only_a <= high:
            covered += float(stats.multinomial.pmf([x, y, n - x - y], n, shares))
    return covered


@pytest.mark.parametrize(("p_only_a", "p_only_b"), [(0.02, 0.02), (0.05, 0.1), (0.3, 0.1)])
def test_the_score_interval_covers_by_exact_enumeration(p_only_a: float, p_only_b: float) -> None:
    assert coverage(20, p_only_a, p_only_b) >= 0.94
