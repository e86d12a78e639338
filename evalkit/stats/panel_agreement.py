"""Agreement of two or more raters on labels, from how many of them gave each label to each unit.

Each coefficient is (observed - expected) / (1 - expected). They differ in the agreement that is
expected of chance: for Fleiss's kappa it is that of raters who all draw from the panel's label
frequencies, for Brennan and Prediger's of raters who draw labels evenly, for Gwet's AC1 that of
the share of ratings that chance can have decided. AC1 and AC2 stay near the observed agreement
where one label prevails, and Fleiss's kappa falls to 0 or is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.stats.agreement import Ratings, Weights, label_codes, label_weights, without_rounding
from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    cluster_t_interval,
    t_interval,
    undefined,
    wilson_mean,
)


def label_counts(ratings: Ratings, *, labels: Sequence[object]) -> FloatArray:
    """(n, k): how many raters gave each unit each label, from ``ratings`` (n, raters).

    None and nan are missing ratings; ValueError for a rating that is not among the ``labels``.
    """
    codes = label_codes(ratings, labels=labels)
    return np.asarray(np.sum(codes[:, :, None] == np.arange(len(labels)), axis=1), dtype=np.float64)


def pairwise_agreement(
    counts: FloatArray,
    *,
    weights: Weights = "none",
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Mean over units of the share of its pairs of raters that agree; `wilson_mean` of the shares.

    ``counts`` (n, k) as of `label_counts`. Units with fewer than two ratings are left out.
    """
    is_rated = counts.sum(axis=1) >= 2
    shares = _observed(counts[is_rated], _agreement(counts, weights))
    # weights such as 1 - .3 leave sums of shares a rounding above 1
    return wilson_mean(np.clip(shares, 0.0, 1.0), _of(clusters, is_rated), level=level)


