"""Confidence intervals of proportions and means, of independent and of clustered examples.

Which one, by how often 95 % intervals held the truth (``interval_coverage.py`` in ``benchmarks``):

- a proportion: ``wilson`` (93.6 to 95.9 %); ``clopper_pearson`` where 95 % must be certain;
- a mean of values with known ends, scores of 1 to 5 say: ``wilson_mean`` (93.5 to 96.2 %). t has
  95 % in the middle of the scale, but 34 % where 98 of 100 have the top score and n is 20. No
  method sees a rare and very bad score that is not in the sample;
- the same in clusters: ``wilson_mean`` with clusters (93.8 to 97 % with fifty of them, to 99.8 %
  with ten or twenty near an end). t with CR2 only far from the ends, t with CR1 only for clusters
  of like sizes;
- a mean without known ends: ``t_interval``, ``cluster_t_interval``;
- a ratio, a perplexity: ``ratio.py`` (94.9 to 95.1 %);
- a difference of paired scores: ``paired.py`` (94.0 to 96.5 %, to 100 % where few pairs differ);
- anything else: the bootstrap, which near an end or with few clusters holds no better than t.

Undefined is nan. A spread of exactly zero counts as undefined: it says that the sample is too
uniform to tell how uncertain its mean is, not that the mean is certain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

_RELATIVE_EPS = 1e-12  # a spread below this share of the values is rounding, not spread
_FEW_CLUSTERS = 5
_DEGREES_FACTOR = 1.5  # a score interval asks less of the variance's estimate than t does


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its standard error and confidence bounds, all in the data's unit."""

    estimate: float
    stderr: float  # nan when there is too little to say
    low: float
    high: float
    level: float
    method: str


def wilson(n_successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Score interval of a proportion; within [0, 1] and defined for 0 and for n successes.

    ``n`` = 0 gives nan. The standard error is sqrt(p (1 - p) / (n - 1)), nan where that is 0.
    Source: Wilson (1927), J. Am. Stat. Assoc. 22:209-212.

    >>> interval = wilson(81, 263)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.2553, 0.3662)
    """
    if n == 0:
        return undefined(math.nan, level=level, method="wilson")
    found = stats.binomtest(n_successes, n).proportion_ci(level, method="wilson")
    return Interval(
        estimate=n_successes / n,
        stderr=_proportion_stderr(n_successes, n),
        low=float(found.low),
        high=float(found.high),
        level=level,
        method="wilson",
    )


def clopper_pearson(n_successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Exact interval of a proportion: it covers any true proportion at least ``level`` of the time.

    Wider than Wilson's for that. ``n`` = 0 gives nan; the standard error is Wilson's.
    Source: Clopper and Pearson (1934), Biometrika 26:404-413.

    >>> interval = clopper_pearson(81, 263)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.2527, 0.3676)
    """
    return _beta_interval(n_successes, n, level=level, method="clopper-pearson", shift=(0.0, 1.0))


