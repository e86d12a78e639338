"""What a run is asked to do, and the tasks ready for it: everything rendered and checked."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from evalkit import catalogue, scoring
from evalkit.catalogue import Group, TaskFile
from evalkit.errors import NotFoundError, UsageError
from evalkit.judging import TaskJudge, TaskRubric, rubrics_of
from evalkit.overrides import Overrides, replacement
from evalkit.schema import DatasetSpec, TaskSpec
from evalkit.scoring import NamedMetric
from evalkit.selection import check_selection
from evalkit.task import Task
from evalkit.types import Item, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a run is asked to do: the command line as data."""

    tasks: tuple[str, ...]
    model: str
    judge: str | None = None  # rates the responses by the rubrics of the tasks
    calibrations: tuple[Path, ...] = ()  # of the judge; none: those beside the rubrics
    limit: int | None = None  # a seeded random subset of so many examples a task
    first: int | None = None  # or the first rows
    num_fewshot: int | None = None
    repeats: int | None = None
    seed: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)  # of the model, or of every task
    datasets: Mapping[str, DatasetSpec | Path] = field(
        default_factory=dict
    )  # task or group -> rows
    out: Path | None = None  # the folder of runs; None writes nothing
    offline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A task, the examples that were chosen of it, and what is asked about them."""

    task: Task
    metrics: Sequence[NamedMetric]
    items: Sequence[Item]
    requests: Sequence[Request]
    rubrics: Sequence[TaskRubric] = ()
    judges: Sequence[TaskJudge] = ()

    @property
    def all_metrics(self) -> list[NamedMetric]:
        """Its own, and those of its judges."""
        return [*self.metrics, *(metric for judge in self.judges for metric in judge.metrics)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The tasks of a run, and the groups that they were asked for by."""

    works: Sequence[Work]
    groups: Sequence[Group]


def prepare(spec: RunSpec) -> Prepared:
    """What a run will ask: all that can be wrong with its tasks and rows is found here.

    Raises EvalkitError, in one line.
    """
    _check(spec)
    selection = catalogue.select(spec.tasks)
    groups = {name: group.name for group in selection.groups for name in group.tasks}
    names = [file.name for file in selection.tasks]
    for name in spec.datasets:
        if name not in names and name not in groups.values():
            raise NotFoundError("task in this run", name, names, hint="--dataset names a task")
    overrides = Overrides(
        num_fewshot=spec.num_fewshot,
        repeats=spec.repeats,
        settings={key: _value(text) for key, text in spec.settings.items() if _is_of_tasks(key)},
    )
    works = []
    for file in selection.tasks:
        source = spec.datasets.get(file.name, spec.datasets.get(groups.get(file.name, "")))
        if isinstance(source, Path):
            source = replacement(file.spec.dataset, source)
        own = replace(overrides, dataset=source)
        works.append(_work(Task(file, overrides=own, offline=spec.offline), spec))
    if spec.judge is not None and not any(work.rubrics for work in works):
        raise UsageError(f"--judge {spec.judge}: no task of this run has a rubric")
    return Prepared(works=works, groups=selection.groups)


def settings_of_model(settings: Mapping[str, str]) -> dict[str, str]:
    """Those of a run's settings that are no part of a task file."""
    return {key: text for key, text in settings.items() if not _is_of_tasks(key)}


def _work(task: Task, spec: RunSpec) -> Work:
    metrics, rubrics = scoring.metrics_of(task.file), rubrics_of(task.file)
    _check_judge(spec, task.file, has_rubrics=bool(rubrics))
    check_selection(task.file, metrics)
    items = task.items(limit=spec.limit, first=spec.first, seed=spec.seed)
    scoring.check_scorable(metrics, items, kind=task.spec.request)
    requests = task.requests(items, seed=spec.seed)
    return Work(task=task, metrics=metrics, items=items, requests=requests, rubrics=rubrics)


def _check(spec: RunSpec) -> None:
    for name in ("limit", "first", "num_fewshot", "repeats"):
        value, least = getattr(spec, name), 0 if name == "num_fewshot" else 1
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be {least} or more")
    if spec.limit is not None and spec.first is not None:
        raise UsageError("--limit (a random subset) and --first exclude each other")
    if not spec.tasks:
        raise UsageError("no task named; 'evalkit list tasks' shows all")


def _is_of_tasks(key: str) -> bool:
    return key.partition(".")[0] in TaskSpec.model_fields


def _value(text: str) -> Any:
    """A setting as YAML, or else as text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # a template: {{ … }} is no YAML


def _check_judge(spec: RunSpec, file: TaskFile, *, has_rubrics: bool) -> None:
    if has_rubrics and not file.spec.metrics and spec.judge is None:
        raise UsageError(f"task {file.name!r} has rubrics and no metrics: give --judge")


def command_line(spec: RunSpec) -> str:
    """The command that does the same run."""
    words = ["evalkit", "run", *spec.tasks, "--model", spec.model]
    if spec.judge is not None:
        words += ["--judge", spec.judge]
    for path in spec.calibrations:
        words += ["--calibration", str(path)]
    for name in ("limit", "first", "num_fewshot", "repeats"):
        value = getattr(spec, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    if spec.seed:
        words += ["--seed", str(spec.seed)]
    for key, value in spec.settings.items():
        words += ["--set", f"{key}={value}"]
    for name, source in spec.datasets.items():
        if isinstance(source, Path):
            words += ["--dataset", f"{name}={source}"]
    if any(isinstance(source, DatasetSpec) for source in spec.datasets.values()):
        words += ["--dataset-map", "FILE"]
    return shlex.join(words)
