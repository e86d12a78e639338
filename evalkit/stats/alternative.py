"""May a judge stand in for one of several people? The alternative-annotator test.

It asks whether the judge agrees with the other people as well as a person does. On a skewed scale
a judge that always gives the commonest score does: so ``discrimination`` must be passed as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    cluster_codes,
    cluster_t_interval,
    t_interval,
    undefined,
    wilson_mean,
)
from evalkit.stats.multiplicity import benjamini_yekutieli
from evalkit.stats.regression import ols_effects

Alignment = Literal["accuracy", "rmse"]

_MIN_HUMANS = 3
_TIE = 1e-12  # alignments closer than this differ by rounding alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """The judge in one person's place. Both ``wins`` count ties, so they add up to 1 or more."""

    human: int  # the column
    n: int  # items that this person, another one and the judge have all marked
    judge_wins: float  # share of items on which the judge is at least as near to the others
    human_wins: float
    p_value: float  # one-sided, of human_wins - judge_wins >= epsilon; nan with too few items
    p_adjusted: float  # Benjamini and Yekutieli's
    is_won: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AlternativeTest:
    """Whether the judge may replace people; ``reason`` says why there is no answer, if so."""

    seats: tuple[Seat, ...]  # one a person
    winning_rate: float  # omega: share of people that the judge beats; 0.5 is asked for
    advantage: Interval  # rho: chance that the judge is as near to the others as a person
    epsilon: float
    alpha: float
    n_items: int  # with two people or more
    n_unjudged: int  # of these, without a verdict of the judge
    is_passed: bool
    reason: str


def alternative_test(
    judge: ArrayLike,
    humans: ArrayLike,
    *,
    epsilon: float,
    alignment: Alignment = "accuracy",
    clusters: ArrayLike | None = None,
    min_items: int = 30,
    alpha: float = 0.05,
    level: float = 0.95,
) -> AlternativeTest:
    """Test ``judge`` (n,) against ``humans`` (n, h), nan being a missing mark; labels are numbers.

    ``epsilon`` is what a cheaper judge may lack: 0.2 where people are experts, 0.15 where they are
    skilled, 0.1 for crowds. ``accuracy`` is for classes, ``rmse`` (its negative) for grades: put
    the judge on the people's scale first, as ties count for it. An item without a verdict is left
    out and counted; a judge that gave up on it loses it, if its verdict there is a number that
    nobody uses. For anything else see `alternative_by_alignment`.
    Source: Calderon, Reichart and Dror (2025), arXiv:2501.10970, sec. 3.
    """
    verdicts, marks = np.asarray(judge, dtype=np.float64), np.asarray(humans, dtype=np.float64)
    if verdicts.ndim != 1 or marks.ndim != 2 or len(marks) != verdicts.size:
        raise ValueError(f"judge must be (n,), humans (n, h): got {verdicts.shape}, {marks.shape}")
    by_judge, by_human = np.full(marks.shape, math.nan), np.full(marks.shape, math.nan)
    for human in range(marks.shape[1]):
        others = np.delete(marks, human, axis=1)
        by_judge[:, human] = _alignment(verdicts, others, alignment)
        by_human[:, human] = _alignment(marks[:, human], others, alignment)
    return alternative_by_alignment(
        by_judge,
        by_human,
        epsilon=epsilon,
        clusters=clusters,
        min_items=min_items,
        alpha=alpha,
        level=level,
    )


