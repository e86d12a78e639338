"""Two systems on the same examples: their difference, how sure it is, and its chance.

``a`` and ``b`` are (n,), row i of both being the same example; a difference is b - a. With
``clusters`` (n,) whole clusters are the independent units, else the examples are. Undefined is
nan: no units, values that are not finite, differences too uniform to show a spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    cluster_t_interval,
    spread_is_zero,
    t_interval,
)
from evalkit.stats.likelihood import difference_p, mean_bounds
from evalkit.stats.paired_likelihood import paired_sample
from evalkit.stats.paired_replicates import (
    RELATIVE_EPS,
    are_equal,
    count_clusters,
    differences_of,
    expanded_share,
    paired_replicates,
    replicate_bounds,
    unit_rows,
)
from evalkit.stats.paired_score import score_interval
from evalkit.stats.paired_subsets import share_of, subset_sums
from evalkit.stats.resample import Combine, cluster_sums

_SMALL = 30  # units, below which the exact test under symmetry costs little and assumes less


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far b lies above a, in the data's unit; ``method`` names the interval, then the test."""

    estimate: float
    stderr: float  # nan when there is too little to say
    low: float
    high: float
    level: float
    p_value: float  # two-sided, of no difference
    method: str
    n: int  # independent units compared: examples, or clusters of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Discordance:
    """Pairs of right and wrong answers, counted."""

    n_both: int
    n_only_a: int
    n_only_b: int
    n_neither: int


def discordance(a: ArrayLike, b: ArrayLike) -> Discordance:
    """The four counts of two arrays (n,) of 0 and 1; ValueError for any other value."""
    first, second = _pair(a, b)
    for values in (first, second):
        if not ((values == 0) | (values == 1)).all():
            raise ValueError("binary scores must be 0 or 1")
    n_both, n_a, n_b = int(first @ second), int(first.sum()), int(second.sum())
    return Discordance(
        n_both=n_both,
        n_only_a=n_a - n_both,
        n_only_b=n_b - n_both,
        n_neither=first.size - n_a - n_b + n_both,
    )


def mcnemar(n_only_a: int, n_only_b: int, *, method: Literal["exact", "midp"] = "midp") -> float:
    """Two-sided p of as many pairs that only a got right as only b; 1 where there are none.

    The exact test rejects far less often than it may; the mid-p test is nearer to its level and,
    in every case that Fagerland et al. worked out, still within it.
    Source: Fagerland, Lydersen and Laake (2013), BMC Med. Res. Methodol. 13:91.

    >>> round(mcnemar(25, 15, method="exact"), 6), round(mcnemar(25, 15), 6)
    (0.15386, 0.117275)
    """
    n = n_only_a + n_only_b
    if n == 0:
        return 1.0
    fewer = min(n_only_a, n_only_b)
    exact = min(1.0, 2 * float(stats.binom.cdf(fewer, n, 0.5)))
    if method == "exact":
        return exact
    point = float(stats.binom.pmf(fewer, n, 0.5))
    return exact - (point / 2 if n_only_a == n_only_b else point)


