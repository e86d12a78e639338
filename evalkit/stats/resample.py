"""The bootstrap of a statistic that is a function of sums: weights times rows, no scoring again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import factorial, ndtr, ndtri

from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    cluster_codes,
    spread_is_zero,
    undefined,
)

Combine = Callable[[FloatArray], FloatArray]
"""(..., k) sums to (...) values."""

_CHUNK_CELLS = 1 << 18  # weights held at a time: 2 MiB of float64, so that they stay in the cache
# multiplications in a product: so few that BLAS keeps to one thread. Its threads waiting for each
# other on a busy machine of two cores took 0.9 to 3 s where this takes 0.4
_PRODUCT_CELLS = 1 << 18
_SLOTS = 1 << 16  # of a table that is read with 16 random bits
_SHORTFALL = 3.0  # standard deviations by which the Poisson total stays below n: above in 1 of 700
_UNDEFINED_SHARE = 0.05  # of the resamples; beyond it the interval would describe another statistic


def bootstrap(
    stats: FloatArray,
    combine: Combine,
    *,
    rng: np.random.Generator,
    n_resamples: int = 2000,
    method: Literal["bca", "percentile"] = "bca",
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Interval of ``combine(stats.sum(axis=0))`` by resampling the rows of ``stats`` (n, k).

    With ``clusters`` (n,) whole clusters are resampled. ``method`` in the result is the one that
    was asked for. nan where there is too little to say: fewer than two rows (or clusters), a sum
    that is not finite, resamples that are all equal, or more than one in twenty undefined; below
    that share the undefined ones are left out. BCa bounds are also nan where the jackknife has no
    spread or every resample lies on one side; the percentile method still has an answer there.
    Source: Efron (1987), J. Am. Stat. Assoc. 82:171-185; Efron and Tibshirani (1993), ch. 13-14.
    """
    rows = stats if clusters is None else cluster_sums(stats, clusters)
    if len(rows) == 0:
        return undefined(math.nan, level=level, method=method)
    value = float(combine(rows.sum(axis=0)))
    if len(rows) < 2 or not (math.isfinite(value) and np.isfinite(rows).all()):
        return undefined(value, level=level, method=method)
    drawn = combine(resampled_sums(rows, n_resamples, rng=rng))
    replicates = drawn[np.isfinite(drawn)]
    if replicates.size < max(2.0, (1 - _UNDEFINED_SHARE) * drawn.size):
        return undefined(value, level=level, method=method)
    if spread_is_zero(float(np.ptp(replicates)), replicates):
        return undefined(value, level=level, method=method)
    if method == "percentile":
        low, high = percentile_bounds(replicates, level=level)
    else:
        left_out = combine(rows.sum(axis=0) - rows)
        low, high = bca_bounds(replicates, value, left_out=left_out, level=level)
    return Interval(
        estimate=value,
        stderr=float(replicates.std(ddof=1)),
        low=low,
        high=high,
        level=level,
        method=method,
    )


def cluster_sums(stats: FloatArray, clusters: ArrayLike) -> FloatArray:
    """(n, k) rows to (g, k): the sum of each cluster's rows, in the order of the labels."""
    codes, n_clusters = cluster_codes(clusters)
    sums = np.zeros((n_clusters, stats.shape[1]))
    np.add.at(sums, codes, stats)
    return sums


