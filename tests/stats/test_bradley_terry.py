from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, stats

from evalkit.stats.bradley_terry import (
    BradleyTerry,
    bootstrap_strengths,
    contrast,
    fit,
    rank_ranges,
)
from evalkit.stats.intervals import FloatArray

# Stigler (1994): citations among Biometrika, Comm. Statist., JASA and JRSS B, the cited in the row
CITATIONS = np.array([[0, 730, 498, 221], [33, 0, 68, 17], [320, 813, 0, 142], [284, 276, 325, 0]])
WINS = np.array([[0.0, 12, 9], [5, 0, 8], [4, 6, 0]])
TIES = np.array([[0.0, 3, 4], [3, 0, 2], [4, 2, 0]])
COUNTS = arrays(float, (4, 4), elements=st.integers(0, 9).map(float)).map(
    lambda table: table * (1 - np.eye(4))
)
SPARSE = arrays(float, (4, 4), elements=st.sampled_from([0.0, 0, 0, 1, 2])).map(
    lambda table: table * (1 - np.eye(4))
)


def probabilities(model: BradleyTerry) -> tuple[FloatArray, FloatArray]:
    """Of row beating column, and of a tie, straight from the definition."""
    worth = np.exp(model.strengths)
    root = np.sqrt(np.outer(worth, worth))
    total = worth[:, None] + worth[None, :] + model.tie * root
    return worth[:, None] / total, model.tie * root / total


def tournament(strengths: FloatArray, n: int, *, rng: np.random.Generator) -> FloatArray:
    """(n, m, m): n prompts, on each of which all pairs are compared once."""
    m = strengths.size
    chance = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    is_won = rng.random((n, m, m)) < chance
    upper = np.triu(np.ones((m, m)), 1)
    return np.asarray(is_won * upper + np.swapaxes(~is_won * upper, 1, 2))


def test_the_citations_agree_with_r() -> None:
    found = fit(CITATIONS)
    # R package BradleyTerry2, data(citations); choix 0.4.1 and statsmodels 0.15 GLM agree
    assert found.strengths == pytest.approx([0, -2.9490725, -0.47956977, 0.26895406], abs=5e-9)
    assert found.stderrs == pytest.approx([0, 0.10254534, 0.06058873, 0.07082997], abs=5e-9)
    assert found.tie == 0.0
    chance, _ = probabilities(found)
    played = CITATIONS + CITATIONS.T
    share = CITATIONS / np.where(played, played, 1)
    terms = CITATIONS[share > 0] * np.log((share / chance)[share > 0])
    assert 2 * terms.sum() == pytest.approx(4.29338396988893)


def test_ties_agree_with_a_log_linear_fit() -> None:
    found = fit(WINS, ties=TIES)
    # statsmodels 0.15 GLM(Poisson) with a factor for each pair: Davidson's model is log-linear
    assert found.strengths == pytest.approx([0, -0.7533207533, -0.903399932], abs=5e-10)
    assert found.stderrs == pytest.approx([0, 0.4380088451, 0.4623148927], abs=5e-10)
    assert found.tie == pytest.approx(0.4335971089, abs=5e-10)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50))
def test_two_items_have_a_closed_form(w: int, x: int, t: int) -> None:
    found = fit([[0, w], [x, 0]], ties=[[0, t], [t, 0]])
    assert found.strengths[1] == pytest.approx(math.log(x / w), abs=1e-8)
    assert found.stderrs[1] == pytest.approx(math.sqrt(1 / w + 1 / x), rel=1e-8)
    assert found.tie == pytest.approx(t / math.sqrt(w * x), rel=1e-8)


@settings(max_examples=60, deadline=None)
@given(COUNTS, COUNTS.map(lambda table: table + table.T), st.booleans())
def test_the_fit_expects_what_was_counted(wins: FloatArray, ties: FloatArray, tied: bool) -> None:
    wins = wins + 1 - np.eye(4)
    found = fit(wins, ties=ties if tied else None)
    ties = ties if tied else np.zeros_like(ties)
    chance, tie = probabilities(found)
    played = wins + wins.T + ties
    points = (wins + ties / 2).sum(axis=1)
    assert (played * (chance + tie / 2)).sum(axis=1) == pytest.approx(points, rel=1e-7)
    assert np.sum(played * tie * (1 - np.eye(4))) == pytest.approx(ties.sum(), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.permutations(range(4)))
