"""The baseline file: the scores of a run, small and readable enough to be kept in a repository.

JSON. Of each task it has what decides whether another run is comparable with it, and under
``examples`` a line for each example, sorted by hash: the first digits of its hash (as many as tell
the task's examples apart, at least 16), its id, its cluster and slices, and what each metric
made of its answer. That entry is a score, a list of
numbers for a metric that is no mean (what it adds up), ``"error"`` or ``"abstained"``. With
``repeats`` 1 the entry stands alone, else in a list with one for each repeat.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from evalkit.compare.side import (
    Answers,
    Examples,
    IntArray,
    MetricInfo,
    Side,
    SideInfo,
    TaskInfo,
    TextArray,
)
from evalkit.record import json_safe
from evalkit.stats.intervals import FloatArray

FORMAT = "evalkit.baseline/1"

_HASH_DIGITS = 16
_ERROR, _ABSTAINED = "error", "abstained"
_NOT_KEPT = ("description", "tags", "dataset")  # of a task's file: they change no score
_SLICE, _SCORE, _STATS = "slice.", "score.", "stats."


def baseline_text(side: Side) -> str:
    """The baseline file of a run: the same text for the same run, and for its own baseline.

    Raises RecordError where a metric's scores cannot be read.
    """
    head = {"format": FORMAT} | asdict(side.info)
    texts = [f"  {json.dumps(name)}: {_task_text(side, name)}" for name in sorted(side.tasks)]
    tasks = ",\n".join(texts)
    text = f'{_opened(head)},\n "tasks": {{\n{tasks}\n }}\n}}\n'
    return text.encode("utf-8", "replace").decode()


class BaselineSide:
    """The content of a baseline file as a Side.

    Raises KeyError, TypeError, ValueError, AttributeError or IndexError for what is none.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._info = SideInfo(**{name: data[name] for name in SideInfo.__slots__})
        self._tasks: dict[str, TaskInfo] = {}
        self._examples: dict[str, Examples] = {}
        self._answers: dict[str, dict[str, Answers]] = {}
        for name, task in data["tasks"].items():
            columns = _columns(task)
            self._tasks[name] = _task_info(task)
            self._examples[name] = _examples(columns)
            self._answers[name] = {
                metric: _answers(columns, metric, info, repeats=task["repeats"])
                for metric, info in self._tasks[name].metrics.items()
            }

    @property
    def info(self) -> SideInfo:
        """Which run it is."""
        return self._info

    @property
    def tasks(self) -> Mapping[str, TaskInfo]:
        """The tasks of the run."""
        return self._tasks

    def examples(self, task: str) -> Examples:
        """The examples of a task, sorted by hash."""
        return self._examples[task]

    def answers(self, task: str, metric: str) -> Answers:
        """What a metric made of each answer."""
        return self._answers[task][metric]

    def prompts(self, task: str, examples: Sequence[int]) -> list[str]:
        """Empty texts: a baseline file keeps no prompts."""
        return [""] * len(examples)


# --- writing


