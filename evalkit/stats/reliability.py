"""Whether stated probabilities come true: forecasts in bins, with what was to be expected of them.

What is computed in bins depends on them, and at small n is far from perfect even for probabilities
that are right: hold it against ``consistency``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf

from evalkit.stats.intervals import FloatArray, Interval, wilson, wilson_mean
from evalkit.stats.resample import percentile_bounds

IntArray = NDArray[np.intp]
Binning = Literal["width", "mass"]
"""Bins of one width on 0..1, [low, high) but for the last, which has its end; or bins of as many
forecasts each as can be without parting equal ones (with a bin for each forecast: all distinct)."""

_RELATIVE_EPS = 1e-12  # errors closer than this share of them differ by rounding alone
_CHUNK_CELLS = 1 << 20  # draws held at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Forecasts of about one probability, and how often what they forecast came true."""

    low: float  # by ``mass``: the least and the greatest forecast
    high: float
    n: int
    confidence: float  # mean forecast; nan in an empty bin
    frequency: Interval  # Wilson's, or with clusters `wilson_mean`'s


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """What would be seen, in the bins of the data, if each probability were right."""

    low: FloatArray  # (bins,) bounds of a bin's frequency; nan in an empty bin
    high: FloatArray
    ece_mean: float
    ece_high: float  # the ECE is at most this with the probability ``level``
    p_value: float  # of the ECE that was seen or a larger one


@dataclass(frozen=True, slots=True, kw_only=True)
class BinnedForecasts:
    """Forecasts of 0 to 1, what came of them, and the bins that they fall into."""

    forecasts: FloatArray  # (n,)
    events: FloatArray  # (n,) 0 or 1
    codes: IntArray  # (n,) bins 0..k-1
    edges: tuple[tuple[float, float], ...]  # (k,) their ends

    def rows(self) -> FloatArray:
        """(n, 3 bins): what each forecast adds to its bin's number, forecasts and events."""
        is_in = (self.codes[:, None] == np.arange(len(self.edges))).astype(np.float64)
        return np.hstack((is_in, is_in * self.forecasts[:, None], is_in * self.events[:, None]))


