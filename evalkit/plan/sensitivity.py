"""What a run will be able to see: the smallest difference, and the examples that it takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.compare import MetricInfo, Side, SideInfo, TaskInfo
from evalkit.compare.identity import differences
from evalkit.compare.pairing import Aligned, align
from evalkit.errors import NotComparableError, NotFoundError
from evalkit.plan.spread import UNKNOWN, Basis, Spread, assumed, observed
from evalkit.prepare import Work
from evalkit.scoring import NamedMetric, outcome_of
from evalkit.stats.power import difference_mde, non_inferiority_mde, non_inferiority_n
from evalkit.types import Continuation, Item, Response

Slice = tuple[str, str]  # field and value


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A number that is going to be compared: with a margin by a gate, without one by compare."""

    task: str
    metric: str
    slice: Slice | None = None
    margin: float | None = None  # in the metric's unit
    alpha: float = 0.05  # of one side with a margin, of both without
    power: float = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What so many examples can see of a question.

    With a margin ``detectable`` is the smallest one that an unchanged candidate passes with the
    wanted power, and ``n_needed`` the examples for the question's own. Without one it is the
    smallest difference that a two-sided test finds with that power.
    """

    question: Question
    n: int  # examples that the comparison will have
    basis: Basis
    variance: float  # of one example's difference; nan: unknown
    design_effect: float
    detectable: float
    detectable_low: float  # at the ends of the correlations of two models; nan where assumed
    detectable_high: float
    n_needed: int | None
    is_share: bool  # the metric is a share of one

    @property
    def is_blind(self) -> bool:
        """Whether the run is too small for the question's margin."""
        return self.n_needed is not None and self.n < self.n_needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All questions, and what should be known before anything is spent."""

    sensitivities: tuple[Sensitivity, ...] = ()
    warnings: tuple[str, ...] = ()


def questions_of(works: Sequence[Work], baseline: Side) -> list[Question]:
    """Each metric that the run will have in common with the baseline."""
    return [
        Question(task=work.task.name, metric=named.name)
        for work in works
        if work.task.name in baseline.tasks
        for named in work.metrics
        if named.name in baseline.tasks[work.task.name].metrics
    ]


def examine(
    works: Sequence[Work], questions: Sequence[Question], *, baseline: Side | None, seed: int
) -> Findings:
    """What the run can see of each question; questions about other tasks are named and left out.

    Raises NotFoundError for a metric that its task does not have.
    """
    by_name = {work.task.name: work for work in works}
    found: list[Sensitivity] = []
    warnings: list[str] = []
    for name in dict.fromkeys(question.task for question in questions):
        if name not in by_name:
            warnings.append(f"task {name} is checked by the policy, and not in this run")
            continue
        work = by_name[name]
        own = [question for question in questions if question.task == name]
        for question in own:
            _metric(work, question.metric)  # before anything that takes time
        usable = baseline
        if baseline is not None:
            warnings += _obstacles(work, own, baseline, seed=seed)
            usable = baseline if name in baseline.tasks else None
        of_task = [_sensitivity(work, question, usable) for question in own]
        found += of_task
        warnings += _cautions(work, of_task)
    return Findings(sensitivities=tuple(found), warnings=tuple(warnings))


def _sensitivity(work: Work, question: Question, baseline: Side | None) -> Sensitivity:
    metric = _metric(work, question.metric)
    items = [item for item in work.items if _is_in(item, question.slice)]
    n, spread = len(items), UNKNOWN
    if baseline is not None and question.metric in baseline.tasks[question.task].metrics:
        n, spread = _beside(work, question, items, baseline)
    if spread.basis == "unknown" and metric.metric.interval != "bootstrap" and work.items:
        ends = _ends(metric, work)
        is_binary = metric.metric.interval == "proportion"
        effect = spread.design_effect
        spread = replace(assumed(is_binary=is_binary, ends=ends), design_effect=effect)
    margin = question.margin
    return Sensitivity(
        question=question,
        n=n,
        basis=spread.basis,
        variance=spread.variance,
        design_effect=spread.design_effect,
        detectable=_detectable(question, n, spread.variance * spread.design_effect),
        detectable_low=_detectable(question, n, spread.low * spread.design_effect),
        detectable_high=_detectable(question, n, spread.high * spread.design_effect),
        n_needed=None if margin is None else _needed(question, margin, spread),
        is_share=metric.metric.interval == "proportion",
    )


def _beside(
    work: Work, question: Question, items: Sequence[Item], baseline: Side
) -> tuple[int, Spread]:
    """The examples that the baseline has too, and the spread that its scores show."""
    try:
        aligned = align(baseline, baseline, question.task, question.metric)
    except NotComparableError:  # a metric that is no mean, without the statistics of its examples
        return len(items), UNKNOWN
    mask = _mask(aligned, question.slice)
    pairs = aligned.select(mask)
    theirs = Counter(aligned.match.sha256[mask].tolist())
    n_digits = aligned.match.sha256.dtype.itemsize
    ours = Counter(item.example.sha256[:n_digits].encode() for item in items)
    answers = baseline.answers(question.task, question.metric)
    spread = observed(pairs, answers, repeats=work.task.spec.repeats)
    return (ours & theirs).total(), spread


def _mask(aligned: Aligned, part: Slice | None) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    n = aligned.match.ids.size
    if part is None:
        return np.ones(n, dtype=np.bool_)
    values = aligned.match.slices.get(part[0])
    if values is None:
        return np.zeros(n, dtype=np.bool_)
    return np.array([value == part[1] for value in values], dtype=np.bool_)


def _detectable(question: Question, n: int, variance: float) -> float:
    if n == 0 or not variance > 0:
        return math.nan
    alpha, power = question.alpha, question.power
    if question.margin is None:
        return difference_mde(n, variance, alpha=alpha, power=power, sided=2)
    return non_inferiority_mde(n, variance, alpha=alpha, power=power)


def _needed(question: Question, margin: float, spread: Spread) -> int | None:
    variance = spread.variance * spread.design_effect
    if not variance > 0:
        return None
    return non_inferiority_n(margin, variance, alpha=question.alpha, power=question.power)


def _obstacles(
    work: Work, questions: Sequence[Question], baseline: Side, *, seed: int
) -> Iterator[str]:
    """Why the run will not be comparable with the baseline, a line each."""
    name = work.task.name
    if name not in baseline.tasks:
        yield f"task {name}: the baseline does not have it: nothing to compare with"
        return
    theirs = baseline.tasks[name]
    asked = dict.fromkeys(question.metric for question in questions)
    common = [metric for metric in asked if metric in theirs.metrics]
    for metric in asked:
        if metric not in common:
            yield f"task {name}: the baseline does not have metric {metric}"
    this_run = SideInfo(id="", model="", fingerprint="", status="", evalkit="", seed=seed)
    ours = TaskInfo(
        version=work.task.spec.version,
        spec=work.task.spec_json,
        judges={},
        metrics={metric: _info(_metric(work, metric)) for metric in common},
    )
    lines = differences(name, (baseline.info, theirs), (this_run, ours), metrics=common)
    yield from (f"not comparable with the baseline A: {line}" for line in lines)
    hashes = baseline.examples(name).sha256
    known = Counter(hashes.tolist())
    digits = hashes.dtype.itemsize
    new = Counter(item.example.sha256[:digits].encode() for item in work.items) - known
    if new.total():
        yield (
            f"task {name}: {new.total()} of {len(work.items)} examples are not in the baseline; "
            "only --intersection compares the others"
        )


def _cautions(work: Work, found: Sequence[Sensitivity]) -> Iterator[str]:
    """Questions that the run is too small for, or of which nothing is known."""
    clusters = {item.example.cluster for item in work.items} - {None}
    is_ignored = all(one.basis != "baseline" for one in found)
    if 0 < len(clusters) < len(work.items) and is_ignored:
        yield (
            f"task {work.task.name}: {len(work.items)} examples in {len(clusters)} clusters are "
            "counted as if they were independent: it sees less than this says"
        )
    for one in found:
        question = one.question
        part = "" if question.slice is None else f", {': '.join(question.slice)}"
        where = f"task {question.task}: {question.metric}{part}"
        if one.n == 0:
            yield f"{where}: no example to compare"
        elif math.isnan(one.detectable):
            yield f"{where}: nothing is known of its spread; a baseline would show it"
        elif question.margin is not None and one.is_blind:
            yield (
                f"{where}: cannot see a drop of {question.margin:g} with {one.n:,} examples; "
                f"needs {one.n_needed:,} (there are {len(work.task.dataset.rows):,} rows)"
            )


def _metric(work: Work, name: str) -> NamedMetric:
    known: Mapping[str, NamedMetric] = {named.name: named for named in work.metrics}
    if name not in known:
        raise NotFoundError(f"metric of task {work.task.name}", name, known, hint="in the policy")
    return known[name]


def _info(named: NamedMetric) -> MetricInfo:
    """What is known of a metric before it has a value."""
    return MetricInfo(
        signature=named.signature,
        higher_is_better=named.metric.higher_is_better,
        interval=named.metric.interval,
        missing=(math.nan, math.nan),
        value=math.nan,
        worst=math.nan,
        best=math.nan,
    )


def _ends(named: NamedMetric, work: Work) -> tuple[float, float]:
    """Between what the scores of a metric lie, by its own account of an unanswered example."""
    item = work.items[0]
    n = len(item.continuations) or 1
    unlikely = tuple(Continuation(logprob=-1.0, n_tokens=1, is_greedy=False) for _ in range(n))
    is_text = work.task.spec.request == "generate"
    answer = Response(text="") if is_text else Response(continuations=unlikely)
    worst, best = named.metric.missing(outcome_of(item, answer, named.extract))
    return worst.value, best.value


def _is_in(item: Item, part: Slice | None) -> bool:
    return part is None or item.example.slices.get(part[0]) == part[1]