def paired_binary(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Difference:
    """Difference of two proportions on the same examples, of 0 and 1: score interval, mid-p test.

    The interval is Tango's, not Newcombe's method 10: by exact enumeration of 336 cases (n 10 to
    50, one system alone right in 0.5 to 40 %) its coverage never falls below 93.9 %, Newcombe's
    falls to 92.1 %. Without a discordant pair it is -+z^2 / (n + z^2). It agrees with the
    non-inferiority test, being a score test turned round; with the mid-p value, which is another
    test, it may disagree when that is close to 1 - level.
    Source: Tango (1998), Statist. Med. 17:891-908; Fagerland et al. (2013).
    """
    counts = discordance(a, b)
    x, y = counts.n_only_a, counts.n_only_b
    n = x + y + counts.n_both + counts.n_neither
    method = "tango-score/mcnemar-midp"
    if n == 0:
        return _difference(math.nan, level=level, method=method, n=0)
    squares = x + y - (y - x) ** 2 / n
    low, high = score_interval(x, y, n, level=level)
    return Difference(
        estimate=(y - x) / n,
        stderr=math.sqrt(squares / (n * (n - 1))) if n > 1 and squares > 0 else math.nan,
        low=low,
        high=high,
        level=level,
        p_value=mcnemar(x, y),
        method=method,
        n=n,
    )


def paired_t(
    a: ArrayLike, b: ArrayLike, *, level: float = 0.95, clusters: ArrayLike | None = None
) -> Difference:
    """Mean difference by Student's t, of the examples or of whole clusters (cluster-robust, CR1).

    Degrees of freedom are one less than the units. Differences that are all equal tell nothing
    of their spread: nan bounds and p, save that p is 1 when all are 0.
    Source: Miller (2024), arXiv:2411.00640; Liang and Zeger (1986), Biometrika 73:13-22.
    """
    first, second = _pair(a, b)
    differences = differences_of(first, second)
    if clusters is None:
        n, method, found = first.size, "paired-t", t_interval(differences, level=level)
    else:
        n, method = count_clusters(clusters, first.size), "paired-cluster-t"
        found = cluster_t_interval(differences, clusters, level=level)
    scale = np.maximum(np.abs(first), np.abs(second))
    if not math.isfinite(found.stderr) or spread_is_zero(found.stderr, scale):
        p = 1.0 if n > 0 and not differences.any() else math.nan
        return _difference(found.estimate, level=level, method=method, n=n, p_value=p)
    p = 2 * float(stats.t.sf(abs(found.estimate / found.stderr), n - 1))
    return _from_interval(found, p_value=p, method=method, n=n)


def paired_wilcoxon(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; zero differences are left out, all of them: 1."""
    first, second = _pair(a, b)
    differences = differences_of(first, second)
    if differences.size == 0 or not np.isfinite(differences).all():
        return math.nan
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences[differences != 0]).pvalue)


def sign_flip(
    a: ArrayLike,
    b: ArrayLike,
    *,
    rng: np.random.Generator,
    n_resamples: int = 9999,
    clusters: ArrayLike | None = None,
) -> float:
    """Two-sided p of the mean difference when each unit's sign is a coin's; clusters flip whole.

    All patterns are gone through when at most 14 units differ; else ``n_resamples`` are drawn
    and the data count as one more: (1 + count) / (1 + n_resamples).
    Source: Fisher (1935), The Design of Experiments, sec. 21; Phipson and Smyth (2010).
    """
    first, second = _pair(a, b)
    rows = differences_of(first, second)[:, None]
    if clusters is not None:
        count_clusters(clusters, first.size)
        rows = cluster_sums(rows, clusters)
    if rows.size == 0 or not np.isfinite(rows).all():
        return math.nan
    total = float(rows.sum())
    chosen, is_exact = subset_sums(rows, n_resamples, rng=rng)
    tolerance = RELATIVE_EPS * float(np.abs(rows).sum())
    is_extreme = np.abs(total - 2 * chosen[:, 0]) >= abs(total) - tolerance
    return share_of(is_extreme, is_exact=is_exact)


def approximate_randomisation(
    stats_a: FloatArray,
    stats_b: FloatArray,
    combine: Combine,
    *,
    rng: np.random.Generator,
    n_resamples: int = 9999,
    clusters: ArrayLike | None = None,
) -> float:
    """Two-sided p of a corpus metric's difference when the systems swap each unit at random.

    Statistics are (n, k) a system and ``combine`` turns their sums into the metric. Exact for at
    most 14 units that differ, as in `sign_flip`. A swap whose metric is undefined counts as
    extreme. Memory is of the order of n_resamples * k, whatever n is.
    Source: Noreen (1989), Computer-Intensive Methods; Riezler and Maxwell (2005).
    """
    rows_a, rows_b = unit_rows(stats_a, stats_b, clusters)
    if len(rows_a) == 0 or not (np.isfinite(rows_a).all() and np.isfinite(rows_b).all()):
        return math.nan
    sum_a, sum_b = rows_a.sum(axis=0), rows_b.sum(axis=0)
    value_a, value_b = float(combine(sum_a)), float(combine(sum_b))
    if not (math.isfinite(value_a) and math.isfinite(value_b)):
        return math.nan
    moved, is_exact = subset_sums(rows_b - rows_a, n_resamples, rng=rng)
    swapped = np.abs(combine(sum_b - moved) - combine(sum_a + moved))
    # sums in another order differ by rounding, which a nonlinear metric may enlarge
    tolerance = 100 * RELATIVE_EPS * max(abs(value_a), abs(value_b))
    is_below = swapped < abs(value_b - value_a) - tolerance
    return share_of(~is_below, is_exact=is_exact)


def paired_bootstrap(
    stats_a: FloatArray,
    stats_b: FloatArray,
    combine: Combine,
    *,
    rng: np.random.Generator,
    n_resamples: int = 2000,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Difference:
    """Difference of a corpus metric, resampling the units of both systems together.

    Statistics are (n, k) a system and ``combine`` turns their sums into the metric. The bounds
    are expanded percentiles, which for few units are as wide as Student's t; p is the share of
    replicates as far from their own mean as the value is from 0, expanded likewise. nan where
    `bootstrap` gives nan, and where ``n_resamples`` is too small for the quantile that is due.
    Source: Hesterberg (2015), Am. Stat. 69:371-386; Koehn (2004), made two-sided.
    """
    found = paired_replicates(
        stats_a, stats_b, combine, rng=rng, n_resamples=n_resamples, clusters=clusters
    )
    draws, method = found.draws, "paired-bootstrap"
    if are_equal(draws):
        is_same = found.n > 0 and found.value == 0 and not draws.any()
        p = 1.0 if is_same and np.array_equal(stats_a, stats_b) else math.nan
        return _difference(found.value, level=level, method=method, n=found.n, p_value=p)
    low, high = replicate_bounds(found, tail=0.5 - level / 2)
    deviations = np.abs(draws - draws.mean())
    tolerance = RELATIVE_EPS * float(np.abs(draws).max())
    share = share_of(deviations >= abs(found.value) - tolerance, is_exact=False)
    return Difference(
        estimate=found.value,
        stderr=float(draws.std(ddof=1)),
        low=low,
        high=high,
        level=level,
        p_value=2 * expanded_share(share / 2, found.n),
        method=method,
        n=found.n,
    )


def paired_likelihood(
    a: ArrayLike,
    b: ArrayLike,
    *,
    level: float = 0.95,
    clusters: ArrayLike | None = None,
    reach: float = math.inf,
) -> Difference:
    """Mean difference by empirical likelihood, of the examples or of whole clusters.

    Unlike t its bounds lean the way the differences do. ``reach`` is the largest difference that
    there can be, the width of the scores' scale: only with it are there bounds and a p where the
    differences are all equal. The standard error with clusters is CR2's.
    Source: ``likelihood``.
    """
    first, second = _pair(a, b)
    n = first.size if clusters is None else count_clusters(clusters, first.size)
    method = "paired-likelihood" if clusters is None else "paired-cluster-likelihood"
    found = paired_sample(first, second, clusters, reach=reach)
    if found is None:
        return _difference(math.nan, level=level, method=method, n=n)
    low, high = mean_bounds(found, tail=0.5 - level / 2)
    p = difference_p(found)
    if math.isnan(p) and not differences_of(first, second).any():
        p = 1.0
    return Difference(
        estimate=found.mean,
        stderr=found.stderr,
        low=low if math.isnan(low) else max(low, -reach),
        high=high if math.isnan(high) else min(high, reach),
        level=level,
        p_value=p,
        method=method,
        n=n,
    )


def mean_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    is_binary: bool,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    reach: float = math.inf,
) -> Difference:
    """`paired_binary` for binary scores without clusters, else `paired_likelihood`.

    ``reach`` as there: with it any two pairs, or clusters, have an interval. Bounds of binary
    scores are within -1 and 1 in any case.
    """
    if is_binary and clusters is None:
        return paired_binary(a, b, level=level)
    found = paired_likelihood(a, b, level=level, clusters=clusters, reach=reach)
    if not is_binary or math.isnan(found.low):
        return found
    return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))


def compare_means(
    a: ArrayLike,
    b: ArrayLike,
    *,
    is_binary: bool,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    rng: np.random.Generator,
    reach: float = math.inf,
) -> Difference:
    """The comparison to use unless there is a reason for another: `mean_difference`, and its p.

    But for binary scores without clusters, p is by `sign_flip`, which is exact where differences
    are symmetrical, if there are fewer than 30 units or no spread.
    """
    found = mean_difference(a, b, is_binary=is_binary, clusters=clusters, level=level, reach=reach)
    is_score = is_binary and clusters is None
    if is_score or (found.n >= _SMALL and math.isfinite(found.stderr)):
        return found
    p = sign_flip(a, b, rng=rng, clusters=clusters)
    return replace(found, p_value=p, method=f"{found.method}/sign-flip")


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"paired scores must be two (n,): got {first.shape} and {second.shape}")
    # an infinite score would make numpy warn on the way to the same nan
    first = np.where(np.isfinite(first), first, math.nan)
    return first, np.where(np.isfinite(second), second, math.nan)


def _difference(
    estimate: float, *, level: float, method: str, n: int, p_value: float = math.nan
) -> Difference:
    """A difference without a known spread."""
    return Difference(
        estimate=estimate,
        stderr=math.nan,
        low=math.nan,
        high=math.nan,
        level=level,
        p_value=p_value,
        method=method,
        n=n,
    )


def _from_interval(found: Interval, *, p_value: float, method: str, n: int) -> Difference:
    return Difference(
        estimate=found.estimate,
        stderr=found.stderr,
        low=found.low,
        high=found.high,
        level=found.level,
        p_value=p_value,
        method=method,
        n=n,
    )
