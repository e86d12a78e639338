"""What can be compared: a run, or a small file with a run's scores, as columns of numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import RecordError
from evalkit.record import MetricResult, RunRecord, TaskResult
from evalkit.stats.intervals import FloatArray
from evalkit.types import IntervalKind

if TYPE_CHECKING:
    import pyarrow as pa

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
TextArray = NDArray[np.object_]
HashArray = NDArray[np.bytes_]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideInfo:
    """Which run it is."""

    id: str
    model: str  # specification
    fingerprint: str
    status: str  # of the run
    evalkit: str  # the version that wrote it
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricInfo:
    """A metric on one task: what it is, and what it gave over all examples."""

    signature: str
    higher_is_better: bool
    interval: IntervalKind
    missing: tuple[float, float]  # of an example without a score, (worst, best); nan: unknown
    value: float
    worst: float  # the value if everything missing were wrong
    best: float
    standing: str = ""  # of a judge's metric: calibrated, uncalibrated, stale or refused
    standing_note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """A task as it was run."""

    version: int
    spec: Mapping[str, Any]  # the task file without what is at its default
    judges: Mapping[str, Any]  # what identifies each judge and its rubric
    metrics: Mapping[str, MetricInfo]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """The examples of a task, in the order of the run; all arrays are (n,)."""

    ids: TextArray
    sha256: HashArray  # hex digits of the content's hash, perhaps only the first ones
    clusters: TextArray  # None: a cluster of its own
    slices: Mapping[str, TextArray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a metric made of each answer; all arrays have a row for each example and repeat."""

    example: IntArray  # (m,) into Examples
    is_error: BoolArray  # (m,) no answer to score
    is_scored: BoolArray  # (m,) neither an error nor an abstention
    values: FloatArray  # (m,) nan where not scored, and for a metric with stats
    stats: FloatArray | None = None  # (m, k) of a metric that is no mean; nan where not scored
    human: FloatArray | None = None  # (m,) people's labels beside a judge's values; nan where none


class Side(Protocol):
    """A run as ``compare`` sees it."""

    @property
    def info(self) -> SideInfo: ...

    @property
    def tasks(self) -> Mapping[str, TaskInfo]: ...

    def examples(self, task: str) -> Examples: ...

    def answers(self, task: str, metric: str) -> Answers:
        """The metric's scores; ``stats`` is None where there are none to be had."""
        ...

    def prompts(self, task: str, examples: Sequence[int]) -> list[str]:
        """The prompts of some examples as the model saw them; empty texts where unknown."""
        ...


