"""Does a judge tell good from bad at all? What a constant score gets is 0, agreement in full is 1.

A judge may agree with people because almost everything is good, or because what is shown first is
mostly better: neither is judging. So agreement is measured within strata, beyond chance, and its
lower bound must exceed a threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evalkit.stats.intervals import FloatArray, cluster_codes, sums_by_code

Measure = Literal["correlation", "concordance", "kappa"]
Codes = NDArray[np.intp]

_FEW = 5  # units that depart from the commonest score: fewer do not tell a variance


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrimination:
    """Agreement beyond a constant's, within strata; nan and a reason where there is too little."""

    estimate: float  # -1 to 1
    stderr: float
    low: float  # one-sided: wrong with probability alpha
    alpha: float
    threshold: float
    measure: Measure
    n: int
    n_units: int  # clusters, or rows where there are none
    n_strata: int
    n_flat: int  # strata in which the judge or people gave one score only
    is_passed: bool  # low lies above the threshold
    reason: str


def discrimination(
    judge: ArrayLike,
    human: ArrayLike,
    *,
    threshold: float,
    measure: Measure = "correlation",
    strata: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    alpha: float = 0.05,
) -> Discrimination:
    """Test ``judge`` (n,) against ``human`` (n,) scores or labels within ``strata`` (n,).

    ``correlation`` is Pearson's of deviations from the strata's means, for grades and two classes;
    ``concordance`` Somers' d: of pairs that people rank, the share that the judge ranks alike less
    the share that it ranks the other way; ``kappa`` Cohen's, chance agreement being each stratum's
    own, for classes. Strata are what could be known without judging: the criterion, the prompt, the
    order shown. ``clusters`` (n,) are the independent units, else the rows are.

    The bound is Student's on the scale of atanh, from the measure's influence values. Rows with nan
    are left out. Fewer than five units that depart from their stratum's commonest score, of the
    judge or of people, tell no variance: nan.
    Source: Fisher (1921), Metron 1:3-32; Somers (1962), Am. Sociol. Rev. 27:799-811; Fleiss, Cohen
    and Everitt (1969), Psychol. Bull. 72:323-327; Efron (1982), The Jackknife, ch. 6 (influence).
    """
    x, y, is_known = _known_pairs(judge, human)
    stratum, n_strata = cluster_codes(_rows(strata, np.zeros(is_known.size), is_known))
    unit, n_units = cluster_codes(_rows(clusters, np.arange(is_known.size), is_known))
    departs = [_departs(values, stratum) for values in (x, y)]
    reason, estimate, stderr, low = _why_undefined(departs, unit, n_units), *3 * (math.nan,)
    if not reason:
        estimate, influence = _MEASURES[measure](x, y, stratum)
        stderr = _stderr(influence, None if clusters is None else unit, stratum)
        free = n_units - (n_strata if clusters is None else 1)
        low = _lower_bound(estimate, stderr, degrees=free, alpha=alpha)
        reason = "the agreement is complete: its error is not known" if math.isnan(low) else ""
    return Discrimination(
        estimate=estimate,
        stderr=stderr,
        low=low,
        alpha=alpha,
        threshold=threshold,
        measure=measure,
        n=x.size,
        n_units=n_units,
        n_strata=n_strata,
        n_flat=_n_flat(departs, stratum, n_strata),
        is_passed=low > threshold,
        reason=reason,
    )


