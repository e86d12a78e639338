"""How far two series of scores of the same examples agree: correlations, and pairs in order.

A correlation over all rows, over systems and items alike, mixes what a judge makes of systems with
what it makes of items: those within items and those of systems are in ``system_agreement.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evalkit.stats.intervals import FloatArray, Interval, cluster_codes, undefined, wilson_mean
from evalkit.stats.reweighting import reweighted_bootstrap
from evalkit.stats.weighted_correlation import (
    Kind,
    weighted_correlation,
    weighted_pair_accuracy,
)

_BLOCK_ROWS = 1024  # of the matrix of pairs
_ROUNDING = 1e-12  # of numbers that are at most of order 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCounts:
    """The pairs of rows, by whether two series put them in the same order."""

    n_concordant: int
    n_discordant: int
    n_tied_x: int  # only in x
    n_tied_y: int
    n_tied_both: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMean:
    """The mean of a statistic over groups of rows, and how many it could not be computed in."""

    interval: Interval
    n_groups: int  # that the mean is of
    n_skipped: int  # too few rows, or a series that does not vary


@dataclass(frozen=True, slots=True, kw_only=True)
class TieCalibration:
    """The difference up to which two scores of x should count as tied."""

    epsilon: float  # in the unit of x
    accuracy: float  # with it, on the data that chose it: optimistic for any others


def pearson(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> Interval:
    """Pearson's correlation of independent rows of ``x`` and ``y`` (n,), with Fisher's interval.

    Rows that lack either are left out. nan where x or y does not vary; nan bounds for fewer than
    four rows and for a correlation of 1 or -1. The standard error is (1 - r²) / sqrt(n - 3), that
    of Fisher's z carried back. For rows in clusters, ``correlation``.
    Source: Fisher (1921), Metron 1:3-32.
    """
    x, y, _ = complete_rows(x, y)
    value = float(weighted_correlation(x, y, kind="pearson")(np.ones((1, x.size)))[0, 0])
    if not (x.size > 3 and abs(value) < 1 - _ROUNDING):
        return undefined(value, level=level, method="fisher-z")
    error = 1 / math.sqrt(x.size - 3)
    margin = float(stats.norm.ppf(0.5 + level / 2)) * error
    return Interval(
        estimate=value,
        stderr=(1 - value**2) * error,
        low=math.tanh(math.atanh(value) - margin),
        high=math.tanh(math.atanh(value) + margin),
        level=level,
        method="fisher-z",
    )


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    *,
    kind: Kind,
    rng: np.random.Generator,
    n_resamples: int = 2000,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Correlation of ``x`` and ``y`` (n,) with BCa bounds over rows, or ``clusters`` (n,) of them.

    Rows that lack either are left out. nan where x or y does not vary; nan bounds for fewer than
    two rows or clusters and where every resample has the same value, as for a correlation of 1.
    Kendall's takes n_resamples n² steps if no two points coincide.
    Source: as for ``weighted_correlation`` and ``reweighted_bootstrap``.
    """
    x, y, kept = complete_rows(x, y, clusters)
    [found] = reweighted_bootstrap(
        weighted_correlation(x, y, kind=kind),
        x.size,
        rng=rng,
        n_resamples=n_resamples,
        clusters=kept,
        level=level,
    )
    return found


