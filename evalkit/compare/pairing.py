"""Two sides' scores of the same examples, row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.compare.labelled import FEWEST_LABELS, Labels, corrected
from evalkit.compare.side import (
    Answers,
    BoolArray,
    Examples,
    HashArray,
    IntArray,
    MetricInfo,
    Side,
    TextArray,
)
from evalkit.errors import EvalkitError, NotComparableError, NotFoundError
from evalkit.metrics import build_metric
from evalkit.metrics.additive import Additive
from evalkit.stats.intervals import FloatArray
from evalkit.stats.resample import Combine
from evalkit.types import Metric, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The examples that two sides have in common, sorted by hash, and those that one lacks."""

    index_a: IntArray  # (n,) rows of the examples of A
    index_b: IntArray
    ids: TextArray  # (n,) as A calls them
    sha256: HashArray  # (n,)
    clusters: IntArray | None  # (n,) codes; None where no example has a cluster
    slices: Mapping[str, TextArray]  # field -> (n,)
    only_a: tuple[str, ...]  # ids of the examples that B lacks
    only_b: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """All common examples, every missing answer replaced by one end of what it could have been."""

    a: FloatArray  # (n_common,)
    b: FloatArray
    clusters: IntArray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A metric on the examples that both sides have a score for; repeats are averaged.

    For a metric that is a mean, the values of the sides are ``a.mean()`` and ``b.mean()``. For any
    other ``a`` and ``b`` are nan, and the values are ``combine(stats_a.sum(axis=0))`` and so on.
    ``worst`` and ``best`` bound the difference b - a, from the side of the candidate b: every
    answer that is missing on either side had been at the unfavourable, or favourable, end. They
    are nan where the ends are not known.
    """

    task: str
    metric: str
    higher_is_better: bool
    is_binary: bool  # a and b are 0 or 1
    a: FloatArray  # (n,)
    b: FloatArray
    stats_a: FloatArray | None  # (n, k)
    stats_b: FloatArray | None
    combine: Combine | None
    clusters: IntArray | None  # (n,)
    ids: TextArray  # (n,)
    sha256: HashArray
    n_common: int  # examples of both sides, scored or not
    n_error_a: int  # of these, those that have no score because no answer came
    n_error_b: int
    n_abstained_a: int  # and those whose answers the metric could not decide
    n_abstained_b: int
    worst: float
    best: float
    filled_worst: Filled | None  # None where the ends are not known
    filled_best: Filled | None
    # of a judge's metric that people labelled on both sides; a and b are corrected by them
    labels: Labels | None = None
    reach: float = math.inf  # the width of the scores' scale; infinite where it is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class _Half:
    """One side's scores of the common examples."""

    values: FloatArray  # (n,) mean over the scored repeats; nan where there is none
    is_error: BoolArray  # (n,) no repeat was scored, and none abstained
    is_scored: BoolArray
    n_answers: IntArray
    n_scored: IntArray
    stats: FloatArray | None  # (m, k) of the scored answers
    stats_of: IntArray  # (m,) their example
    human: FloatArray | None  # (n,) people's labels, nan where there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """A metric on all common examples of two sides; ``select`` gives what can be compared."""

    task: str
    metric: str
    info_a: MetricInfo
    info_b: MetricInfo
    match: Match
    half_a: _Half
    half_b: _Half
    computed: Metric | None  # of a metric that is no mean

    def select(self, mask: BoolArray | None = None) -> Paired:
        """The pairs among all common examples, or among those of a mask (n,)."""
        match, a, b = self.match, self.half_a, self.half_b
        common = np.ones(match.ids.size, dtype=np.bool_) if mask is None else mask
        n_answers = max(int(half.n_answers.max(initial=1)) for half in (a, b))
        both = common & a.is_scored & b.is_scored
        filled_worst, filled_best = self._filled(common, 0), self._filled(common, 1)
        worst, best = _mean_difference(filled_worst), _mean_difference(filled_best)
        stats: tuple[FloatArray, FloatArray] | None = None
        if self.computed is not None:
            stats = _statistics(self.computed, a, b, both)
            worst, best = self._bounds_of_sums(both, is_whole=mask is None)
        values_a, values_b, labels = self._labelled(both)
        return Paired(
            task=self.task,
            metric=self.metric,
            higher_is_better=self.info_a.higher_is_better,
            is_binary=self.info_a.interval == "proportion" and n_answers == 1,
            a=values_a,
            b=values_b,
            stats_a=None if stats is None else stats[0],
            stats_b=None if stats is None else stats[1],
            combine=None if self.computed is None else self.computed.combine,
            clusters=None if match.clusters is None else match.clusters[both],
            ids=match.ids[both],
            sha256=match.sha256[both],
            n_common=int(common.sum()),
            n_error_a=int((common & a.is_error).sum()),
            n_error_b=int((common & b.is_error).sum()),
            n_abstained_a=int((common & ~a.is_error & ~a.is_scored).sum()),
            n_abstained_b=int((common & ~b.is_error & ~b.is_scored).sum()),
            worst=worst,
            best=best,
            filled_worst=filled_worst,
            filled_best=filled_best,
            reach=_reach(np.concatenate((values_a, values_b)), self.info_a.missing),
            labels=labels,
        )

    def _labelled(self, both: BoolArray) -> tuple[FloatArray, FloatArray, Labels | None]:
        """The values of both sides, corrected where people labelled enough of both."""
        a, b = self.half_a.values[both], self.half_b.values[both]
        if self.half_a.human is None or self.half_b.human is None:
            return a, b, None
        human_a, human_b = self.half_a.human[both], self.half_b.human[both]
        known = np.isfinite(human_a) & np.isfinite(human_b)
        if known.sum() < FEWEST_LABELS:
            return a, b, None
        labels = Labels(
            human_a=human_a[known], human_b=human_b[known], judge_a=a[known], judge_b=b[known]
        )
        return *corrected(a, b, human_a, human_b), labels

    def _filled(self, common: BoolArray, end: int) -> Filled | None:
        """What is missing at the candidate's worst (0) or best (1) end, and A's at the other."""
        a = _fill(self.half_a, self.info_a.missing[1 - end], common)
        b = _fill(self.half_b, self.info_b.missing[end], common)
        if a is None or b is None:
            return None
        clusters = self.match.clusters
        return Filled(a=a, b=b, clusters=None if clusters is None else clusters[common])

    def _bounds_of_sums(self, both: BoolArray, *, is_whole: bool) -> tuple[float, float]:
        """Bounds for a metric that is no mean, from those that each run has found for itself."""
        match, a, b = self.match, self.info_a, self.info_b
        if not is_whole or match.only_a or match.only_b:
            return math.nan, math.nan
        return b.worst - a.best, b.best - a.worst