def jeffreys(n_successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Equal-tailed interval of a proportion from the posterior under Jeffreys's Beta(1/2, 1/2).

    From 0 where nothing succeeded and up to 1 where everything did. ``n`` = 0 gives nan; the
    standard error is Wilson's, not the posterior's.
    Source: Brown, Cai and DasGupta (2001), Statist. Sci. 16:101-133.

    >>> interval = jeffreys(81, 263)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.2545, 0.3656)
    """
    return _beta_interval(n_successes, n, level=level, method="jeffreys", shift=(0.5, 0.5))


def wilson_mean(
    values: FloatArray,
    clusters: ArrayLike | None = None,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
) -> Interval:
    """Wilson's interval carried over to the mean of ``values`` (n,) that lie within ``bounds``.

    The mean, on a scale of 0 to 1, is taken as a proportion of so many answers as would give it
    the variance that it has: p (1 - p) over its squared standard error. So it keeps its coverage
    near the ends of the scale, where a symmetrical interval loses it. Independent values: the
    normal quantile, as in ``wilson``; 0s and 1s come to Wilson's for one answer fewer.
    ``clusters`` (n,): Student's with the variance of CR2 and half as many degrees of freedom again
    as CR2 has, since the quotient of p (1 - p) and the variance varies less than the variance.

    Where there is no spread each value (or cluster) counts as one answer, and clusters count as no
    more than that as long as fewer than five of them have lost, or won, anything: so few do not
    tell the variance. With that no variance is estimated, and the quantile is the normal one.
    Nothing, a nan or a single cluster gives nan; a value outside of ``bounds`` a ValueError.
    Source: Korn and Graubard (1998), Survey Methodology 24:193-201, and Dean and Pagano (2015),
    J. Surv. Stat. Methodol. 3:484-503 (effective sample size); the five clusters and the degrees
    are ours, from simulations of 10 to 50 clusters with intraclass correlations of 0 to .5.
    """
    method = "wilson-mean" if clusters is None else "cluster-wilson"
    low, span = bounds[0], bounds[1] - bounds[0]
    if values.size == 0 or np.isnan(values).any():
        return undefined(math.nan, level=level, method=method)
    if values.min() < bounds[0] or values.max() > bounds[1]:
        raise ValueError(f"values from {values.min()} to {values.max()} are not within {bounds}")
    scaled = (values - low) / span
    codes, n_units = cluster_codes(np.arange(values.size) if clusters is None else clusters)
    if clusters is not None and n_units < 2:
        return undefined(float(values.mean()), level=level, method=method)
    n_effective, known = _effective_size(scaled, codes)
    degrees = math.inf
    if clusters is not None and math.isfinite(known.stderr):
        n_effective, degrees = _of_clusters(scaled, codes, n_effective, known)
    quantile = float(stats.t.ppf(0.5 + level / 2, degrees))
    lower, upper = _score_bounds(float(scaled.mean()), n_effective, quantile)
    return Interval(
        estimate=float(values.mean()),
        stderr=known.stderr * span,
        low=max(bounds[0], low + span * lower),
        high=min(bounds[1], low + span * upper),
        level=level,
        method=method,
    )


def t_interval(
    values: FloatArray,
    *,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Interval of the mean of independent ``values`` (n,), by Student's t with n - 1 degrees.

    ``bounds`` are the limits of the values themselves: the interval is clipped to them. Fewer
    than two values, or values that are all equal, give nan bounds.
    Source: Miller (2024), arXiv:2411.00640, with t in place of z.
    """
    n = values.size
    if n == 0:
        return undefined(math.nan, level=level, method="t")
    mean = float(values.mean())
    stderr = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    stderr = _spread_or_nan(stderr, values)
    return student_interval(mean, stderr, degrees=n - 1, level=level, bounds=bounds, method="t")


def clustered_stderr(values: FloatArray, clusters: ArrayLike) -> float:
    """Standard error of ``values.mean()`` when examples come in clusters.

    Both are (n,); ``clusters`` holds labels of any kind that sorts. Fewer than two clusters tell
    nothing of the spread: nan.
    Source: Miller (2024), arXiv:2411.00640, with the g/(g-1) small-sample factor.
    """
    codes, n_clusters = cluster_codes(clusters)
    if n_clusters < 2:
        return math.nan
    sums = np.bincount(codes, weights=values - values.mean(), minlength=n_clusters)
    return math.sqrt(n_clusters / (n_clusters - 1) * float(sums @ sums)) / values.size


