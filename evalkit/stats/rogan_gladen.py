"""A proportion from a judge's verdicts, corrected for how often it is wrong on either class.

For labels from another population than the run's, in which the classes are not equally frequent
but the judge errs equally often within each: a calibration set, or labels drawn by class. For
labels that are a random sample of the run `rectify` is 1.4 to 1.8 times narrower.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from evalkit.stats.intervals import FloatArray, Interval, t_interval, undefined
from evalkit.stats.rectify import Rectified, check_sizes


def rogan_gladen(
    human: FloatArray,
    judge: FloatArray,
    *,
    unlabelled: FloatArray,
    is_prevalence_shifted: bool,
    level: float = 0.95,
) -> Rectified:
    """The share of ones that people would give the run's items: (p + Sp - 1) / (Se + Sp - 1).

    All are 0 or 1, else ValueError: ``human`` and ``judge`` (n,) of the calibration labels,
    ``unlabelled`` (N,) the judge's of the run. Sensitivity Se and specificity Sp are the labels'.
    nan and a reason where ``is_prevalence_shifted`` is not declared, where a class has no labels,
    and where Se + Sp is not above 1 by two standard errors: a judge that may know nothing.
    ``labels_only`` is the calibration set's own share: not an estimate for the run.
    ``is_wider`` compares with it, ``lam`` is nan.
    Source: Rogan and Gladen (1978), Am. J. Epidemiol. 107:71-76; the interval is the adjusted
    plug-in of Lee et al. (2025), arXiv:2511.21140.
    """
    check_sizes(human, judge)
    _check_binary(human=human, judge=judge, unlabelled=unlabelled)
    is_one = human == 1
    n_ones, n_zeros, n = int(is_one.sum()), int((~is_one).sum()), unlabelled.size
    right = (float(judge[is_one].sum()), float(n_zeros - judge[~is_one].sum()))
    if not is_prevalence_shifted:
        reason = "no prevalence shift is declared: rectify is right, and narrower"
    elif min(n_ones, n_zeros, n) == 0:
        reason = f"{n_ones} labels of 1, {n_zeros} of 0, {n} verdicts: none may be 0"
    else:
        reason = _too_weak(right, (n_ones, n_zeros))
    found = undefined(math.nan, level=level, method="rogan-gladen")
    if not reason:
        found = _interval(right, (n_ones, n_zeros), float(unlabelled.sum()), n, level=level)
    labels = t_interval(human, level=level, bounds=(0.0, 1.0))
    return Rectified(
        value=found.estimate,
        stderr=found.stderr,
        low=found.low,
        high=found.high,
        level=level,
        method=found.method,
        n_labels=human.size,
        n_unlabelled=n,
        n_effective=human.size * (labels.stderr / found.stderr) ** 2,
        lam=math.nan,
        labels_only=labels,
        naive=t_interval(unlabelled, level=level, bounds=(0.0, 1.0)),
        is_wider=found.high - found.low > labels.high - labels.low,
        reason=reason,
    )


def _check_binary(**arrays: FloatArray) -> None:
    for name, values in arrays.items():
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name} has values other than 0 and 1")


def _too_weak(right: tuple[float, float], sizes: tuple[int, int]) -> str:
    """Why a judge may be no better than chance; (of ones, of zeros)."""
    rates = [_added(k, m) for k, m in zip(right, sizes, strict=True)]
    stderr = math.sqrt(sum(r * (1 - r) / (m + 2) for r, m in zip(rates, sizes, strict=True)))
    total = right[0] / sizes[0] + right[1] / sizes[1]
    if total > 1 + 2 * stderr:
        return ""
    return f"sensitivity + specificity = {total:.3f} is not above 1 by two errors of {stderr:.3f}"


def _interval(
    right: tuple[float, float], sizes: tuple[int, int], n_ones: float, n: int, *, level: float
) -> Interval:
    """Lee's: Wilson's centre for p, one more of each kind for Se and Sp, a shifted centre."""
    z = float(stats.norm.ppf(0.5 + level / 2))
    raw_se, raw_sp = right[0] / sizes[0], right[1] / sizes[1]
    estimate = (n_ones / n + raw_sp - 1) / (raw_se + raw_sp - 1)
    p, weight = (n_ones + z**2 / 2) / (n + z**2), n + z**2
    se, sp = (_added(k, m) for k, m in zip(right, sizes, strict=True))
    slope = se + sp - 1
    centre = (p + sp - 1) / slope
    of_se, of_sp = se * (1 - se) / (sizes[0] + 2), sp * (1 - sp) / (sizes[1] + 2)
    variance = p * (1 - p) / weight + (1 - centre) ** 2 * of_sp + centre**2 * of_se
    stderr = math.sqrt(variance) / slope
    shifted = centre + 2 * z**2 * (centre * of_se - (1 - centre) * of_sp)
    return Interval(
        estimate=min(1.0, max(0.0, estimate)),
        stderr=stderr,
        low=min(1.0, max(0.0, shifted - z * stderr)),
        high=min(1.0, max(0.0, shifted + z * stderr)),
        level=level,
        method="rogan-gladen",
    )


def _added(k: float, n: int) -> float:
    return (k + 1) / (n + 2)
