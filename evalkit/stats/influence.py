"""What each item, or cluster of items, adds to the error of a mean corrected by a judge.

A corrected mean is linear: the labels' mean, less ``lam`` times how far the judge's mean over the
labelled items lies from its mean over the reference items. So its error is a sum of influences,
one from each independent unit, and its variance the sum of their squares: also where the same
clusters hold labelled and unlabelled items, where labels have weights, and over strata.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    cluster_codes,
    cr2,
    spread_is_zero,
    student_interval,
    sums_by_code,
)

IntArray = NDArray[np.intp]
Tuning = Literal["plug-in", "cross-fit"]
"""How lam is estimated; see ``corrected``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Values, their weights and the independent units that they belong to; all (n,)."""

    human: FloatArray  # of the labelled items; empty where there are no labels
    judge: FloatArray
    weights: FloatArray  # sum to 1
    units: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """An estimate as a sum of influences (g,), one of each unit; its error is their sum."""

    value: float
    influences: FloatArray
    degrees: float  # of freedom
    scale: float  # the largest magnitude among the values: a spread far below it is rounding
    lam: float = 0.0

    @property
    def stderr(self) -> float:
        """Root of the sum of squared influences; nan where there is no spread to speak of."""
        found = math.sqrt(float(self.influences @ self.influences))
        return math.nan if spread_is_zero(found, np.array([self.scale])) else found

    def interval(self, *, level: float, method: str) -> Interval:
        """Student's t interval; nan bounds where the standard error is nan."""
        stderr = self.stderr if self.degrees > 0 else math.nan
        return student_interval(
            self.value, stderr, degrees=self.degrees, level=level, method=method
        )


def unknown() -> Linear:
    """The estimate of which nothing is known."""
    return Linear(value=math.nan, influences=np.zeros(1), degrees=0.0, scale=0.0)


def equal_weights(n: int) -> FloatArray:
    """(n,): 1/n each."""
    return np.full(n, 1 / n) if n else np.empty(0)


def joint_units(
    n_labelled: int, n_other: int, *, clusters: tuple[ArrayLike, ArrayLike] | None
) -> tuple[IntArray, IntArray, int]:
    """The units of the labelled and of the other items as codes 0..g-1, and g.

    ``clusters`` are the labels of both, shared where a cluster has items in both; None makes each
    item a unit of its own.
    """
    if clusters is None:
        n = n_labelled + n_other
        return np.arange(n_labelled), np.arange(n_labelled, n), n
    first, second = (np.asarray(c) for c in clusters)
    if first.shape != (n_labelled,) or second.shape != (n_other,):
        raise ValueError(
            f"clusters of shape {first.shape} and {second.shape} for {n_labelled} and {n_other}"
        )
    codes, n_units = cluster_codes(np.concatenate((first, second)))
    return codes[:n_labelled], codes[n_labelled:], n_units


def mean_of(values: FloatArray, weights: FloatArray, *, units: IntArray, n_units: int) -> Linear:
    """The weighted mean of ``values`` (n,), its influences with CR2's small-sample factor.

    Each unit's sum of weighted residuals is divided by sqrt(1 - its share of the weight), which
    makes n/(n - 1) of equal weights. Degrees of freedom: Satterthwaite's of CR2; with unequal
    weights 1 / (sum of squared shares of the units) - 1, Kish's effective number less one.
    Fewer than two units: influences of 0 and no degrees of freedom; no values: a mean of nan.
    Source: Bell and McCaffrey (2002), Survey Methodology 28:169-181; Kish (1965), Survey Sampling.
    """
    mean = float(weights @ values) if values.size else math.nan
    raw = _sums(weights * (values - mean), units, n_units)
    shares = _sums(weights, units, n_units)
    scale = float(np.abs(values).max(initial=0.0))
    is_alone = np.count_nonzero(shares) < 2
    influences = np.zeros(n_units) if is_alone else raw / np.sqrt(1 - shares)
    if is_alone:
        degrees = 0.0
    elif np.ptp(weights) <= 1e-12 * float(weights.max()):
        _, codes = np.unique(units, return_inverse=True)
        sizes = sums_by_code(np.ones(values.size), codes.reshape(-1))
        degrees = cr2(np.zeros(sizes.size), sizes).degrees
    else:
        degrees = 1 / float(shares @ shares) - 1
    return Linear(value=mean, influences=influences, degrees=degrees, scale=scale)