def match(a: Examples, b: Examples) -> Match:
    """Pair examples by their hashes; equal ones in the order in which they occur.

    Where a side has only the first digits of the hashes, those are compared.
    """
    n_digits = min(a.sha256.dtype.itemsize, b.sha256.dtype.itemsize)
    hashes = np.concatenate([side.sha256.astype(f"S{n_digits}") for side in (a, b)])
    _, codes = np.unique(hashes, return_inverse=True)
    # a pair's number, hash first: pairs are sorted by hash, whatever the order of the rows
    keys_a, keys_b = (
        c * codes.size + _n_before(c) for c in np.split(codes.reshape(-1), [a.ids.size])
    )
    _, index_a, index_b = np.intersect1d(keys_a, keys_b, assume_unique=True, return_indices=True)
    return Match(
        index_a=index_a,
        index_b=index_b,
        ids=a.ids[index_a],
        sha256=a.sha256[index_a],
        clusters=_codes(a.clusters[index_a]),
        slices={name: values[index_a] for name, values in a.slices.items()},
        only_a=tuple(np.delete(a.ids, index_a).tolist()),
        only_b=tuple(np.delete(b.ids, index_b).tolist()),
    )


def align(a: Side, b: Side, task: str, metric: str, *, matched: Match | None = None) -> Aligned:
    """A metric on the common examples of two sides, ``matched`` if that is already known.

    Raises NotFoundError for a task or metric that a side lacks, and NotComparableError for a metric
    that is no mean and whose statistics are not there, or were computed by another version.
    """
    for side in (a, b):
        if task not in side.tasks:
            raise NotFoundError("task in both runs", task, side.tasks)
        if metric not in side.tasks[task].metrics:
            raise NotFoundError(f"metric of task {task}", metric, side.tasks[task].metrics)
    if matched is None:
        matched = match(a.examples(task), b.examples(task))
    info = a.tasks[task].metrics[metric]
    answers_a, answers_b = a.answers(task, metric), b.answers(task, metric)
    computed = None
    if info.interval == "bootstrap":
        for name, found in (("A", answers_a), ("B", answers_b)):
            if found.stats is None:
                problem = f"{name} has no statistics of its examples: run it again to compare it"
                raise NotComparableError([f"task {task}: metric {metric}: {problem}"])
        computed = _rebuilt(task, metric, info, a.tasks[task].spec)
    return Aligned(
        task=task,
        metric=metric,
        info_a=info,
        info_b=b.tasks[task].metrics[metric],
        match=matched,
        half_a=_half(answers_a, matched.index_a),
        half_b=_half(answers_b, matched.index_b),
        computed=computed,
    )


