"""Intervals of ratios of sums: a mean over tokens of many texts, or a perplexity."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    cluster_codes,
    cr2,
    spread_is_zero,
    student_interval,
    sums_by_code,
    undefined,
)

_GROWTH = 1.5  # of a residual's variance with its denominator, as a power


def ratio_interval(
    numerators: FloatArray,
    denominators: FloatArray,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Interval of ``numerators.sum() / denominators.sum()``, both (n,), by the delta method.

    The variance is that of the residuals ``numerator - ratio * denominator`` (of their sums over
    each of the ``clusters`` (n,), if there are any). It is CR2's, as in ``cluster_t_interval``,
    where a denominator is a size: so few examples that make up much of the total cost degrees of
    freedom. The variance of a residual is taken to grow with the 3/2 power of its denominator:
    tokens of a text are neither independent nor all alike. nan for fewer than two examples or
    clusters, for no spread of the residuals, for denominators that are negative or add up to 0, and
    where one has all of them.
    Source: Cochran (1977), Sampling Techniques, 3rd ed., ch. 6; for clusters Deng, Knoblich and Lu
    (2018), arXiv:1803.06336; the power is ours: with 1 the interval covers 93.3 % of 20 texts of
    very unequal lengths, with 2 96.5 % (``interval_coverage.py``).
    """
    method = "ratio-t" if clusters is None else "cluster-ratio-t"
    total = float(denominators.sum())
    ratio = float(numerators.sum()) / total if total > 0 else math.nan
    codes, n_units = cluster_codes(np.arange(numerators.size) if clusters is None else clusters)
    if n_units < 2 or not math.isfinite(ratio):
        return undefined(ratio, level=level, method=method)
    sizes = sums_by_code(denominators, codes)
    if sizes.max() >= total:
        return undefined(ratio, level=level, method=method)
    residuals = sums_by_code(numerators - ratio * denominators, codes)
    known = cr2(residuals, sizes, growth=_GROWTH)
    stderr = math.nan if spread_is_zero(known.stderr * total, numerators) else known.stderr
    return student_interval(ratio, stderr, degrees=known.degrees, level=level, method=method)


def perplexity_interval(
    logprobs: FloatArray,
    n_tokens: FloatArray,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Interval of the perplexity ``exp(-logprobs.sum() / n_tokens.sum())`` of n texts.

    ``logprobs`` (n,) are natural logarithms summed over the ``n_tokens`` (n,) of each text: tokens
    of a text are never counted as independent. The interval is that of ``ratio_interval`` for the
    mean -log p, carried through exp: positive, and longer upwards. The standard error is to first
    order. nan where the ratio's is.
    Source: the delta method, as for ``ratio_interval``.
    """
    method = "log-ratio-t" if clusters is None else "cluster-log-ratio-t"
    nats = ratio_interval(-logprobs, n_tokens, clusters=clusters, level=level)
    with np.errstate(over="ignore"):  # beyond exp(709) there is only inf
        value, low, high = (float(np.exp(x)) for x in (nats.estimate, nats.low, nats.high))
    return Interval(
        estimate=value,
        stderr=nats.stderr * value,
        low=low,
        high=high,
        level=level,
        method=method,
    )