def gwet_ac(
    counts: FloatArray,
    *,
    weights: Weights = "none",
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Gwet's AC1, or AC2 if there are ``weights``, of ``counts`` (n, k) as of `label_counts`.

    Units with a single rating count for the frequency of labels only, those without for nothing.
    Student's interval with one degree of freedom less than there are units (or ``clusters`` (n,)),
    clipped to [-1, 1]; nan bounds where the units' values have no spread, as under perfect
    agreement; nan where no unit has two ratings. ValueError for fewer than two labels.
    Source: Gwet (2008), Br. J. Math. Stat. Psychol. 61:29-48, and Gwet (2014), Handbook of
    Inter-Rater Reliability, 4th ed., ch. 5 (missing ratings).
    """
    rated, shares, frequencies = _shares(counts)
    agreement = _agreement(counts, weights)
    n_labels = counts.shape[1]
    scale = float(agreement.sum()) / (n_labels * (n_labels - 1))
    expected = scale * (shares @ (1 - frequencies))
    found = _coefficient(counts[rated], agreement, expected, _of(clusters, rated), level=level)
    return replace(found, method=f"gwet-{found.method}")


def fleiss_kappa(
    counts: FloatArray,
    *,
    weights: Weights = "none",
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Fleiss's kappa of ``counts`` (n, k) as of `label_counts`; for two raters Scott's pi.

    Units, interval and edges are those of `gwet_ac`; nan also where only one label occurs.
    Source: Fleiss (1971), Psychol. Bull. 76:378-382; variance and missing ratings as in Gwet
    (2014), ch. 5: it is not the one under the hypothesis of no agreement.
    """
    rated, shares, frequencies = _shares(counts)
    agreement = _agreement(counts, weights)
    expected = shares @ (agreement @ frequencies)
    found = _coefficient(counts[rated], agreement, expected, _of(clusters, rated), level=level)
    return replace(found, method=f"fleiss-{found.method}")


def brennan_prediger(
    counts: FloatArray,
    *,
    weights: Weights = "none",
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Brennan and Prediger's kappa of ``counts`` (n, k) as of `label_counts`.

    For two labels and two raters it is PABAK. Units, interval and edges are those of `gwet_ac`.
    Source: Brennan and Prediger (1981), Educ. Psychol. Meas. 41:687-699; Gwet (2014), ch. 5.
    """
    rated, shares, _ = _shares(counts)
    agreement = _agreement(counts, weights)
    expected = np.full(len(shares), agreement.mean())
    found = _coefficient(counts[rated], agreement, expected, _of(clusters, rated), level=level)
    return replace(found, method=f"brennan-prediger-{found.method}")


def conger_kappa(
    ratings: Ratings,
    *,
    labels: Sequence[object],
    weights: Weights = "none",
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Cohen's kappa of a panel: chance agreement is that of each rater's own label frequencies.

    ``ratings`` (n, raters) as in `label_counts`: the same raters throughout, where Fleiss's kappa
    may have others for each unit. Units, interval and edges are those of `gwet_ac`; nan also with
    a rater who rated nothing. ValueError for fewer than two raters.
    Source: Conger (1980), Psychol. Bull. 88:322-328; Gwet (2014), ch. 5 (missing ratings).
    """
    codes = label_codes(ratings, labels=labels)
    if codes.ndim != 2 or codes.shape[1] < 2:
        raise ValueError(f"ratings of shape {codes.shape} are not of two or more raters")
    is_rated = np.asarray((codes >= 0).any(axis=1))
    codes, kept = codes[is_rated], _of(clusters, is_rated)
    given = (codes[:, :, None] == np.arange(len(labels))).astype(np.float64)
    agreement = _agreement(given[:, 0], weights)
    n_rated = given.sum(axis=(0, 2))
    if not n_rated.size or n_rated.min() == 0:
        return undefined(math.nan, level=level, method="conger-t")
    frequencies = given.sum(axis=0) / n_rated[:, None]
    others = (frequencies.sum(axis=0) - frequencies) @ agreement
    by_chance = float(np.sum(frequencies * others))
    # a rating stands for as many as its rater left out, so each rater's deviations add up to 0
    apart = given - np.where(given.any(axis=2, keepdims=True), frequencies, 0.0)
    deviations = np.sum(apart * others * (len(codes) / n_rated)[:, None], axis=(1, 2))
    expected = (by_chance + deviations) / (n_rated.size * (n_rated.size - 1))
    found = _coefficient(given.sum(axis=1), agreement, expected, kept, level=level)
    return replace(found, method=f"conger-{found.method}")


def _coefficient(
    counts: FloatArray,
    agreement: FloatArray,
    expected: FloatArray,
    clusters: ArrayLike | None,
    *,
    level: float,
) -> Interval:
    """The mean of the units' linearised values, from the chance agreement ``expected`` of each.

    ``counts`` (n, k) have a rating for each unit, and ``expected`` (n,) has the panel's as mean.
    """
    method = "t" if clusters is None else "cluster-t"
    is_paired = counts.sum(axis=1) >= 2
    n_paired = int(is_paired.sum())
    by_chance = float(expected.mean()) if n_paired else math.nan
    if n_paired == 0 or math.isclose(by_chance, 1.0, abs_tol=1e-12):
        return undefined(math.nan, level=level, method=method)
    gains = np.zeros(len(counts))
    gains[is_paired] = _observed(counts[is_paired], agreement) - by_chance
    gains *= len(counts) / (n_paired * (1 - by_chance))
    values = gains - 2 * (1 - gains.mean()) * (expected - by_chance) / (1 - by_chance)
    values = without_rounding(values, float(gains.mean()))
    if clusters is None:
        return t_interval(values, level=level, bounds=(-1.0, 1.0))
    return cluster_t_interval(values, clusters, level=level, bounds=(-1.0, 1.0))


def _observed(counts: FloatArray, agreement: FloatArray) -> FloatArray:
    """(n,): the share of each unit's ordered pairs of ratings that agree; each has two or more."""
    n_ratings = counts.sum(axis=1)
    agreeing = np.sum(counts * (counts @ agreement), axis=1) - n_ratings
    return np.asarray(agreeing / (n_ratings * (n_ratings - 1)))


def _agreement(counts: FloatArray, weights: Weights) -> FloatArray:
    if counts.ndim != 2 or counts.shape[1] < 2:
        raise ValueError(f"counts of shape {counts.shape} are not of two or more labels")
    return label_weights(counts.shape[1], weights=weights)


def _shares(counts: FloatArray) -> tuple[NDArray[np.bool_], FloatArray, FloatArray]:
    """Which units have a rating; of those each label's share (n, k), and its mean over them."""
    rated = counts.sum(axis=1) > 0
    kept = counts[rated]
    shares = kept / kept.sum(axis=1, keepdims=True)
    frequencies = shares.mean(axis=0) if len(kept) else np.zeros(counts.shape[1])
    return rated, shares, frequencies


def _of(clusters: ArrayLike | None, chosen: NDArray[np.bool_]) -> NDArray[Any] | None:
    return None if clusters is None else np.asarray(clusters)[chosen]
