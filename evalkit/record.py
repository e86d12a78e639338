"""The run record: what one run found, written once and read by everything else.

A record is a folder: ``run.json`` (small; the contract of every reader) and ``examples.parquet``
(a row for each task, example and repeat). It is deterministic but for ``id``, ``created``,
``timing`` and the column ``latency_s``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evalkit.errors import RecordError
from evalkit.types import Estimate, IntervalKind, ModelInfo, Status, Verdict

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FORMAT = "evalkit.run/1"

RunStatus = Literal["complete", "interrupted", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricResult:
    """An estimate, and what is needed to compare it with another run's."""

    estimate: Estimate
    higher_is_better: bool
    signature: str
    interval: IntervalKind | None = None  # what the value is; None where a record does not say
    # what an example without a score would give at worst and at best; nan: depends on the example
    missing: tuple[float, float] = (math.nan, math.nan)
    judged: Judged | None = None  # where a judge made it


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How far a judge's metric speaks for people."""

    status: str  # calibrated | uncalibrated | stale | refused
    note: str  # one sentence
    raw: Estimate  # of the judge alone, on its own scale
    labels_only: tuple[float, float, float] | None = None  # (value, low, high) without the judge
    n_labels: int = 0
    lam: float = math.nan  # the judge's part in the estimate: 0 none, 1 all of it
    calibration: Mapping[str, Any] = field(default_factory=dict)  # file, sha256, created


Metrics = Mapping[str, "MetricResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What a run found on one task."""

    version: int
    description: str
    spec: Mapping[str, Any]  # the task file as it was run, overrides applied
    spec_sha256: str
    dataset: Mapping[str, Any]  # where the rows came from
    dataset_sha256: str  # of the examples that were run, in order
    n_examples: int
    num_fewshot: int
    repeats: int
    metrics: Metrics
    slices: Mapping[str, Mapping[str, Metrics]]  # field -> value -> metrics
    warnings: tuple[str, ...] = ()
    judges: Mapping[str, Any] = field(default_factory=dict)  # by rubric: who judged, and by what


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    """Tasks that are reported together, over all examples (micro) and over tasks (macro)."""

    tasks: tuple[str, ...]
    metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleRow:
    """One answered request: a row of ``examples.parquet``."""

    task: str
    example_id: str
    example_sha256: str
    repeat: int
    status: str  # ok | error | abstained
    error_kind: str | None = None
    error_message: str | None = None
    prompt: str = ""  # as the model saw it; where it differs by choice, that of the first choice
    target: str = ""  # the first of targets
    targets: tuple[str, ...] = ()
    response: str | None = None  # for choices: the text of the one picked
    extracted: str | None = None
    candidates: tuple[str, ...] = ()  # best-of-n: what the response was chosen from
    choices: tuple[str, ...] = ()
    choice_logprobs: tuple[float, ...] = ()
    gold: tuple[int, ...] = ()
    finish_reason: str | None = None
    cluster: str | None = None
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    latency_s: float = math.nan
    cached: bool = False
    slices: Mapping[str, str] = field(default_factory=dict)  # columns slice.<field>
    scores: Mapping[str, float] = field(default_factory=dict)  # columns score.<metric>
    # what a metric that is no mean adds up, columns stats.<metric>
    stats: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    # what judges said, by metric; in the file a JSON text
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """All that one run found; ``folder`` is where it lies, once written or loaded."""

    id: str
    status: RunStatus
    evalkit: str  # the version that wrote it
    created: str  # ISO 8601, UTC
    seed: int
    command: str  # reproduces the run
    model: ModelInfo
    tasks: Mapping[str, TaskResult]
    groups: Mapping[str, GroupResult] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    rows: Sequence[ExampleRow] | None = None  # None: still in the file; see read_rows

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RunRecord:
        """Read a record from its folder or its ``run.json``.

        Raises RecordError if there is none, or if it was written in another format.
        """
        file = Path(path)
        folder = file if file.is_dir() else file.parent
        file = folder / "run.json"
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RecordError(f"{path}: no run record here (no run.json)") from None
        except (OSError, ValueError) as error:
            raise RecordError(f"{file}: cannot be read as JSON: {error}") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else None
            raise RecordError(f"{file}: format is {found!r}; this version reads {FORMAT!r}")
        try:
            return _from_json(data, folder)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"{file}: not a valid run record: {error!r}") from error

    def write(self, folder: Path) -> RunRecord:
        """Write both files into ``folder``, each by an atomic rename; return the record with it."""
        rows = self.read_rows()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write_parquet(rows, folder / "examples.parquet")
            _write_atomically(folder / "run.json", dump_json(self.to_json()))
        except OSError as error:
            raise RecordError(f"{folder}: cannot write the run record: {error}") from error
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return RunRecord(**(values | {"folder": folder, "rows": rows}))

    def to_json(self) -> dict[str, Any]:
        """The content of ``run.json`` as plain data; undefined numbers are None."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        del data["folder"], data["rows"]
        data["model"] = asdict(self.model)
        data["tasks"] = {name: _task_to_json(task) for name, task in self.tasks.items()}
        data["groups"] = {
            name: {"tasks": list(group.tasks), "metrics": _metrics_to_json(group.metrics)}
            for name, group in self.groups.items()
        }
        result: dict[str, Any] = json_safe({"format": FORMAT} | data)
        return result

    def read_rows(self) -> Sequence[ExampleRow]:
        """The rows of ``examples.parquet``."""
        if self.rows is not None:
            return self.rows
        return [_row_from_dict(r) for r in self.table().to_pylist()]

    def to_frame(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame, with columns ``score.<metric>`` and ``slice.<field>``."""
        frame: pd.DataFrame = self.table().to_pandas()
        return frame

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows as an Arrow table: all columns, or those of ``columns`` that it has.

        Only these are read from the file. Raises RecordError if it cannot be read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.rows is not None:
            table = _to_table(self.rows)
            return table if columns is None else table.select(_present(columns, table.schema))
        if self.folder is None:
            raise RecordError("the record has neither rows nor a folder")
        path = self.folder / "examples.parquet"
        try:
            with pq.ParquetFile(path) as file:
                if columns is None:
                    return file.read()
                # a name also selects those that begin with it and a dot
                wanted = _present(columns, file.schema_arrow)
                return file.read(columns=wanted).select(wanted)
        except (OSError, pa.ArrowException) as error:
            raise RecordError(f"{path}: cannot be read: {error}") from error


