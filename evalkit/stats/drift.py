"""Is the judge still the one that was calibrated? The same anchors, judged before and now."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from evalkit.stats.intervals import FloatArray, cluster_codes
from evalkit.stats.noninferiority import Bounds, bounds
from evalkit.stats.paired import Difference, compare_means

_FEW = 5  # changed anchors: fewer do not tell how changes vary


class DriftVerdict(StrEnum):
    """What the anchors say."""

    STABLE = "stable"  # any change is within the margin
    DRIFTED = "drifted"  # there is a change, and it may exceed the margin
    TOO_FEW = "too few anchors to tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How much a judge has changed; ``low`` and ``high`` are each wrong with chance ``alpha``."""

    change: Difference  # now less before, with its interval at 1 - alpha and its p
    low: float
    high: float
    margin: float
    alpha: float
    verdict: DriftVerdict
    n: int  # independent anchors
    n_needed: float  # anchors to call an unchanged judge stable 8 times in 10; nan if unknown


def score_drift(
    before: ArrayLike,
    now: ArrayLike,
    *,
    margin: float,
    scale: tuple[float, float],
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    alpha: float = 0.05,
) -> Drift:
    """Change of the judge's scores of the same anchors, ``before`` and ``now`` (n,).

    Stable: both bounds lie within ``margin`` (two one-sided t tests). Drifted: not so, and a change
    is proven. ``scale`` is the lowest and the highest score: where fewer than five anchors have
    changed they tell no spread for a t, and the bounds are the highest share of changes that is
    compatible with so few (Clopper and Pearson's), all of them taken to be of the full scale.
    ``rng`` is for the p of fewer than 30 anchors, by sign flips. A nan makes everything nan.
    Source: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15:657-680; Clopper and Pearson (1934).
    """
    first, second = _pair(before, now)
    span = scale[1] - scale[0]
    values = np.concatenate((first, second))
    if ((values < scale[0]) | (values > scale[1])).any():
        raise ValueError(f"scores must lie within the scale {scale}")
    return _drift(
        first,
        second,
        margin=margin,
        is_binary=False,
        span=span,
        rng=rng,
        clusters=clusters,
        alpha=alpha,
    )


def agreement_drift(
    before: ArrayLike,
    now: ArrayLike,
    *,
    labels: ArrayLike,
    margin: float,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    alpha: float = 0.05,
) -> Drift:
    """Change of the share of anchors on which the judge gives the people's ``labels`` (n,).

    Its interval is Tango's and its p McNemar's (mid-p), or with clusters t and sign flips. A judge
    may keep its mean and lose its sense: both this and `score_drift` must be stable. No verdict
    (nan) is no agreement. ValueError where a label is missing.
    Source: as `score_drift`; Tango (1998), Statist. Med. 17:891-908.
    """
    first, second = _pair(before, now)
    truth, _ = _pair(labels, before)
    if not np.isfinite(truth).all():
        raise ValueError("every anchor needs a label")
    return _drift(
        (first == truth).astype(np.float64),
        (second == truth).astype(np.float64),
        margin=margin,
        is_binary=True,
        span=1.0,
        rng=rng,
        clusters=clusters,
        alpha=alpha,
    )


def _drift(
    before: FloatArray,
    now: FloatArray,
    *,
    margin: float,
    is_binary: bool,
    span: float,
    rng: np.random.Generator,
    clusters: ArrayLike | None,
    alpha: float,
) -> Drift:
    if not margin > 0:
        raise ValueError(f"margin must be positive: got {margin}")
    change = compare_means(
        before, now, is_binary=is_binary, clusters=clusters, level=1 - alpha, rng=rng
    )
    found = bounds(before, now, is_binary=is_binary, alpha=alpha, clusters=clusters)
    if not (is_binary and clusters is None):  # Tango's bounds hold with few changes, or none
        found = _rare_bounds(before, now, found, span=span, clusters=clusters)
    verdict = DriftVerdict.TOO_FEW
    if found.low > -margin and found.high < margin:
        verdict = DriftVerdict.STABLE
    elif change.low > 0 or change.high < 0:
        verdict = DriftVerdict.DRIFTED
    return Drift(
        change=change,
        low=found.low,
        high=found.high,
        margin=margin,
        alpha=alpha,
        verdict=verdict,
        n=change.n,
        n_needed=_n_needed(change, margin=margin, alpha=alpha),
    )


def _rare_bounds(
    before: FloatArray,
    now: FloatArray,
    found: Bounds,
    *,
    span: float,
    clusters: ArrayLike | None,
) -> Bounds:
    """``found``, or what it comes to if the few changes seen may be more, and larger."""
    if before.size == 0 or not (np.isfinite(before) & np.isfinite(now)).all():
        return found
    codes, n_units = cluster_codes(np.arange(before.size) if clusters is None else clusters)
    n_changed = np.unique(codes[before != now]).size
    if n_changed >= min(_FEW, n_units):
        return found
    share = float(stats.beta.isf(found.alpha, n_changed + 1, n_units - n_changed))
    return Bounds(low=-span * share, high=span * share, alpha=found.alpha, method="rare-changes")


def _n_needed(change: Difference, *, margin: float, alpha: float) -> float:
    """Units for a power of 0.8 when nothing has changed; the spread is that of these anchors.

    Source: Chow, Shao and Wang (2008), Sample Size Calculations, 2nd ed., sec. 3.1.3.
    """
    if math.isnan(change.stderr):
        return math.nan
    quantile = float(stats.norm.isf(alpha) + stats.norm.isf(0.1))
    return float(math.ceil((quantile * change.stderr / margin) ** 2 * change.n))


def _pair(one: ArrayLike, other: ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"scores must be two (n,): got {first.shape} and {second.shape}")
    return first, second
