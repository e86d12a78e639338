"""What a report shows of a run, as plain data: the terminal, Markdown and HTML all render this.

Texts of the run itself (names, templates, warnings) are carried as they are; whoever shows them
makes them harmless for the place (see ``escape``). Numbers come with their reading beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from evalkit.record import GroupResult, MetricResult, Metrics, RunRecord, RunStatus
from evalkit.report.facts import (
    Fact,
    dataset_facts,
    prompt_template,
    run_facts,
    settings_facts,
)
from evalkit.report.judges import JudgeView, judge_views, metrics_of_rubric
from evalkit.report.numerals import (
    Unit,
    format_count,
    format_level,
    format_range,
    format_value,
    unit_of,
)
from evalkit.report.standing import (
    CALIBRATED,
    Standing,
    StandingNote,
    standing_notes,
    standing_of,
    standing_of_parts,
)
from evalkit.types import Estimate

Scope = Literal["group", "task"]

_STATUS_NOTES: Mapping[str, str] = {
    "complete": "",
    "interrupted": "The run was interrupted: the numbers cover only what was answered before.",
    "failed": "The run failed: the numbers cover only what was answered, if anything.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """One number of a run with all that qualifies it; the texts are in ``unit``."""

    scope: Scope
    name: str  # of the task or group
    group: str | None  # the group that a task is shown under
    metric: str
    unit: Unit
    result: MetricResult  # as the record has it
    value: str  # "47.5 %"
    interval: str  # "43.1 – 52.0"
    level: str  # "95 %"
    n: str  # examples scored, "1,319"
    failures: str  # "3 errors, 1 abstained"; "0" when there are none
    bounds: str  # if everything missing were wrong, or right; "" when nothing is missing
    standing: Standing  # of a judge's number
    raw: str  # where a calibration corrected it: what the judge alone gives; else ""
    labels_only: str  # and what people's labels alone give

    @property
    def estimate(self) -> Estimate:
        """The numbers behind the texts."""
        return self.result.estimate

    @property
    def higher_is_better(self) -> bool:
        """Which way the metric is meant."""
        return self.result.higher_is_better

    @property
    def signature(self) -> str:
        """What decides its value."""
        return self.result.signature


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRow:
    """The examples that share one value of a field, on one metric."""

    value: str
    row: MetricRow


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceMetric:
    """A metric on each slice of a task."""

    metric: str
    rows: tuple[SliceRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceTable:
    """The examples of a task by one of their fields; metrics in the task's order."""

    field: str
    metrics: tuple[SliceMetric, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """One task of a run: its numbers, how it was asked, and of what data."""

    name: str
    description: str
    version: int
    n_examples: int
    metrics: tuple[MetricRow, ...]
    slices: tuple[SliceTable, ...]
    template: str  # of the prompt, as written in the task file
    settings: tuple[Fact, ...]
    dataset: tuple[Fact, ...]
    warnings: tuple[str, ...]
    judges: tuple[JudgeView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run as it is shown; ``rows`` are all its numbers in reading order: groups lead."""

    id: str
    status: RunStatus
    status_note: str  # "" when the run is complete
    model: str
    created: str
    seed: int
    command: str  # reproduces the run
    folder: Path | None
    rows: tuple[MetricRow, ...]
    headline: tuple[MetricRow, ...]  # all of each group, the first metric of each task
    tasks: tuple[TaskView, ...]
    facts: tuple[Fact, ...]  # model, numerics, seed, versions, cost
    warnings: tuple[str, ...]  # of the tasks, each with the task's name, and of missing answers


def build_view(record: RunRecord) -> RunView:
    """All that a report shows of a run but its examples; reads no file."""
    tasks = tuple(_task_view(name, record) for name in _reading_order(record))
    by_name = {task.name: task for task in tasks}
    rows: list[MetricRow] = []
    headline: list[MetricRow] = []
    shown: set[str] = set()
    for name, group in record.groups.items():
        group_rows = list(_group_rows(name, group, record))
        rows += group_rows
        headline += group_rows
        for member in _members(group, record, shown):
            rows += by_name[member].metrics
            headline += _headline(by_name[member])
    for task in tasks:
        if task.name not in shown:
            rows += task.metrics
            headline += _headline(task)
    return RunView(
        id=record.id,
        status=record.status,
        status_note=_STATUS_NOTES[record.status],
        model=record.model.spec,
        created=record.created,
        seed=record.seed,
        command=record.command,
        folder=record.folder,
        rows=tuple(rows),
        headline=tuple(headline),
        tasks=tasks,
        facts=run_facts(record),
        warnings=tuple(_warnings(tasks)),
    )


def interval_header(rows: Sequence[MetricRow]) -> str:
    """The heading of a column of intervals: their level, when they share one."""
    levels = {row.level for row in rows}
    return f"{levels.pop()} interval" if len(levels) == 1 else "Interval"


def notes_of(rows: Sequence[MetricRow]) -> tuple[StandingNote, ...]:
    """What is known of the judges behind some numbers, each thing once."""
    return standing_notes((row.metric, row.standing) for row in rows)


def _headline(task: TaskView) -> Iterator[MetricRow]:
    """The first metric of a task that is no judge's, and of each rubric the whole."""
    yield from [row for row in task.metrics if not row.standing.word][:1]
    for judge in task.judges:
        names = metrics_of_rubric(judge.rubric, [row.metric for row in task.metrics])
        chosen = judge.rubric if judge.rubric in names else next(iter(names), None)
        yield from (row for row in task.metrics if row.metric == chosen)


def _reading_order(record: RunRecord) -> list[str]:
    """Tasks as they are shown: those of groups first, in the order of the groups."""
    grouped = [name for group in record.groups.values() for name in group.tasks]
    return [name for name in dict.fromkeys([*grouped, *record.tasks]) if name in record.tasks]


def _members(group: GroupResult, record: RunRecord, shown: set[str]) -> Iterator[str]:
    """The group's tasks that no earlier group has shown; marks them as shown."""
    for name in group.tasks:
        if name in record.tasks and name not in shown:
            shown.add(name)
            yield name


def _group_of(task: str, record: RunRecord) -> str | None:
    return next((name for name, group in record.groups.items() if task in group.tasks), None)


def _task_view(name: str, record: RunRecord) -> TaskView:
    task = record.tasks[name]
    group = _group_of(name, record)
    return TaskView(
        name=name,
        description=task.description,
        version=task.version,
        n_examples=task.n_examples,
        metrics=_rows("task", name, group, task.metrics),
        slices=tuple(
            _slice_table(field, name, group, by_value) for field, by_value in task.slices.items()
        ),
        template=prompt_template(task.spec),
        settings=settings_facts(task),
        dataset=dataset_facts(task),
        warnings=task.warnings,
        judges=judge_views(task),
    )


def _slice_table(
    field: str, task: str, group: str | None, by_value: Mapping[str, Metrics]
) -> SliceTable:
    """Metrics lead: the values of a field are compared on one metric at a time."""
    names = dict.fromkeys(name for metrics in by_value.values() for name in metrics)
    return SliceTable(
        field=field,
        metrics=tuple(
            SliceMetric(
                metric=name,
                rows=tuple(
                    SliceRow(value=value, row=_row("task", task, group, name, metrics[name]))
                    for value, metrics in by_value.items()
                    if name in metrics
                ),
            )
            for name in names
        ),
    )


def _rows(scope: Scope, name: str, group: str | None, metrics: Metrics) -> tuple[MetricRow, ...]:
    return tuple(_row(scope, name, group, metric, result) for metric, result in metrics.items())


def _group_rows(name: str, group: GroupResult, record: RunRecord) -> Iterator[MetricRow]:
    """The numbers of a group; a mean over tasks is worth what the weakest of them is."""
    tasks = [record.tasks[task] for task in group.tasks if task in record.tasks]
    for metric, result in group.metrics.items():
        known = standing_of_parts(metric, tasks)
        if result.judged:
            known = replace(known, word=result.judged.status, note=result.judged.note)
        yield _row("group", name, None, metric, result, known)


def _row(
    scope: Scope,
    name: str,
    group: str | None,
    metric: str,
    result: MetricResult,
    known: Standing | None = None,
) -> MetricRow:
    estimate, judged = result.estimate, result.judged
    known = known or standing_of(result)
    # a rubric may have the name of a metric whose unit is known, but its scale is its own
    unit: Unit = "number" if known.word else unit_of(metric, estimate.method)
    is_corrected = judged is not None and judged.status == CALIBRATED
    return MetricRow(
        scope=scope,
        name=name,
        group=group,
        metric=metric,
        unit=unit,
        result=result,
        value=format_value(estimate.value, unit),
        interval=format_range(estimate.low, estimate.high, unit),
        level=format_level(estimate.level),
        n=format_count(estimate.n_scored),
        failures=_failures(estimate),
        bounds=_bounds(estimate, unit) if estimate.n_error + estimate.n_abstained else "",
        standing=known,
        raw=_alone(judged.raw) if judged and is_corrected else "",
        labels_only=_beside(*judged.labels_only) if judged and judged.labels_only else "",
    )


def _alone(found: Estimate) -> str:
    return _beside(found.value, found.low, found.high)


def _beside(value: float, low: float, high: float) -> str:
    return f"{format_value(value, 'number')} ({format_range(low, high, 'number')})"


def _failures(estimate: Estimate) -> str:
    parts = []
    if estimate.n_error:
        parts.append(f"{format_count(estimate.n_error)} error{'s' * (estimate.n_error > 1)}")
    if estimate.n_abstained:
        parts.append(f"{format_count(estimate.n_abstained)} abstained")
    return ", ".join(parts) or "0"


def _bounds(estimate: Estimate, unit: Unit) -> str:
    """The range from the smaller to the larger of worst and best."""
    return format_range(
        min(estimate.worst, estimate.best), max(estimate.worst, estimate.best), unit
    )


def _warnings(tasks: Sequence[TaskView]) -> Iterator[str]:
    for task in tasks:
        for warning in task.warnings:
            # Those of a dataset name their task already.
            yield warning if warning.startswith(f"{task.name}:") else f"{task.name}: {warning}"
        worst = max((row.estimate.n_error for row in task.metrics), default=0)
        if worst:
            yield (
                f"{task.name}: {format_count(worst)} of {format_count(task.n_examples)} examples "
                "got no answer; they are in no score"
            )
