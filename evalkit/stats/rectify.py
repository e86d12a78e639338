"""Means of human labels, made surer by a judge that scored far more items than people did.

The judge's own mean is no estimate of what people would say: on real data its 95 % interval holds
the human mean anything from 0 to 95 % of the time. Prediction-powered inference keeps the labels'
honesty and takes from the judge what it knows. It asks that the labelled items are a random
sample of the run's (``rectify``), or were drawn with known probabilities (``propensities``), or
at random within strata (`rectify_strata`). Labels of other outputs: `transport`. Labels at hand
because they were easy, or doubtful, or came first are none of these.

The estimate is for the population that the items came from, not for the items alone. Intervals
are Student's t; how often they hold the truth: ``corrected_estimates.py`` in ``benchmarks``. They
learn the judge's error from its disagreements: where it agrees with all labels, or is off by the
same everywhere, the labels are used alone and ``reason`` says so. Verdicts on labels that are
85 % ones, by a judge right 19 times in 20: so 30 labels cover 93 %, else it would be 79.

Scores on another scale than the labels', or bent, gain from a map: ``map_kind`` of `cross_ppi`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evalkit.stats.influence import (
    IntArray,
    Linear,
    Sample,
    Tuning,
    corrected,
    equal_weights,
    joint_units,
    mean_of,
    unknown,
)
from evalkit.stats.intervals import FloatArray, Interval, spread_is_zero

_WIDER = 1e-9  # a relative difference of widths below this is rounding
_NAMES = {"fixed": "ppi", "plug-in": "ppi++-plug-in", "cross-fit": "ppi++"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectified:
    """An estimate from labels and a judge, with what either says alone beside it."""

    value: float  # in the labels' unit
    stderr: float  # nan when there is too little to say; ``reason`` then says what is missing
    low: float
    high: float
    level: float
    method: str
    n_labels: int
    n_unlabelled: int
    n_effective: float  # labels that would be as precise without the judge
    lam: float  # the judge's part: 0 ignores it, 1 trusts it as far as the labels bear it out
    labels_only: Interval
    naive: Interval  # of the judge's scores alone, biases and all: to see them, not to report them
    is_wider: bool  # than ``labels_only``: the judge did harm
    reason: str = ""  # why there is no interval, or why the judge was left out


def rectify(
    human: FloatArray,
    judge: FloatArray,
    *,
    unlabelled: FloatArray,
    clusters: tuple[ArrayLike, ArrayLike] | None = None,
    propensities: FloatArray | None = None,
    lam: Tuning | float = "cross-fit",
    level: float = 0.95,
) -> Rectified:
    """The mean of what people would say of all items, from labels of some, and the judge (PPI++).

    ``human`` and ``judge`` (n,) are the labelled items', ``unlabelled`` (N,) the judge's scores of
    the others. ``clusters`` label the items of both, (n,) and (N,). ``propensities`` (n,) in
    (0, 1] are the known chances with which the labelled items were drawn; the labels are then
    weighted by their inverses, normalised (Hajek), and corrected to the judge's mean over all
    n + N. ``lam`` is as in `influence.corrected`; 1 is plain PPI, often wider than no judge.

    Fewer than two labelled units, no spread or a nan give nan and a reason; lengths that differ
    and propensities outside of (0, 1] a ValueError.
    Source: Angelopoulos et al. (2023), Science 382:669-674, and arXiv:2311.01453; with
    propensities Zrnic and Candes (2024), arXiv:2403.03208, with lam.
    """
    check_sizes(human, judge)
    method = _NAMES[lam if isinstance(lam, str) else "fixed"]
    method = method if propensities is None else f"weighted-{method}"
    method = method if clusters is None else f"cluster-{method}"
    n, n_other = human.size, unlabelled.size
    units, other_units, n_units = joint_units(n, n_other, clusters=clusters)
    labelled = Sample(human=human, judge=judge, weights=_weights(n, propensities), units=units)
    pool = judged(np.concatenate((judge, unlabelled)), np.concatenate((units, other_units)))
    reference = judged(unlabelled, other_units) if propensities is None else pool
    reason = too_little(human, pool.judge, units=units)
    labels = corrected(labelled, reference, n_units=n_units, lam=0.0)
    if reason:
        found = unknown()
    else:
        reason = silent_judge(human, judge)
        used = 0.0 if reason else lam
        found = corrected(labelled, reference, n_units=n_units, lam=used)
    return rectified(
        found,
        labels,
        naive=mean_of(pool.judge, pool.weights, units=pool.units, n_units=n_units),
        counts=(n, n_other),
        level=level,
        method=method,
        reason=reason,
    )


def rectify_difference(
    human: FloatArray,
    judge: FloatArray,
    *,
    unlabelled: FloatArray,
    clusters: tuple[ArrayLike, ArrayLike] | None = None,
    propensities: FloatArray | None = None,
    lam: Tuning | float = "cross-fit",
    level: float = 0.95,
) -> Rectified:
    """The mean difference A - B of two systems on the same items, corrected as one number.

    ``human`` and ``judge`` are (n, 2), ``unlabelled`` (N, 2), the columns A and B; all else is as
    in ``rectify``. What both systems share cancels, in the labels as in the judge's scores; two
    separate intervals could not see that.
    """
    return rectify(
        human[:, 0] - human[:, 1],
        judge[:, 0] - judge[:, 1],
        unlabelled=unlabelled[:, 0] - unlabelled[:, 1],
        clusters=clusters,
        propensities=propensities,
        lam=lam,
        level=level,
    )


def rectified(
    found: Linear,
    labels: Linear,
    *,
    naive: Linear,
    counts: tuple[int, int],
    level: float,
    method: str,
    reason: str = "",
) -> Rectified:
    """An estimate with the labels alone and the judge alone beside it; counts (labels, others)."""
    interval = found.interval(level=level, method=method)
    beside = labels.interval(level=level, method="labels-only")
    ratio = beside.stderr / interval.stderr
    if not reason and not math.isfinite(interval.stderr):
        reason = "the labels show no spread"
    return Rectified(
        value=interval.estimate,
        stderr=interval.stderr,
        low=interval.low,
        high=interval.high,
        level=level,
        method=method,
        n_labels=counts[0],
        n_unlabelled=counts[1],
        n_effective=counts[0] * ratio**2,
        lam=found.lam,
        labels_only=beside,
        naive=naive.interval(level=level, method="judge-only"),
        is_wider=interval.high - interval.low > (1 + _WIDER) * (beside.high - beside.low),
        reason=reason,
    )


def check_sizes(human: FloatArray, judge: FloatArray) -> None:
    """ValueError unless there is one judge score to each label."""
    if human.shape != judge.shape:
        raise ValueError(f"{human.size} labels but {judge.size} judge scores of the same items")


def judged(scores: FloatArray, units: IntArray) -> Sample:
    """Items that have only a judge's scores, each counting alike."""
    weights = equal_weights(scores.size)
    return Sample(human=np.empty(0), judge=scores, weights=weights, units=units)


def too_little(human: FloatArray, scores: FloatArray, *, units: IntArray) -> str:
    """Why labels and judge scores allow no interval; empty where they do."""
    if np.isnan(human).any() or np.isnan(scores).any():
        return "a label or a score is missing (nan): leave such items out, and say how many"
    n_units = np.unique(units).size
    if n_units < 2:
        return f"{n_units} independent labelled units: at least 2 are needed"
    return ""


def silent_judge(human: FloatArray, judge: FloatArray) -> str:
    """Why the judge's error cannot be told from these labels; empty where it can."""
    gaps = human - judge
    scale = np.concatenate((human, judge))
    if spread_is_zero(float(np.ptp(gaps)), scale) and not spread_is_zero(np.ptp(human), scale):
        return "judge left out: it is off by the same on every label, which shows none of its error"
    return ""


def _weights(n: int, propensities: FloatArray | None) -> FloatArray:
    if propensities is None:
        return equal_weights(n)
    if propensities.shape != (n,) or not ((propensities > 0) & (propensities <= 1)).all():
        raise ValueError(f"propensities must be {n} numbers above 0 and up to 1")
    inverse = 1 / propensities
    return np.asarray(inverse / inverse.sum())