def corrected(labelled: Sample, reference: Sample, *, n_units: int, lam: Tuning | float) -> Linear:
    """The labels' mean corrected by the judge: mean Y - lam (mean f there - mean f of reference).

    ``lam`` a number is taken as it is; the estimated ones lie in [0, 1]. "plug-in" minimises the
    estimated variance: never wider than the labels alone, but from fewer than 50 labels it is too
    sure (coverage of 95 % intervals: 94 at 30 labels, 93 at 12, 91 at 8). "cross-fit" corrects
    each unit's labels with the lam of all the other units: it keeps its coverage down to 12 labels
    and is at most 1 % wider than the labels alone, from 30 on, for a judge that knows nothing.
    Degrees of freedom are those of the labels. An empty reference leaves the labels' mean.
    Source: Angelopoulos, Duchi and Zrnic (2023), arXiv:2311.01453 (power tuning); the
    leave-one-out form is that of Zrnic and Candes (2024), PNAS 121:e2322083121, with lam in place
    of a predictor.
    """
    y = mean_of(labelled.human, labelled.weights, units=labelled.units, n_units=n_units)
    if reference.judge.size == 0 or lam == 0 or y.degrees <= 0:
        return y
    f = mean_of(labelled.judge, labelled.weights, units=labelled.units, n_units=n_units)
    everywhere = mean_of(reference.judge, reference.weights, units=reference.units, n_units=n_units)
    if lam == "cross-fit":
        return _cross_fitted(labelled, y, everywhere, n_units)
    gap = f.influences - everywhere.influences
    used = _clipped_ratio(y.influences @ gap, gap @ gap, f.scale) if lam == "plug-in" else lam
    used = float(used)
    return Linear(
        value=y.value - used * (f.value - everywhere.value),
        influences=y.influences - used * gap,
        degrees=y.degrees,
        scale=max(y.scale, abs(used) * f.scale),
        lam=used,
    )


def combined(parts: list[Linear], shares: FloatArray, *, between: FloatArray) -> Linear:
    """The mean of independent parts, weighted by ``shares`` (k,).

    ``between`` (g,) are the influences of the shares themselves. Degrees of freedom: Satterthwaite.
    """
    variances = shares**2 * np.array([p.influences @ p.influences for p in parts])
    spread = float(np.sum(variances**2 / np.array([p.degrees for p in parts])))
    return Linear(
        value=float(shares @ [p.value for p in parts]),
        influences=between + shares @ np.array([p.influences for p in parts]),
        degrees=float(variances.sum()) ** 2 / spread if spread > 0 else math.inf,
        scale=max(p.scale for p in parts),
        lam=float(shares @ [p.lam for p in parts]),
    )


def _cross_fitted(labelled: Sample, y: Linear, everywhere: Linear, n_units: int) -> Linear:
    """Each unit's labels corrected with the lam of all other units."""
    lams = _left_out_lams(labelled, everywhere.influences, n_units)[labelled.units]
    residuals = labelled.human - lams * (labelled.judge - everywhere.value)
    rest = mean_of(residuals, labelled.weights, units=labelled.units, n_units=n_units)
    mean_lam = float(labelled.weights @ lams)
    return Linear(
        value=rest.value,
        influences=rest.influences + mean_lam * everywhere.influences,
        degrees=y.degrees,
        scale=max(y.scale, mean_lam * everywhere.scale),
        lam=mean_lam,
    )


def _left_out_lams(labelled: Sample, everywhere: FloatArray, n_units: int) -> FloatArray:
    """(g,): the lam that minimises the variance as all units but one see it.

    Leaving out a unit of share h moves the mean of the rest by -u / (1 - h), u being its weighted
    residual: so each unit's sums without another one follow from totals, without a loop.
    """
    w, units = labelled.weights, labelled.units
    h = _sums(w, units, n_units)
    u = _sums(w * (labelled.human - w @ labelled.human), units, n_units)
    v = _sums(w * (labelled.judge - w @ labelled.judge), units, n_units)
    keep = 1 - h
    a, b = u / keep, v / keep

    def rest(first: FloatArray, second: FloatArray) -> FloatArray:
        products = first * second
        return np.asarray(products.sum() - products)

    hh, hq = rest(h, h), rest(h, everywhere)
    uv = rest(u, v) + b * rest(u, h) + a * rest(v, h) + a * b * hh
    uq = rest(u, everywhere) + a * hq
    vv = rest(v, v) + 2 * b * rest(v, h) + b**2 * hh
    vq = rest(v, everywhere) + b * hq
    numerator = uv / keep**2 - uq / keep
    denominator = vv / keep**2 - 2 * vq / keep + rest(everywhere, everywhere)
    return _clipped_ratio(numerator, denominator, float(np.abs(labelled.judge).max()))


def _sums(values: FloatArray, units: IntArray, n_units: int) -> FloatArray:
    return np.asarray(np.bincount(units, weights=values, minlength=n_units), dtype=np.float64)


def _clipped_ratio(numerator: ArrayLike, denominator: ArrayLike, scale: float) -> FloatArray:
    """The quotient within [0, 1]; 0 where the denominator, a variance, is only rounding."""
    below = np.asarray(denominator, dtype=np.float64)
    is_spread = below > (1e-12 * scale) ** 2
    ratio = np.asarray(numerator) / np.where(is_spread, below, 1.0)
    return np.where(is_spread, np.clip(ratio, 0, 1), 0.0)