def resampled_sums(stats: FloatArray, n_resamples: int, *, rng: np.random.Generator) -> FloatArray:
    """(n_resamples, k): the sums over as many draws of n rows with replacement.

    What is drawn depends on ``rng`` and n alone, not on ``k``; see ``resample_weights``.
    """
    n, k = stats.shape
    sums = np.zeros((n_resamples, k))
    start = 0
    for weights in resample_weights(n, n_resamples, rng=rng):
        part = sums[start : start + len(weights)]
        size = max(1, _PRODUCT_CELLS // max(1, part.size))
        for first in range(0, n, size):
            part += weights[:, first : first + size] @ stats[first : first + size]
        start += len(weights)
    return sums


def resample_weights(n: int, n_resamples: int, *, rng: np.random.Generator) -> Iterator[FloatArray]:
    """How often each of n rows is drawn in each resample: chunks (b, n), n_resamples rows in all.

    A row of weights is multinomial: n draws, each row of the data as likely as any other. The
    first resamples are the same however many follow. A chunk is valid until the next one.

    Counts of independent Poisson variables are multinomial given their total. So each weight is
    drawn as Poisson with a mean a little below one, and the few draws by which a total falls
    short of n are made one by one; a total above n is rare, and its row is drawn anew. That takes
    half the time of n single draws.
    Source: Poisson given its total: Johnson, Kotz and Balakrishnan (1997), Discrete Multivariate
    Distributions, ch. 35.
    """
    # a stream for each purpose, read in the order of the rows: chunks leave no trace
    seeds = rng.integers(0, 2**63, size=(4, 2))
    bits, rests, singles, anew = (np.random.default_rng(seed) for seed in seeds)
    law = _poisson_law(max(0.0, 1 - _SHORTFALL / math.sqrt(n)))
    size = max(1, min(n_resamples, _CHUNK_CELLS // n))
    buffer = np.empty((size, n))
    for start in range(0, n_resamples, size):
        weights = buffer[: min(size, n_resamples - start)]
        _fill_poisson(weights, law, bits=bits, rests=rests)
        missing = n - weights.sum(axis=1).astype(np.int64)
        for row in np.flatnonzero(missing < 0):
            weights[row] = np.bincount(anew.integers(0, n, size=n), minlength=n)
        missing = np.maximum(missing, 0)
        cells = np.repeat(np.arange(len(weights)) * n, missing)
        cells += singles.integers(0, n, size=cells.size)
        np.add.at(weights.reshape(-1), cells, 1.0)
        yield weights


@dataclass(frozen=True, slots=True, kw_only=True)
class _PoissonLaw:
    """A Poisson distribution as a table: of 2**16 equally likely slots each holds one value.

    Probabilities are no multiples of 2**-16: the slots from ``n_certain`` on stand for what is
    left of each value, and are resolved by a second draw from ``rest`` (cumulative).
    """

    values: FloatArray
    n_certain: int
    rest: FloatArray


def _poisson_law(mean: float) -> _PoissonLaw:
    counts = np.arange(25)  # with a mean of at most 1, more have a chance below 1e-25
    chances = math.exp(-mean) * np.power(mean, counts) / factorial(counts)
    slots = np.floor(chances * _SLOTS).astype(np.int64)
    values = np.zeros(_SLOTS)
    n_certain = int(slots.sum())
    values[:n_certain] = np.repeat(counts, slots)
    rest = np.cumsum(chances * _SLOTS - slots)
    return _PoissonLaw(values=values, n_certain=n_certain, rest=rest / max(rest[-1], 1e-300))


def _fill_poisson(
    weights: FloatArray,
    law: _PoissonLaw,
    *,
    bits: np.random.Generator,
    rests: np.random.Generator,
) -> None:
    """Fill (b, n) with independent draws; a row reads whole 64-bit words, so that rows align."""
    b, n = weights.shape
    words = bits.integers(0, 2**64, size=(b, -(-n // 4)), dtype=np.uint64)
    slots = words.astype("<u8", copy=False).view("<u2")[:, :n]
    # indices are always in range: "wrap" only skips the check that makes ``take`` half as fast
    np.take(law.values, slots, out=weights, mode="wrap")
    if law.n_certain < _SLOTS:
        open_cells = np.flatnonzero(slots.reshape(-1) >= law.n_certain)
        found = np.searchsorted(law.rest, rests.random(open_cells.size), side="right")
        weights.reshape(-1)[open_cells] = found


def percentile_bounds(replicates: FloatArray, *, level: float) -> tuple[float, float]:
    """The quantiles of the replicates (B,) that leave out as much on either side.

    Source: Efron and Tibshirani (1993), eq. 13.3.
    """
    low, high = np.quantile(replicates, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def bca_bounds(
    replicates: FloatArray, value: float, *, left_out: FloatArray, level: float
) -> tuple[float, float]:
    """Bias-corrected and accelerated bounds from replicates (B,) and jackknife values (n,).

    Replicates equal to the value count half as below it. nan where the correction is undefined.
    Source: Efron and Tibshirani (1993), eq. 14.9-14.15.
    """
    below = np.count_nonzero(replicates < value) + np.count_nonzero(replicates <= value)
    share = below / (2 * replicates.size)
    deviations: NDArray[np.float64] = left_out.mean() - left_out
    squares = float(np.sum(deviations**2))
    is_flat = spread_is_zero(float(np.abs(deviations).max()), left_out)
    if not (0 < share < 1 and math.isfinite(squares)) or is_flat:
        return math.nan, math.nan
    bias = float(ndtri(share))
    acceleration = float(np.sum(deviations**3)) / (6 * squares**1.5)
    shifted = bias + ndtri(np.array([0.5 - level / 2, 0.5 + level / 2]))
    divisors = 1 - acceleration * shifted
    if (divisors <= 0).any():  # past the pole of the correction
        return math.nan, math.nan
    low, high = np.quantile(replicates, ndtr(bias + shifted / divisors))
    return float(low), float(high)