def count_pairs(x: ArrayLike, y: ArrayLike, *, epsilon: float = 0.0) -> PairCounts:
    """Pairs of rows of ``x`` and ``y`` (n,) by order; in x a difference up to ``epsilon`` is a tie.

    Rows that lack either are left out. Source: Deutsch, Foster and Freitag (2023),
    arXiv:2305.14324.
    """
    x, y, _ = complete_rows(x, y)
    counts = np.zeros(5, dtype=np.int64)
    for signs_x, signs_y in _pair_signs(x, y, epsilon):
        product = signs_x * signs_y
        is_tied_x, is_tied_y = signs_x == 0, signs_y == 0
        cells = (product > 0, product < 0, is_tied_x & ~is_tied_y, is_tied_y & ~is_tied_x)
        counts += [np.count_nonzero(c) for c in (*cells, is_tied_x & is_tied_y)]
    counts[4] -= x.size  # a row is tied with itself
    a, b, c, d, e = (int(count) // 2 for count in counts)
    return PairCounts(n_concordant=a, n_discordant=b, n_tied_x=c, n_tied_y=d, n_tied_both=e)


def pair_accuracy(
    x: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: float = 0.0,
    rng: np.random.Generator,
    n_resamples: int = 2000,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Share of pairs of rows that ``x`` puts in the order in which ``y`` has them, ties included.

    Both are (n,). A pair is right if both have the same row ahead or both have a tie; in x a
    difference up to ``epsilon`` is one (see ``tie_calibration``). The bounds are BCa's over rows or
    ``clusters`` (n,) of them; a row and its own copy are no pair. Rows that lack either are left
    out; nan for fewer than two. Takes n_resamples n² steps.
    Source: Deutsch, Foster and Freitag (2023), arXiv:2305.14324 (acc_eq).
    """
    x, y, kept = complete_rows(x, y, clusters)
    [found] = reweighted_bootstrap(
        weighted_pair_accuracy(x, y, epsilon=epsilon),
        x.size,
        rng=rng,
        n_resamples=n_resamples,
        clusters=kept,
        level=level,
    )
    return found


def grouped_pair_accuracy(
    x: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike,
    *,
    epsilon: float = 0.0,
    level: float = 0.95,
) -> GroupMean:
    """Mean over ``groups`` (n,) of ``pair_accuracy`` within each, with `wilson_mean`'s interval.

    Groups of fewer than two complete rows are skipped.
    Source: Deutsch, Foster and Freitag (2023), arXiv:2305.14324 (group by item).
    """

    def accuracy(x: FloatArray, y: FloatArray) -> float:
        return float(weighted_pair_accuracy(x, y, epsilon=epsilon)(np.ones((1, x.size)))[0, 0])

    x, y, kept = complete_rows(x, y, groups)
    values = [accuracy(x[rows], y[rows]) for rows in group_rows(kept)]
    return group_mean(values, bounds=(0.0, 1.0), n_groups=cluster_codes(groups)[1], level=level)


def tie_calibration(
    x: ArrayLike, y: ArrayLike, *, groups: ArrayLike | None = None
) -> TieCalibration:
    """The ``epsilon`` with the highest ``pair_accuracy``; of several the smallest.

    It is 0 or one of the differences in x. With ``groups`` (n,) the accuracy is the mean over
    groups of pairs within each. Choose it on other rows than those it will judge: a score that
    takes many values gains from it by chance. Keeps all pairs within groups in memory. nan where
    there are none.
    Source: Deutsch, Foster and Freitag (2023), arXiv:2305.14324.
    """
    x, y, kept = complete_rows(x, y, np.zeros(np.size(x)) if groups is None else groups)
    parts = [_pair_gains(x[rows], y[rows]) for rows in group_rows(kept) if rows.size > 1]
    if not parts:
        return TieCalibration(epsilon=math.nan, accuracy=math.nan)
    gaps = np.concatenate([gap for gap, _, _ in parts])
    change = np.concatenate([tied - ordered for _, ordered, tied in parts])
    start = sum(float(ordered.sum()) for _, ordered, _ in parts)
    order = np.argsort(gaps, kind="stable")
    gaps = gaps[order]
    reached = start + np.cumsum(change[order])
    is_last = np.append(np.diff(gaps) > 0, True)
    epsilons, totals = gaps[is_last], reached[is_last]
    if epsilons[0] > 0:
        epsilons, totals = np.append(0.0, epsilons), np.append(start, totals)
    totals = totals / len(parts)
    best = int(np.argmax(totals >= totals.max() - _ROUNDING))
    return TieCalibration(epsilon=float(epsilons[best]), accuracy=float(totals[best]))


def complete_rows(
    x: ArrayLike, y: ArrayLike, labels: ArrayLike | None = None
) -> tuple[FloatArray, FloatArray, NDArray[Any]]:
    """The rows in which both ``x`` and ``y`` (n,) are finite, with their labels or numbers."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    kept: NDArray[Any] = np.asarray(np.arange(x.size) if labels is None else labels)
    if x.ndim != 1 or x.shape != y.shape or kept.shape != x.shape:
        raise ValueError(f"shapes {x.shape}, {y.shape} and {kept.shape} are not of the same rows")
    is_complete = np.isfinite(x) & np.isfinite(y)
    return x[is_complete], y[is_complete], kept[is_complete]


def group_rows(groups: NDArray[Any]) -> list[NDArray[np.intp]]:
    """The rows of each group, in the order of the groups' labels."""
    codes, n_groups = cluster_codes(groups)
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, n_groups)))


def group_mean(
    values: ArrayLike, *, bounds: tuple[float, float], n_groups: int, level: float
) -> GroupMean:
    """The mean of the values of groups that have one; nan ones and missing ones are skipped."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    found = wilson_mean(known, bounds=bounds, level=level)
    return GroupMean(
        interval=replace(found, method="group-wilson-mean"),
        n_groups=known.size,
        n_skipped=n_groups - known.size,
    )


def _pair_signs(
    x: FloatArray, y: FloatArray, epsilon: float
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Which of each two rows is ahead, both orders and the row itself, some rows at a time."""
    for start in range(0, x.size, _BLOCK_ROWS):
        gaps = x[start : start + _BLOCK_ROWS, None] - x[None, :]
        signs = np.where(np.abs(gaps) <= epsilon, 0.0, np.sign(gaps))
        yield signs, np.sign(y[start : start + _BLOCK_ROWS, None] - y[None, :])


def _pair_gains(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(pairs,): differences in x, and what each pair adds to the accuracy, ordered and tied."""
    first, second = np.triu_indices(x.size, 1)
    gaps_x, gaps_y = x[first] - x[second], y[first] - y[second]
    is_ordered = np.sign(gaps_x) * np.sign(gaps_y) > 0
    return np.abs(gaps_x), is_ordered / first.size, (gaps_y == 0) / first.size
