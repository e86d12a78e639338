"""Agreement of two raters on labels: kappa, and what must stand beside it.

Kappa depends on how often the labels occur and on how differently the raters use them, so that
the same share of agreement can give any kappa: report percent agreement, ``prevalence_and_bias``
and ``gwet_ac`` (in ``panel_agreement.py``) with it. The set of labels is always a parameter:
weights and chance agreement are those of the scale, not of the labels that happened to occur.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    cluster_t_interval,
    spread_is_zero,
    undefined,
    wilson,
    wilson_mean,
)

IntArray = NDArray[np.intp]
Ratings = ArrayLike | Sequence[object]
"""Labels of any kind that hashes; None and nan where one is missing."""
Weights = Literal["none", "linear", "quadratic"]
"""How near two labels are, by their distance in the order of the labels: not at all unless equal,
or 1 less the distance, or 1 less its square, as a share of the longest."""

_ROUNDING = 1e-12  # of numbers that are at most of order 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PrevalenceAndBias:
    """Why a kappa of two labels is low or high: both are shares of items, from -1 to 1."""

    prevalence: Interval  # both said the first label, less both said the second
    bias: Interval  # only the first rater said the first label, less only the second did
    pabak: Interval  # kappa if both were 0: 2 * agreement - 1


def label_codes(ratings: Ratings, *, labels: Sequence[object]) -> IntArray:
    """Ratings of any shape as the positions of their labels; -1 where a rating is missing.

    None and nan are missing, unless None is one of the ``labels``. ValueError for a rating that is
    not among them, and for labels that repeat.
    """
    positions = {label: i for i, label in enumerate(labels)}
    if len(positions) != len(labels):
        raise ValueError(f"labels repeat: {list(labels)}")
    table: NDArray[Any] = np.asarray(ratings, dtype=object)
    return np.array([_code(r, positions) for r in table.flat], dtype=np.intp).reshape(table.shape)


def confusion_matrix(a: Ratings, b: Ratings, *, labels: Sequence[object]) -> IntArray:
    """(k, k): items by the label of ``a`` (row) and of ``b`` (column), both (n,).

    Items that lack either are left out.
    """
    codes_a, codes_b, _ = _complete(a, b, labels)
    return _table(codes_a, codes_b, len(labels))


def percent_agreement(
    a: Ratings,
    b: Ratings,
    *,
    labels: Sequence[object],
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Share of items to which ``a`` and ``b`` (n,) give the same label, with Wilson's interval.

    Items that lack either are left out. With ``clusters`` (n,) the interval is ``wilson_mean``'s.
    """
    codes_a, codes_b, kept = _complete(a, b, labels, clusters)
    return _share(codes_a == codes_b, kept, level=level)


