"""Weights of a checklist's items, fitted to labels, kept only where they beat equal weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from evalkit.stats.crowd import check_folds
from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    cluster_codes,
    cluster_t_interval,
    t_interval,
)
from evalkit.stats.paired import Difference, paired_t

RIDGES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
"""Strengths of the pull towards equal weights, in units of the items' mean variance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecklistWeights:
    """How to add up a checklist, and what that was worth on items not fitted to."""

    weights: FloatArray  # (k,), 0 or more, adding up to 1: the fitted ones if kept, else equal
    fitted: FloatArray  # (k,)
    ridge: float  # of the fitted ones
    error: Interval  # mean squared error of the fitted ones out of fold, in squared label units
    equal_error: Interval  # the same of equal weights
    gain: Difference  # equal less fitted
    is_kept: bool  # the gain's low lies above 0
    n: int


def checklist_weights(
    items: ArrayLike,
    labels: ArrayLike,
    *,
    folds: ArrayLike,
    clusters: ArrayLike | None = None,
    ridges: Sequence[float] = RIDGES,
    level: float = 0.95,
) -> ChecklistWeights:
    """Fit weights of ``items`` (n, k) to ``labels`` (n,) by least squares without negative weights.

    The prediction is a + b times the weighted sum, a and b > 0 being free, for equal weights too:
    only the proportions of the weights are at stake. The ridge pulls the weights towards each
    other, so that equal weights are its limit. It is chosen by cross-validation within the training
    folds, anew for each of the ``folds`` (n,) that is left out, so that the error is that of the
    whole procedure. ``folds`` keep ``clusters`` whole; three are needed. Ties go to the larger.
    Values that are not finite, or items that no weight fits: equal weights, nan errors.
    Source: Lawson and Hanson (1974), Solving Least Squares Problems, ch. 23; Stone (1974),
    J. R. Statist. Soc. B 36:111-147 (cross-validatory choice and assessment).
    """
    x, y = np.asarray(items, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 1 or len(x) != y.size or x.shape[1] == 0:
        raise ValueError(f"items must be (n, k) and labels (n,): got {x.shape} and {y.shape}")
    codes, n_folds = cluster_codes(folds)
    if codes.size != y.size or n_folds < 3:
        raise ValueError("folds must have a label for each row, and three or more of them")
    if not ridges or min(ridges) < 0:
        raise ValueError("ridges must be one or more numbers of 0 or more")
    if clusters is not None:
        check_folds(codes, clusters)
    equal = np.full(x.shape[1], 1 / x.shape[1])
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        unknown = np.full(y.size, math.nan)
        errors, fitted, ridge = [unknown, unknown], equal, math.nan
    else:
        errors, fitted, ridge = _assess(x, y, codes, sorted(ridges))
    ours, theirs = errors
    gain = paired_t(ours, theirs, level=level, clusters=clusters)
    return ChecklistWeights(
        weights=fitted if gain.low > 0 else equal,
        fitted=fitted,
        ridge=ridge,
        error=_mean(ours, clusters, level=level),
        equal_error=_mean(theirs, clusters, level=level),
        gain=gain,
        is_kept=gain.low > 0,
        n=y.size,
    )


def _assess(
    x: FloatArray, y: FloatArray, codes: NDArray[np.intp], ridges: list[float]
) -> tuple[list[FloatArray], FloatArray, float]:
    """Squared errors (n,) out of fold of fitted and of equal weights; weights and ridge of all."""
    errors = [np.zeros(y.size), np.zeros(y.size)]
    equal = np.full(x.shape[1], 1 / x.shape[1])
    for fold in np.unique(codes):
        inside, outside = codes == fold, codes != fold
        ridge = _choose(x[outside], y[outside], codes[outside], ridges)
        weights = _weights(x[outside], y[outside], ridge)
        for error, chosen in zip(errors, (weights, equal), strict=True):
            error[inside] = _errors(x, y, outside, inside, chosen)
    ridge = _choose(x, y, codes, ridges)
    return errors, _weights(x, y, ridge), ridge


def _choose(x: FloatArray, y: FloatArray, codes: NDArray[np.intp], ridges: list[float]) -> float:
    """The ridge with the least error out of fold."""
    best, least = ridges[-1], math.inf
    for ridge in reversed(ridges):
        total = 0.0
        for fold in np.unique(codes):
            outside = codes != fold
            weights = _weights(x[outside], y[outside], ridge)
            total += float(_errors(x, y, outside, ~outside, weights).sum())
        if total < least * (1 - 1e-12):
            best, least = ridge, total
    return best


def _weights(x: FloatArray, y: FloatArray, ridge: float) -> FloatArray:
    """(k,) weights adding up to 1; equal where no item rises with the labels."""
    k = x.shape[1]
    a, b = x - x.mean(axis=0), y - y.mean()
    pull = math.sqrt(ridge * float(np.mean(np.sum(a**2, axis=0))))
    rows = np.concatenate((a, pull * (np.eye(k) - 1 / k)))
    beta, _ = nnls(rows, np.concatenate((b, np.zeros(k))))
    total = float(beta.sum())
    if total <= 1e-12 * max(1.0, float(np.abs(y).max(initial=0.0))):
        return np.full(k, 1 / k)
    return np.asarray(beta / total, dtype=np.float64)


def _errors(
    x: FloatArray,
    y: FloatArray,
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    weights: FloatArray,
) -> FloatArray:
    """Squared errors of the line through the training rows' weighted sums, which never falls."""
    sums = x @ weights
    a, b = sums[train] - sums[train].mean(), y[train] - y[train].mean()
    squares = float(a @ a)
    slope = max(0.0, float(a @ b) / squares) if squares > 0 else 0.0
    predicted = y[train].mean() + slope * (sums[test] - sums[train].mean())
    return np.asarray((y[test] - predicted) ** 2, dtype=np.float64)


def _mean(values: FloatArray, clusters: ArrayLike | None, *, level: float) -> Interval:
    if clusters is None:
        return t_interval(values, level=level)
    return cluster_t_interval(values, clusters, level=level, correction="cr2")
