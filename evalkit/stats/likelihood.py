"""The mean of independent values by empirical likelihood: bounds that lean the way the values do.

A mean is doubted as far as weights on the values, and on the two ends of what they can be, must
leave the equal ones to have it. Where few values lose much, that is further down than up, as it
should be; Student's t goes equally far both ways.

The ends lie to either side of the median, as far off as the farthest value: what has shown itself
on one side may come on the other. As long as fewer than six values are off the median, too few to
show even their sign (2 / 2^5 > .05), the ends are those of the scale, where it is known. Signed
roots are held against Student's t, with five degrees more than there are values off the median and
no more than the standard error has. Ends and degrees are ours, chosen by simulation
(``benchmarks/interval_coverage.py``); for normal values the two-sided level is exact to half a
point from ten of them on.
Source: Owen (1988), Biometrika 75:237-249; Owen (2001), Empirical Likelihood, ch. 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize
from scipy.special import stdtr, stdtrit

from evalkit.stats.intervals import FloatArray, cluster_codes, cr2, spread_is_zero, sums_by_code

_MORE_DEGREES = 5  # than values off the median; 3 covers up to a point more, none too little
_FEW_OFF = 6  # values off the median, below which they do not show how far off they can be
_FEW = 10  # values, below which the farther of this bound and Student's is the one that holds
_FAR = 600.0  # logarithm of a ratio to the spread that is as good as none, or as all


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Independent values whose mean is asked for, and how far they could reach.

    ``low`` and ``high`` are nan where nothing is known of that: one value, or values that are all
    equal and have no limits.
    """

    values: FloatArray  # (m,) of examples; of clusters, scaled to have the mean over all examples
    low: float
    high: float
    degrees: float  # of the roots' t
    stderr: float  # nan where there is no spread
    t_degrees: float  # of the standard error

    @property
    def mean(self) -> float:
        """The mean over all examples."""
        return float(self.values.mean())