def cohen_kappa(
    a: Ratings,
    b: Ratings,
    *,
    labels: Sequence[object],
    weights: Weights = "none",
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Agreement of ``a`` and ``b`` (n,) beyond chance, as a share of what chance leaves.

    Chance is that of each rater's own label frequencies. Items that lack either are left out. The
    interval is the normal one of a large sample, clipped to [-1, 1]; with ``clusters`` (n,) it is
    Student's on the same linearised values. nan without items or where chance leaves nothing (both
    always give the same one label); nan bounds where the values have no spread, as under perfect
    agreement.
    Source: Cohen (1960), Educ. Psychol. Meas. 20:37-46 and (1968), Psychol. Bull. 70:213-220;
    Fleiss, Cohen and Everitt (1969), Psychol. Bull. 72:323-327.

    >>> a, b = ["yes"] * 25 + ["no"] * 25, ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    >>> interval = cohen_kappa(a, b, labels=["yes", "no"])
    >>> round(interval.estimate, 4), round(interval.low, 4), round(interval.high, 4)
    (0.4, 0.1511, 0.6489)
    """
    codes_a, codes_b, kept = _complete(a, b, labels, clusters)
    table = _table(codes_a, codes_b, len(labels))
    kappa, linear = _kappa(table, label_weights(len(labels), weights=weights))
    if not math.isfinite(kappa):
        return undefined(kappa, level=level, method="fleiss-cohen-everitt")
    values = without_rounding(linear[codes_a, codes_b], kappa)
    if kept is not None:
        found = cluster_t_interval(values, kept, level=level, bounds=(-1.0, 1.0))
        return replace(found, method="kappa-cluster-t")
    stderr = float(values.std()) / math.sqrt(values.size)
    return _normal_interval(kappa, stderr, values=values, level=level)


def label_weights(n_labels: int, *, weights: Weights) -> FloatArray:
    """(k, k): how much two labels agree, 1 on the diagonal; see ``Weights``."""
    if n_labels < 2 or weights == "none":
        return np.eye(n_labels)
    positions = np.arange(n_labels) / (n_labels - 1)
    distances = np.abs(positions[:, None] - positions[None, :])
    return np.asarray(1 - (distances if weights == "linear" else distances**2))


def prevalence_and_bias(
    a: Ratings,
    b: Ratings,
    *,
    labels: Sequence[object],
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> PrevalenceAndBias:
    """How unequal two labels are in frequency, and two raters in their use of them.

    The intervals are ``wilson_mean``'s of values -1, 0 and 1, and Wilson's. ValueError unless
    there are two ``labels``. Items that lack either rating are left out.
    Source: Byrt, Bishop and Carlin (1993), J. Clin. Epidemiol. 46:423-429.
    """
    if len(labels) != 2:
        raise ValueError(f"prevalence and bias are of two labels, not {len(labels)}")
    codes_a, codes_b, kept = _complete(a, b, labels, clusters)
    both = (1 - codes_a - codes_b).astype(np.float64)
    apart = (codes_b - codes_a).astype(np.float64)
    prevalence, bias = (
        wilson_mean(values, kept, bounds=(-1.0, 1.0), level=level) for values in (both, apart)
    )
    same = _share(codes_a == codes_b, kept, level=level)
    pabak = replace(
        same,
        estimate=2 * same.estimate - 1,
        stderr=2 * same.stderr,
        low=2 * same.low - 1,
        high=2 * same.high - 1,
    )
    return PrevalenceAndBias(prevalence=prevalence, bias=bias, pabak=pabak)


def without_rounding(values: FloatArray, centre: float) -> FloatArray:
    """Values of a coefficient's size, those that differ from ``centre`` by rounding equal to it.

    So that a spread of rounding errors around 0 is seen to be none.
    """
    return np.where(np.abs(values - centre) <= _ROUNDING, centre, values)


def _kappa(table: IntArray, agreement: FloatArray) -> tuple[float, FloatArray]:
    """Kappa and, (k, k), the value of an item in each cell, whose mean over items is kappa.

    The variance of those values is Fleiss, Cohen and Everitt's.
    """
    total = int(table.sum())
    if total == 0:
        return math.nan, np.full(agreement.shape, math.nan)
    shares = table / total
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    observed, expected = float(np.sum(shares * agreement)), float(rows @ agreement @ columns)
    if expected == 1.0:  # exactly, as the sum of a single product of ones
        return math.nan, np.full(agreement.shape, math.nan)
    near = (agreement @ columns)[:, None] + (rows @ agreement)[None, :]
    kappa = (observed - expected) / (1 - expected)
    values = agreement * (1 - expected) - near * (1 - observed)
    centre = observed - 2 * expected + observed * expected
    return kappa, np.asarray(kappa + (values - centre) / (1 - expected) ** 2)


def _normal_interval(kappa: float, stderr: float, *, values: FloatArray, level: float) -> Interval:
    method = "fleiss-cohen-everitt"
    if spread_is_zero(stderr, values):
        return undefined(kappa, level=level, method=method)
    margin = float(stats.norm.ppf(0.5 + level / 2)) * stderr
    return Interval(
        estimate=kappa,
        stderr=stderr,
        low=max(-1.0, kappa - margin),
        high=min(1.0, kappa + margin),
        level=level,
        method=method,
    )


def _share(is_same: NDArray[np.bool_], kept: NDArray[Any] | None, *, level: float) -> Interval:
    if kept is not None:
        return wilson_mean(is_same.astype(np.float64), kept, level=level)
    return wilson(int(is_same.sum()), is_same.size, level=level)


def _complete(
    a: Ratings, b: Ratings, labels: Sequence[object], clusters: ArrayLike | None = None
) -> tuple[IntArray, IntArray, NDArray[Any] | None]:
    """Codes, and clusters, of the items that both rated."""
    codes_a, codes_b = (label_codes(ratings, labels=labels) for ratings in (a, b))
    if codes_a.shape != codes_b.shape or codes_a.ndim != 1:
        raise ValueError(f"ratings of shapes {codes_a.shape} and {codes_b.shape} are no pairs")
    is_rated = (codes_a >= 0) & (codes_b >= 0)
    kept = None if clusters is None else np.asarray(clusters)[is_rated]
    return codes_a[is_rated], codes_b[is_rated], kept


def _table(codes_a: IntArray, codes_b: IntArray, n_labels: int) -> IntArray:
    counts = np.bincount(codes_a * n_labels + codes_b, minlength=n_labels**2)
    return counts.reshape(n_labels, n_labels)


def _code(rating: object, positions: dict[object, int]) -> int:
    if rating in positions:
        return positions[rating]
    if rating is None or rating != rating:  # nan alone differs from itself
        return -1
    raise ValueError(f"rating {rating!r} is not among the labels {list(positions)}")