def paired(a: Side, b: Side, task: str, metric: str) -> Paired:
    """A metric on the examples that both sides have a score for.

    It does not ask whether the runs are comparable: see ``refuse_unless_comparable``.
    Raises what ``align`` raises.
    """
    return align(a, b, task, metric).select()


def _n_before(codes: IntArray) -> IntArray:
    """(n,) how many equal codes stand before each."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    counts = np.diff(np.append(starts, ordered.size))
    rank = np.empty(codes.size, dtype=np.int64)
    rank[order] = np.arange(ordered.size) - np.repeat(starts, counts)
    return rank


def _codes(labels: TextArray) -> IntArray | None:
    """Clusters as numbers by first occurrence; an example without one is alone in its own."""
    numbers: dict[Any, int] = {}
    if all(label is None for label in labels):
        return None
    return np.array(
        [
            numbers.setdefault((index,) if label is None else label, len(numbers))
            for index, label in enumerate(labels)
        ],
        dtype=np.int64,
    )


def _half(answers: Answers, index: IntArray) -> _Half:
    """The answers gathered by example, in the order of ``index`` (n,)."""
    n = int(answers.example.max(initial=-1)) + 1
    scored = answers.is_scored
    n_answers = np.bincount(answers.example, minlength=n)
    n_scored = np.bincount(answers.example[scored], minlength=n)
    n_error = np.bincount(answers.example[answers.is_error], minlength=n)
    sums = np.bincount(answers.example[scored], answers.values[scored], minlength=n)
    values = np.full(n, np.nan)
    np.divide(sums, n_scored, out=values, where=n_scored > 0)
    place = np.full(n, -1, dtype=np.int64)
    place[index] = np.arange(index.size)
    stats_of = place[answers.example[scored]]
    is_common = stats_of >= 0
    return _Half(
        values=values[index],
        is_error=((n_scored == 0) & (n_error == n_answers))[index],
        is_scored=(n_scored > 0)[index],
        n_answers=n_answers[index],
        n_scored=n_scored[index],
        stats=None if answers.stats is None else answers.stats[scored][is_common],
        stats_of=stats_of[is_common],
        human=_labels_of(answers, n, index),
    )


def _labels_of(answers: Answers, n: int, index: IntArray) -> FloatArray | None:
    """(n,) the mean label of each common example; None where no answer has one."""
    if answers.human is None:
        return None
    known = np.isfinite(answers.human)
    n_known = np.bincount(answers.example[known], minlength=n)
    sums = np.bincount(answers.example[known], answers.human[known], minlength=n)
    labels = np.full(n, np.nan)
    np.divide(sums, n_known, out=labels, where=n_known > 0)
    return labels[index]


def _fill(half: _Half, end: float, common: BoolArray) -> FloatArray | None:
    """The values of the common examples, missing answers at ``end``; None if that is unknown."""
    n_missing = (half.n_answers - half.n_scored)[common]
    values = half.values[common]
    if not n_missing.any():
        return None if np.isnan(values).any() else values
    if not math.isfinite(end):
        return None
    sums = np.where(half.is_scored[common], values, 0.0) * half.n_scored[common]
    return np.asarray((sums + n_missing * end) / half.n_answers[common], dtype=np.float64)


def _reach(scores: FloatArray, ends: tuple[float, float]) -> float:
    """The width of the scores' scale; infinite where it has no ends, or a score is beyond them."""
    low, high = min(ends), max(ends)
    is_within = bool(((low <= scores) & (scores <= high)).all())
    return high - low if is_within and math.isfinite(high - low) else math.inf


