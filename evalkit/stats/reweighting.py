"""The bootstrap of statistics that are no function of sums, and are computed anew from weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    cluster_codes,
    spread_is_zero,
    undefined,
)
from evalkit.stats.resample import bca_bounds, percentile_bounds, resample_weights

Statistic = Callable[[FloatArray], FloatArray]
"""Weights (b, n), how often each row counts, to values (b, k); weights of 1 are the data."""

_CHUNK_CELLS = 1 << 20  # weights held at a time: 8 MiB
_UNDEFINED_SHARE = 0.05  # of the resamples; beyond it the interval would describe another statistic


def reweighted_bootstrap(
    statistic: Statistic,
    n: int,
    *,
    rng: np.random.Generator,
    n_resamples: int = 2000,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    method: Literal["bca", "percentile"] = "bca",
) -> tuple[Interval, ...]:
    """Intervals of the k values of a ``statistic`` of n rows, from the same resamples for all.

    With ``clusters`` (n,) whole clusters are resampled. Bounds and standard error are nan where
    ``bootstrap`` has nan: fewer than two rows (or clusters), a value that is not finite, resamples
    that are all equal, or more than one in twenty undefined.
    Source: as for ``bootstrap``, whose resamples these are.
    """
    codes, n_units = cluster_codes(np.arange(n) if clusters is None else clusters)
    values = statistic(np.ones((1, n)))[0]
    if n_units < 2:
        return tuple(undefined(float(v), level=level, method=method) for v in values)
    drawn = replicates(statistic, codes, rng=rng, n_resamples=n_resamples)
    left_out = jackknife(statistic, codes) if method == "bca" else drawn[:0]
    return tuple(
        _interval(float(values[k]), drawn[:, k], left_out[:, k], level=level, method=method)
        for k in range(values.size)
    )


def replicates(
    statistic: Statistic, codes: NDArray[np.intp], *, rng: np.random.Generator, n_resamples: int
) -> FloatArray:
    """(n_resamples, k): the statistic of resamples of the units 0..g-1 that ``codes`` (n,) name."""
    n_units = int(codes.max()) + 1
    drawn = [
        statistic(part)
        for weights in resample_weights(n_units, n_resamples, rng=rng)
        for part in _by_row(weights, codes)
    ]
    return np.concatenate(drawn)


def jackknife(statistic: Statistic, codes: NDArray[np.intp]) -> FloatArray:
    """(g, k): the statistic without each of the units 0..g-1 that ``codes`` (n,) name."""
    n_units = int(codes.max()) + 1
    size = max(1, _CHUNK_CELLS // codes.size)
    parts = []
    for start in range(0, n_units, size):
        left_out = np.arange(start, min(start + size, n_units))
        parts.append(statistic((codes[None, :] != left_out[:, None]).astype(np.float64)))
    return np.concatenate(parts)


def _by_row(weights: FloatArray, codes: NDArray[np.intp]) -> Iterator[FloatArray]:
    """Weights of units (b, g) as weights of rows, few enough at a time to hold."""
    size = max(1, _CHUNK_CELLS // codes.size)
    for start in range(0, len(weights), size):
        yield weights[start : start + size, codes]


def _interval(
    value: float,
    drawn: FloatArray,
    left_out: FloatArray,
    *,
    level: float,
    method: Literal["bca", "percentile"],
) -> Interval:
    found = drawn[np.isfinite(drawn)]
    is_enough = found.size >= max(2.0, (1 - _UNDEFINED_SHARE) * drawn.size)
    if not (math.isfinite(value) and is_enough) or spread_is_zero(float(np.ptp(found)), found):
        return undefined(value, level=level, method=method)
    if method == "percentile":
        low, high = percentile_bounds(found, level=level)
    else:
        low, high = bca_bounds(found, value, left_out=left_out, level=level)
    return Interval(
        estimate=value,
        stderr=float(found.std(ddof=1)),
        low=low,
        high=high,
        level=level,
        method=method,
    )
