"""What moves a judge other than quality: each a number with its interval.

A residual is judge minus human on one item, in the scale's unit: above 0 the judge is lenient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    cluster_t_interval,
    t_interval,
    wilson,
    wilson_mean,
)
from evalkit.stats.paired import Difference, mean_difference
from evalkit.stats.regression import Effect, ols_effects

Finding = Literal["negligible", "biased", "unclear"]


def residual_bias(
    judge: ArrayLike,
    human: ArrayLike,
    *,
    features: ArrayLike,
    control_human: bool = True,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> tuple[Effect, ...]:
    """What each of ``features`` (n, k) adds to ``judge`` (n,) beyond the ``human`` score (n,).

    Features are what should not matter: the length (standardised), the position, lists or other
    marks of format as 0 and 1, whether the answer is of the judge's own family (self-preference).
    All are in one regression, so each effect is at equal others. ``control_human`` adds the human
    score to it; without it the residual alone is regressed, which mistakes a judge that uses less
    of the scale for one that dislikes what good answers have. Noise in the human scores leaves some
    of a true difference in quality in the effects of what goes with it: more annotators, less.
    The errors are CR2's over ``clusters`` (n,): see `ols_effects`.
    Source: Dubois et al. (2024), arXiv:2404.04475 (length); Panickssery et al. (2024),
    arXiv:2404.13076 (own family).
    """
    scores, truth = _pair(judge, human)
    columns = np.asarray(features, dtype=np.float64)
    if columns.ndim != 2 or len(columns) != scores.size:
        raise ValueError(f"features must be ({scores.size}, k): got {columns.shape}")
    ones = np.ones(scores.size)
    kept = (columns, ones, truth) if control_human else (columns, ones)
    found = ols_effects(scores - truth, np.column_stack(kept), clusters=clusters, level=level)
    return found[: columns.shape[1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leniency:
    """How far the judge is above people on one system's answers, in the scale's unit."""

    system: str
    residual: Interval  # of the mean
    n: int


def leniency(
    judge: ArrayLike,
    human: ArrayLike,
    *,
    systems: ArrayLike,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> tuple[Leniency, ...]:
    """The mean residual of each of the ``systems`` (n,), in the order of their names."""
    scores, truth = _pair(judge, human)
    names = np.asarray(systems)
    groups = None if clusters is None else np.asarray(clusters)
    if names.shape != scores.shape or (groups is not None and groups.shape != scores.shape):
        raise ValueError(f"systems and clusters must be ({scores.size},)")
    found = []
    for name in np.unique(names):
        rows = names == name
        values = scores[rows] - truth[rows]
        if groups is None:
            interval = t_interval(values, level=level)
        else:
            interval = cluster_t_interval(values, groups[rows], level=level, correction="cr2")
        found.append(Leniency(system=str(name), residual=interval, n=values.size))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferentialBias:
    """How much more lenient the judge is to one of two systems; a gate needs it negligible."""

    effect: Effect  # residual of the candidate less that of the baseline
    p_negligible: float  # larger p of the hypotheses that it is margin or more, either way
    margin: float
    finding: Finding


def differential_bias(
    judge: ArrayLike,
    human: ArrayLike,
    *,
    is_candidate: ArrayLike,
    margin: float,
    clusters: ArrayLike | None = None,
    alpha: float = 0.05,
) -> DifferentialBias:
    """Whether the judge favours one of two systems beyond what people see between them.

    Rows are answers, of the candidate where ``is_candidate`` (n,); both answers to one item belong
    in one of the ``clusters`` (n,), which makes the comparison paired. ``negligible``: within
    ``margin`` either way (two one-sided tests at ``alpha``); else ``biased`` where the interval at
    1 - ``alpha`` excludes 0; else ``unclear``: more labels are needed.
    Source: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15:657-680 (equivalence).
    """
    scores, truth = _pair(judge, human)
    ours = np.asarray(is_candidate, dtype=np.float64)
    if ours.shape != scores.shape or not ((ours == 0) | (ours == 1)).all():
        raise ValueError(f"is_candidate must be ({scores.size},), of 0 and 1")
    if not margin > 0:
        raise ValueError(f"margin must be positive: got {margin}")
    design = np.column_stack((ours, np.ones(scores.size)))
    effect, _ = ols_effects(scores - truth, design, clusters=clusters, level=1 - alpha)
    gaps = np.array([margin - effect.estimate, margin + effect.estimate])
    p = float(stats.t.sf(gaps / effect.stderr, effect.degrees).max())
    finding: Finding = "unclear"
    if p < alpha:
        finding = "negligible"
    elif effect.low > 0 or effect.high < 0:
        finding = "biased"
    return DifferentialBias(effect=effect, p_negligible=p, margin=margin, finding=finding)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditEffect:
    """What an edit that changes nothing of worth does to the judge."""

    change: Difference  # edited less original
    flips: Interval  # share of items whose score changed at all
    n_raised: int
    n_lowered: int
    n: int


def edit_effect(
    original: ArrayLike,
    edited: ArrayLike,
    *,
    is_binary: bool = False,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> EditEffect:
    """The judge's scores (n,) of the same answers before and after an edit.

    For padding, flattery, an injected instruction, a new layout, the order of two answers. A change
    of scores as `mean_difference`; flips by Wilson, or its clustered kin.
    """
    before, after = _pair(original, edited)
    change = mean_difference(before, after, is_binary=is_binary, clusters=clusters, level=level)
    n_raised = int(np.count_nonzero(after > before))
    n_lowered = int(np.count_nonzero(after < before))
    flips = wilson(n_raised + n_lowered, before.size, level=level)
    if clusters is not None or not (np.isfinite(before) & np.isfinite(after)).all():
        is_flip = np.where(np.isnan(before - after), np.nan, (before != after).astype(np.float64))
        flips = wilson_mean(is_flip, clusters, level=level)
    return EditEffect(
        change=change, flips=flips, n_raised=n_raised, n_lowered=n_lowered, n=before.size
    )


def _pair(one: ArrayLike, other: ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"scores must be two (n,): got {first.shape} and {second.shape}")
    return first, second
