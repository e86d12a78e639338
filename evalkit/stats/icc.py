"""Intraclass correlations: how much of the variance of ratings is that of the rated items."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from evalkit.stats.intervals import FloatArray, Interval, undefined

Form = Literal["1,1", "2,1", "3,1", "1,k", "2,k", "3,k"]
"""Which raters, and whose ratings. 1: others for each item; 2: the same for all, drawn from many,
whose differences in level count as error; 3: these and no others, whose levels do not count. 1: the
reliability of one rating; k: that of the mean of all."""

_RELATIVE_EPS = 1e-12  # a root mean square below this share of the largest rating is rounding


def icc(ratings: ArrayLike, *, form: Form, level: float = 0.95) -> Interval:
    """The intraclass correlation of complete ``ratings`` (items, raters).

    The bounds are from F distributions, for ratings that are normal around their item; there is no
    standard error (nan). nan for fewer than two items or raters or where nothing varies, nan bounds
    where raters agree perfectly or all items have the same mean. ValueError if a rating is missing:
    leave incomplete items out.
    Source: Shrout and Fleiss (1979), Psychol. Bull. 86:420-428; bounds as in McGraw and Wong
    (1996), Psychol. Methods 1:30-46, Table 7.
    """
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise ValueError("an intraclass correlation needs every rating: leave incomplete items out")
    if min(table.shape) < 2:
        return undefined(math.nan, level=level, method="icc-f")
    squares = _mean_squares(table)
    estimate, bounds = _single(squares, form, tail=0.5 - level / 2)
    if form.endswith("k"):
        estimate = spearman_brown(estimate, squares.k)
        bounds = spearman_brown(bounds[0], squares.k), spearman_brown(bounds[1], squares.k)
    return Interval(
        estimate=estimate,
        stderr=math.nan,
        low=bounds[0],
        high=bounds[1],
        level=level,
        method="icc-f",
    )


def spearman_brown(reliability: float, factor: float) -> float:
    """The reliability of ``factor`` times as many ratings, from that of as many as there were.

    nan where it is infinite or of the wrong sign: a reliability of -1 / (factor - 1) or less.
    Source: Spearman (1910), Br. J. Psychol. 3:271-295; Brown (1910), ibid. 296-322.

    >>> round(spearman_brown(0.5, 3), 4)
    0.75
    """
    divisor = 1 + (factor - 1) * reliability
    return factor * reliability / divisor if divisor > _RELATIVE_EPS else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class _MeanSquares:
    """Of the analysis of variance of n items by k raters."""

    n: int
    k: int
    items: float
    raters: float
    rest: float
    within: float  # raters and rest together


def _mean_squares(table: FloatArray) -> _MeanSquares:
    n, k = table.shape
    centred = table - table.mean()
    of_items, of_raters = centred.mean(axis=1), centred.mean(axis=0)
    residuals = centred - of_items[:, None] - of_raters[None, :]
    items = k * float(of_items @ of_items) / (n - 1)
    raters = n * float(of_raters @ of_raters) / (k - 1)
    rest = float(np.sum(residuals**2)) / ((n - 1) * (k - 1))
    within = float(np.sum((centred - of_items[:, None]) ** 2)) / (n * (k - 1))
    least = (_RELATIVE_EPS * float(np.abs(table).max())) ** 2
    items, raters, rest, within = (
        square if square > least else 0.0 for square in (items, raters, rest, within)
    )
    return _MeanSquares(n=n, k=k, items=items, raters=raters, rest=rest, within=within)


def _single(squares: _MeanSquares, form: Form, *, tail: float) -> tuple[float, tuple[float, float]]:
    """The reliability of one rating and its bounds."""
    n, k = squares.n, squares.k
    if form[0] == "2":
        return _two_way_random(squares, tail=tail)
    error = squares.within if form[0] == "1" else squares.rest
    degrees = n * (k - 1) if form[0] == "1" else (n - 1) * (k - 1)
    estimate = _ratio(squares.items - error, squares.items + (k - 1) * error)
    if error == 0 or squares.items == 0:
        return estimate, (math.nan, math.nan)
    f = squares.items / error
    low = f / float(stats.f.isf(tail, n - 1, degrees))
    high = f * float(stats.f.isf(tail, degrees, n - 1))
    return estimate, ((low - 1) / (low + k - 1), (high - 1) / (high + k - 1))


def _two_way_random(squares: _MeanSquares, *, tail: float) -> tuple[float, tuple[float, float]]:
    """The error has two sources, and Satterthwaite's degrees of freedom."""
    n, k, items, error = squares.n, squares.k, squares.items, squares.rest
    noise = k * squares.raters + (k * n - k - n) * error
    estimate = _ratio(n * (items - error), n * items + noise)
    if error == 0 or items == 0:
        return estimate, (math.nan, math.nan)
    f, spread = squares.raters / error, n * (1 + (k - 1) * estimate) - k * estimate
    top = (n - 1) * (k - 1) * (k * estimate * f + spread) ** 2
    degrees = top / ((n - 1) * (k * estimate * f) ** 2 + spread**2)
    over = float(stats.f.isf(tail, n - 1, degrees))
    under = float(stats.f.isf(tail, degrees, n - 1))
    low = _ratio(n * (items - over * error), over * noise + n * items)
    high = _ratio(n * (under * items - error), noise + n * under * items)
    return estimate, (low, high)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else math.nan