def _present(columns: Sequence[str], schema: pa.Schema) -> list[str]:
    names = set(schema.names)
    return [name for name in columns if name in names]


def json_safe(value: Any) -> Any:
    """The value with every float that JSON cannot hold (nan, infinities) replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): json_safe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(v) for v in value]
    return value


def dump_json(value: Any) -> str:
    """Stable, readable JSON text with a final newline."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _metrics_to_json(metrics: Metrics) -> dict[str, Any]:
    return {
        name: asdict(m.estimate)
        | {"higher_is_better": m.higher_is_better, "signature": m.signature}
        | ({} if m.interval is None else {"interval": m.interval, "missing": m.missing})
        | ({} if m.judged is None else {"judged": asdict(m.judged)})
        for name, m in metrics.items()
    }


def _task_to_json(task: TaskResult) -> dict[str, Any]:
    data = {f.name: getattr(task, f.name) for f in fields(task)}
    data["metrics"] = _metrics_to_json(task.metrics)
    if not task.judges:
        del data["judges"]
    data["slices"] = {
        name: {value: _metrics_to_json(m) for value, m in values.items()}
        for name, values in task.slices.items()
    }
    return data


_NUMBERS = ("value", "stderr", "low", "high", "worst", "best")


def _metrics_from_json(data: Mapping[str, Any]) -> dict[str, MetricResult]:
    metrics = {}
    for name, entry in data.items():
        values = dict(entry)
        higher_is_better, signature = values.pop("higher_is_better"), values.pop("signature")
        interval, (worst, best) = values.pop("interval", None), values.pop("missing", _UNKNOWN)
        judged = values.pop("judged", None)
        metrics[name] = MetricResult(
            estimate=_estimate(values),
            higher_is_better=higher_is_better,
            signature=signature,
            interval=interval,
            missing=(_number(worst), _number(best)),
            judged=None if judged is None else _judged(judged),
        )
    return metrics


def _estimate(values: Mapping[str, Any]) -> Estimate:
    return Estimate(**{**values, **{name: _number(values[name]) for name in _NUMBERS}})


def _judged(data: Mapping[str, Any]) -> Judged:
    labels = data["labels_only"]
    read = {
        "raw": _estimate(data["raw"]),
        "labels_only": None if labels is None else tuple(_number(value) for value in labels),
        "lam": _number(data["lam"]),
    }
    return Judged(**{**data, **read})


_UNKNOWN = (None, None)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _task_from_json(data: Mapping[str, Any]) -> TaskResult:
    values = {f.name: data[f.name] for f in fields(TaskResult) if f.name != "judges"}
    values["judges"] = data.get("judges", {})
    values["metrics"] = _metrics_from_json(data["metrics"])
    values["slices"] = {
        name: {value: _metrics_from_json(m) for value, m in by_value.items()}
        for name, by_value in data["slices"].items()
    }
    values["warnings"] = tuple(data["warnings"])
    return TaskResult(**values)


def _from_json(data: Mapping[str, Any], folder: Path) -> RunRecord:
    values = {f.name: data[f.name] for f in fields(RunRecord) if f.name not in ("folder", "rows")}
    values["model"] = ModelInfo(**data["model"])
    values["tasks"] = {name: _task_from_json(task) for name, task in data["tasks"].items()}
    values["groups"] = {
        name: GroupResult(tasks=tuple(group["tasks"]), metrics=_metrics_from_json(group["metrics"]))
        for name, group in data["groups"].items()
    }
    return RunRecord(**values, folder=folder)