def test_names_do_not_matter(wins: FloatArray, order: list[int]) -> None:
    wins = wins + 1 - np.eye(4)
    plain, moved = fit(wins), fit(wins[np.ix_(order, order)])
    for place, item in enumerate(order):
        one, other = contrast(plain, item, order[0]), contrast(moved, place, 0)
        assert (one.estimate, one.stderr) == pytest.approx((other.estimate, other.stderr), abs=1e-7)
    assert rank_ranges(moved).tolist() == rank_ranges(plain)[order].tolist()


def can_grow(wins: FloatArray, ties: FloatArray) -> bool:
    """Whether a direction of (strengths, log v) makes nothing that was seen less likely.

    That is when a likelihood has no maximum: a set of linear inequalities, one for each outcome
    seen and each that could have been seen in its place.
    """
    m, has_ties = len(wins), bool(ties.any())
    unit = np.eye(m + 1)
    rivals = []
    for i, j in zip(*np.nonzero(wins + wins.T + ties), strict=True):
        win, loss, tie = unit[i], unit[j], (unit[i] + unit[j]) / 2 + unit[m]
        if wins[i, j]:
            rivals += [loss - win] + [tie - win] * has_ties
        if ties[i, j]:
            rivals += [win - tie]
    limits = [(0, 0), *[(-1, 1)] * (m - 1), (-1, 1) if has_ties else (0, 0)]
    found = [
        optimize.linprog(
            sign * goal, A_ub=rivals or None, b_ub=[0] * len(rivals) or None, bounds=limits
        )
        for goal in unit
        for sign in (1, -1)
    ]
    return any(float(x.fun or 0.0) < -1e-6 for x in found)


@settings(max_examples=60, deadline=None)
@given(SPARSE, SPARSE.map(lambda table: np.triu(table) + np.triu(table).T))
def test_a_fit_is_refused_just_when_strengths_can_grow_without_limit(
    wins: FloatArray, ties: FloatArray
) -> None:
    if can_grow(wins, ties):
        with pytest.raises(ValueError, match="set prior"):
            fit(wins, ties=ties)
    else:
        assert np.abs(fit(wins, ties=ties).strengths).max() < 15
    assert np.isfinite(fit(wins, ties=ties, prior=0.5).strengths).all()


