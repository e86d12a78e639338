"""Krippendorff's alpha: agreement of any number of raters, on any scale, with ratings missing."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from evalkit.stats.intervals import FloatArray, Interval
from evalkit.stats.resample import Combine, bootstrap
from evalkit.stats.reweighting import Statistic, reweighted_bootstrap

Scale = Literal["nominal", "ordinal", "interval", "ratio"]
"""What differs by how much: any two values alike; by the ratings that lie between them; by their
distance; by their distance over their sum. The last two squared, and the second as well."""

_RELATIVE_EPS = 1e-12  # a variance below this share of the squares is rounding


def krippendorff_alpha(
    ratings: ArrayLike,
    *,
    scale: Scale,
    rng: np.random.Generator,
    n_resamples: int = 2000,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """1 less the observed disagreement over that expected of chance.

    ``ratings`` (units, raters) are numbers, nan where one is missing; labels become numbers by
    ``label_codes``, with nan for its -1. Units with fewer than two ratings do not count. The
    interval is BCa over units, or over ``clusters`` (units,) of them: whole units are redrawn, so
    that the chance of disagreement is estimated anew each time. nan where no unit has two ratings
    or only one value occurs; nan bounds under perfect agreement. ValueError for a negative rating
    on the ratio scale.
    Source: Krippendorff (2011), Computing Krippendorff's Alpha-Reliability; Hayes and Krippendorff
    (2007), Commun. Methods Meas. 1:77-89, for the bootstrap, of which theirs keeps the chance of
    disagreement as it is.
    """
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"ratings of shape {table.shape} are not (units, raters)")
    is_paired = (~np.isnan(table)).sum(axis=1) >= 2
    kept = None if clusters is None else np.asarray(clusters)[is_paired]
    if scale == "ordinal":
        [found] = reweighted_bootstrap(
            _ordinal(table[is_paired]),
            int(is_paired.sum()),
            rng=rng,
            n_resamples=n_resamples,
            clusters=kept,
            level=level,
        )
        return found
    rows, combine = _additive(table[is_paired], scale)
    return bootstrap(rows, combine, rng=rng, n_resamples=n_resamples, clusters=kept, level=level)


def _additive(
    table: FloatArray, scale: Literal["nominal", "interval", "ratio"]
) -> tuple[FloatArray, Combine]:
    """Rows that add up over units, and alpha of their sums.

    Where distances are fixed, the disagreement observed is a sum over units, and that of chance
    follows from how many ratings have each value (for squares, from their first two moments).
    """
    if scale == "interval":
        return _interval_rows(table), _interval_alpha
    values = np.unique(table[~np.isnan(table)])
    counts = np.zeros((len(table), values.size))
    for k, value in enumerate(values):
        counts[:, k] = np.sum(table == value, axis=1)
    if scale == "ratio" and values.size and values[0] < 0:
        raise ValueError(f"rating {values[0]} is negative: there are none on the ratio scale")
    apart = _ratio_distances(values) if scale == "ratio" else 1 - np.eye(values.size)

    def alpha(sums: FloatArray) -> FloatArray:
        of_values = sums[..., 1:]
        expected = np.sum((of_values @ apart) * of_values, axis=-1)
        return _alpha(sums[..., 0], expected, of_values.sum(axis=-1))

    observed = np.sum((counts @ apart) * counts, axis=1) / (counts.sum(axis=1) - 1)
    return np.column_stack((observed, counts)), alpha


def _interval_rows(table: FloatArray) -> FloatArray:
    """(n, 4): disagreement, number, sum and sum of squares of each unit's ratings, centred."""
    is_given = ~np.isnan(table)
    centre = table[is_given].mean() if is_given.any() else 0.0
    filled = np.where(is_given, table - centre, 0.0)
    sizes = is_given.sum(axis=1)
    sums, squares = filled.sum(axis=1), np.sum(filled**2, axis=1)
    residuals = np.where(is_given, filled - (sums / sizes)[:, None], 0.0)
    observed = 2 * sizes * np.sum(residuals**2, axis=1) / (sizes - 1)
    return np.column_stack((observed, sizes, sums, squares))


def _interval_alpha(moments: FloatArray) -> FloatArray:
    observed, n, sums, squares = (moments[..., i] for i in range(4))
    expected = 2 * (n * squares - sums**2)
    is_rounding = expected <= _RELATIVE_EPS * n * squares
    return _alpha(observed, np.where(is_rounding, 0.0, expected), n)


def _ordinal(table: FloatArray) -> Statistic:
    """For the ordinal scale: the distance of two values is that of their mid-ranks.

    Ranks are those of the resample, so its disagreement is no sum over units.
    """
    is_given = ~np.isnan(table)
    sizes = is_given.sum(axis=1)
    starts = np.cumsum(sizes) - sizes
    values, codes = np.unique(table[is_given], return_inverse=True)
    order = np.argsort(codes, kind="stable")
    first = np.searchsorted(codes[order], np.arange(values.size))

    def alpha(weights: FloatArray) -> FloatArray:
        if sizes.size == 0:
            return np.full((len(weights), 1), np.nan)
        of_ratings = np.repeat(weights, sizes, axis=1)
        of_values = np.add.reduceat(of_ratings[:, order], first, axis=1)
        n = of_values.sum(axis=1)
        ranks = np.cumsum(of_values, axis=1) - of_values / 2 - n[:, None] / 2  # less the mean
        expected = 2 * n * np.sum(of_values * ranks**2, axis=1)
        given = ranks[:, codes]
        sums, squares = (np.add.reduceat(v, starts, axis=1) for v in (given, given**2))
        apart = np.maximum(sizes * squares - sums**2, 0.0) / (sizes - 1)
        observed = 2 * np.sum(weights * apart, axis=1)
        return _alpha(observed, expected, n)[:, None]

    return alpha


def _ratio_distances(values: FloatArray) -> FloatArray:
    sums = values[:, None] + values[None, :]
    shares = (values[:, None] - values[None, :]) / np.where(sums > 0, sums, 1.0)
    return np.asarray(shares**2)


def _alpha(observed: FloatArray, expected: FloatArray, n: FloatArray) -> FloatArray:
    """From the disagreement of pairs within units, of all pairs, and the number of ratings."""
    positive = np.where(expected > 0, expected, np.nan)
    return np.asarray(1 - (n - 1) * observed / positive)
