"""From the scores of a task's examples to a value, an interval and an honest denominator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from evalkit.stats.intervals import (
    Interval,
    cluster_t_interval,
    t_interval,
    undefined,
    wilson,
    wilson_mean,
)
from evalkit.stats.resample import bootstrap
from evalkit.types import Estimate, Metric, Outcome, Score, Status

if TYPE_CHECKING:
    from evalkit.types import FloatArray

_UNIT = (0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleScores:
    """One example under one metric: a score for each repeat.

    ``scores`` holds None for a repeat whose request failed. ``outcome`` is the example's outcome
    of any repeat, failed or not: it says what a missing answer could have been worth.
    """

    scores: tuple[Score | None, ...]
    outcome: Outcome
    cluster: str | None = None  # examples that share it are not independent

    @property
    def scored(self) -> tuple[Score, ...]:
        """The scores that have a value."""
        return tuple(s for s in self.scores if s is not None and s.status is Status.OK)

    @property
    def status(self) -> Status:
        """Ok if any repeat was scored, else abstained if any abstained, else error."""
        if self.scored:
            return Status.OK
        abstained = any(s is not None and s.status is Status.ABSTAINED for s in self.scores)
        return Status.ABSTAINED if abstained else Status.ERROR


def estimate(
    metric: Metric,
    groups: Sequence[ExampleScores],
    *,
    level: float = 0.95,
    seed: int,
    n_resamples: int = 2000,
) -> Estimate:
    """The metric over the examples, each counted once whatever its repeats.

    An example's statistics are the mean over its scored repeats. ``worst`` and ``best`` fill every
    missing repeat with what ``metric.missing`` says. The order of the examples changes nothing.
    The method of the interval follows from the metric and the design:

    - a proportion, one answer an example: Wilson's;
    - a proportion of several repeats, or a mean of scores that have ends: Wilson's for as many
      answers as their variance is worth, with clusters that of the clusters;
    - a mean of scores without ends: Student's t, with clusters cluster-robust;
    - any other function of the sums: BCa bootstrap of examples (or clusters), and its percentile
      form where BCa is undefined.
    """
    scored = [group for group in groups if group.status is Status.OK]
    rows = _means(metric, [group.scored for group in scored])
    rows, clusters = _in_fixed_order(rows, [group.cluster for group in scored])
    repeated = any(len(group.scores) > 1 for group in scored)
    limits = _limits(metric, groups)
    if metric.interval == "bootstrap":
        interval = _bootstrap(
            metric, rows, clusters=clusters, level=level, seed=seed, n_resamples=n_resamples
        )
    else:
        values = np.asarray(metric.combine(rows)) if len(rows) else np.zeros(0)
        if metric.interval == "proportion" and clusters is None and not repeated:
            interval = wilson(round(float(values.sum())), values.size, level=level)
        else:
            interval = _of_mean(values, clusters, limits=limits, level=level)
    statuses = [group.status for group in groups]
    worst, best = interval.estimate, interval.estimate
    if any(len(group.scored) < max(1, len(group.scores)) for group in groups):
        worst, best = _filled(metric, groups, end="worst"), _filled(metric, groups, end="best")
    return Estimate(
        value=interval.estimate,
        stderr=interval.stderr,
        low=_clip(interval.low, limits),
        high=_clip(interval.high, limits),
        level=level,
        method=interval.method,
        n_total=len(groups),
        n_scored=statuses.count(Status.OK),
        n_error=statuses.count(Status.ERROR),
        n_abstained=statuses.count(Status.ABSTAINED),
        worst=worst,
        best=best,
    )


def _limits(metric: Metric, groups: Sequence[ExampleScores]) -> tuple[float, float]:
    """Between what a mean lies: what one answer can be worth at worst and at best."""
    if metric.interval == "proportion":
        return _UNIT
    if metric.interval != "mean" or not groups:
        return -math.inf, math.inf
    ends = [score.value for score in metric.missing(groups[0].outcome)]
    return (-math.inf, math.inf) if any(map(math.isnan, ends)) else (min(ends), max(ends))


def _clip(value: float, limits: tuple[float, float]) -> float:
    return value if math.isnan(value) else min(max(value, limits[0]), limits[1])


def _means(metric: Metric, scores: Sequence[Sequence[Score]]) -> FloatArray:
    """(n, k): the mean statistics of each example over its scores, of which none is empty."""
    flat = [score for one in scores for score in one]
    if not flat:
        return np.zeros((0, 1))
    counts = np.array([len(one) for one in scores])
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    sums: FloatArray = np.add.reduceat(metric.statistics(flat), starts, axis=0)
    return np.asarray(sums / counts[:, None], dtype=np.float64)


def _in_fixed_order(
    rows: FloatArray, clusters: Sequence[str | None]
) -> tuple[FloatArray, FloatArray | None]:
    """The rows sorted, with the codes of their clusters; None when no example has a cluster.

    Sums in floating point and the draws of a bootstrap depend on the order: so there is only one.
    An example without a cluster is a cluster of its own.
    """
    named = sorted({cluster for cluster in clusters if cluster is not None})
    code = {cluster: float(index) for index, cluster in enumerate(named)}
    codes = np.array([math.inf if c is None else code[c] for c in clusters], dtype=np.float64)
    order = np.lexsort((*rows.T[::-1], codes))
    rows, codes = rows[order], codes[order]
    if not named:
        return rows, None
    alone = np.isinf(codes)
    codes[alone] = len(named) + np.arange(np.count_nonzero(alone))
    return rows, codes


def _of_mean(
    values: FloatArray,
    clusters: FloatArray | None,
    *,
    limits: tuple[float, float],
    level: float,
) -> Interval:
    has_ends = math.isfinite(limits[0]) and math.isfinite(limits[1])
    if has_ends and all(limits[0] <= value <= limits[1] for value in values):
        return wilson_mean(values, clusters, bounds=limits, level=level)
    if clusters is None:
        return t_interval(values, level=level, bounds=limits)
    return cluster_t_interval(values, clusters, level=level, bounds=limits)


def _bootstrap(
    metric: Metric,
    rows: FloatArray,
    *,
    clusters: FloatArray | None,
    level: float,
    seed: int,
    n_resamples: int,
) -> Interval:
    if len(rows) == 0:
        return undefined(math.nan, level=level, method="bootstrap-bca")
    methods: tuple[Literal["bca", "percentile"], ...] = ("bca", "percentile")
    for method in methods:
        found = bootstrap(
            rows,
            metric.combine,
            rng=np.random.default_rng(seed),
            n_resamples=n_resamples,
            method=method,
            clusters=clusters,
            level=level,
        )
        if math.isfinite(found.low) or math.isnan(found.stderr):
            break
    name = f"bootstrap-{found.method}" if clusters is None else "cluster-bootstrap"
    return Interval(
        estimate=found.estimate,
        stderr=found.stderr,
        low=found.low,
        high=found.high,
        level=level,
        method=name,
    )


def _filled(
    metric: Metric, groups: Sequence[ExampleScores], *, end: Literal["worst", "best"]
) -> float:
    """The value if every missing repeat had been at one end of what it can be."""
    scores: list[list[Score]] = []
    for group in groups:
        n_missing = max(1, len(group.scores)) - len(group.scored)
        fill = metric.missing(group.outcome)[0 if end == "worst" else 1] if n_missing else None
        scores.append([*group.scored, *([fill] * n_missing if fill else [])])
    rows, _ = _in_fixed_order(_means(metric, scores), [None] * len(scores))
    return float(metric.combine(rows.sum(axis=0)))


def mean_of_tasks(estimates: Sequence[Estimate]) -> Estimate:
    """The unweighted mean of the values of independent tasks ("macro"), each counted alike.

    Its variance is the sum of theirs over k²; the interval is normal. A task without a value, or
    without a standard error, leaves the mean, or its interval, undefined. Counts are sums.
    """
    k, level = len(estimates), estimates[0].level
    value = float(np.mean([e.value for e in estimates]))
    stderr = math.sqrt(sum(e.stderr**2 for e in estimates)) / k
    half = NormalDist().inv_cdf(0.5 + level / 2) * stderr
    return Estimate(
        value=value,
        stderr=stderr,
        low=value - half,
        high=value + half,
        level=level,
        method="mean-of-tasks",
        n_total=sum(e.n_total for e in estimates),
        n_scored=sum(e.n_scored for e in estimates),
        n_error=sum(e.n_error for e in estimates),
        n_abstained=sum(e.n_abstained for e in estimates),
        worst=float(np.mean([e.worst for e in estimates])),
        best=float(np.mean([e.best for e in estimates])),
    )