@pytest.mark.parametrize(
    ("wins", "ties", "message"),
    [
        ([[0, 3], [0, 0]], None, "item 1 won nothing"),  # never beaten
        ([[0, 1, 0], [1, 0, 0], [0, 0, 0]], None, "won nothing"),  # never compared
        (
            [[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 2], [0, 0, 1, 0]],
            None,
            "items 2, 3 won nothing",
        ),
        ([[0, 0], [0, 0]], [[0, 2], [2, 0]], "ties have no finite estimate"),  # nothing but ties
        ([[0, 1], [0, 0]], [[0, 1], [1, 0]], "ties have no finite estimate"),
    ],
)
def test_what_has_no_finite_fit_is_refused(
    wins: list[list[int]], ties: list[list[int]] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(wins, ties=ties)


def test_a_tie_can_close_the_circle_that_wins_leave_open() -> None:
    # 0 beats 1, 1 beats 2, 0 ties with 2: by symmetry 1 lies midway
    found = fit([[0, 1, 0], [0, 0, 1], [0, 0, 0]], ties=[[0, 0, 1], [0, 0, 0], [1, 0, 0]])
    assert found.strengths[2] == pytest.approx(2 * found.strengths[1])
    assert found.strengths[1] < 0


def test_the_prior_is_wins_added_both_ways() -> None:
    healed = fit([[0, 3], [0, 0]], prior=0.5)
    assert healed.strengths[1] == pytest.approx(math.log(0.5 / 3.5))


def test_counts_that_cannot_be_are_refused() -> None:
    tables: list[list[list[float]]] = [
        [[0.0]],
        [[0, 1]],
        [[1, 1], [1, 0]],
        [[0, -1], [1, 0]],
        [[0, math.nan], [1, 0]],
    ]
    for wins in tables:
        with pytest.raises(ValueError, match="counts must be"):
            fit(wins)
    with pytest.raises(ValueError, match="symmetric"):
        fit([[0, 1], [1, 0]], ties=[[0, 1], [2, 0]])
    with pytest.raises(ValueError, match="prior"):
        fit([[0, 1], [1, 0]], prior=-1)


def test_a_contrast_is_the_log_odds_ratio() -> None:
    found = contrast(fit([[0, 10], [30, 0]]), 1)
    assert found.estimate == pytest.approx(math.log(3))
    z = float(stats.norm.ppf(0.975))
    assert found.high - found.estimate == pytest.approx(z * math.sqrt(1 / 10 + 1 / 30))
    itself = contrast(fit([[0, 10], [30, 0]]), 1, 1)
    assert (itself.estimate, itself.low, itself.high) == (0.0, 0.0, 0.0)


def test_items_far_apart_have_one_rank_each_and_items_alike_have_all() -> None:
    assert rank_ranges(fit(CITATIONS)).tolist() == [[2, 2], [4, 4], [3, 3], [1, 1]]
    even = 10 * (1 - np.eye(4))
    assert rank_ranges(fit(even)).tolist() == [[1, 4]] * 4


def test_a_gap_must_exceed_what_all_pairs_together_allow() -> None:
    # all differences have variance 1; of three pairs z = Phi^-1((1 + .95^(1/3)) / 2) = 2.3877
    covariance = np.array([[0, 0, 0], [0, 1, 0.5], [0, 0.5, 1]])
    model = BradleyTerry(
        strengths=np.array([0.0, 2.38, 4.78]),
        stderrs=np.sqrt(np.diag(covariance)),
        covariance=covariance,
        tie=0.0,
    )
    assert rank_ranges(model).tolist() == [[2, 3], [2, 3], [1, 1]]


def test_the_true_ranks_are_inside_together_as_often_as_is_said() -> None:
    strengths = np.array([0.0, 0.4, 0.8, 1.2])
    n_inside = 0
    for seed in range(400):
        wins = tournament(strengths, 60, rng=np.random.default_rng(seed)).sum(axis=0)
        ranges = rank_ranges(fit(wins))
        true = np.array([4, 3, 2, 1])
        n_inside += bool((ranges[:, 0] <= true).all() and (true <= ranges[:, 1]).all())
    assert n_inside / 400 >= 0.95


def test_the_bootstrap_spreads_as_the_information_says() -> None:
    rng = np.random.default_rng(1)
    wins = tournament(np.array([0.0, 0.5, 1.0, -0.5]), 300, rng=rng)
    found = bootstrap_strengths(wins, rng=rng, n_resamples=400)
    model = fit(wins.sum(axis=0))
    # 400 draws know a standard error to 3.5 %
    assert [x.stderr for x in found] == pytest.approx(model.stderrs.tolist(), rel=0.15)
    assert [x.estimate for x in found] == pytest.approx(model.strengths.tolist())
    for item in (1, 2, 3):
        wald = contrast(model, item)
        assert found[item].low == pytest.approx(wald.low, abs=0.3 * wald.stderr)
    assert (found[0].low, found[0].high, found[0].stderr) == (0.0, 0.0, 0.0)


def test_copies_within_a_prompt_add_no_certainty_to_the_bootstrap() -> None:
    wins = tournament(np.array([0.0, 0.5, 1.0]), 80, rng=np.random.default_rng(2))
    one = bootstrap_strengths(wins, rng=np.random.default_rng(3), n_resamples=200)
    four = bootstrap_strengths(4 * wins, rng=np.random.default_rng(3), n_resamples=200)
    for alone, copied in zip(one, four, strict=True):
        assert (alone.low, alone.high) == pytest.approx((copied.low, copied.high), abs=1e-7)


def test_resampled_ties_keep_their_part() -> None:
    rng = np.random.default_rng(4)
    wins = tournament(np.zeros(3), 100, rng=rng)
    is_tied = np.triu(rng.random((100, 3, 3)) < 0.3, 1)
    is_tied = is_tied | np.swapaxes(is_tied, 1, 2)
    decided, ties = wins * ~is_tied, is_tied.astype(float)
    found = bootstrap_strengths(decided, ties=ties, rng=rng, n_resamples=300)
    model = fit(decided.sum(axis=0), ties=ties.sum(axis=0))
    assert [x.stderr for x in found] == pytest.approx(model.stderrs.tolist(), rel=0.2)


def test_a_bootstrap_that_often_has_no_fit_gives_nan() -> None:
    wins = np.zeros((3, 2, 2))
    wins[:2, 0, 1], wins[2, 1, 0] = 1, 1  # a third of the resamples lack the only upset
    found = bootstrap_strengths(wins, rng=np.random.default_rng(5), n_resamples=100)
    assert found[1].estimate == pytest.approx(-math.log(2))
    assert math.isnan(found[1].low)
    single = bootstrap_strengths(wins.sum(axis=0)[None], rng=np.random.default_rng(6))
    assert math.isnan(single[1].stderr)
