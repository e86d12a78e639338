"""Agreement of two series of scores within items, and on systems: rows are (system, item) pairs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.stats.intervals import FloatArray, Interval, cluster_codes
from evalkit.stats.rank_agreement import GroupMean, complete_rows, group_mean, group_rows
from evalkit.stats.reweighting import reweighted_bootstrap
from evalkit.stats.weighted_correlation import Kind, rowwise_correlation, weighted_correlation

_DECIMALS = 12  # that are kept of a mean, as a share of the largest value


def within_group_correlation(
    x: ArrayLike, y: ArrayLike, groups: ArrayLike, *, kind: Kind, level: float = 0.95
) -> GroupMean:
    """Mean over ``groups`` (n,), items say, of the correlation of ``x`` and ``y`` (n,) in each.

    The interval is `wilson_mean`'s, the groups being independent. Rows that lack either value are
    left out; groups of fewer than two rows, and those where x or y does not vary, are skipped.
    Source: Deutsch, Dror and Roth (2021), arXiv:2104.00054 (there "summary-level").
    """
    x, y, kept = complete_rows(x, y, groups)
    values = [_correlation(x[rows], y[rows], kind=kind) for rows in group_rows(kept)]
    n_groups = cluster_codes(groups)[1]
    return group_mean(values, bounds=(-1.0, 1.0), n_groups=n_groups, level=level)


def system_correlation(
    x: ArrayLike,
    y: ArrayLike,
    *,
    systems: ArrayLike,
    items: ArrayLike,
    kind: Kind,
    rng: np.random.Generator,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Correlation over ``systems`` (n,) of their means of ``x`` and of ``y`` (n,).

    The bounds are percentiles of resamples of the ``items`` (n,): they are for these systems on
    other items, not for other systems. Rows that lack either value are left out; nan for fewer
    than two systems and where their means do not vary. Resamples in which a system has no row are
    undefined; more than one in twenty of them give nan bounds.
    Source: Deutsch, Dror and Roth (2021), arXiv:2104.00054 ("boot-inputs").
    """
    statistic = partial(rowwise_correlation, kind=kind)
    return _of_systems(
        statistic, x, y, (systems, items), rng=rng, n_resamples=n_resamples, level=level
    )


def system_pair_accuracy(
    x: ArrayLike,
    y: ArrayLike,
    *,
    systems: ArrayLike,
    items: ArrayLike,
    rng: np.random.Generator,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Share of pairs of ``systems`` (n,) whose means of ``x`` are in the order of those of ``y``.

    A pair that either ties is right only if both do. Bounds and edges as in
    ``system_correlation``.
    Source: Kocmi et al. (2021), arXiv:2107.10821.
    """
    return _of_systems(
        _pair_accuracy, x, y, (systems, items), rng=rng, n_resamples=n_resamples, level=level
    )


def system_means(values: ArrayLike, systems: ArrayLike) -> FloatArray:
    """(s,): the mean of the finite ``values`` (n,) of each system, in the order of the labels."""
    values = np.asarray(values, dtype=np.float64)
    codes, _ = cluster_codes(systems)
    found = _means(values, codes)(np.isfinite(values).astype(np.float64)[None, :])
    return np.asarray(found[0])


def _of_systems(
    statistic: Callable[[FloatArray, FloatArray], FloatArray],
    x: ArrayLike,
    y: ArrayLike,
    labels: tuple[ArrayLike, ArrayLike],
    *,
    rng: np.random.Generator,
    n_resamples: int,
    level: float,
) -> Interval:
    """A statistic of system means, (b, s) both, over resamples of items; ``labels`` name both."""
    x, y, rows = complete_rows(x, y)
    systems, items = (np.asarray(of_rows)[rows] for of_rows in labels)
    codes, _ = cluster_codes(systems)
    means_x, means_y = _means(x, codes), _means(y, codes)

    def value(weights: FloatArray) -> FloatArray:
        return statistic(means_x(weights), means_y(weights))[:, None]

    [found] = reweighted_bootstrap(
        value,
        x.size,
        rng=rng,
        n_resamples=n_resamples,
        clusters=items,
        level=level,
        method="percentile",
    )
    return found


def _means(values: FloatArray, codes: NDArray[np.intp]) -> Callable[[FloatArray], FloatArray]:
    """Weights (b, n) to the mean (b, s) of each code 0..s-1; nan where nothing has weight."""
    is_of = (codes[:, None] == np.arange(codes.max(initial=-1) + 1)).astype(np.float64)
    known = np.where(np.isfinite(values), values, 0.0)
    scale = float(np.abs(known).max(initial=0.0)) or 1.0
    shares = is_of * (known / scale)[:, None]

    def means(weights: FloatArray) -> FloatArray:
        totals = weights @ is_of
        found = (weights @ shares) / np.where(totals > 0, totals, np.nan)
        # means of the same values added up in another order are a tie, not a difference
        return np.asarray(np.round(found, _DECIMALS) * scale)

    return means


def _pair_accuracy(x: FloatArray, y: FloatArray) -> FloatArray:
    n_systems = x.shape[1]
    signs_x, signs_y = (np.sign(v[:, :, None] - v[:, None, :]) for v in (x, y))
    is_alike = np.where(np.isnan(signs_x + signs_y), np.nan, signs_x == signs_y)
    n_pairs = n_systems * (n_systems - 1)
    alike = is_alike.sum(axis=(1, 2)) - n_systems  # a system is tied with itself
    return np.asarray(alike / n_pairs if n_pairs else np.full(len(x), np.nan))


def _correlation(x: FloatArray, y: FloatArray, *, kind: Kind) -> float:
    return float(weighted_correlation(x, y, kind=kind)(np.ones((1, x.size)))[0, 0])