def reliability_table(
    confidences: ArrayLike,
    outcomes: ArrayLike,
    *,
    n_bins: int = 10,
    binning: Binning = "width",
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> tuple[Bin, ...]:
    """The bins of ``confidences`` (n,), 0 to 1, with what came of them, ``outcomes`` (n,) 0 or 1.

    ``width`` gives ``n_bins``, of which some may be empty; ``mass`` at most so many, none empty.
    ValueError for a confidence outside of [0, 1] and an outcome that is neither 0 nor 1.
    Source: DeGroot and Fienberg (1983), The Statistician 32:12-22.
    """
    binned = bin_forecasts(confidences, outcomes, n_bins=n_bins, binning=binning)
    labels: NDArray[Any] | None = None if clusters is None else np.asarray(clusters)
    found = []
    for k, (low, high) in enumerate(binned.edges):
        inside = binned.codes == k
        n, events = int(inside.sum()), binned.events[inside]
        if labels is None:
            frequency = wilson(int(events.sum()), n, level=level)
        else:
            frequency = wilson_mean(events, labels[inside], level=level)
        confidence = float(binned.forecasts[inside].mean()) if n else math.nan
        found.append(Bin(low=low, high=high, n=n, confidence=confidence, frequency=frequency))
    return tuple(found)


def consistency(
    confidences: ArrayLike,
    outcomes: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bins: int = 10,
    binning: Binning = "width",
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Consistency:
    """The band of a bin's frequency, and the ECE, under perfect calibration.

    Forecasts are redrawn from ``confidences`` (n,), and each comes true with the probability that
    it states, independently; bins are those of the data, as in ``reliability_table``. All nan
    without forecasts.
    Source: Bröcker and Smith (2007), Weather Forecast. 22:651-661.
    """
    binned = bin_forecasts(confidences, outcomes, n_bins=n_bins, binning=binning)
    low, high = (np.full(len(binned.edges), math.nan) for _ in range(2))
    if binned.forecasts.size == 0:
        nan = math.nan
        return Consistency(low=low, high=high, ece_mean=nan, ece_high=nan, p_value=nan)
    sums = calibrated_sums(binned, rng=rng, n_resamples=n_resamples)
    sizes, _, events = np.split(sums, 3, axis=1)
    for k in np.unique(binned.codes):
        drawn = sizes[:, k] > 0
        if drawn.any():
            low[k], high[k] = percentile_bounds(events[drawn, k] / sizes[drawn, k], level=level)
    errors = binned_errors(sums)[:, 0]
    seen = float(binned_errors(binned.rows().sum(axis=0)[None, :])[0, 0])
    n_as_large = int(np.count_nonzero(errors >= seen * (1 - _RELATIVE_EPS)))
    return Consistency(
        low=low,
        high=high,
        ece_mean=float(errors.mean()),
        ece_high=float(np.quantile(errors, level)),
        p_value=(1 + n_as_large) / (1 + n_resamples),
    )


def bin_forecasts(
    confidences: ArrayLike, outcomes: ArrayLike, *, n_bins: int, binning: Binning
) -> BinnedForecasts:
    """Checked and binned; errors as in ``reliability_table``."""
    forecasts = np.asarray(confidences, dtype=np.float64)
    events = np.asarray(outcomes, dtype=np.float64)
    if forecasts.ndim != 1 or forecasts.shape != events.shape:
        raise ValueError(f"confidences {forecasts.shape} and outcomes {events.shape} do not pair")
    if not ((forecasts >= 0) & (forecasts <= 1)).all():
        raise ValueError("a confidence is not within [0, 1]")
    if not ((events == 0) | (events == 1)).all():
        raise ValueError("an outcome is neither 0 nor 1")
    if n_bins < 1:
        raise ValueError(f"{n_bins} bins hold nothing")
    if binning == "width":
        # k / n_bins is the nearest float to each edge, which a multiple of 1 / n_bins may not be
        limits = np.arange(n_bins + 1) / n_bins
        codes = np.minimum(np.searchsorted(limits, forecasts, side="right") - 1, n_bins - 1)
        edges = tuple(zip(limits[:-1].tolist(), limits[1:].tolist(), strict=True))
    else:
        codes, edges = _bins_by_mass(forecasts, n_bins)
    return BinnedForecasts(forecasts=forecasts, events=events, codes=codes, edges=edges)


def bin_parts(sums: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Of summed rows (b, 3 bins): numbers, shares, confidences, frequencies (b, bins); 0 if empty.

    Shares are nan where all bins are empty.
    """
    sizes, of_forecasts, of_events = np.split(sums, 3, axis=1)
    divisors = np.where(sizes > 0, sizes, 1.0)
    totals = sizes.sum(axis=1, keepdims=True)
    shares = sizes / np.where(totals > 0, totals, np.nan)
    return sizes, shares, of_forecasts / divisors, of_events / divisors


def binned_errors(sums: FloatArray) -> FloatArray:
    """(b, 4) of summed rows: ECE, debiased ECE, debiased squared error, squared error as it is.

    Source: see ``calibration_errors``.
    """
    sizes, shares, confidences, frequencies = bin_parts(sums)
    gaps = np.abs(confidences - frequencies)
    variances = frequencies * (1 - frequencies)
    # E|x| of a normal x with mean ``gaps`` and this standard deviation is that of a folded normal
    sigma = np.sqrt(variances / np.where(sizes > 0, sizes, 1.0))
    z = gaps / np.where(sigma > 0, sigma, np.inf)
    folded = sigma * math.sqrt(2 / math.pi) * np.exp(-(z**2) / 2) + gaps * erf(z / math.sqrt(2))
    bias = np.where(sigma > 0, folded - gaps, 0.0)
    noise = variances / np.where(sizes > 1, sizes - 1, 1.0)
    squares = np.where(sizes > 1, gaps**2 - noise, 0.0)  # one forecast does not tell its noise
    of_bins = (gaps, gaps - bias, squares, gaps**2)
    return np.stack([np.sum(shares * values, axis=1) for values in of_bins], axis=1)


def calibrated_sums(
    binned: BinnedForecasts, *, rng: np.random.Generator, n_resamples: int
) -> FloatArray:
    """(n_resamples, 3 bins): summed rows of forecasts redrawn, each as true as it states."""
    n, n_bins = binned.forecasts.size, len(binned.edges)
    size = max(1, _CHUNK_CELLS // n)
    parts = []
    for start in range(0, n_resamples, size):
        b = min(size, n_resamples - start)
        rows = rng.integers(0, n, size=(b, n))
        cells = (np.arange(b)[:, None] * n_bins + binned.codes[rows]).reshape(-1)
        chances = binned.forecasts[rows].reshape(-1)
        events = (rng.random(b * n) < chances).astype(np.float64)
        sums = [
            np.bincount(cells, weights=weights, minlength=b * n_bins).reshape(b, n_bins)
            for weights in (np.ones(b * n), chances, events)
        ]
        parts.append(np.hstack(sums))
    return np.concatenate(parts)


def _bins_by_mass(
    forecasts: FloatArray, n_bins: int
) -> tuple[IntArray, tuple[tuple[float, float], ...]]:
    if forecasts.size == 0:
        return np.empty(0, dtype=np.intp), ()
    starts = np.arange(n_bins) * forecasts.size // n_bins
    lowest = np.unique(np.sort(forecasts)[starts])
    codes = np.searchsorted(lowest, forecasts, side="right") - 1
    highest = np.zeros(lowest.size)
    np.maximum.at(highest, codes, forecasts)
    return codes, tuple(zip(lowest.tolist(), highest.tolist(), strict=True))
