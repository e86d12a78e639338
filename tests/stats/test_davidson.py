"""Ties in pairwise ranking, and errors that hold where comparisons hang together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evalkit.stats.bradley_terry import contrast, fit, rank_ranges, robust_fit
from evalkit.stats.intervals import FloatArray

# Davidson (1970), example 2: six brands of chocolate pudding; i, j, i won, j won, tied
PUDDING = """
    1 2 19 22 16   1 3 16 19 12   2 3 19 19 10   1 4 18 23 13   2 4 23 19 9
    3 4 19 20 15   1 5 13 19 18   2 5 16 20 12   3 5 16 15 17   4 5 17 14 16
    1 6 18 21 12   2 6 22 20 12   3 6 13 18 10   4 6 14 19 18   5 6 11 21 12
"""
UNITS = arrays(float, (8, 3, 3), elements=st.sampled_from([0.0, 0, 1, 2])).map(
    lambda table: table * (1 - np.eye(3))
)


def tables(text: str) -> tuple[FloatArray, FloatArray]:
    wins, ties = np.zeros((2, 6, 6))
    for i, j, won, lost, tied in np.array(text.split(), dtype=int).reshape(-1, 5):
        wins[i - 1, j - 1], wins[j - 1, i - 1] = won, lost
        ties[i - 1, j - 1] = ties[j - 1, i - 1] = tied
    return wins, ties


def test_the_puddings_are_as_davidson_has_them() -> None:
    wins, ties = tables(PUDDING)
    found = fit(wins, ties=ties)
    worth = np.exp(found.strengths) / np.exp(found.strengths).sum()
    # R package PlackettLuce, vignette "Introduction to PlackettLuce", sec. 2.1.1: "the same worth
    # parameters as Davidson (1970)", after seven steps; standard errors from its sec. 2.2
    expected = [0.1388005, 0.1729985, 0.1617420, 0.1653930, 0.1586805, 0.2023855]
    assert worth == pytest.approx(expected, abs=5e-5)
    assert found.tie == pytest.approx(0.7468147, abs=5e-5)
    errors = [0, 0.1872168, 0.1935181, 0.1882110, 0.1927043, 0.1924059]
    assert found.stderrs == pytest.approx(errors, abs=2e-6)
    # "none of the tests provides significant evidence against the null hypothesis"
    assert rank_ranges(found).tolist() == [[1, 6]] * 6


def drawn(
    n: int, strengths: FloatArray, tie: float, *, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """(n, m, m) wins and ties: n prompts, on each of which all pairs are compared once."""
    m = strengths.size
    wins, ties = np.zeros((2, n, m, m))
    for i in range(m):
        for j in range(i + 1, m):
            half = (strengths[i] - strengths[j]) / 2
            chances = np.array([math.exp(half), math.exp(-half), tie])
            outcome = rng.choice(3, size=n, p=chances / chances.sum())
            wins[:, i, j], wins[:, j, i] = outcome == 0, outcome == 1
            ties[:, i, j] = ties[:, j, i] = outcome == 2
    return wins, ties


def test_the_sandwich_is_the_information_where_the_model_is_true() -> None:
    wins, ties = drawn(3000, np.array([0.0, 0.5, -0.5]), 0.6, rng=np.random.default_rng(0))
    plain = fit(wins.sum(axis=0), ties=ties.sum(axis=0))
    robust = robust_fit(wins, ties=ties)
    assert robust.strengths == pytest.approx(plain.strengths)
    assert robust.tie == pytest.approx(plain.tie)
    assert robust.stderrs == pytest.approx(plain.stderrs, rel=0.05)


def test_two_items_have_a_sandwich_in_closed_form() -> None:
    # log(x / w) of counts: the delta method with the variance of the units' own sums
    rng = np.random.default_rng(1)
    wins = np.zeros((40, 2, 2))
    wins[:, 0, 1], wins[:, 1, 0] = rng.poisson(2, 40), rng.poisson(3, 40)
    found = robust_fit(wins)
    total = wins.sum(axis=0)
    influence = wins[:, 1, 0] / total[1, 0] - wins[:, 0, 1] / total[0, 1]
    assert found.strengths[1] == pytest.approx(math.log(total[1, 0] / total[0, 1]))
    assert found.stderrs[1] == pytest.approx(math.sqrt(40 / 39 * np.sum(influence**2)))


@settings(max_examples=30, deadline=None)
@given(UNITS, UNITS, st.permutations(range(3)), st.permutations(range(8)))
def test_neither_units_nor_names_matter(
    wins: FloatArray, halves: FloatArray, order: list[int], units: list[int]
) -> None:
    wins = wins + 0.5 * (1 - np.eye(3))  # every item beats every other
    ties = halves + np.swapaxes(halves, 1, 2)
    plain = robust_fit(wins, ties=ties)
    turned = np.ix_(units, order, order)
    moved = robust_fit(wins[turned], ties=ties[turned])
    for place, item in enumerate(order):
        one, other = contrast(plain, item, order[0]), contrast(moved, place, 0)
        assert (one.estimate, one.stderr) == pytest.approx((other.estimate, other.stderr), abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(UNITS)
def test_swapping_winners_and_losers_turns_strengths_round(wins: FloatArray) -> None:
    wins = wins + 0.5 * (1 - np.eye(3))
    plain, swapped = robust_fit(wins), robust_fit(np.swapaxes(wins, 1, 2))
    assert swapped.strengths == pytest.approx(-plain.strengths, abs=1e-8)
    assert swapped.covariance == pytest.approx(plain.covariance, abs=1e-8)


def test_copies_within_a_prompt_widen_the_plain_error_only() -> None:
    wins, ties = drawn(80, np.array([0.0, 0.5, 1.0]), 0.5, rng=np.random.default_rng(2))
    once, often = robust_fit(wins, ties=ties), robust_fit(4 * wins, ties=4 * ties)
    assert often.stderrs == pytest.approx(once.stderrs, rel=1e-6)
    assert often.stderrs[1] > 1.5 * fit(4 * wins.sum(axis=0), ties=4 * ties.sum(axis=0)).stderrs[1]


def test_prompts_that_favour_a_side_are_covered() -> None:
    # each prompt has its own taste: a shift between items 0 and 1 of standard deviation 2, and
    # five comparisons. What fits best is log odds of the mean chance of winning, by symmetry 0
    rng = np.random.default_rng(3)
    n_robust = n_plain = 0
    for _ in range(300):
        wins = np.zeros((60, 2, 2))
        wins[:, 1, 0] = rng.binomial(5, 1 / (1 + np.exp(-2 * rng.normal(size=60))))
        wins[:, 0, 1] = 5 - wins[:, 1, 0]
        robust, plain = contrast(robust_fit(wins), 1), contrast(fit(wins.sum(axis=0)), 1)
        n_robust += robust.low <= 0 <= robust.high
        n_plain += plain.low <= 0 <= plain.high
    low, high = stats.binom.interval(0.999, 300, 0.95)
    assert low <= n_robust <= high
    assert n_plain < low


def test_the_true_ranks_lie_within_robust_ranges() -> None:
    strengths = np.array([0.0, 0.4, 0.8, 1.2])
    n_inside = 0
    for seed in range(150):
        wins, ties = drawn(60, strengths, 0.5, rng=np.random.default_rng(seed))
        ranges = rank_ranges(robust_fit(wins, ties=ties))
        true = np.array([4, 3, 2, 1])
        n_inside += bool((ranges[:, 0] <= true).all() and (true <= ranges[:, 1]).all())
    assert n_inside >= stats.binom.ppf(0.001, 150, 0.95)


def test_an_undefeated_item_is_refused_or_regularised() -> None:
    wins = np.zeros((40, 2, 2))
    wins[:, 0, 1] = 1.0
    with pytest.raises(ValueError, match="item 1 won nothing"):
        robust_fit(wins)
    healed = robust_fit(wins, prior=0.5)
    assert healed.strengths[1] == pytest.approx(math.log(0.5 / 40.5))


def test_one_unit_tells_no_error_and_so_no_rank() -> None:
    wins = np.array([[[0.0, 30, 30], [1, 0, 9], [1, 9, 0]]])
    found = robust_fit(wins)
    assert math.isnan(found.stderrs[1])
    assert rank_ranges(found).tolist() == [[1, 3]] * 3
    with pytest.raises(ValueError, match=r"\(n, m, m\)"):
        robust_fit(wins[0])