def _task_text(side: Side, task: str) -> str:
    info, examples = side.tasks[task], side.examples(task)
    spec = {key: value for key, value in info.spec.items() if key not in _NOT_KEPT}
    shots_from = (info.spec.get("dataset") or {}).get("few_shot_split")
    if shots_from is not None:
        spec["dataset"] = {"few_shot_split": shots_from}
    kept = [name for name in sorted(info.metrics) if _is_kept(side, task, name)]
    columns = {"sha256": _short_hashes(examples), "id": list(examples.ids)}
    if any(cluster is not None for cluster in examples.clusters):
        columns["cluster"] = list(examples.clusters)
    for name in sorted(examples.slices):
        columns[f"{_SLICE}{name}"] = list(examples.slices[name])
    answers = {name: side.answers(task, name) for name in kept}
    repeats = max((np.bincount(a.example).max(initial=1) for a in answers.values()), default=1)
    for name in kept:
        prefix = _STATS if info.metrics[name].interval == "bootstrap" else _SCORE
        columns[f"{prefix}{name}"] = _cells(answers[name], n=examples.ids.size, repeats=repeats)
    head = {
        "version": info.version,
        "spec": spec,
        "judges": info.judges,
        "repeats": int(repeats),
        "metrics": {name: _metric_entry(info.metrics[name]) for name in kept},
        "columns": list(columns),
    }
    order = np.argsort(examples.sha256, kind="stable")
    rows = list(zip(*columns.values(), strict=True))
    lines = ",\n".join(
        json.dumps(rows[index], ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        for index in order
    )
    opened = textwrap.indent(_opened(head), "  ").lstrip()
    return f'{opened},\n   "examples": [\n{lines}\n   ]\n  }}'


def _is_kept(side: Side, task: str, metric: str) -> bool:
    """A metric that is no mean, from a record without its statistics, can never be compared."""
    if side.tasks[task].metrics[metric].interval != "bootstrap":
        return True
    return side.answers(task, metric).stats is not None


def _short_hashes(examples: Examples) -> list[str]:
    """As many first digits as tell the examples apart."""
    hashes = [value.decode() for value in examples.sha256]
    longest, n_different = max(map(len, hashes), default=0), len(set(hashes))
    for n in range(_HASH_DIGITS, longest):
        short = [value[:n] for value in hashes]
        if len(set(short)) == n_different:
            return short
    return hashes


def _cells(answers: Answers, *, n: int, repeats: int) -> list[Any]:
    """The entries of each of ``n`` examples: bare where each has one answer."""
    entries: list[list[Any]] = [[] for _ in range(n)]
    found = answers.values.tolist() if answers.stats is None else answers.stats.tolist()
    states = zip(answers.example, found, answers.is_scored, answers.is_error, strict=True)
    for example, value, is_scored, is_error in states:
        missing = _ERROR if is_error else _ABSTAINED
        entries[example].append(_entry(value) if is_scored else missing)
    return [cell[0] for cell in entries] if repeats == 1 else entries


def _entry(value: Any) -> Any:
    """Numbers in their shortest form that reads back the same; JSON has no infinity."""
    if isinstance(value, list):
        return [_entry(one) for one in value]
    if not math.isfinite(value):
        return str(value)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _opened(head: Mapping[str, Any]) -> str:
    """An object as JSON without its closing brace, for more to follow."""
    return json.dumps(json_safe(head), indent=1, ensure_ascii=False, allow_nan=False)[:-2]


# --- reading


def _columns(task: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    names, rows = task["columns"], task["examples"]
    if any(len(row) != len(names) for row in rows):
        raise ValueError(f"an example does not have the {len(names)} columns")
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def _metric_entry(info: MetricInfo) -> dict[str, Any]:
    """Without what only a judge's metric has, where it is none."""
    return {key: value for key, value in asdict(info).items() if value != ""}


def _task_info(task: Mapping[str, Any]) -> TaskInfo:
    metrics = {}
    for name, entry in task["metrics"].items():
        worst, best = map(_number, entry["missing"])
        numbers = {key: _number(entry[key]) for key in ("value", "worst", "best")}
        metrics[name] = MetricInfo(**(entry | numbers | {"missing": (worst, best)}))
    return TaskInfo(
        version=task["version"], spec=task["spec"], judges=task["judges"], metrics=metrics
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _examples(columns: Mapping[str, Sequence[Any]]) -> Examples:
    n = len(columns["id"])
    return Examples(
        ids=_texts(columns["id"]),
        sha256=np.array(columns["sha256"], dtype=np.bytes_),
        clusters=_texts(columns.get("cluster", [None] * n)),
        slices={
            name.removeprefix(_SLICE): _texts(values)
            for name, values in columns.items()
            if name.startswith(_SLICE)
        },
    )


def _texts(values: Sequence[str | None]) -> TextArray:
    found: TextArray = np.empty(len(values), dtype=np.object_)
    found[:] = values
    return found


def _answers(
    columns: Mapping[str, Sequence[Any]], metric: str, info: MetricInfo, *, repeats: int
) -> Answers:
    is_sum = info.interval == "bootstrap"
    cells = columns[f"{_STATS if is_sum else _SCORE}{metric}"]
    entries = [[cell] for cell in cells] if repeats == 1 else cells
    counts = [len(cell) for cell in entries]
    example: IntArray = np.repeat(np.arange(len(entries), dtype=np.int64), counts)
    flat = [entry for cell in entries for entry in cell]
    is_error = np.array([entry == _ERROR for entry in flat], dtype=np.bool_)
    is_scored = ~is_error & np.array([entry != _ABSTAINED for entry in flat], dtype=np.bool_)
    # raises ValueError for an entry that is no number, and for rows that are not equally long
    scored = np.array([flat[index] for index in np.flatnonzero(is_scored)], dtype=np.float64)
    values: FloatArray = np.full(len(flat), np.nan)
    stats: FloatArray | None = None
    if is_sum:
        scored = scored.reshape(scored.shape[0], -1) if scored.size else np.zeros((0, 1))
        stats = np.full((len(flat), scored.shape[1]), np.nan)
        stats[is_scored] = scored
    else:
        values[is_scored] = scored
    return Answers(
        example=example, is_error=is_error, is_scored=is_scored, values=values, stats=stats
    )
