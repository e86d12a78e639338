"""How much the difference of two runs varies from example to example, before there is a second run.

A baseline shows how its own scores vary; how alike a candidate's will be has to be assumed. Without
a baseline all of it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evalkit.compare import Answers, Paired
from evalkit.stats.intervals import FloatArray, clustered_stderr, spread_is_zero
from evalkit.stats.power import discordant_variance
from evalkit.stats.variance import repeat_components

CORRELATION = 0.5  # of the scores of two models on the same examples, and what it may well be
CORRELATIONS = (0.3, 0.7)  # Anthropic (2024), "A statistical approach to model evaluations"
DISCORDANCE = 0.2  # share of examples that only one of two models gets right
OMEGA_SQUARED = 1 / 9  # Miller (2024), section 5, for scores between 0 and 1

Basis = Literal["baseline", "discordance", "omega", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The variance of one example's difference, in the metric's unit squared.

    ``low`` and ``high`` are the variances at the ends of ``CORRELATIONS``; nan where nothing was
    observed.
    """

    variance: float  # nan: nothing is known
    basis: Basis
    low: float = math.nan
    high: float = math.nan
    design_effect: float = 1.0  # by how much clusters multiply it; nan: they cannot be told


UNKNOWN = Spread(variance=math.nan, basis="unknown")


def assumed(*, is_binary: bool, ends: tuple[float, float]) -> Spread:
    """What is assumed of a mean of scores that lie between two ``ends``.

    Right or wrong: a discordance of ``DISCORDANCE``. Else ``OMEGA_SQUARED`` on the scale of the
    ends; unknown where they are not finite.
    Source: Miller (2024), arXiv:2411.00640, section 5.
    """
    width = abs(ends[1] - ends[0])
    if is_binary:
        return Spread(variance=discordant_variance(DISCORDANCE), basis="discordance")
    if not 0 < width < math.inf:
        return UNKNOWN
    return Spread(variance=OMEGA_SQUARED * width**2, basis="omega")


def observed(pairs: Paired, answers: Answers, *, repeats: int) -> Spread:
    """What a baseline, paired with itself, says of a candidate with so many ``repeats``.

    Var(b - a) = (Var a + Var b) (1 - r) with Var b = Var a but for the repeats, and never less
    than what answering again alone makes. Unknown where the baseline's scores do not vary.
    Source: Miller (2024), arXiv:2411.00640, sections 3 and 4.
    """
    values = _values(pairs)
    if values.size < 2 or not np.isfinite(values).all():
        return UNKNOWN
    of_baseline = of_candidate = _variance(values)
    again = 0.0
    table = _by_repeat(answers)
    if pairs.stats_a is None and table.shape[1] > 1:
        parts = repeat_components(table).variances
        mean_repeats = float(np.isfinite(table).sum(axis=1).mean())
        of_candidate = parts["item"] + parts["repeat"] / repeats
        again = parts["repeat"] * (1 / mean_repeats + 1 / repeats)
    both = of_baseline + of_candidate
    high, low = (max(again, both * (1 - r)) for r in CORRELATIONS)
    variance = max(again, both * (1 - CORRELATION))
    if not variance > 0:
        return UNKNOWN
    effect = _design_effect(values, pairs)
    return Spread(variance=variance, basis="baseline", low=low, high=high, design_effect=effect)


def _values(pairs: Paired) -> FloatArray:
    """(n,) one number an example, the mean of which is the metric.

    For a metric that is no mean these are the jackknife's pseudo-values.
    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, ch. 11.
    """
    if pairs.stats_a is None or pairs.combine is None:
        return pairs.a
    n, sums = len(pairs.stats_a), pairs.stats_a.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # what is undefined is left to the caller
        whole, without = pairs.combine(sums), pairs.combine(sums - pairs.stats_a)
    return np.asarray(n * whole - (n - 1) * without, dtype=np.float64)


def _by_repeat(answers: Answers) -> FloatArray:
    """(n, k) the scores of each example that has any, nan where it has fewer than others."""
    scored = answers.is_scored & np.isfinite(answers.values)
    example, values = answers.example[scored], answers.values[scored]
    order = np.argsort(example, kind="stable")
    example, values = example[order], values[order]
    _, first, counts = np.unique(example, return_index=True, return_counts=True)
    table = np.full((counts.size, int(counts.max(initial=0))), np.nan)
    row = np.repeat(np.arange(counts.size), counts)
    table[row, np.arange(example.size) - first[row]] = values
    return table


def _design_effect(values: FloatArray, pairs: Paired) -> float:
    """Of the baseline's own scores, which stands for that of the differences; 1 or more."""
    plain = _variance(values) / values.size
    if pairs.clusters is None or plain == 0:
        return 1.0
    return max(1.0, clustered_stderr(values, pairs.clusters) ** 2 / plain)


def _variance(values: FloatArray) -> float:
    """0 where values differ by rounding alone."""
    is_zero = spread_is_zero(float(np.ptp(values)), values)
    return 0.0 if is_zero else float(values.var(ddof=1))
