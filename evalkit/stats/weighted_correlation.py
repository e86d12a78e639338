"""Correlations of rows that count more or less often: what a bootstrap of them computes.

scipy has none of these with weights. With weights of 1 they are scipy's (the tests say so).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.stats.intervals import FloatArray
from evalkit.stats.reweighting import Statistic

Kind = Literal["pearson", "spearman", "kendall-b", "kendall-c"]
"""Which correlation. Ties: Spearman's has mid-ranks; tau-b leaves them out of either factor of its
denominator; tau-c (Stuart) is for scales of different length."""

IntArray = NDArray[np.intp]
_Levels = tuple[IntArray, IntArray]
_OfPoints = Callable[[FloatArray, FloatArray], FloatArray]  # weights (b, c) and sums of squares

_RELATIVE_EPS = 1e-12  # a variance below this share of the squares is rounding
_BLOCK_ROWS = 1024  # of the matrix of signs: with 10,000 distinct points 80 MiB at a time


def weighted_correlation(x: FloatArray, y: FloatArray, *, kind: Kind) -> Statistic:
    """The correlation of ``x`` and ``y`` (n,), finite both, as a function of weights (b, n).

    Its values are (b, 1), nan where x or y does not vary. Memory and time are saved where points
    (x, y) coincide: Kendall's takes b c² steps, c being the number of distinct points.
    tau-c keeps the scale lengths of the data, whatever levels a resample has, and leaves pairs of
    a row with its own copy out.
    Source: Kendall and Gibbons (1990), Rank Correlation Methods, ch. 3 (ties, tau-b, tau-c).
    """
    if kind == "pearson":
        return _pearson(x, y)
    return _of_distinct(x, y, _spearman if kind == "spearman" else partial(_kendall, kind=kind))


def weighted_pair_accuracy(x: FloatArray, y: FloatArray, *, epsilon: float) -> Statistic:
    """The share of pairs of rows that ``x`` and ``y`` (n,), finite both, order alike.

    Values (b, 1) of weights (b, n), nan without pairs; a row and its own copy are none. The
    definition is that of ``pair_accuracy``.
    """

    def of_points(points: FloatArray) -> _OfPoints:
        def value(sums: FloatArray, squares: FloatArray) -> FloatArray:
            alike = np.zeros(len(sums))
            for start in range(0, len(points), _BLOCK_ROWS):
                gaps = points[start : start + _BLOCK_ROWS, None, :] - points[None, :, :]
                signs = np.where(np.abs(gaps[..., 0]) <= epsilon, 0.0, np.sign(gaps[..., 0]))
                is_alike = (signs == np.sign(gaps[..., 1])).astype(np.float64)
                alike += np.sum((sums @ is_alike.T) * sums[:, start : start + _BLOCK_ROWS], axis=1)
            return _over(alike - squares, sums.sum(axis=1) ** 2 - squares)

        return value

    return _of_distinct(x, y, of_points)


def rowwise_correlation(x: FloatArray, y: FloatArray, *, kind: Kind) -> FloatArray:
    """(b,): the correlation of each row of ``x`` with that of ``y``, both (b, s); nan if constant.

    For few columns: all but Pearson's take b s² memory. nan where a value is missing.
    """
    if x.shape[1] < 2:
        return np.full(len(x), np.nan)
    if kind == "pearson":
        return _product_moment(x, y)
    is_missing = np.isnan(x + y).any(axis=1)
    # the signs of differences carry the ranks: their row sums are 2 rank - s - 1
    signs_x, signs_y = (np.sign(v[:, :, None] - v[:, None, :]) for v in (x, y))
    if kind == "spearman":
        found = _product_moment(signs_x.sum(axis=2), signs_y.sum(axis=2))
    else:
        excess = np.sum(signs_x * signs_y, axis=(1, 2))
        if kind == "kendall-b":
            both = np.sum(signs_x**2, axis=(1, 2)) * np.sum(signs_y**2, axis=(1, 2))
            found = _over(excess, np.sqrt(both))
        else:
            shorter = np.minimum(_n_levels(x), _n_levels(y))
            found = _over(excess * shorter, x.shape[1] ** 2 * (shorter - 1))
    return np.where(is_missing, np.nan, found)


def _of_distinct(
    x: FloatArray, y: FloatArray, statistic: Callable[[FloatArray], _OfPoints]
) -> Statistic:
    """A statistic of the distinct points (c, 2), and how much each weighs, as one of the rows."""
    points, codes = np.unique(np.column_stack((x, y)), axis=0, return_inverse=True)
    if len(points) == 0:
        return lambda weights: np.full((len(weights), 1), np.nan)
    order = np.argsort(codes.reshape(-1), kind="stable")
    starts = np.searchsorted(codes.reshape(-1)[order], np.arange(len(points)))
    of_points = statistic(points)

    def value(weights: FloatArray) -> FloatArray:
        sums = np.add.reduceat(weights[:, order], starts, axis=1)
        return of_points(sums, np.sum(weights**2, axis=1))[:, None]

    return value


def _pearson(x: FloatArray, y: FloatArray) -> Statistic:
    x, y = (v - v.mean() if v.size else v for v in (x, y))
    rows = np.column_stack((np.ones_like(x), x, y, x * x, y * y, x * y))

    def value(weights: FloatArray) -> FloatArray:
        n, sx, sy, sxx, syy, sxy = (weights @ rows).T
        return _correlation(
            sxx - _over(sx * sx, n), syy - _over(sy * sy, n), sxy - _over(sx * sy, n), (sxx, syy)
        )[:, None]

    return value


def _spearman(points: FloatArray) -> _OfPoints:
    levels_x, levels_y = (_levels(column) for column in points.T)

    def value(sums: FloatArray, _: FloatArray) -> FloatArray:
        x, y = (_rank_deviations(sums, *levels) for levels in (levels_x, levels_y))
        both = np.sum(sums * x * x, axis=1) * np.sum(sums * y * y, axis=1)
        return _over(np.sum(sums * x * y, axis=1), np.sqrt(both))

    return value


def _kendall(points: FloatArray, kind: Literal["kendall-b", "kendall-c"]) -> _OfPoints:
    (order_x, starts_x), (order_y, starts_y) = (_levels(column) for column in points.T)
    shorter = min(starts_x.size, starts_y.size)

    def value(sums: FloatArray, squares: FloatArray) -> FloatArray:
        n = sums.sum(axis=1)
        excess = _excess(points, sums)
        if kind == "kendall-b":
            x, y = (
                n**2 - np.sum(_level_sums(sums, *levels) ** 2, axis=1)
                for levels in ((order_x, starts_x), (order_y, starts_y))
            )
            return _over(excess, np.sqrt(x * y))
        per_pair = _over(excess, n**2 - squares)
        scale = shorter / (shorter - 1) if shorter > 1 else np.nan
        return np.asarray(per_pair * (1 - _over(np.ones_like(n), n)) * scale)

    return value


def _excess(points: FloatArray, sums: FloatArray) -> FloatArray:
    """(b,): twice the concordant less the discordant pairs of the weighted points."""
    found = np.zeros(len(sums))
    for start in range(0, len(points), _BLOCK_ROWS):
        block = points[start : start + _BLOCK_ROWS]
        signs = np.sign(block[:, None, 0] - points[None, :, 0])
        signs *= np.sign(block[:, None, 1] - points[None, :, 1])
        found += np.sum((sums @ signs.T) * sums[:, start : start + _BLOCK_ROWS], axis=1)
    return found


def _levels(values: FloatArray) -> _Levels:
    """An order that sorts the values, and where in it each distinct value starts."""
    order = np.argsort(values, kind="stable")
    is_new = np.diff(values[order], prepend=np.nan) != 0
    return order, np.flatnonzero(is_new)


def _level_sums(sums: FloatArray, order: IntArray, starts: IntArray) -> FloatArray:
    return np.asarray(np.add.reduceat(sums[:, order], starts, axis=1))


def _rank_deviations(sums: FloatArray, order: IntArray, starts: IntArray) -> FloatArray:
    """(b, c): mid-ranks of the points less the mean rank, which is half the total; exact."""
    of_levels = _level_sums(sums, order, starts)
    ranks = np.cumsum(of_levels, axis=1) - of_levels / 2 - sums.sum(axis=1, keepdims=True) / 2
    sizes = np.diff(starts, append=order.size)
    found = np.empty_like(sums)
    found[:, order] = np.repeat(ranks, sizes, axis=1)
    return found


def _product_moment(x: FloatArray, y: FloatArray) -> FloatArray:
    squares = (np.sum(x * x, axis=1), np.sum(y * y, axis=1))
    x, y = (v - v.mean(axis=1, keepdims=True) for v in (x, y))
    return _correlation(
        np.sum(x * x, axis=1), np.sum(y * y, axis=1), np.sum(x * y, axis=1), squares
    )


def _correlation(
    xx: FloatArray, yy: FloatArray, xy: FloatArray, squares: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """From central moments; nan where one is no more than the rounding of its ``squares``."""
    is_constant = (xx <= _RELATIVE_EPS * squares[0]) | (yy <= _RELATIVE_EPS * squares[1])
    positive = np.where(is_constant, np.nan, xx), np.where(is_constant, np.nan, yy)
    return np.clip(xy / np.sqrt(positive[0]) / np.sqrt(positive[1]), -1.0, 1.0)


def _n_levels(values: FloatArray) -> FloatArray:
    """(b,): distinct values of each row."""
    return np.asarray(1.0 + np.count_nonzero(np.diff(np.sort(values, axis=1), axis=1), axis=1))


def _over(numerators: FloatArray, denominators: FloatArray) -> FloatArray:
    """The ratio; nan where the denominator is not positive."""
    return np.asarray(numerators / np.where(denominators > 0, denominators, np.nan))
