"""The judged responses of a run, as items that people can label."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.calibrate.items import LabelledItem
from evalkit.catalogue import select
from evalkit.errors import EvalkitError, NotFoundError, RecordError, UsageError
from evalkit.judges import Rubric
from evalkit.judges.calibration import item_key
from evalkit.judging import case_of, rubrics_of
from evalkit.overrides import Overrides
from evalkit.record import ExampleRow, RunRecord
from evalkit.stats.intervals import FloatArray
from evalkit.task import Task
from evalkit.types import Response, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class RunItems:
    """The judged responses of a run under a rubric, with what they were shown to the judge as."""

    rubric: Rubric
    items: tuple[LabelledItem, ...]  # without labels; ids are those of the run
    scores: FloatArray  # (n,) the judge's: of several criteria the whole
    by_criterion: Mapping[str, FloatArray]  # (n,) each


def judged_items(record: RunRecord, rubric: Rubric) -> RunItems:
    """The responses of a run that a judge has rated by the rubric, as they can be labelled.

    Their tasks are loaded again, and every text is held against what was judged. Raises
    UsageError where the run was not judged by the rubric, and RecordError where a task is not the
    one that was run.
    """
    rows = [r for r in record.read_rows() if _is_judged(r, rubric)]
    if not rows:
        raise UsageError(f"{record.folder}: no response in it was judged by rubric {rubric.name!r}")
    by_task: dict[str, list[ExampleRow]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    items = [item for name, own in by_task.items() for item in _of_task(record, name, own, rubric)]
    known = {item.key: item for item in items}  # the same response twice is one thing to label
    verdicts = {row.verdicts[rubric.name].key: row.verdicts for row in rows}

    def scores(metric: str) -> FloatArray:
        return np.array([verdicts[key][metric].value for key in known], dtype=np.float64)

    return RunItems(
        rubric=rubric,
        items=tuple(known.values()),
        scores=scores(rubric.name),
        by_criterion={c.name: scores(rubric.metric_name(c.name)) for c in rubric.criteria},
    )


def _is_judged(row: ExampleRow, rubric: Rubric) -> bool:
    verdict = row.verdicts.get(rubric.name)
    return verdict is not None and verdict.status is Status.OK and math.isfinite(verdict.value)


def _of_task(
    record: RunRecord, name: str, rows: Sequence[ExampleRow], rubric: Rubric
) -> list[LabelledItem]:
    """The items of a task's rows; what the record does not keep comes from the task itself."""
    where = f"{record.folder}: task {name}"
    ran = record.tasks[name]
    try:
        file = next((f for f in select(_asked(record)).tasks if f.name == name), None)
        if file is None:
            raise NotFoundError("task", name, [])
        against = next((u.against for u in rubrics_of(file) if u.rubric.name == rubric.name), None)
        task = Task(file, overrides=Overrides(num_fewshot=ran.num_fewshot), offline=True)
        items = {item.example.id: item for item in task.items(seed=record.seed)}
    except EvalkitError as error:
        raise RecordError(f"{where} cannot be loaded again: {error}") from error
    found = []
    for row in rows:
        item = items.get(row.example_id)
        case = None if item is None else case_of(item, Response(text=row.response), against)
        if case is None or item_key(case) != row.verdicts[rubric.name].key:
            raise RecordError(
                f"{where}, example {row.example_id}: the task or its rows are not what was run"
            )
        key = f"{name}/{row.example_id}" + (f"/{row.repeat}" if row.repeat else "")
        found.append(
            LabelledItem(
                case=replace(case, key=key),
                where=str(record.folder),
                labels={},
                cluster=row.cluster,
            )
        )
    return found


def _asked(record: RunRecord) -> list[str]:
    """The tasks as the run's command line named them; without one, by their names."""
    words = shlex.split(record.command)
    if words[:2] != ["evalkit", "run"]:
        return list(record.tasks)
    options = [i for i, word in enumerate(words) if word.startswith("-")]
    return words[2 : options[0] if options else None]
