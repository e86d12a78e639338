"""The examples of a run as they are shown: what was asked, what came back, what it scored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from evalkit.record import ExampleRow, RunRecord
from evalkit.report.charts import softmax
from evalkit.report.facts import Fact
from evalkit.report.judged import JudgedView, judged_view, members_of
from evalkit.report.judges import metrics_of_rubric
from evalkit.report.numerals import (
    DASH,
    format_count,
    format_number,
    format_score,
    format_seconds,
    format_value,
    unit_of,
)
from evalkit.report.standing import Standing
from evalkit.report.view import MetricRow, RunView, TaskView
from evalkit.types import Status

Verdict = Literal["right", "partial", "wrong", "scored", "abstained", "error"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

_WORDS = 140  # characters of a response shown in the list


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceBar:
    """One choice of a question, and how likely the model found it."""

    text: str
    logprob: str
    share: float  # of the probability of all choices, 0..1; nan when undefined
    percent: str
    is_gold: bool
    is_picked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleView:
    """One answered request as it is shown."""

    id: str  # with the number of the repeat, where there are several
    verdict: Verdict
    score: str
    value: float  # the score as a number; nan when there is none
    words: str  # how the response begins
    prompt: str
    targets: tuple[str, ...]
    response: str | None
    extracted: str | None
    choices: tuple[ChoiceBar, ...]
    judged: tuple[JudgedView, ...]  # what judges said, by metric
    error: str  # "" when there was an answer
    facts: tuple[Fact, ...]
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleList:
    """The examples of a task, in the order of the record."""

    metric: str  # the one that gives score and verdict; "" when there is none
    standing: Standing  # of the judge behind it
    examples: tuple[ExampleView, ...]
    counts: Mapping[Verdict, int]  # of the verdicts that occur


def build_examples(record: RunRecord, view: RunView) -> Mapping[str, ExampleList]:
    """The examples of each task of a run; reads ``examples.parquet`` unless rows are there."""
    by_task: dict[str, list[ExampleRow]] = {task.name: [] for task in view.tasks}
    for row in record.read_rows():
        by_task.setdefault(row.task, []).append(row)
    repeats = {name: task.repeats for name, task in record.tasks.items()}
    return {
        task.name: _example_list(task, by_task[task.name], repeats[task.name])
        for task in view.tasks
    }


def _example_list(task: TaskView, rows: Sequence[ExampleRow], repeats: int) -> ExampleList:
    main = _main_metric(task, rows)
    examples = tuple(_example(row, main, task, repeats) for row in rows)
    found = Counter(example.verdict for example in examples)
    return ExampleList(
        metric=main.metric if main else "",
        standing=main.standing if main else Standing(),
        examples=examples,
        counts={verdict: found[verdict] for verdict in VERDICTS if found[verdict]},
    )


def _main_metric(task: TaskView, rows: Sequence[ExampleRow]) -> MetricRow | None:
    """The first metric that says something of a single example; failing that, the first."""
    for metric in task.metrics:
        if any(math.isfinite(row.scores.get(metric.metric, math.nan)) for row in rows):
            return metric
    return task.metrics[0] if task.metrics else None


def _example(row: ExampleRow, main: MetricRow | None, task: TaskView, repeats: int) -> ExampleView:
    value = row.scores.get(main.metric, math.nan) if main else math.nan
    error = ""
    if row.status == Status.ERROR:
        error = ": ".join(part for part in (row.error_kind, row.error_message) if part) or "error"
    return ExampleView(
        id=f"{row.example_id} · {row.repeat + 1}" if repeats > 1 else row.example_id,
        verdict=_verdict(row, main, value),
        score=format_score(value, main.unit) if main else DASH,
        value=value,
        words=_first_words(error or row.response or row.prompt),
        prompt=row.prompt,
        targets=row.targets or ((row.target,) if row.target else ()),
        response=row.response,
        extracted=row.extracted,
        choices=_choices(row),
        judged=_judged(row, task),
        error=error,
        facts=_facts(row, task),
        latency_s=row.latency_s,
    )


def _verdict(row: ExampleRow, main: MetricRow | None, value: float) -> Verdict:
    if row.status == Status.ERROR:
        return "error"
    if row.status == Status.ABSTAINED:
        return "abstained"
    if main is None or math.isnan(value) or main.unit != "fraction" or not main.higher_is_better:
        return "scored"
    if value >= 1:
        return "right"
    return "wrong" if value <= 0 else "partial"


def _first_words(text: str) -> str:
    words = " ".join(text[: 4 * _WORDS].split())
    return words if len(words) <= _WORDS else words[: _WORDS - 1].rstrip() + "…"


def _choices(row: ExampleRow) -> tuple[ChoiceBar, ...]:
    if len(row.choices) != len(row.choice_logprobs):
        return ()
    shares = softmax(row.choice_logprobs)
    return tuple(
        ChoiceBar(
            text=text,
            logprob=format_number(logprob, "number"),
            share=share,
            percent=format_value(share, "fraction"),
            is_gold=i in row.gold,
            is_picked=text == row.response,
        )
        for i, (text, logprob, share) in enumerate(
            zip(row.choices, row.choice_logprobs, shares, strict=True)
        )
    )


def _judged(row: ExampleRow, task: TaskView) -> tuple[JudgedView, ...]:
    standings = {metric.metric: metric.standing for metric in task.metrics}
    members = {
        name: members_of(judge.spec)
        for judge in task.judges
        for name in metrics_of_rubric(judge.rubric, row.verdicts)
    }
    return tuple(
        judged_view(
            name,
            verdict,
            standing=standings.get(name, Standing()),
            members=members.get(name, ()),
        )
        for name, verdict in row.verdicts.items()
    )


def _facts(row: ExampleRow, task: TaskView) -> tuple[Fact, ...]:
    rows = {metric.metric: metric for metric in task.metrics}
    facts = []
    for name, score in row.scores.items():
        if not math.isnan(score):
            known = rows.get(name)
            text = format_score(score, known.unit if known else unit_of(name, ""))
            mark = known.standing.mark if known else ""
            facts.append(Fact(name=name, text=f"{text} {mark}".rstrip()))
    facts.append(Fact(name="prompt tokens", text=format_count(row.n_prompt_tokens)))
    facts.append(Fact(name="completion tokens", text=format_count(row.n_completion_tokens)))
    if math.isfinite(row.latency_s):
        facts.append(Fact(name="latency", text=format_seconds(row.latency_s)))
    if row.finish_reason:
        facts.append(Fact(name="finished by", text=row.finish_reason))
    if row.cached:
        facts.append(Fact(name="answer from", text="cache"))
    if row.cluster is not None:
        facts.append(Fact(name="cluster", text=row.cluster))
    facts += [Fact(name=name, text=value) for name, value in row.slices.items()]
    return tuple(facts)