class RunSide:
    """A run record; reads the columns that are asked for, each once."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._table = None if record.rows is None else record.table()
        self._columns: dict[str, pa.ChunkedArray | None] = {}
        self._info = SideInfo(
            id=record.id,
            model=record.model.spec,
            fingerprint=record.model.fingerprint,
            status=record.status,
            evalkit=record.evalkit,
            seed=record.seed,
        )
        self._tasks = {name: _task_info(task) for name, task in record.tasks.items()}

    @property
    def info(self) -> SideInfo:
        """Which run it is."""
        return self._info

    @property
    def tasks(self) -> Mapping[str, TaskInfo]:
        """The tasks of the run."""
        return self._tasks

    def examples(self, task: str) -> Examples:
        """The examples of a task, in the order of the run."""
        rows = self._rows(task)
        _, first = np.unique(self._example_of(rows), return_index=True)
        rows = rows[first]
        return Examples(
            ids=self._texts("example_id", rows),
            sha256=self._texts("example_sha256", rows).astype(np.bytes_),
            clusters=self._texts("cluster", rows),
            slices={
                name: self._texts(f"slice.{name}", rows) for name in self._record.tasks[task].slices
            },
        )

    def answers(self, task: str, metric: str) -> Answers:
        """What a metric made of each answer."""
        rows = self._rows(task)
        is_error = self._texts("status", rows) == "error"
        values = np.full(rows.size, np.nan)
        stats: FloatArray | None = None
        if self._tasks[task].metrics[metric].interval == "bootstrap":
            stats = self._stats(task, metric, rows)
            is_scored = self._is_valid(f"stats.{metric}", rows)
        else:
            column = self._column(f"score.{metric}")
            if column is not None:
                found = column.take(rows).to_numpy()
                values = np.asarray(found, dtype=np.float64)
            is_scored = ~np.isnan(values)
        return Answers(
            example=self._example_of(rows),
            is_error=is_error,
            is_scored=is_scored,
            values=values,
            stats=stats,
            human=self._human(metric, rows),
        )

    def prompts(self, task: str, examples: Sequence[int]) -> list[str]:
        """The prompts of some examples."""
        if not len(examples):
            return []
        rows = self._rows(task)
        _, first = np.unique(self._example_of(rows), return_index=True)
        return [str(text) for text in self._texts("prompt", rows[first[np.asarray(examples)]])]

    def _human(self, metric: str, rows: IntArray) -> FloatArray | None:
        column = self._column(f"human.{metric}")
        return None if column is None else np.asarray(column.take(rows).to_numpy(), np.float64)

    def _column(self, name: str) -> pa.ChunkedArray | None:
        if name not in self._columns:
            table = self._record.table([name]) if self._table is None else self._table
            self._columns[name] = table.column(name) if name in table.column_names else None
        return self._columns[name]

    def _rows(self, task: str) -> IntArray:
        """Where the rows of a task stand in the file."""
        import pyarrow.compute as pc

        column = self._column("task")
        if column is None:
            return np.zeros(0, dtype=np.int64)
        mask = pc.equal(column, task).to_numpy()
        return np.flatnonzero(mask).astype(np.int64)

    def _example_of(self, rows: IntArray) -> IntArray:
        """(m,) the example of each row, numbered by first occurrence; ids are unique in a task."""
        column = self._column("example_id")
        if column is None:
            return np.zeros(0, dtype=np.int64)
        encoded = column.take(rows).combine_chunks().dictionary_encode()
        found: IntArray = encoded.indices.to_numpy().astype(np.int64)
        return found

    def _texts(self, name: str, rows: IntArray) -> TextArray:
        column = self._column(name)
        if column is None:
            return np.full(rows.size, None, dtype=np.object_)
        found: TextArray = column.take(rows).to_numpy().astype(np.object_)
        return found

    def _is_valid(self, name: str, rows: IntArray) -> BoolArray:
        column = self._column(name)
        if column is None:
            return np.zeros(rows.size, dtype=np.bool_)
        valid: BoolArray = column.take(rows).is_valid().to_numpy().astype(np.bool_)
        return valid

    def _stats(self, task: str, metric: str, rows: IntArray) -> FloatArray | None:
        """(m, k) the statistics, nan where there are none; None for a record without them."""
        column = self._column(f"stats.{metric}")
        if column is None:  # of an older record, or of a run in which nothing was scored
            n_scored = self._record.tasks[task].metrics[metric].estimate.n_scored
            return None if n_scored else np.full((rows.size, 1), np.nan)
        where = f"{self._record.folder or self._record.id}: task {task}, metric {metric}"
        return _rows_of(column.take(rows).combine_chunks(), where=where)


def open_side(source: RunRecord | str | os.PathLike[str]) -> Side:
    """A run record, its folder, its ``run.json``, or a baseline file as a Side.

    Raises RecordError where there is none of these, or one that cannot be read.
    """
    from evalkit.compare.baseline import FORMAT, BaselineSide

    if isinstance(source, RunRecord):
        return RunSide(source)
    path = Path(source)
    if path.is_dir() or path.name == "run.json":
        return RunSide(RunRecord.load(path))
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{path}: no such run or baseline file") from None
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: neither a run's folder nor a baseline file: {error}") from error
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise RecordError(
            f"{path}: format is {found!r}; give a run's folder, or a file of format {FORMAT!r}"
        )
    try:
        return BaselineSide(data)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise RecordError(f"{path}: not a valid baseline file: {error!r}") from error


def first_lines(side: Side, task: str, hashes: Sequence[str]) -> list[str]:
    """The first line of how each of some examples, given by hash, was asked; empty where unknown.

    Of a prompt that begins with instructions or shots it is the first line of what follows them.
    """
    examples, spec = side.examples(task), side.tasks[task].spec
    n_digits = min([examples.sha256.dtype.itemsize, *map(len, hashes)])
    place = {sha.decode()[:n_digits]: index for index, sha in enumerate(examples.sha256)}
    prompts = side.prompts(task, [place[sha[:n_digits]] for sha in hashes])
    if spec.get("num_fewshot") or spec.get("system"):
        delimiter = spec.get("few_shot_delimiter", "\n\n")
        prompts = [prompt.rpartition(delimiter)[2] for prompt in prompts]
    return [prompt.strip().partition("\n")[0] for prompt in prompts]


def _rows_of(lists: pa.ListArray, *, where: str) -> FloatArray:
    """(m, k) from m lists of k numbers each, nan where there is none."""
    import pyarrow.compute as pc

    lengths = pc.unique(pc.drop_null(pc.list_value_length(lists))).to_pylist()
    if len(lengths) > 1:
        raise RecordError(f"{where}: the statistics of its examples are not equally long")
    rows = np.full((len(lists), lengths[0] if lengths else 1), np.nan)
    valid = lists.is_valid().to_numpy(zero_copy_only=False)
    rows[valid] = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, rows.shape[1])
    return rows


def _task_info(task: TaskResult) -> TaskInfo:
    return TaskInfo(
        version=task.version,
        spec=task.spec,
        judges={rubric: judge["identity"] for rubric, judge in task.judges.items()},
        metrics={name: _metric_info(result) for name, result in task.metrics.items()},
    )


def _metric_info(result: MetricResult) -> MetricInfo:
    return MetricInfo(
        signature=result.signature,
        higher_is_better=result.higher_is_better,
        interval=result.interval or _interval_of(result.estimate.method),
        missing=result.missing,
        value=result.estimate.value,
        worst=result.estimate.worst,
        best=result.estimate.best,
        standing=result.judged.status if result.judged else "",
        standing_note=result.judged.note if result.judged else "",
    )


def _interval_of(method: str) -> IntervalKind:
    """What a value is, for records that do not say, by the method of its interval."""
    if "bootstrap" in method:
        return "bootstrap"
    return "proportion" if method == "wilson" else "mean"