def _mean_difference(filled: Filled | None) -> float:
    if filled is None or filled.a.size == 0:
        return math.nan
    if not (np.isfinite(filled.a).all() and np.isfinite(filled.b).all()):
        return math.nan
    return float((filled.b - filled.a).mean())


def _rebuilt(task: str, metric: str, info: MetricInfo, spec: Mapping[str, Any]) -> Metric:
    """The metric that computes a value from sums, made from the task's file once more."""
    where = f"task {task}: metric {metric}"
    name = metric.partition("@")[0]
    entries = [e for e in spec["metrics"] if name == (e.get("name") or e["metric"])]
    if not entries:
        raise NotComparableError([f"{where}: the task's file does not say how it is computed"])
    options = {key: value for key, value in entries[0].items() if key not in ("metric", "name")}
    try:
        computed = build_metric(entries[0]["metric"], options)
    except EvalkitError as error:
        raise NotComparableError([f"{where}: {error}"]) from error
    recorded = info.signature.partition("|extract:")[0]
    if computed.signature != recorded:
        problem = f"the runs have {recorded!r}, this version computes {computed.signature!r}"
        raise NotComparableError([f"{where}: {problem}: run them again to compare them"])
    return computed


def _statistics(
    metric: Metric, a: _Half, b: _Half, both: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """(n, k) of each side: the mean over an example's repeats.

    Made of both sides at once: the columns of a metric over labels are those that occur.
    """
    place = np.cumsum(both) - 1
    parts: list[IntArray] = []
    stats: list[FloatArray] = []
    for half in (a, b):
        assert half.stats is not None
        keep = both[half.stats_of]
        parts.append(place[half.stats_of[keep]])
        stats.append(half.stats[keep])
    n = int(np.count_nonzero(both))
    if n == 0:
        return np.zeros((0, 1)), np.zeros((0, 1))
    rows = _rows(metric, np.concatenate(stats))
    of_a, of_b = np.split(rows, [parts[0].size])
    return _means(of_a, parts[0], n), _means(of_b, parts[1], n)


def _rows(metric: Metric, stats: FloatArray) -> FloatArray:
    """(m, k): what the metric adds up, from the statistics (m, j) of m scores."""
    if getattr(type(metric), "statistics", None) is Additive.statistics:
        return stats  # row for row; 200,000 scores of BLEU would take a second to make
    return metric.statistics([Score(value=math.nan, stats=tuple(row)) for row in stats.tolist()])


def _means(rows: FloatArray, example: IntArray, n: int) -> FloatArray:
    sums = np.zeros((n, rows.shape[1]))
    np.add.at(sums, example, rows)
    return np.asarray(sums / np.bincount(example, minlength=n)[:, None], dtype=np.float64)