def _row_from_dict(row: Mapping[str, Any]) -> ExampleRow:
    plain = {f.name for f in fields(ExampleRow)} - _SPREAD
    values: dict[str, Any] = {k: v for k, v in row.items() if k in plain}
    values["verdicts"] = _verdicts_from_json(row.get("verdicts"))
    for name in ("targets", "choices", "candidates", "choice_logprobs", "gold"):
        values[name] = tuple(values.get(name) or ())
    latency = values.get("latency_s")
    values["latency_s"] = _number(latency)
    for column, prefix in (("slices", "slice."), ("scores", "score."), ("stats", "stats.")):
        named = {k.removeprefix(prefix): v for k, v in row.items() if k.startswith(prefix)}
        values[column] = {k: v for k, v in named.items() if v is not None}
    values["stats"] = {name: tuple(stats) for name, stats in values["stats"].items()}
    return ExampleRow(**values)


_SPREAD = {"slices", "scores", "stats", "verdicts"}  # fields that are not one column as they are


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain data, without what it does not have."""
    data = {f.name: getattr(verdict, f.name) for f in fields(Verdict)}
    data["status"] = str(verdict.status)
    data["members"] = [verdict_to_json(member) for member in verdict.members]
    return {key: value for key, value in json_safe(data).items() if value not in (None, "", [], {})}


def verdict_from_json(data: Mapping[str, Any]) -> Verdict:
    """The inverse of ``verdict_to_json``."""
    return Verdict(
        value=_number(data.get("value")),
        choice=_number(data.get("choice")),
        probabilities=data.get("probabilities", {}),
        missing_mass=_number(data.get("missing_mass")),
        orders=tuple(data.get("orders", ())),
        reason=data.get("reason", ""),
        members=tuple(verdict_from_json(member) for member in data.get("members", ())),
        key=data.get("key", ""),
        human=_number(data.get("human")),
        status=Status(data.get("status", "ok")),
        problem=data.get("problem", ""),
    )


def _verdicts_from_json(text: str | None) -> dict[str, Verdict]:
    return {name: verdict_from_json(data) for name, data in json.loads(text or "{}").items()}


def _verdicts_as_text(row: ExampleRow) -> str | None:
    if not row.verdicts:
        return None
    found = {name: verdict_to_json(verdict) for name, verdict in row.verdicts.items()}
    return json.dumps(found, ensure_ascii=False, allow_nan=False)


def _to_table(rows: Sequence[ExampleRow]) -> pa.Table:
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    types: dict[str, pa.DataType] = {
        "targets": texts,
        "choices": texts,
        "candidates": texts,
        "choice_logprobs": pa.list_(pa.float64()),
        "gold": pa.list_(pa.int32()),
        "repeat": pa.int32(),
        "n_prompt_tokens": pa.int32(),
        "n_completion_tokens": pa.int32(),
        "latency_s": pa.float64(),
        "cached": pa.bool_(),
    }
    columns: dict[str, pa.Array] = {}
    for f in fields(ExampleRow):
        if f.name not in _SPREAD:
            values = [_encodable(getattr(row, f.name)) for row in rows]
            columns[f.name] = pa.array(values, types.get(f.name, text))
    for name in dict.fromkeys(name for row in rows for name in row.slices):
        values = [_encodable(row.slices.get(name)) for row in rows]
        columns[f"slice.{name}"] = pa.array(values, text)
    for name in dict.fromkeys(name for row in rows for name in row.scores):
        columns[f"score.{name}"] = pa.array([row.scores.get(name) for row in rows], pa.float64())
    for name in dict.fromkeys(name for row in rows for name in row.stats):
        found = [row.stats.get(name) for row in rows]
        columns[f"stats.{name}"] = pa.array(found, pa.list_(pa.float64()))
    if any(row.verdicts for row in rows):
        columns["verdicts"] = pa.array([_encodable(_verdicts_as_text(row)) for row in rows], text)
    for name in dict.fromkeys(name for row in rows for name in row.verdicts):
        labels = [_label(row.verdicts.get(name)) for row in rows]
        if any(label is not None for label in labels):
            columns[f"human.{name}"] = pa.array(labels, pa.float64())
    return pa.table(columns)


def _label(verdict: Verdict | None) -> float | None:
    """What people said, for comparisons to read without the verdicts."""
    return None if verdict is None or math.isnan(verdict.human) else verdict.human


def _encodable(value: Any) -> Any:
    """Lone surrogates, which UTF-8 cannot hold, become the replacement character."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if not value.isascii() else value
    if isinstance(value, tuple):
        return [_encodable(v) for v in value]
    return value


def _write_parquet(rows: Sequence[ExampleRow], path: Path) -> None:
    import pyarrow.parquet as pq

    temporary = path.with_suffix(".tmp")
    pq.write_table(_to_table(rows), temporary, compression="zstd")
    os.replace(temporary, path)


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8", errors="replace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
