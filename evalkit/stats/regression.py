"""Least squares on rows that come in clusters: CR2 variances, Satterthwaite's degrees of freedom.

For a mean alone see ``cluster_t_interval``, which this gives for a column of ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evalkit.stats.intervals import FloatArray, cluster_codes, spread_is_zero, student_interval

_LEVERAGE_EPS = 1e-10  # a share of a cluster's residuals below this is rounding: it has none
_BIAS_EPS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A regression coefficient in the unit of the target; all nan where ``reason`` is not empty."""

    estimate: float
    stderr: float  # CR2
    low: float
    high: float
    level: float
    p_value: float  # two-sided, of no effect
    degrees: float  # Satterthwaite's: fewer, the fewer clusters the coefficient rests on
    n: int
    n_clusters: int
    reason: str


def ols_effects(
    target: ArrayLike, design: ArrayLike, *, clusters: ArrayLike | None = None, level: float = 0.95
) -> tuple[Effect, ...]:
    """The k coefficients of ``target`` (n,) on ``design`` (n, k), which has no constant of its own.

    ``clusters`` (n,) are the independent units; without them the rows are. The variance is unbiased
    for errors that are independent and of one size, and consistent for any errors of independent
    clusters. nan with a reason: values that are not finite, collinear columns, fewer than two
    clusters. A coefficient that a single cluster decides keeps its estimate but has no error, as
    has one of a fit without residuals. ValueError where the shapes do not agree.
    Source: Bell and McCaffrey (2002), Survey Methodology 28:169-181; Pustejovsky and Tipton (2018),
    J. Bus. Econ. Stat. 36:672-683, with an identity working matrix.
    """
    y, x = np.asarray(target, dtype=np.float64), np.asarray(design, dtype=np.float64)
    if y.ndim != 1 or x.ndim != 2 or len(x) != y.size or x.shape[1] == 0:
        raise ValueError(f"target must be (n,) and design (n, k): got {y.shape} and {x.shape}")
    codes, n_clusters = cluster_codes(np.arange(y.size) if clusters is None else clusters)
    if codes.size != y.size:
        raise ValueError(f"clusters must have a label for each of {y.size} rows: got {codes.size}")
    reason = _why_undefined(y, x, n_clusters)
    if reason:
        return tuple(
            _effect(math.nan, level=level, n=y.size, n_clusters=n_clusters, reason=reason)
            for _ in range(x.shape[1])
        )
    q, r = np.linalg.qr(x)
    inverse = np.linalg.inv(r)
    coefficients = inverse @ (q.T @ y)
    residuals = y - x @ coefficients
    parts = _cluster_parts(q, residuals, codes, n_clusters)
    found = []
    for estimate, weights in zip(coefficients, inverse, strict=True):
        stderr, degrees, is_known = _precision(weights, *parts)
        why = "" if is_known else "it rests on a single cluster, which cannot show its error"
        if is_known and spread_is_zero(stderr / math.sqrt(float(weights @ weights)), y):
            why = "there are no residuals to show an error"
        found.append(
            _effect(
                float(estimate),
                stderr=math.nan if why else stderr,
                degrees=degrees,
                level=level,
                n=y.size,
                n_clusters=n_clusters,
                reason=why,
            )
        )
    return tuple(found)


def _why_undefined(y: FloatArray, x: FloatArray, n_clusters: int) -> str:
    if not (np.isfinite(y).all() and np.isfinite(x).all()):
        return "values that are not finite"
    if n_clusters < 2:
        return "fewer than two clusters"
    if np.linalg.matrix_rank(x / np.maximum(np.abs(x).max(axis=0), 1e-300)) < x.shape[1]:
        return "columns are collinear: their effects cannot be told apart"
    return ""


def _cluster_parts(
    q: FloatArray, residuals: FloatArray, codes: NDArray[np.intp], n_clusters: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each cluster g: corrected scores (g, k), Q'Q (g, k, k) and the correction (g, k, k).

    (I - QQ')^-1/2 Q = Q (I - Q'Q)^-1/2 for the cluster's rows of Q, so that a cluster of any size
    costs a k by k decomposition. Directions that the cluster fits exactly are left out.
    """
    k = q.shape[1]
    scores, gram = np.zeros((n_clusters, k)), np.zeros((n_clusters, k, k))
    np.add.at(scores, codes, q * residuals[:, None])
    np.add.at(gram, codes, q[:, :, None] * q[:, None, :])
    shares, vectors = np.linalg.eigh(gram)
    left = 1 - shares
    factors = np.where(left > _LEVERAGE_EPS, 1 / np.sqrt(np.maximum(left, _LEVERAGE_EPS)), 0.0)
    correction = np.einsum("gij,gj,gkj->gik", vectors, factors, vectors)
    return np.einsum("gij,gj->gi", correction, scores), gram, correction


def _precision(
    weights: FloatArray, scores: FloatArray, gram: FloatArray, correction: FloatArray
) -> tuple[float, float, bool]:
    """Standard error of the coefficient with these ``weights`` (k,), its degrees, and if it holds.

    The variance is a quadratic form in the errors; for independent errors of variance 1 its mean is
    the trace of P, P_gh = [g = h] d_g - c_g'c_h, and its degrees trace² / sum of squares of P. A
    mean below the coefficient's variance says that some of that cannot be seen in the residuals.
    """
    stderr = float(np.sqrt(np.sum((scores @ weights) ** 2)))
    corrected = correction @ weights
    moved = np.einsum("gij,gj->gi", gram, corrected)
    own = np.einsum("gi,gi->g", corrected, moved)
    shared = np.sum(moved**2, axis=1)
    trace = float(np.sum(own - shared))
    squares = float(np.sum(own**2 - 2 * own * shared) + np.sum((moved.T @ moved) ** 2))
    is_known = trace >= (1 - _BIAS_EPS) * float(weights @ weights)
    return stderr, trace**2 / squares if squares > 0 else math.nan, is_known


def _effect(
    estimate: float,
    *,
    stderr: float = math.nan,
    degrees: float = math.nan,
    level: float,
    n: int,
    n_clusters: int,
    reason: str,
) -> Effect:
    found = student_interval(estimate, stderr, degrees=degrees, level=level, method="")
    p = math.nan
    if math.isfinite(stderr):
        p = 2 * float(stats.t.sf(abs(estimate) / stderr, degrees))
    return Effect(
        estimate=estimate,
        stderr=stderr,
        low=found.low,
        high=found.high,
        level=level,
        p_value=p,
        degrees=math.nan if reason else degrees,
        n=n,
        n_clusters=n_clusters,
        reason=reason,
    )