def similarity_alignments(
    judge_similarity: ArrayLike, human_similarity: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Alignments of the judge and of each person, both (n, h), from likenesses of their answers.

    ``judge_similarity`` (n, h) is the judge's with each person, ``human_similarity`` (n, h, h) that
    of two people, nan where either is missing. For answers that are texts.
    Source: Calderon, Reichart and Dror (2025), sec. 3.1 (SIM).
    """
    judge = np.asarray(judge_similarity, dtype=np.float64)
    humans = np.array(human_similarity, dtype=np.float64)
    n, h = judge.shape
    if humans.shape != (n, h, h):
        raise ValueError(f"human_similarity must be {(n, h, h)}: got {humans.shape}")
    humans[:, range(h), range(h)] = math.nan
    by_human = _mean_of_known(humans)
    is_known = np.isfinite(humans)  # the people that person j was compared with
    by_judge = _mean_of_known(np.where(is_known, judge[:, None, :], math.nan))
    return np.where(np.isfinite(by_human), by_judge, math.nan), by_human


def alternative_by_alignment(
    judge_alignment: ArrayLike,
    human_alignment: ArrayLike,
    *,
    epsilon: float,
    clusters: ArrayLike | None = None,
    min_items: int = 30,
    alpha: float = 0.05,
    level: float = 0.95,
) -> AlternativeTest:
    """The test from alignments (n, h): how near the judge, and person j, is to the people but j.

    nan in either means that the item does not count for person j. A person with fewer than
    ``min_items`` items is left out; without three people there is no answer. ``clusters`` (n,) are
    items that are not independent: the t tests are then cluster-robust (CR2). Where an item's
    outcome never differs t has no spread: p is then exact, the chance of never seeing the person
    win in as many items (or clusters). The false discovery rate over people is ``alpha``.
    Source: Calderon, Reichart and Dror (2025), arXiv:2501.10970, sec. 3 and algorithm 1.
    """
    by_judge = np.asarray(judge_alignment, dtype=np.float64)
    by_human = np.asarray(human_alignment, dtype=np.float64)
    if by_judge.ndim != 2 or by_judge.shape != by_human.shape:
        raise ValueError(f"alignments must be two (n, h): {by_judge.shape} and {by_human.shape}")
    if not 0 <= epsilon < 1:
        raise ValueError(f"epsilon must be at least 0 and below 1: got {epsilon}")
    codes, _ = cluster_codes(np.arange(len(by_judge)) if clusters is None else clusters)
    judge_wins, human_wins = _wins(by_judge, by_human)
    enough = max(min_items, 2)
    seats = _seats(judge_wins, human_wins, codes, epsilon=epsilon, alpha=alpha, min_items=enough)
    is_counted = np.array([seat.n >= enough for seat in seats], dtype=bool)
    n_people = int(np.count_nonzero(is_counted))
    reason = f"{n_people} of {len(seats)} people have {enough} items or more: 3 are needed"
    rate, advantage = math.nan, undefined(math.nan, level=level, method="t")
    if n_people >= _MIN_HUMANS:
        reason = ""
        rate = sum(seat.is_won for seat in seats) / n_people
        labels = None if clusters is None else codes
        advantage = _advantage(judge_wins[:, is_counted], labels, level=level)
    is_marked = np.isfinite(by_human).any(axis=1)
    return AlternativeTest(
        seats=seats,
        winning_rate=rate,
        advantage=advantage,
        epsilon=epsilon,
        alpha=alpha,
        n_items=int(np.count_nonzero(is_marked)),
        n_unjudged=int(np.count_nonzero(is_marked & np.isnan(judge_wins).all(axis=1))),
        is_passed=rate >= 0.5,
        reason=reason,
    )


def _wins(by_judge: FloatArray, by_human: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n, h) each: 1 where the judge, and where person j, is at least as near; nan if unknown."""
    is_used = np.isfinite(by_judge) & np.isfinite(by_human)
    gap = np.where(is_used, by_judge, 0.0) - np.where(is_used, by_human, 0.0)
    by_judge_won = np.where(is_used, (gap >= -_TIE).astype(np.float64), math.nan)
    return by_judge_won, np.where(is_used, (gap <= _TIE).astype(np.float64), math.nan)


def _seats(
    judge_wins: FloatArray,
    human_wins: FloatArray,
    codes: NDArray[np.intp],
    *,
    epsilon: float,
    alpha: float,
    min_items: int,
) -> tuple[Seat, ...]:
    is_used = np.isfinite(judge_wins)
    counts = is_used.sum(axis=0)
    p = np.full(counts.size, math.nan)
    for j in np.flatnonzero(counts >= min_items):
        rows = is_used[:, j]
        p[j] = _p_of_gap((human_wins - judge_wins)[rows, j], codes[rows], epsilon=epsilon)
    adjusted = benjamini_yekutieli(p)
    return tuple(
        Seat(
            human=j,
            n=int(counts[j]),
            judge_wins=_mean(judge_wins[is_used[:, j], j]),
            human_wins=_mean(human_wins[is_used[:, j], j]),
            p_value=float(p[j]),
            p_adjusted=float(adjusted[j]),
            is_won=bool(adjusted[j] <= alpha),
        )
        for j in range(counts.size)
    )


def _alignment(
    one: FloatArray, others: FloatArray, kind: Literal["accuracy", "rmse"]
) -> FloatArray:
    """(n,): how near ``one`` (n,) is to the ``others`` (n, h - 1); nan where either is missing."""
    is_known = np.isfinite(one)[:, None] & np.isfinite(others)
    if kind == "accuracy":
        return _mean_of_known(np.where(is_known, one[:, None] == others, math.nan))
    with np.errstate(invalid="ignore"):
        squares = np.where(is_known, (one[:, None] - others) ** 2, math.nan)
    return -np.sqrt(_mean_of_known(squares))


def _mean_of_known(values: FloatArray) -> FloatArray:
    """Mean over the last axis of what is not nan; nan where all is."""
    is_known = np.isfinite(values)
    counts = is_known.sum(axis=-1)
    sums = np.where(is_known, values, 0.0).sum(axis=-1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), math.nan)


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else math.nan


def _p_of_gap(gaps: FloatArray, codes: ArrayLike, *, epsilon: float) -> float:
    """One-sided p of a mean gap (of -1, 0 and 1) of ``epsilon`` or more."""
    [found] = ols_effects(gaps, np.ones((gaps.size, 1)), clusters=codes)
    if math.isfinite(found.stderr):
        return float(stats.t.cdf((found.estimate - epsilon) / found.stderr, found.degrees))
    if np.ptp(gaps) > 0:  # in a single cluster
        return math.nan
    if gaps[0] > 0:
        return 1.0
    # no item was won by the person: under the hypothesis each one is, with this chance or more
    chance = epsilon if gaps[0] == 0 else (1 + epsilon) / 2
    return float((1 - chance) ** found.n_clusters)


def _advantage(wins: FloatArray, clusters: ArrayLike | None, *, level: float) -> Interval:
    """The mean over people of the judge's share of wins; items are the units.

    Each item stands for the mean plus its influence on it, which are the items' own means when
    everyone has marked everything.
    """
    is_used = np.isfinite(wins)
    counts = is_used.sum(axis=0)
    shares = np.where(is_used, wins, 0.0).sum(axis=0) / counts
    rho = float(shares.mean())
    influence = np.where(is_used, (wins - shares) / counts, 0.0).mean(axis=1)
    rows = is_used.any(axis=1)
    values = rho + influence[rows] * np.count_nonzero(rows)
    values = np.where(np.abs(values - np.round(values)) < _TIE, np.round(values), values)
    labels = None if clusters is None else np.asarray(clusters)[rows]
    if values.min() >= 0 and values.max() <= 1:
        return wilson_mean(values, labels, level=level)
    if labels is None:
        return t_interval(values, level=level, bounds=(0.0, 1.0))
    return cluster_t_interval(values, labels, level=level, bounds=(0.0, 1.0), correction="cr2")
