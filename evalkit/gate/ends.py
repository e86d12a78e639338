"""The bounds of a difference, and how far they move with the answers that are missing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from evalkit.compare import Paired
from evalkit.compare.side import IntArray
from evalkit.stats.intervals import FloatArray
from evalkit.stats.noninferiority import non_inferiority_p
from evalkit.stats.paired import mean_difference
from evalkit.stats.paired_replicates import (
    Replicates,
    are_equal,
    differences_of,
    expanded_share,
    paired_replicates,
    replicate_bounds,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """The difference, higher being better, under one assumption about what is missing."""

    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan
    stderr: float = math.nan
    method: str = ""
    is_identical: bool = False  # no score differs, and the method has no bounds for that


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The bounds with what was scored alone, and with both ends of what was not."""

    seen: Bounded  # the examples that both sides have a score for
    worst: Bounded  # all examples, what is missing being at the candidate's worst
    best: Bounded
    is_missing: bool = False


def bounded_ends(
    pairs: Paired, margin: float, *, alpha: float, rng: np.random.Generator, n_resamples: int
) -> Ends:
    """The difference of pairs, one-sided bounds at ``alpha`` and the p of a drop of ``margin``.

    ``rng`` and ``n_resamples`` are for a metric that is no mean.
    """
    if pairs.stats_a is None:
        return _bounded_means(pairs, margin, alpha=alpha)
    return _bounded_sums(pairs, margin, alpha=alpha, rng=rng, n_resamples=n_resamples)


def _bounded_means(pairs: Paired, margin: float, *, alpha: float) -> Ends:
    def bounded(a: FloatArray, b: FloatArray, clusters: IntArray | None) -> Bounded:
        first, second = (a, b) if pairs.higher_is_better else (b, a)
        return _bounded_mean(
            first,
            second,
            clusters,
            is_binary=pairs.is_binary,
            reach=pairs.reach,
            margin=margin,
            alpha=alpha,
        )

    seen = bounded(pairs.a, pairs.b, pairs.clusters)
    worst, best = pairs.filled_worst, pairs.filled_best
    if worst is None or best is None:
        # without a missing answer the ends are only unknown where a score is infinite
        unknown = Bounded()
        return Ends(seen=seen, worst=unknown, best=unknown, is_missing=True)
    is_missing = pairs.ids.size < pairs.n_common or pairs.worst != pairs.best
    if not is_missing:
        return Ends(seen=seen, worst=seen, best=seen)
    at_worst, at_best = (bounded(end.a, end.b, end.clusters) for end in (worst, best))
    return Ends(seen=seen, worst=at_worst, best=at_best, is_missing=True)


def _bounded_mean(
    first: FloatArray,
    second: FloatArray,
    clusters: IntArray | None,
    *,
    is_binary: bool,
    reach: float,
    margin: float,
    alpha: float,
) -> Bounded:
    """Bounds of the mean of ``second - first``; a score test where it has one, else likelihood."""
    is_finite = bool(np.isfinite(first).all() and np.isfinite(second).all())
    if not is_finite or first.size == 0:
        return Bounded()
    found = mean_difference(
        first, second, is_binary=is_binary, clusters=clusters, level=1 - 2 * alpha, reach=reach
    )
    method = found.method.partition("/")[0]
    has_score_bound = is_binary and clusters is None
    if not has_score_bound and not differences_of(first, second).any():
        return Bounded(
            difference=0.0, low=0.0, high=0.0, p_value=0.0, method=method, is_identical=True
        )
    p = non_inferiority_p(
        first, second, margin=margin, is_binary=is_binary, clusters=clusters, reach=reach
    )
    return Bounded(
        difference=found.estimate,
        low=found.low,
        high=found.high,
        p_value=p,
        stderr=found.stderr,
        method=method,
    )


def _bounded_sums(
    pairs: Paired, margin: float, *, alpha: float, rng: np.random.Generator, n_resamples: int
) -> Ends:
    """Bounds for a metric that is no mean: percentiles of the paired bootstrap.

    What an example without a score would have added to the sums is not known, only what the value
    could have been: see ``_moved``.
    """
    assert pairs.stats_a is not None
    assert pairs.stats_b is not None
    assert pairs.combine is not None
    rows = (pairs.stats_a, pairs.stats_b)
    first, second = rows if pairs.higher_is_better else rows[::-1]
    with np.errstate(invalid="ignore"):  # of two infinite perplexities the difference is nan
        found = paired_replicates(
            first, second, pairs.combine, rng=rng, n_resamples=n_resamples, clusters=pairs.clusters
        )
    is_identical = found.value == 0 and np.array_equal(first, second)
    seen = _percentiles(found, margin=margin, alpha=alpha)
    if is_identical:
        seen = replace(seen, low=0.0, high=0.0, p_value=0.0, is_identical=True)
    n_missing = pairs.n_common - pairs.ids.size
    is_missing = n_missing > 0
    if math.isfinite(pairs.worst) and math.isfinite(pairs.best):
        is_missing = is_missing or pairs.worst != pairs.best
    if not is_missing:
        return Ends(seen=seen, worst=seen, best=seen)
    if are_equal(found.draws) and not is_identical:
        return Ends(seen=seen, worst=Bounded(), best=Bounded(), is_missing=True)
    sign = 1.0 if pairs.higher_is_better else -1.0
    worst, best = (
        _moved(found, sign * end, n_missing=n_missing, margin=margin, alpha=alpha)
        for end in (pairs.worst, pairs.best)
    )
    return Ends(seen=seen, worst=worst, best=best, is_missing=True)


def _percentiles(found: Replicates, *, margin: float, alpha: float) -> Bounded:
    """What `bootstrap_bounds` and `bootstrap_non_inferiority_p` give, of the same replicates."""
    method = "paired-bootstrap"
    if are_equal(found.draws):
        return Bounded(difference=found.value, method=method)
    low, high = replicate_bounds(found, tail=alpha)
    n_beyond = int(np.count_nonzero(found.draws <= -margin))
    return Bounded(
        difference=found.value,
        low=low,
        high=high,
        p_value=expanded_share((1 + n_beyond) / (1 + found.draws.size), found.n),
        stderr=float(found.draws.std(ddof=1)),
        method=method,
    )


def _moved(
    found: Replicates, value: float, *, n_missing: int, margin: float, alpha: float
) -> Bounded:
    """Bounds of the difference ``value`` that the missing answers would have made it.

    Student's t, with the variance of the replicates and that of k missing answers that move the
    value together by m: another draw of the examples has about Poisson(k) of them, so m^2 / k.
    """
    if not math.isfinite(value) or found.draws.size < 2:
        return Bounded()
    moved_by = value - found.value
    stderr = math.hypot(float(found.draws.std(ddof=1)), moved_by / math.sqrt(max(1, n_missing)))
    if stderr == 0:
        return Bounded(difference=value, low=value, high=value, p_value=float(value <= -margin))
    reach = float(stats.t.isf(alpha, found.n - 1)) * stderr
    p = float(stats.t.sf((value + margin) / stderr, found.n - 1))
    return Bounded(
        difference=value, low=value - reach, high=value + reach, p_value=p, stderr=stderr
    )
