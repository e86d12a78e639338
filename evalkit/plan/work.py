"""The tasks of a run with everything that they will ask, rendered and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evalkit import catalogue, scoring
from evalkit.errors import NotFoundError, UsageError
from evalkit.overrides import Overrides, replacement
from evalkit.runner import RunSpec
from evalkit.schema import TaskSpec
from evalkit.scoring import NamedMetric
from evalkit.selection import check_selection
from evalkit.task import Task
from evalkit.types import Item, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A task, the examples that were chosen of it, and what is asked about them."""

    task: Task
    metrics: Sequence[NamedMetric]
    items: Sequence[Item]
    requests: Sequence[Request]


def prepare(spec: RunSpec) -> list[Work]:
    """What a run would ask. Raises what the run would raise before its first request."""
    _check(spec)
    selection = catalogue.select(spec.tasks)
    groups = {name: group.name for group in selection.groups for name in group.tasks}
    names = [file.name for file in selection.tasks]
    for name in spec.datasets:
        if name not in names and name not in groups.values():
            raise NotFoundError("task in this run", name, names, hint="--dataset names a task")
    for_tasks = {key: _value(text) for key, text in spec.settings.items() if _is_of_tasks(key)}
    works = []
    for file in selection.tasks:
        source = spec.datasets.get(file.name, spec.datasets.get(groups.get(file.name, "")))
        overrides = Overrides(
            num_fewshot=spec.num_fewshot,
            repeats=spec.repeats,
            settings=for_tasks,
            dataset=replacement(file.spec.dataset, source) if isinstance(source, Path) else source,
        )
        works.append(_work(Task(file, overrides=overrides, offline=spec.offline), spec))
    return works


def settings_of_model(settings: Mapping[str, str]) -> dict[str, str]:
    """Those of a run's settings that are no part of a task file."""
    return {key: text for key, text in settings.items() if not _is_of_tasks(key)}


def _work(task: Task, spec: RunSpec) -> Work:
    metrics = scoring.metrics_of(task.file)
    check_selection(task.file, metrics)
    items = task.items(limit=spec.limit, first=spec.first, seed=spec.seed)
    scoring.check_scorable(metrics, items, kind=task.spec.request)
    requests = task.requests(items, seed=spec.seed)
    return Work(task=task, metrics=metrics, items=items, requests=requests)


def _check(spec: RunSpec) -> None:
    if not spec.tasks:
        raise UsageError("no task named; 'evalkit list tasks' shows all")
    for name, least in (("limit", 1), ("first", 1), ("num_fewshot", 0), ("repeats", 1)):
        value = getattr(spec, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be {least} or more")


def _is_of_tasks(key: str) -> bool:
    return key.partition(".")[0] in TaskSpec.model_fields


def _value(text: str) -> Any:
    """A setting as YAML, or else as text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # a template: {{ … }} is no YAML