def sample_of(
    values: FloatArray,
    clusters: ArrayLike | None = None,
    *,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> Sample:
    """What ``values`` (n,), finite and at least one, tell of their mean.

    With ``clusters`` (n,) these are the units, as in CR2: their sums of residuals, each divided by
    sqrt(1 - its share of the examples), so that for clusters of one size the units are the
    clusters' means. ``limits`` are those of the values: the ends where few of them differ, and all
    that bounds values which are equal.
    """
    if clusters is None:
        units = by_unit = values
        t_degrees = float(values.size - 1)
    else:
        units, by_unit, t_degrees = _cluster_units(values, clusters)
    m, median = units.size, float(np.median(units))
    reach = float(np.abs(units - median).max())
    n_off, stderr = 0, math.nan
    if m > 1 and not spread_is_zero(reach, values):
        scale = float(np.abs(values).max())
        n_off = int(np.count_nonzero(np.abs(by_unit - np.median(by_unit)) > 1e-12 * scale))
        stderr = float(units.std(ddof=1)) / math.sqrt(m)
    low, high = _ends(units, median, n_off, limits)
    return Sample(
        values=units,
        low=low,
        high=high,
        degrees=min(t_degrees, float(n_off + _MORE_DEGREES)),
        stderr=stderr,
        t_degrees=t_degrees,
    )


def mean_bounds(sample: Sample, *, tail: float) -> tuple[float, float]:
    """The means that either side's test at ``tail`` does not reject; nan where the ends are.

    Below ten values a bound is the farther of this one and Student's t: so few do not show a skew.
    """
    if math.isnan(sample.low):
        return math.nan, math.nan
    quantile = -float(stdtrit(sample.degrees, tail))
    low = _lowest(sample.values, sample.low, quantile)
    high = -_lowest(-sample.values, -sample.high, quantile)
    if sample.values.size < _FEW and math.isfinite(sample.stderr):
        half = -float(stdtrit(sample.t_degrees, tail)) * sample.stderr
        low, high = min(low, sample.mean - half), max(high, sample.mean + half)
    return low, high


def exceedance_p(sample: Sample, mean: float) -> float:
    """One-sided p of the hypothesis that the mean is ``mean`` or less; nan where the ends are.

    Below ``tail`` exactly when the lower of `mean_bounds` lies above ``mean`` (to rounding).
    """
    if math.isnan(sample.low):
        return math.nan
    if mean <= sample.mean:
        root = _root(sample.values, sample.low, mean)
    else:
        root = -_root(-sample.values, -sample.high, -mean)
    p = float(stdtr(sample.degrees, -root))
    if sample.values.size < _FEW and math.isfinite(sample.stderr):
        t = (sample.mean - mean) / sample.stderr
        p = max(p, float(stdtr(sample.t_degrees, -t)))
    return p


def difference_p(sample: Sample) -> float:
    """Two-sided p of a mean of 0; it agrees with `mean_bounds`."""
    if sample.mean < 0:
        sample = replace(sample, values=-sample.values, low=-sample.high, high=-sample.low)
    return 2 * exceedance_p(sample, 0.0)


def _ends(
    units: FloatArray, median: float, n_off: int, limits: tuple[float, float]
) -> tuple[float, float]:
    """How far values may lie of which ``n_off`` are off the median; nan where that is unknown."""
    low, high = float(units.min()), float(units.max())
    if n_off < _FEW_OFF and math.isfinite(limits[0]) and math.isfinite(limits[1]):
        return (min(low, limits[0]), max(high, limits[1])) if units.size > 1 else (math.nan,) * 2
    if n_off == 0:
        return math.nan, math.nan
    # the farthest value is an end itself; the other end lies as far off, or at its limit
    reach = max(median - low, high - median)
    if median - low < reach * (1 - 1e-12):
        low = min(low, max(limits[0], median - reach))
    if high - median < reach * (1 - 1e-12):
        high = max(high, min(limits[1], median + reach))
    return low, high


def _cluster_units(values: FloatArray, clusters: ArrayLike) -> tuple[FloatArray, FloatArray, float]:
    """(g,) scaled units, (g,) the clusters' means, and Satterthwaite's degrees of freedom."""
    codes, n_clusters = cluster_codes(clusters)
    sizes = sums_by_code(np.ones(values.size), codes)
    mean = float(values.mean())
    if n_clusters < 2:
        return np.array([mean]), np.array([mean]), math.nan
    residuals = sums_by_code(values - mean, codes)
    shares = sizes / values.size
    scaled = residuals * n_clusters / values.size * np.sqrt((1 - 1 / n_clusters) / (1 - shares))
    means = sums_by_code(values, codes) / sizes
    if spread_is_zero(float(np.ptp(means)), values):
        scaled = np.zeros(n_clusters)  # rounding alone
    return mean + scaled - scaled.mean(), means, cr2(residuals, sizes).degrees


def _lowest(values: FloatArray, end: float, quantile: float) -> float:
    """The mean below that of the ``values`` (m,) whose root is ``quantile``; ``end`` <= them all.

    The weights 1 / (m (1 + theta (x - mean))) are as 1 / (x - pole). With G and H the geometric and
    the harmonic mean of x - pole, the mean is pole + H and the squared root 2 m log(G / H): one
    equation, in the pole. It lies below ``end``; where it would not, some weight is on ``end``, the
    squared root is 2 m log(G / (mean - end)) with G of x - end, and the mean follows from it.
    """
    target = quantile**2 / (2 * values.size)
    lowest = float(values.min())
    above, gap = values - lowest, lowest - end
    if gap > 0 and _ratio_of_means(above, gap) <= target:
        return end + math.exp(float(np.log(above + gap).mean()) - target)
    spread = float(above.max())
    if spread == 0:
        return lowest
    above = above / spread
    # far below the values the ratio is their variance over twice the squared distance
    start = math.log(float(above.std()) / math.sqrt(2 * target))
    found = _crossing(
        lambda s: math.log(max(_ratio_of_means(above, math.exp(s)), 1e-300) / target), start
    )
    if math.isinf(found):
        return lowest
    weights = 1 / (above + math.exp(found))
    return lowest + spread * float(above @ weights) / float(weights.sum())


def _ratio_of_means(above: FloatArray, gap: float) -> float:
    """log(G / H) of ``above + gap``."""
    shifted, m = above + gap, above.size
    return float(np.log(shifted).sum()) / m + math.log(float((1 / shifted).sum()) / m)


def _root(values: FloatArray, end: float, mean: float) -> float:
    """The signed root of 2 log likelihood ratio at ``mean``, not above that of the values (m,)."""
    distances, lowest = values - mean, float(values.min())
    if distances.sum() <= 0:
        return 0.0
    if mean <= end:
        return math.inf
    if lowest > end and float((distances / (values - end)).sum()) >= 0:
        return math.sqrt(max(0.0, 2 * float(np.log((values - end) / (mean - end)).sum())))
    spread = float(values.max()) - lowest
    above, distances = (values - lowest) / spread, distances / spread
    below = (mean - lowest) / spread

    def excess(s: float) -> float:
        """Of ``mean`` over what the weights make it, the pole exp(s) spreads below the lowest."""
        return -float((distances / (1 + above * math.exp(-s))).sum())

    height = float(distances.mean())
    if height <= 0:  # by the rounding of the scale
        return 0.0
    found = _crossing(excess, math.log(float(above.var()) / height))
    if math.isinf(found):
        return 0.0 if found > 0 else math.inf
    return math.sqrt(max(0.0, 2 * float(np.log1p(distances / (below + math.exp(found))).sum())))


def _crossing(falling: Callable[[float], float], start: float) -> float:
    """Where a falling function is zero, from a guess; infinite where it is so nowhere."""
    low = high = start
    while falling(low) < 0:
        low, high = low - (high - low + 1), low
        if low < -_FAR:
            return -math.inf
    while falling(high) > 0:
        low, high = high, high + (high - low + 1)
        if high > _FAR:
            return math.inf
    return low if low == high else float(optimize.brentq(falling, low, high, xtol=1e-12))
