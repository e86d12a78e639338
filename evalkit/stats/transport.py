"""Corrections by a map that was fitted to the labels: in the same set (cross-PPI), or carried over.

The map's predictions of labelled items are out of fold, those of the others the mean over the
folds' maps; so the labels correct a map that has not seen them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from evalkit.stats.crossfit import CrossFit, crossfit
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
from evalkit.stats.intervals import FloatArray
from evalkit.stats.maps import MapKind
from evalkit.stats.rectify import (
    Rectified,
    check_sizes,
    judged,
    rectified,
    rectify,
    silent_judge,
    too_little,
)


def cross_ppi(
    human: FloatArray,
    judge: FloatArray,
    *,
    unlabelled: FloatArray,
    groups: ArrayLike,
    map_kind: MapKind = "affine",
    clusters: tuple[ArrayLike, ArrayLike] | None = None,
    lam: Tuning | float = "cross-fit",
    level: float = 0.95,
) -> Rectified:
    """`rectify`, with the judge's scores first mapped to the labels' scale, cross-fitted.

    ``groups`` (n,) name the labelled items, or what ties them: they decide the ten folds. For
    judges on another scale (lam alone stops at 1) or bent ones; otherwise it gains nothing over
    `rectify`. ``naive`` is the mapped judge's. A lam on top of the map shrinks a map that learned
    noise. Too few groups for two folds give nan and a reason.
    Source: Zrnic and Candes (2024), PNAS 121:e2322083121, with the variance of PPI++ in place of
    their bootstrap.
    """
    fitted = crossfit(human, judge, groups=groups, kind=map_kind)
    found = rectify(
        human,
        fitted.predicted,
        unlabelled=fitted.predict(unlabelled),
        clusters=clusters,
        lam=lam,
        level=level,
    )
    reason = found.reason if fitted.maps else _ONE_FOLD
    return replace(found, method=f"{map_kind}-{found.method}", reason=reason)


def transported(
    human: FloatArray,
    judge: FloatArray,
    *,
    unlabelled: FloatArray,
    fitted: CrossFit | None = None,
    clusters: tuple[ArrayLike, ArrayLike] | None = None,
    level: float = 0.95,
) -> Rectified:
    """The run's mean from its judge scores alone, corrected by labels of another set of outputs.

    ``human`` and ``judge`` (n,) are of the labelled set, ``unlabelled`` (N,) of the run: the mean
    of g over the run plus the mean of human - g over the labels, g being ``fitted``, a cross-fit
    of these labels in this order, or the raw scores. lam is 1. It holds as far as the judge is
    off by the same, at the same score, in both sets: nothing here can test that.

    The variance is the sum of both means', of clusters where given, and of the map's own error:
    by how much its folds disagree on the step from the one set's scores to the other's (a
    delete-a-group jackknife), which counts when the run scores higher or lower than the labelled
    set. ``labels_only`` is the labelled set's mean: not an estimate of the run.
    Source: the sum is Angelopoulos et al. (2023), Science 382:669-674, with lam 1; the jackknife
    Quenouille (1956), in the form of Wolter (2007), Introduction to Variance Estimation, ch. 4.
    """
    check_sizes(human, judge)
    n, n_other = human.size, unlabelled.size
    units, other_units, n_units = joint_units(n, n_other, clusters=clusters)
    known, scores = _mapped(judge, unlabelled, fitted)
    labelled = Sample(human=human, judge=known, weights=equal_weights(n), units=units)
    run = judged(scores, other_units)
    if fitted is not None and not fitted.maps:
        reason = _ONE_FOLD
    else:
        reason = too_little(human, np.concatenate((known, scores)), units=units)
        reason = reason or _too_few(other_units)
        if not reason and silent_judge(human, known):
            reason = "the judge is off by the same on every label: its error cannot be told"
    found = unknown()
    if not reason:
        found = corrected(labelled, run, n_units=n_units, lam=1.0)
    if not reason and fitted is not None:
        found = _with_map_error(found, fitted, judge, unlabelled)
    return rectified(
        found,
        corrected(labelled, run, n_units=n_units, lam=0.0),
        naive=mean_of(scores, run.weights, units=other_units, n_units=n_units),
        counts=(n, n_other),
        level=level,
        method="transported" if clusters is None else "cluster-transported",
        reason=reason,
    )


_ONE_FOLD = "all labels fall into one fold: too few groups to fit a map and test it"


def _mapped(
    judge: FloatArray, unlabelled: FloatArray, fitted: CrossFit | None
) -> tuple[FloatArray, FloatArray]:
    """Both sets' scores as the labels' scale has them, the labelled items' out of fold."""
    if fitted is None:
        return judge, unlabelled
    if fitted.predicted.shape != judge.shape:
        raise ValueError(f"{judge.size} scores, but a fit to {fitted.predicted.size} other labels")
    return fitted.predicted, fitted.predict(unlabelled)


def _too_few(units: IntArray) -> str:
    n_units = np.unique(units).size
    return "" if n_units > 1 else f"{n_units} independent items in the run: at least 2 are needed"


def _with_map_error(
    found: Linear, fitted: CrossFit, judge: FloatArray, unlabelled: FloatArray
) -> Linear:
    """The estimate with one more influence for each fold's map."""
    k = len(fitted.maps)
    steps = np.array(
        [float(m.predict(unlabelled).mean() - m.predict(judge).mean()) for m in fitted.maps]
    )
    extra = math.sqrt((k - 1) / k) * (steps - steps.mean())
    known, guessed = float(found.influences @ found.influences), float(extra @ extra)
    spread = known**2 / found.degrees + guessed**2 / (k - 1)
    return replace(
        found,
        influences=np.concatenate((found.influences, extra)),
        degrees=(known + guessed) ** 2 / spread if spread > 0 else found.degrees,
    )