def _known_pairs(
    judge: ArrayLike, human: ArrayLike
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Both scores where both are known, and where (n,) that is."""
    x, y = np.asarray(judge, dtype=np.float64), np.asarray(human, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"judge and human must be two (n,): got {x.shape} and {y.shape}")
    is_known = np.isfinite(x) & np.isfinite(y)
    return x[is_known], y[is_known], is_known


def _rows(labels: ArrayLike | None, default: ArrayLike, keep: NDArray[np.bool_]) -> ArrayLike:
    found = np.asarray(default if labels is None else labels)
    if found.shape != keep.shape:
        raise ValueError(f"strata and clusters must have {keep.size} labels: got {found.shape}")
    return np.asarray(found[keep])


def _departs(values: FloatArray, stratum: Codes) -> NDArray[np.bool_]:
    """(n,): whether a value is not the commonest of its stratum (of equals, the lowest)."""
    scores, codes = np.unique(values, return_inverse=True)
    if values.size == 0:
        return np.zeros(0, dtype=bool)
    keys, counts = np.unique(stratum * scores.size + codes.reshape(-1), return_counts=True)
    order = np.lexsort((keys, -counts, keys // scores.size))
    first = order[np.unique(keys[order] // scores.size, return_index=True)[1]]
    commonest = keys[first] % scores.size
    return np.asarray(codes.reshape(-1) != commonest[stratum])


def _n_flat(departs: list[NDArray[np.bool_]], stratum: Codes, n_strata: int) -> int:
    counts = np.array([np.bincount(stratum[found], minlength=n_strata) for found in departs])
    return int(np.count_nonzero((counts == 0).any(axis=0)))


def _why_undefined(departs: list[NDArray[np.bool_]], unit: Codes, n_units: int) -> str:
    if n_units < _FEW:
        return f"{n_units} independent units: {_FEW} are needed at the least"
    for who, found in zip(("the judge", "people"), departs, strict=True):
        n = np.unique(unit[found]).size
        if n == 0:
            return f"{who} gave one and the same score within each stratum"
        if n < _FEW:
            return f"{who} departed from the commonest score in {n} units only: {_FEW} are needed"
    return ""


def _stderr(influence: FloatArray, unit: Codes | None, stratum: Codes) -> float:
    """From influence values (n,), which sum to 0.

    Rows of a stratum of m have been measured from its mean: their squares are short by (m - 1) / m.
    """
    if unit is None:
        sizes = np.bincount(stratum)[stratum].astype(np.float64)
        return math.sqrt(float(np.sum(influence**2 * sizes / np.maximum(sizes - 1, 1))))
    sums = sums_by_code(influence, unit)
    return math.sqrt(sums.size / (sums.size - 1) * float(sums @ sums))


def _lower_bound(estimate: float, stderr: float, *, degrees: int, alpha: float) -> float:
    if not (abs(estimate) < 1 and stderr > 0 and degrees > 0):
        return math.nan
    spread = stderr / (1 - estimate**2)
    return math.tanh(math.atanh(estimate) - float(stats.t.isf(alpha, degrees)) * spread)


def _correlation(x: FloatArray, y: FloatArray, stratum: Codes) -> tuple[float, FloatArray]:
    a, b = _centred(x, stratum), _centred(y, stratum)
    aa, bb = float(a @ a), float(b @ b)
    r = float(a @ b) / math.sqrt(aa * bb)
    return r, a * b / math.sqrt(aa * bb) - r / 2 * (a**2 / aa + b**2 / bb)


def _centred(values: FloatArray, stratum: Codes) -> FloatArray:
    means = sums_by_code(values, stratum) / np.bincount(stratum)
    return values - means[stratum]


def _concordance(x: FloatArray, y: FloatArray, stratum: Codes) -> tuple[float, FloatArray]:
    agreed, ranked = np.zeros(x.size), np.zeros(x.size)
    for code in range(int(stratum.max()) + 1):
        rows = np.flatnonzero(stratum == code)
        sign = np.sign(y[rows, None] - y[rows])
        agreed[rows] = (sign * np.sign(x[rows, None] - x[rows])).sum(axis=1)
        ranked[rows] = np.abs(sign).sum(axis=1)
    n_pairs = float(ranked.sum()) / 2
    d = float(agreed.sum()) / 2 / n_pairs
    return d, (agreed - d * ranked) / n_pairs


def _kappa(x: FloatArray, y: FloatArray, stratum: Codes) -> tuple[float, FloatArray]:
    labels, codes = np.unique(np.concatenate((x, y)), return_inverse=True)
    first, second = codes.reshape(-1)[: x.size], codes.reshape(-1)[x.size :]
    by_judge = np.zeros((int(stratum.max()) + 1, labels.size))
    by_human = np.zeros_like(by_judge)
    np.add.at(by_judge, (stratum, first), 1.0)
    np.add.at(by_human, (stratum, second), 1.0)
    sizes = by_judge.sum(axis=1)
    chance = (by_judge * by_human).sum(axis=1) / sizes  # rows of each stratum that agree by chance
    met = by_human[stratum, first] + by_judge[stratum, second]
    moved = (met - chance[stratum]) / sizes[stratum]  # what one more such row does to chance
    is_same = (first == second).astype(np.float64)
    beyond = float(is_same.sum() - chance.sum())
    room = float(x.size - chance.sum())
    kappa = beyond / room
    return kappa, (is_same - moved - kappa * (1 - moved)) / room


_MEASURES = {"correlation": _correlation, "concordance": _concordance, "kappa": _kappa}
