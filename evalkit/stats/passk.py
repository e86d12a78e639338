"""What several answers to a problem are worth together: one of k right, all k right, the vote of k.

Each function gives the exact expectation over draws of k of a problem's n answers without
replacement: nothing is drawn at random, and k may be anything up to n. A problem with fewer than
k answers has no value: nan. The mean over problems and its interval are those of ``wilson_mean``:
problems, not answers, are the units.

>>> from evalkit.stats import intervals
>>> found = intervals.wilson_mean(pass_at_k([10, 10, 10, 10], [0, 3, 10, 7], k=5))
>>> round(found.estimate, 4), round(found.low, 4), round(found.high, 4)
(0.7292, 0.2584, 0.9541)
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlog1py, xlogy

from evalkit.stats.intervals import FloatArray

IntArray = NDArray[np.int64]


def pass_at_k(n_answers: ArrayLike, n_right: ArrayLike, *, k: int) -> FloatArray:
    """(p,) chances that at least one of k answers is right, of which ``n_right`` of each n are.

    Both are (p,) counts, or either one number for all problems. ValueError for a k below 1 or
    more right answers than answers.
    Source: Chen et al. (2021), arXiv:2107.03374, eq. 1, as a product.

    >>> pass_at_k(200, [0, 13], k=10).round(6).tolist()
    [0.0, 0.497551]
    """
    n, right = _counts(n_answers, n_right, k=k)
    return _nan_below(k, n, 1 - _none_of(n - right, n, k=k))


def pass_hat_k(n_answers: ArrayLike, n_right: ArrayLike, *, k: int) -> FloatArray:
    """(p,) chances that all of k answers are right: how reliable, where pass@k is how capable.

    Arguments and errors as for ``pass_at_k``.
    Source: Yao et al. (2024), arXiv:2406.12045, sec. 3 (pass^k).

    >>> pass_hat_k(5, [0, 3, 5], k=2).round(6).tolist()
    [0.0, 0.3, 1.0]
    """
    n, right = _counts(n_answers, n_right, k=k)
    return _nan_below(k, n, _none_of(right, n, k=k))


def majority_at_k(answers: Sequence[Hashable | None], scores: ArrayLike, *, k: int) -> float:
    """The expected score of the answer that most of k drawn answers agree on, for one problem.

    ``answers`` are what was found in each response, None where nothing was: that is no vote, but
    takes one of the k places. ``scores`` (n,) are what each answer is worth, 1 for right and 0 for
    wrong, say; equal answers count by the mean of their scores. A tie is split evenly among the
    answers that share it; k responses without a vote score 0.

    Exact for any n and k, as a sum over the votes of the winner and the answers that tie with it:
    the counts of a draw without replacement are independent binomials given their total.
    Source: the vote of Wang et al. (2022), arXiv:2203.11171; its expectation by this sum is ours.

    >>> round(majority_at_k(["4", "4", "5", None], [1, 1, 0, 0], k=2), 6)  # 3 + 2 / 2 of 6 pairs
    0.666667
    """
    if k < 1:
        raise ValueError(f"k={k} is not at least 1")
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(answers),):
        raise ValueError(f"{len(answers)} answers have scores of shape {values.shape}")
    if len(answers) < k:
        return math.nan
    code = {answer: at for at, answer in enumerate(dict.fromkeys(answers)) if answer is not None}
    voting = [at for at, answer in enumerate(answers) if answer is not None]
    if not voting:
        return 0.0
    _, codes = np.unique([code[answers[at]] for at in voting], return_inverse=True)
    votes = np.bincount(codes)
    worth = np.bincount(codes, weights=values[voting]) / votes
    wanted = worth != 0  # the others need no chances
    chances = _chances_to_win(votes, wanted, n=len(answers), k=k)
    return float(chances @ worth[wanted])


def _counts(n_answers: ArrayLike, n_right: ArrayLike, *, k: int) -> tuple[IntArray, IntArray]:
    n, right = np.broadcast_arrays(
        np.atleast_1d(np.asarray(n_answers, dtype=np.int64)), np.asarray(n_right, dtype=np.int64)
    )
    if k < 1:
        raise ValueError(f"k={k} is not at least 1")
    if (right < 0).any() or (right > n).any():
        raise ValueError("n_right is not between 0 and n_answers")
    return n, right


def _none_of(n_wanted: IntArray, n: IntArray, *, k: int) -> FloatArray:
    """C(n_wanted, k) / C(n, k): the chance that k draws see only the wanted ones."""
    chance = np.ones(n.shape)
    for drawn in range(k):
        chance *= np.maximum(n_wanted - drawn, 0) / np.maximum(n - drawn, 1)
    return chance


def _nan_below(k: int, n: IntArray, values: FloatArray) -> FloatArray:
    return np.where(n < k, math.nan, values)


def _chances_to_win(votes: IntArray, wanted: NDArray[np.bool_], *, n: int, k: int) -> FloatArray:
    """Of each wanted one of m answers with ``votes`` (m,) of n: its expected share of the win.

    The votes in the draw are independent Binomial(votes, k / n), and their total, with those who
    do not vote, is k. Answers with equal votes have equal chances.
    """
    rate = k / n
    chance: dict[int, float] = {}
    for count in map(int, np.unique(votes[wanted])):
        rivals = np.delete(votes, np.flatnonzero(votes == count)[0])
        own = _binomial(count, k, rate=rate)
        chance[count] = sum(
            own[level] * _share_against(rivals, n - count, level=level, rest=k - level, rate=rate)
            for level in range(1, min(count, k) + 1)
        )
    shares = np.array([chance[int(count)] for count in votes[wanted]])
    return np.asarray(shares / _binomial(n, k, rate=rate)[k])


def _share_against(rivals: IntArray, n_others: int, *, level: int, rest: int, rate: float) -> float:
    """The expected share in a win with ``level`` votes, when the others have ``rest`` in all.

    Times the chance that they have. ``n_others`` answers are not this one's, the silent among
    them. A rival with fewer than ``level`` votes at all can neither win nor tie: they and the
    silent are one binomial.
    """
    contenders = rivals[rivals >= level]
    n_ties = min(contenders.size, rest // level)
    # (ties so far, votes so far); the columns past rest catch what a convolution carries over
    law = np.zeros((n_ties + 1, rest + 1 + level))
    law[0, : rest + 1] = _binomial(n_others - int(contenders.sum()), rest, rate=rate)
    for count in map(int, contenders):
        votes = _binomial(count, level, rate=rate)
        after = np.convolve(law.reshape(-1), votes[:level])[: law.size].reshape(law.shape)
        after[1:, level:] += votes[level] * law[:-1, :-level]
        after[:, rest + 1 :] = 0.0
        law = after
    return float(np.sum(law[:, rest] / np.arange(1, n_ties + 2)))


def _binomial(n: int, most: int, *, rate: float) -> FloatArray:
    """(most + 1,): the chances of 0, 1, ... successes in n; also for a rate of 1."""
    chances = np.zeros(most + 1)
    found = np.arange(min(n, most) + 1)
    choices = gammaln(n + 1) - gammaln(found + 1) - gammaln(n - found + 1)
    chances[: found.size] = np.exp(choices + xlogy(found, rate) + xlog1py(n - found, -rate))
    return chances