def cluster_t_interval(
    values: FloatArray,
    clusters: ArrayLike,
    *,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    correction: Literal["cr1", "cr2"] = "cr1",
) -> Interval:
    """Interval of the mean of ``values`` (n,) when examples come in clusters.

    Student's t on the cluster-robust standard error, clipped to ``bounds``. ``cr1`` is
    ``clustered_stderr`` with one degree of freedom less than there are clusters. ``cr2`` makes the
    variance unbiased, for independent values, whatever the sizes of the clusters, and takes
    Satterthwaite's degrees of freedom, which are fewer the more the sizes differ; for clusters of
    one size the two are the same. Fewer than two clusters, or no spread between them: nan. For a
    proportion it is the same on 0/1 values with bounds (0, 1); near 0 or 1 ``wilson_mean`` covers
    better.
    Source: Liang and Zeger (1986), Biometrika 73:13-22; Miller (2024), arXiv:2411.00640; for CR2
    see ``cr2``.
    """
    method = "cluster-t" if correction == "cr1" else "cluster-t-cr2"
    if values.size == 0:
        return undefined(math.nan, level=level, method=method)
    codes, n_clusters = cluster_codes(clusters)
    mean = float(values.mean())
    if n_clusters < 2:
        return undefined(mean, level=level, method=method)
    if correction == "cr1":
        stderr, degrees = clustered_stderr(values, codes), float(n_clusters - 1)
    else:
        found = _cr2_of_mean(values, codes)
        stderr, degrees = found.stderr, found.degrees
    stderr = _spread_or_nan(stderr, values)
    return student_interval(
        mean, stderr, degrees=degrees, level=level, bounds=bounds, method=method
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How well something is known: its standard error and that error's degrees of freedom."""

    stderr: float
    degrees: float


def cr2(sums: FloatArray, sizes: FloatArray, *, growth: float = 1.0) -> Precision:
    """The bias-reduced precision of a total over a size, from each cluster's sum of residuals.

    Both are (g,), g at least 2, and no cluster may have the whole size n. The variance of a
    cluster's sum is taken to grow as m**``growth`` with its size m: 1 where members are
    independent, 2 where they are all alike. With D = m**growth and T the sum of D, the residuals'
    sums then have the covariance D_g (if g is h) - (m_g D_h + m_h D_g) / n + m_g m_h T / n².
    Each is divided by the root of its part of D_g; Satterthwaite's degrees of freedom are
    trace² / sum of squares of what that makes of the covariance.
    Source: Bell and McCaffrey (2002), Survey Methodology 28:169-181, and Pustejovsky and Tipton
    (2018), J. Bus. Econ. Stat. 36:672-683, for a regression on a constant.
    """
    n = float(sizes.sum())
    shares, spreads = sizes / n, sizes**growth
    total = float(spreads.sum())
    kept = 1 - 2 * shares + sizes ** (2 - growth) * total / n**2
    own, mixed, squared = (
        float(np.sum(product / kept)) for product in (shares**2, shares * spreads, spreads**2)
    )
    # all entries squared as if they were off the diagonal, then the diagonal put right
    off = (total * shares**2 - 2 * shares * spreads) / kept
    squares = 2 * own * squared + 2 * mixed**2 + (total * own) ** 2 - 4 * total * own * mixed
    squares += float(np.sum(spreads**2 - off**2))
    stderr = math.sqrt(float(np.sum(sums**2 / kept))) / n
    return Precision(stderr=stderr, degrees=total**2 / squares)


def sums_by_code(values: FloatArray, codes: NDArray[np.intp]) -> FloatArray:
    """(g,): the sum of the ``values`` (n,) of each code 0..g-1."""
    return np.asarray(np.bincount(codes, weights=values), dtype=np.float64)


def student_interval(
    mean: float,
    stderr: float,
    *,
    degrees: float,
    level: float,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    method: str,
) -> Interval:
    """Student's t interval of a mean; nan bounds where it or its error is not finite."""
    if not (math.isfinite(mean) and math.isfinite(stderr)):
        return undefined(mean, level=level, method=method)
    margin = float(stats.t.ppf(0.5 + level / 2, degrees)) * stderr
    return Interval(
        estimate=mean,
        stderr=stderr,
        low=max(mean - margin, bounds[0]),
        high=min(mean + margin, bounds[1]),
        level=level,
        method=method,
    )


def cluster_codes(clusters: ArrayLike) -> tuple[NDArray[np.intp], int]:
    """Labels (n,) as codes 0..g-1 (n,) in the labels' order, and g."""
    labels: NDArray[Any] = np.asarray(clusters)
    found, codes = np.unique(labels, return_inverse=True)
    return codes.reshape(-1), found.size


def undefined(estimate: float, *, level: float, method: str) -> Interval:
    """An interval of which nothing is known but perhaps its estimate."""
    return Interval(
        estimate=estimate,
        stderr=math.nan,
        low=math.nan,
        high=math.nan,
        level=level,
        method=method,
    )


def spread_is_zero(spread: float, values: FloatArray) -> bool:
    """Whether a spread is no more than the rounding of the values it was computed from."""
    return spread <= _RELATIVE_EPS * float(np.abs(values).max(initial=0.0))


def _beta_interval(
    n_successes: int, n: int, *, level: float, method: str, shift: tuple[float, float]
) -> Interval:
    """Bounds that are quantiles of Beta(k + shift, n - k + the other shift), and back for high."""
    if n == 0:
        return undefined(math.nan, level=level, method=method)
    n_failures, tail = n - n_successes, 0.5 - level / 2
    low, high = 0.0, 1.0
    if n_successes > 0:
        low = float(stats.beta.ppf(tail, n_successes + shift[0], n_failures + shift[1]))
    if n_failures > 0:
        high = float(stats.beta.isf(tail, n_successes + shift[1], n_failures + shift[0]))
    return Interval(
        estimate=n_successes / n,
        stderr=_proportion_stderr(n_successes, n),
        low=low,
        high=high,
        level=level,
        method=method,
    )


def _proportion_stderr(n_successes: int, n: int) -> float:
    p = n_successes / n
    return math.sqrt(p * (1 - p) / (n - 1)) if 0 < n_successes < n else math.nan


def _effective_size(scaled: FloatArray, codes: NDArray[np.intp]) -> tuple[float, Precision]:
    """Answers that a mean on 0..1 is worth, and its precision: stderr is nan without spread."""
    p, n_units = float(scaled.mean()), int(codes.max()) + 1
    if n_units < 2:
        return 1.0, Precision(stderr=math.nan, degrees=math.nan)
    known = _cr2_of_mean(scaled, codes)
    if spread_is_zero(known.stderr, scaled):
        return float(n_units), Precision(stderr=math.nan, degrees=known.degrees)
    return p * (1 - p) / known.stderr**2, known


def _of_clusters(
    scaled: FloatArray, codes: NDArray[np.intp], n_effective: float, known: Precision
) -> tuple[float, float]:
    """Answers that clusters are worth and t's degrees; infinite where no variance is relied on."""
    n_clusters = float(codes.max() + 1)
    if n_effective > n_clusters and _n_deviating(scaled, codes) < _FEW_CLUSTERS:
        return n_clusters, math.inf
    return n_effective, _DEGREES_FACTOR * known.degrees


def _score_bounds(p: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's for a proportion of n answers, n being any positive number."""
    squared = quantile**2 / n
    middle = (p + squared / 2) / (1 + squared)
    margin = math.sqrt(max(0.0, p * (1 - p)) * squared + squared**2 / 4) / (1 + squared)
    return max(0.0, min(p, middle - margin)), min(1.0, max(p, middle + margin))


def _n_deviating(scaled: FloatArray, codes: NDArray[np.intp]) -> int:
    """Clusters with anything but full marks, or with anything but none, whichever are fewer."""
    n_losing = np.count_nonzero(sums_by_code((scaled < 1).astype(np.float64), codes))
    n_winning = np.count_nonzero(sums_by_code((scaled > 0).astype(np.float64), codes))
    return int(min(n_losing, n_winning))


def _cr2_of_mean(values: FloatArray, codes: NDArray[np.intp]) -> Precision:
    sizes = sums_by_code(np.ones(values.size), codes)
    return cr2(sums_by_code(values - values.mean(), codes), sizes)


def _spread_or_nan(stderr: float, values: FloatArray) -> float:
    return math.nan if spread_is_zero(stderr, values) else stderr
