"""How often a system would be preferred if its answers were as long as the baseline's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import expit

from evalkit.stats.intervals import FloatArray, Interval, cluster_codes, undefined, wilson_mean

_METHOD = "length-controlled"
_MAX_STEPS = 50
_TOLERANCE = 1e-10  # of a Newton step, in log odds
_MAX_LOGIT = 20.0  # beyond it a coefficient is on its way to infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthControlled:
    """A win rate as it is and at equal length; nan and a reason where lengths do not allow it."""

    win_rate: Interval  # ties are half
    controlled: Interval  # at a length difference of 0
    length_effect: Interval  # log odds for a longer answer: phi, at tanh(difference / sd) of 1
    p_value: float  # two-sided, of no effect of length
    overlap: float  # share of their mass that the two distributions of lengths have in common
    share_longer: float  # pairs in which the system's answer is longer; equal lengths are half
    n: int
    n_units: int  # clusters, or pairs where there are none
    reason: str


def length_controlled(
    preferences: ArrayLike,
    *,
    lengths: ArrayLike,
    baseline_lengths: ArrayLike,
    clusters: ArrayLike | None = None,
    min_overlap: float = 0.2,
    min_share: float = 0.05,
    level: float = 0.95,
) -> LengthControlled:
    """Fit logit P(preferred) = theta + phi tanh(d / sd(d)), d being the difference in length.

    ``preferences`` (n,) are 0 to 1, 1 where the system is preferred to the baseline; both lengths
    (n,) are in any unit. The controlled win rate is expit(theta), its interval cluster-robust (CR1)
    with Student's t. AlpacaEval also has a ridge and a term for difficulty, from many systems.

    Where one side is always the longer, equal length is outside of what was seen: below
    ``min_overlap``, or with fewer than ``min_share`` (or five) of the pairs on the rarer side, the
    figure is nan. The overlap is 1 less the largest gap between the cumulative distributions, which
    is what densities that cross once share.
    Source: Dubois et al. (2024), arXiv:2404.04475, eq. 2; the limits are conventions of ours.
    """
    won, ours, theirs = _pairs(preferences, lengths, baseline_lengths)
    codes, n_units = cluster_codes(np.arange(won.size) if clusters is None else clusters)
    if codes.size != won.size:
        raise ValueError(f"clusters must have {won.size} labels: got {codes.size}")
    difference = ours - theirs
    is_known = bool(np.isfinite(won).all() and np.isfinite(difference).all() and won.size > 0)
    overlap, share, reason = math.nan, math.nan, "no pairs, or values that are not finite"
    if is_known:
        overlap, share = _overlap(ours, theirs), float(np.mean((np.sign(difference) + 1) / 2))
        rarer = int(min(np.count_nonzero(difference <= 0), np.count_nonzero(difference >= 0)))
        reason = _why_refused(overlap, share, rarer, min_overlap=min_overlap, min_share=min_share)
    controlled = effect = undefined(math.nan, level=level, method=_METHOD)
    p = math.nan
    if not reason:
        fitted, reason = _fit(won, np.tanh(difference / difference.std(ddof=1)), codes)
        if fitted is not None:
            controlled, effect, p = _read(*fitted, n_units=n_units, level=level)
    return LengthControlled(
        win_rate=wilson_mean(won, None if clusters is None else codes, level=level),
        controlled=controlled,
        length_effect=effect,
        p_value=p,
        overlap=overlap,
        share_longer=share,
        n=won.size,
        n_units=n_units,
        reason=reason,
    )


def _pairs(
    preferences: ArrayLike, lengths: ArrayLike, baseline_lengths: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    won = np.asarray(preferences, dtype=np.float64)
    ours, theirs = np.asarray(lengths, dtype=float), np.asarray(baseline_lengths, dtype=float)
    if won.ndim != 1 or not won.shape == ours.shape == theirs.shape:
        raise ValueError(f"expected three (n,): got {won.shape}, {ours.shape} and {theirs.shape}")
    if ((won < 0) | (won > 1)).any():
        raise ValueError("preferences must lie within 0 and 1")
    return won, ours, theirs


def _overlap(one: FloatArray, other: FloatArray) -> float:
    values = np.concatenate((one, other))
    below = [np.searchsorted(np.sort(x), values, side="right") / x.size for x in (one, other)]
    return 1 - float(np.abs(below[0] - below[1]).max())


def _why_refused(
    overlap: float, share: float, n_rarer: int, *, min_overlap: float, min_share: float
) -> str:
    if overlap < min_overlap:
        return f"the lengths have {overlap:.0%} of their mass in common: {min_overlap:.0%} needed"
    if min(share, 1 - share) < min_share or n_rarer < 5:
        side = "shorter" if share > 0.5 else "longer"
        return f"the system is {side} than the baseline in {n_rarer} pairs only: too few"
    return ""


def _fit(
    won: FloatArray, tilt: FloatArray, codes: NDArray[np.intp]
) -> tuple[tuple[FloatArray, FloatArray] | None, str]:
    """Coefficients (2,) with their covariance, or None and why there are none."""
    design = np.column_stack((np.ones(won.size), tilt))
    beta = np.zeros(2)
    for _ in range(_MAX_STEPS):
        chance = expit(design @ beta)
        information = (design * (chance * (1 - chance))[:, None]).T @ design
        if np.linalg.cond(information) > 1e12:
            break
        step = np.linalg.solve(information, design.T @ (won - chance))
        beta = beta + step
        if float(np.abs(beta).max()) > _MAX_LOGIT:
            break
        if float(np.abs(step).max()) < _TOLERANCE:
            return _with_covariance(beta, design, won, codes)
    return None, "one side always wins, or length alone decides: preferences have no finite fit"


def _with_covariance(
    beta: FloatArray, design: FloatArray, won: FloatArray, codes: NDArray[np.intp]
) -> tuple[tuple[FloatArray, FloatArray] | None, str]:
    chance = expit(design @ beta)
    bread = np.linalg.inv((design * (chance * (1 - chance))[:, None]).T @ design)
    g, n = int(codes.max()) + 1, won.size
    if g < 3 or n < 4:
        return None, "fewer than three clusters, or four pairs"
    scores = np.zeros((g, 2))
    np.add.at(scores, codes, design * (won - chance)[:, None])
    factor = g / (g - 1) * (n - 1) / (n - 2)
    return (beta, factor * bread @ scores.T @ scores @ bread), ""


def _read(
    beta: FloatArray, covariance: FloatArray, *, n_units: int, level: float
) -> tuple[Interval, Interval, float]:
    """The controlled win rate, the effect of length and its p."""
    stderrs = np.sqrt(np.diag(covariance))
    quantile = float(stats.t.ppf(0.5 + level / 2, n_units - 1))
    low, high = beta - quantile * stderrs, beta + quantile * stderrs
    value = float(expit(beta[0]))
    rate = Interval(
        estimate=value,
        stderr=value * (1 - value) * float(stderrs[0]),
        low=float(expit(low[0])),
        high=float(expit(high[0])),
        level=level,
        method=_METHOD,
    )
    effect = Interval(
        estimate=float(beta[1]),
        stderr=float(stderrs[1]),
        low=float(low[1]),
        high=float(high[1]),
        level=level,
        method=_METHOD,
    )
    return rate, effect, 2 * float(stats.t.sf(abs(beta[1]) / stderrs[1], n_units - 1))
