"""The bootstrap of two systems together: replicates of their difference, and what they bound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import ndtr, ndtri

from evalkit.stats.intervals import FloatArray, cluster_codes, spread_is_zero
from evalkit.stats.resample import Combine, cluster_sums, resampled_sums

RELATIVE_EPS = 1e-12  # two values closer than this share of them differ by rounding alone
_UNDEFINED_SHARE = 0.05  # of the resamples; beyond it they would describe another statistic


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicates:
    """Bootstrap replicates of a difference; ``draws`` is empty where there is too little to say."""

    value: float  # of the data themselves
    draws: FloatArray  # (n_resamples,) less the undefined
    n: int  # independent units


def paired_replicates(
    stats_a: FloatArray,
    stats_b: FloatArray,
    combine: Combine,
    *,
    rng: np.random.Generator,
    n_resamples: int,
    clusters: ArrayLike | None = None,
) -> Replicates:
    """What `paired_bootstrap` reads its numbers from; the same ``rng`` state gives the same."""
    rows_a, rows_b = unit_rows(stats_a, stats_b, clusters)
    n, k = rows_a.shape
    rows = np.hstack((rows_a, rows_b))

    def difference(sums: FloatArray) -> FloatArray:
        return differences_of(combine(sums[..., :k]), combine(sums[..., k:]))

    value = float(difference(rows.sum(axis=0))) if n else math.nan
    if n < 2 or not (math.isfinite(value) and np.isfinite(rows).all()):
        return Replicates(value=value, draws=np.empty(0), n=n)
    drawn = difference(resampled_sums(rows, n_resamples, rng=rng))
    draws = drawn[np.isfinite(drawn)]
    is_enough = draws.size >= max(2.0, (1 - _UNDEFINED_SHARE) * drawn.size)
    return Replicates(value=value, draws=draws if is_enough else np.empty(0), n=n)


def are_equal(draws: FloatArray) -> bool:
    """Whether there is no spread in the replicates, or none of them."""
    return draws.size == 0 or spread_is_zero(float(np.ptp(draws)), draws)


def replicate_bounds(found: Replicates, *, tail: float) -> tuple[float, float]:
    """The order statistics that leave out ``tail`` on either side once it is expanded.

    The lower one lies above x exactly when `expanded_share` of (1 + the number of draws <= x) /
    (1 + their number) is below ``tail``: the bound is the test turned round. nan without draws,
    when they are all equal, or with too few of them to reach so far out.
    """
    size = found.draws.size
    if are_equal(found.draws):
        return math.nan, math.nan
    quantile = float(stats.t.isf(tail, found.n - 1))
    narrowed = float(ndtr(-quantile * math.sqrt(found.n / (found.n - 1))))
    rank = math.ceil(narrowed * (size + 1)) - 2
    if rank < 0:
        return math.nan, math.nan
    ordered = np.sort(found.draws)
    return float(ordered[rank]), float(ordered[size - 1 - rank])


def expanded_share(share: float, n: int) -> float:
    """One tail's share of the replicates as a p-value of Student's t with n - 1 degrees.

    A bootstrap of n units is too narrow: its spread divides by n, and its quantiles are normal.
    Source: Hesterberg (2015), Am. Stat. 69:371-386, solved for the probability.
    """
    return float(stats.t.cdf(ndtri(share) * math.sqrt((n - 1) / n), n - 1))


def differences_of(first: FloatArray, second: FloatArray) -> FloatArray:
    """``second - first``, 0 where they differ by rounding alone, nan of two like infinities."""
    with np.errstate(invalid="ignore"):
        differences = np.subtract(second, first)
    scale = np.maximum(np.abs(first), np.abs(second))
    is_rounding = np.isfinite(differences) & (np.abs(differences) <= RELATIVE_EPS * scale)
    return np.where(is_rounding, 0.0, differences)


def count_clusters(clusters: ArrayLike, n: int) -> int:
    """How many clusters ``n`` units are in; ValueError unless each of them has a label."""
    codes, n_clusters = cluster_codes(clusters)
    if codes.size != n:
        raise ValueError(f"clusters must have a label for each of {n} pairs: got {codes.size}")
    return n_clusters


def unit_rows(
    stats_a: FloatArray, stats_b: FloatArray, clusters: ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """The statistics (n, k) of both systems by independent unit; ValueError if shapes differ."""
    if stats_a.ndim != 2 or stats_a.shape != stats_b.shape:
        raise ValueError(
            f"paired statistics must be two (n, k): got {stats_a.shape} and {stats_b.shape}"
        )
    if clusters is None:
        return stats_a, stats_b
    count_clusters(clusters, len(stats_a))
    return cluster_sums(stats_a, clusters), cluster_sums(stats_b, clusters)
