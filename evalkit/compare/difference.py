"""A baseline and candidates: by how much each metric differs on the same examples."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.compare.identity import refuse_unless_comparable
from evalkit.compare.pairing import Aligned, Match, Paired, align
from evalkit.compare.side import Side, SideInfo
from evalkit.errors import NotComparableError, NotFoundError, UsageError
from evalkit.stats.intervals import FloatArray
from evalkit.stats.multiplicity import benjamini_hochberg, holm
from evalkit.stats.paired import (
    Difference,
    Discordance,
    compare_means,
    discordance,
    paired_bootstrap,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """An example that only one of two runs got right."""

    id: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDifference:
    """A metric of a baseline A and a candidate B on the examples that both have a score for."""

    task: str
    metric: str
    slice: tuple[str, str] | None  # field and value; None: all examples
    higher_is_better: bool
    is_share: bool  # the values are shares of one
    value_a: float
    value_b: float
    difference: Difference  # B - A, in the metric's unit
    p_adjusted: float  # for all that is compared beside it
    adjustment: str  # holm | benjamini-hochberg
    n_pairs: int
    n_error_a: int  # common examples without an answer: in no number but worst and best
    n_error_b: int
    n_abstained_a: int
    n_abstained_b: int
    worst: float  # the difference if all that is missing on either side went against B
    best: float
    discordance: Discordance | None  # of a metric that is right or wrong
    gained: tuple[Flip, ...]  # wrong in A, right in B
    lost: tuple[Flip, ...]

    @property
    def is_better(self) -> bool | None:
        """Whether B is on the better side of A, however little; None if neither, or unknown."""
        estimate = self.difference.estimate
        if math.isnan(estimate) or estimate == 0:
            return None
        return (estimate > 0) == self.higher_is_better


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Which examples of a task two runs have in common."""

    task: str
    n_common: int
    only_a: tuple[str, ...]  # ids of the examples that the other lacks
    only_b: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateComparison:
    """A candidate beside the baseline."""

    side: SideInfo
    pairings: tuple[Pairing, ...]
    metrics: tuple[MetricDifference, ...]
    slices: tuple[MetricDifference, ...]
    notes: tuple[str, ...]  # what was left out, a line each


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A baseline and its candidates. Adjusted p-values take all candidates together."""

    baseline: SideInfo
    candidates: tuple[CandidateComparison, ...]
    level: float
    seed: int


def compare(
    baseline: Side,
    candidates: Sequence[Side],
    *,
    tasks: Sequence[str] = (),
    metrics: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
    slices: bool = True,
    intersection: bool = False,
) -> Comparison:
    """Compare candidates with a baseline, example by example.

    ``tasks`` and ``metrics`` restrict what is compared; empty, it is all that both have. With
    ``intersection`` examples that only one run has are left out and reported, otherwise they are a
    reason to refuse. Intervals are two-sided at ``level``. P-values are adjusted by Holm over all
    metrics of all candidates, and those of slices by Benjamini and Hochberg over all slices.
    Each number's random draws depend on ``seed`` and on what is compared, not on what is beside it.
    Raises NotComparableError, which names every field that differs, NotFoundError for a task or
    metric that a run lacks, and UsageError for a level outside of 0..1.
    """
    if not 0 < level < 1:
        raise UsageError(f"--level {level:g}: must lie between 0 and 1")
    found = []
    for candidate in candidates:
        names, notes = _common_tasks(baseline, candidate, tasks)
        chosen = {
            name: _common_metrics(baseline, candidate, name, metrics, notes) for name in names
        }
        _check_metrics(metrics, (baseline, candidate), names)
        matches = refuse_unless_comparable(
            baseline, candidate, metrics=chosen, intersection=intersection
        )
        compared = _Compared(baseline=baseline, candidate=candidate, level=level, seed=seed)
        found.append(compared.beside(chosen, matches, notes, with_slices=slices))
    return Comparison(
        baseline=baseline.info, candidates=tuple(_adjusted(found)), level=level, seed=seed
    )


def _common_tasks(a: Side, b: Side, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """The tasks to compare, and notes on those that only one run has."""
    for name in wanted:
        for side in (a, b):
            if name not in side.tasks:
                raise NotFoundError(f"task in run {side.info.id}", name, side.tasks)
    common = [name for name in a.tasks if name in b.tasks]
    if not common:
        lines = [f"tasks: {', '.join(s.tasks)} in {x}" for s, x in ((a, "A"), (b, "B"))]
        runs = f"A is {a.info.id}, B is {b.info.id}"
        raise NotComparableError(["they have no task in common", *lines], runs=runs)
    notes = [f"{s.info.id}: the run is {s.info.status}" for s in (a, b)]
    notes = [note for note, s in zip(notes, (a, b), strict=True) if s.info.status != "complete"]
    if wanted:
        return [name for name in common if name in wanted], notes
    for side, other in ((a, b), (b, a)):
        only = [name for name in side.tasks if name not in other.tasks]
        if only:
            notes.append(f"only in {side.info.id}: {', '.join(only)}")
    return common, notes


def _common_metrics(
    a: Side, b: Side, task: str, wanted: Sequence[str], notes: list[str]
) -> list[str]:
    of_a, of_b = a.tasks[task].metrics, b.tasks[task].metrics
    common = [name for name in of_a if name in of_b]
    if wanted:
        return [name for name in common if name in wanted]
    for side, own in ((a, of_a), (b, of_b)):
        only = [name for name in own if name not in common]
        if only:
            notes.append(f"task {task}: metrics only in {side.info.id}: {', '.join(only)}")
    return common


def _check_metrics(wanted: Sequence[str], sides: Sequence[Side], tasks: Sequence[str]) -> None:
    for side in sides:
        known = {name for task in tasks for name in side.tasks[task].metrics}
        for name in wanted:
            if name not in known:
                raise NotFoundError(f"metric in run {side.info.id}", name, known)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """A candidate and the baseline, found comparable."""

    baseline: Side
    candidate: Side
    level: float
    seed: int

    def beside(
        self,
        chosen: dict[str, list[str]],
        matches: dict[str, Match],
        notes: list[str],
        *,
        with_slices: bool,
    ) -> CandidateComparison:
        metrics: list[MetricDifference] = []
        slices: list[MetricDifference] = []
        for task, names in chosen.items():
            for name in names:
                try:
                    aligned = align(
                        self.baseline, self.candidate, task, name, matched=matches[task]
                    )
                except NotComparableError as error:
                    notes += error.differences  # the other metrics can be compared
                    continue
                metrics.append(self._difference(aligned.select(), None))
                if with_slices:
                    slices += self._slices(aligned)
        if not metrics:
            raise NotComparableError(notes or ["no metric in common"])
        return CandidateComparison(
            side=self.candidate.info,
            pairings=tuple(
                Pairing(task=task, n_common=m.ids.size, only_a=m.only_a, only_b=m.only_b)
                for task, m in matches.items()
            ),
            metrics=tuple(metrics),
            slices=tuple(slices),
            notes=tuple(notes),
        )

    def _slices(self, aligned: Aligned) -> Iterator[MetricDifference]:
        for field, values in aligned.match.slices.items():
            for value in sorted({str(v) for v in values if v is not None}):
                pairs = aligned.select(np.asarray(values == value, dtype=np.bool_))
                yield self._difference(pairs, (field, value))

    def _difference(self, pairs: Paired, part: tuple[str, str] | None) -> MetricDifference:
        rng = np.random.default_rng(_seed(self.seed, pairs.task, pairs.metric, *(part or ())))
        info = self.baseline.tasks[pairs.task].metrics[pairs.metric]
        value_a, value_b, difference = _measure(pairs, level=self.level, rng=rng)
        gained = _flips(pairs, pairs.a < pairs.b) if part is None else ()
        lost = _flips(pairs, pairs.a > pairs.b) if part is None else ()
        return MetricDifference(
            task=pairs.task,
            metric=pairs.metric,
            slice=part,
            higher_is_better=pairs.higher_is_better,
            is_share=info.interval == "proportion",
            value_a=value_a,
            value_b=value_b,
            difference=difference,
            p_adjusted=difference.p_value,
            adjustment="holm" if part is None else "benjamini-hochberg",
            n_pairs=pairs.ids.size,
            n_error_a=pairs.n_error_a,
            n_error_b=pairs.n_error_b,
            n_abstained_a=pairs.n_abstained_a,
            n_abstained_b=pairs.n_abstained_b,
            worst=pairs.worst,
            best=pairs.best,
            discordance=discordance(pairs.a, pairs.b) if pairs.is_binary else None,
            gained=gained,
            lost=lost,
        )


def _measure(
    pairs: Paired, *, level: float, rng: np.random.Generator
) -> tuple[float, float, Difference]:
    """The values of both sides, and their difference with its interval."""
    if pairs.stats_a is None or pairs.stats_b is None or pairs.combine is None:
        found = compare_means(
            pairs.a,
            pairs.b,
            is_binary=pairs.is_binary,
            clusters=pairs.clusters,
            level=level,
            rng=rng,
            reach=pairs.reach,
        )
        return _mean(pairs.a), _mean(pairs.b), found
    value_a, value_b = (
        _of_sums(pairs.combine, pairs.stats_a),
        _of_sums(pairs.combine, pairs.stats_b),
    )
    with np.errstate(invalid="ignore"):  # of two infinite perplexities the difference is nan
        found = paired_bootstrap(
            pairs.stats_a,
            pairs.stats_b,
            pairs.combine,
            rng=rng,
            clusters=pairs.clusters,
            level=level,
        )
    if not (math.isfinite(value_a) and math.isfinite(value_b)):
        found = replace(found, estimate=value_b - value_a)  # infinite, or nan
    return value_a, value_b, found


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else math.nan


def _of_sums(combine: Callable[[FloatArray], FloatArray], stats: FloatArray) -> float:
    return float(combine(stats.sum(axis=0))) if len(stats) else math.nan


def _flips(pairs: Paired, flipped: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[Flip, ...]:
    """The examples of a mask, sorted by hash; none for a metric that is not right or wrong."""
    if not pairs.is_binary:
        return ()
    found = zip(pairs.ids[flipped], pairs.sha256[flipped], strict=True)
    return tuple(Flip(id=str(i), sha256=sha.decode()) for i, sha in found)


def _adjusted(found: Sequence[CandidateComparison]) -> Iterator[CandidateComparison]:
    """The p-values of all candidates adjusted together."""
    of_metrics = iter(holm([d.difference.p_value for c in found for d in c.metrics]))
    of_slices = iter(benjamini_hochberg([d.difference.p_value for c in found for d in c.slices]))
    for candidate in found:
        yield replace(
            candidate,
            metrics=tuple(
                replace(d, p_adjusted=float(next(of_metrics))) for d in candidate.metrics
            ),
            slices=tuple(replace(d, p_adjusted=float(next(of_slices))) for d in candidate.slices),
        )


def _seed(*parts: object) -> int:
    """A seed that depends on nothing but ``parts``."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16], "big"
    )
