"""The flow of a run: tasks and a model in, a record out."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import re
import secrets
import shlex
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml

import evalkit
from evalkit import catalogue, scoring
from evalkit.backends import open_backend
from evalkit.catalogue import Group, TaskFile
from evalkit.collect import OnAnswers, collect
from evalkit.errors import NotFoundError, RecordError, UsageError
from evalkit.judging import (
    OnJudged,
    TaskJudge,
    TaskRubric,
    judge_responses,
    open_judges,
    rubrics_of,
)
from evalkit.overrides import Overrides, replacement
from evalkit.record import RunRecord, TaskResult
from evalkit.schema import DatasetSpec, TaskSpec
from evalkit.scoring import NamedMetric, ScoredTask
from evalkit.selection import check_selection, select
from evalkit.task import Task
from evalkit.types import (
    Backend,
    Item,
    ModelInfo,
    Request,
    Response,
    sha256_of,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a run is asked to do: the command line as data."""

    tasks: tuple[str, ...]
    model: str
    judge: str | None = None  # rates the responses by the rubrics of the tasks
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
class Progress:
    """How far a run is."""

    phase: str  # what is being done
    n_done: int = 0
    n_total: int = 0
    n_error: int = 0


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A task ready to be run."""

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


def evaluate(
    task: str | Sequence[str],
    model: str | Backend,
    *,
    limit: int | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    offline: bool = False,
    **options: Any,
) -> RunRecord:
    """Run tasks on a model; the record is written under ``out`` if that is given.

    ``task`` is what the command line takes: names, files, globs, groups, tags. ``model`` is a
    specification such as ``local:smollm2-135m``, or any object that is a Backend. ``options`` are
    the other fields of RunSpec, such as ``first`` or ``num_fewshot``.
    Raises EvalkitError, in one line, for whatever is wrong with them.
    """
    known = set(RunSpec.__slots__)
    for name in options:
        if name not in known:
            raise NotFoundError("option of evaluate()", name, known)
    spec = RunSpec(
        tasks=(task,) if isinstance(task, str) else tuple(task),
        model=model if isinstance(model, str) else model.info.spec,
        limit=limit,
        seed=seed,
        out=None if out is None else Path(out),
        offline=offline,
        **options,
    )
    return run(spec, backend=None if isinstance(model, str) else model)


def run(
    spec: RunSpec,
    *,
    backend: Backend | None = None,
    on_progress: OnProgress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> RunRecord:
    """Do what a RunSpec says; ``backend`` answers in place of what ``spec.model`` names.

    Everything that can be wrong with tasks, rows, output folder and model is found before the first
    request. A run that is interrupted, or that fails half-way, still gives a record, whose status
    says so and whose unanswered examples count as errors.
    """
    tell = on_progress or (lambda progress: None)
    started = clock()
    _check(spec)
    task_settings, model_settings = _split_settings(spec.settings)
    tell(Progress(phase="loading tasks"))
    selection = catalogue.select(spec.tasks)
    overrides = Overrides(
        num_fewshot=spec.num_fewshot, repeats=spec.repeats, settings=task_settings
    )
    works = _prepare(spec, selection, overrides)
    folder = None if spec.out is None else _make_folder(spec.out, _slug(spec))
    try:
        if backend is None:
            tell(Progress(phase="loading the model"))
            backend = open_backend(
                spec.model,
                settings=model_settings,
                offline=spec.offline,
                on_progress=lambda line: tell(Progress(phase=line)),
            )
        elif model_settings:
            raise UsageError(f"no such setting: {', '.join(model_settings)}")
        works = _open_judges(works, spec, backend, tell)
        prompts = [[backend.render(item.prompts[0]) for item in w.items] for w in works]
    except BaseException:
        if folder is not None:
            folder.rmdir()
        raise
    loaded = clock()
    requests = [request for w in works for request in w.requests]
    responses, status = _run_async(collect(backend, requests, _counted(tell, len(requests))))
    answered = clock()
    chosen = _choose(works, responses)
    verdicts = [
        _run_async(judge_responses(w.judges, w.items, own, _judging(tell)))
        for w, own in zip(works, chosen, strict=True)
    ]
    judged = clock()
    tell(Progress(phase="scoring", n_done=len(requests), n_total=len(requests)))
    scored = {
        w.task.name: scoring.score_task(
            w.task.file, w.all_metrics, w.items, own, texts, verdicts=found
        )
        for w, own, texts, found in zip(works, chosen, prompts, verdicts, strict=True)
    }
    record = _record(spec, selection.groups, works, scored, backend.info)
    record = replace(
        record,
        id=folder.name if folder is not None else _slug(spec),
        status=status,
        usage=_usage(responses),
        timing={
            "load_s": loaded - started,
            "respond_s": answered - loaded,
            "judge_s": judged - answered,
            "score_s": clock() - judged,
            "total_s": clock() - started,
        },
    )
    return record if folder is None else record.write(folder)


def _check(spec: RunSpec) -> None:
    for name in ("limit", "first", "num_fewshot", "repeats"):
        value, least = getattr(spec, name), 0 if name == "num_fewshot" else 1
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be {least} or more")
    if spec.limit is not None and spec.first is not None:
        raise UsageError("--limit (a random subset) and --first exclude each other")
    if not spec.tasks:
        raise UsageError("no task named; 'evalkit list tasks' shows all")


def _split_settings(settings: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Those of the tasks (parts of a task file; YAML, or else text) and those of the model."""
    for_tasks: dict[str, Any] = {}
    for_model: dict[str, str] = {}
    for key, value in settings.items():
        if key.partition(".")[0] not in TaskSpec.model_fields:
            for_model[key] = value
            continue
        try:
            for_tasks[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            for_tasks[key] = value  # a template: {{ … }} is no YAML
    return for_tasks, for_model


def _prepare(spec: RunSpec, selection: catalogue.Selection, overrides: Overrides) -> list[_Work]:
    groups = {name: group.name for group in selection.groups for name in group.tasks}
    names = [file.name for file in selection.tasks]
    for name in spec.datasets:
        if name not in names and name not in groups.values():
            raise NotFoundError("task in this run", name, names, hint="--dataset names a task")
    works = []
    for file in selection.tasks:
        source = spec.datasets.get(file.name, spec.datasets.get(groups.get(file.name, "")))
        if isinstance(source, Path):
            source = replacement(file.spec.dataset, source)
        own = replace(overrides, dataset=source)
        task = Task(file, overrides=own, offline=spec.offline)
        metrics, rubrics = scoring.metrics_of(task.file), rubrics_of(task.file)
        _check_judge(spec, task.file, has_rubrics=bool(rubrics))
        check_selection(task.file, metrics)
        items = task.items(limit=spec.limit, first=spec.first, seed=spec.seed)
        scoring.check_scorable(metrics, items, kind=file.spec.request)
        requests = task.requests(items, seed=spec.seed)
        works.append(
            _Work(task=task, metrics=metrics, items=items, requests=requests, rubrics=rubrics)
        )
    if spec.judge is not None and not any(work.rubrics for work in works):
        raise UsageError(f"--judge {spec.judge}: no task of this run has a rubric")
    return works


def _check_judge(spec: RunSpec, file: TaskFile, *, has_rubrics: bool) -> None:
    if has_rubrics and not file.spec.metrics and spec.judge is None:
        raise UsageError(f"task {file.name!r} has rubrics and no metrics: give --judge")


def _counted(tell: OnProgress, n_total: int) -> OnAnswers:
    return lambda n_done, n_error: tell(
        Progress(phase="asking", n_done=n_done, n_total=n_total, n_error=n_error)
    )


def _run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from plain code, also where a loop already runs (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _choose(works: Sequence[_Work], responses: Sequence[Response]) -> list[list[list[Response]]]:
    """The response to each repeat of each item of each task: of best-of-n the one that is kept."""
    chosen: list[list[list[Response]]] = []
    at = 0
    for work in works:
        n, file = work.task.n_draws, work.task.file
        own: list[list[Response]] = []
        for item in work.items:
            draws = [responses[at + i * n : at + (i + 1) * n] for i in range(file.spec.repeats)]
            own.append([select(file, work.metrics, item, some) for some in draws])
            at += n * file.spec.repeats
        chosen.append(own)
    return chosen


def _open_judges(
    works: Sequence[_Work], spec: RunSpec, backend: Backend, tell: OnProgress
) -> list[_Work]:
    """The works with their judges, where one is named."""
    if spec.judge is None:
        return list(works)
    return [
        replace(
            work,
            judges=open_judges(
                work.rubrics,
                spec.judge,
                offered={spec.model: backend},
                offline=spec.offline,
                seed=spec.seed,
                on_progress=lambda line: tell(Progress(phase=line)),
            ),
        )
        for work in works
    ]


def _judging(tell: OnProgress) -> OnJudged:
    return lambda n_done, n_total: tell(Progress(phase="judging", n_done=n_done, n_total=n_total))


def _record(
    spec: RunSpec,
    groups: Sequence[Group],
    works: Sequence[_Work],
    scored: Mapping[str, ScoredTask],
    model: ModelInfo,
) -> RunRecord:
    tasks: dict[str, TaskResult] = {}
    for work in works:
        task, name = work.task, work.task.name
        metrics, slices = scoring.estimate_task(scored[name], seed=spec.seed)
        tasks[name] = TaskResult(
            version=task.spec.version,
            description=task.spec.description,
            spec=task.spec_json,
            spec_sha256=task.spec_sha256,
            dataset=task.dataset.origin,
            dataset_sha256=sha256_of([item.example.sha256 for item in work.items]),
            n_examples=len(work.items),
            num_fewshot=task.spec.num_fewshot,
            repeats=task.spec.repeats,
            metrics=metrics,
            slices=slices,
            warnings=_warnings(work),
            judges={judge.rubric.name: judge.identity for judge in work.judges},
        )
    results = {name: task.metrics for name, task in tasks.items()}
    return RunRecord(
        id="",
        status="complete",
        evalkit=evalkit.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=spec.seed,
        command=command_line(spec),
        model=model,
        tasks=tasks,
        groups={g.name: scoring.estimate_group(g, scored, results, seed=spec.seed) for g in groups},
        environment=_environment(),
        rows=[row for work in works for row in scored[work.task.name].rows],
    )


def _warnings(work: _Work) -> tuple[str, ...]:
    name, warnings = work.task.name, list(work.task.warnings)
    unjudged = [one.rubric.name for one in work.rubrics] if not work.judges else []
    if unjudged:
        warnings.append(f"{name}: not judged by {', '.join(unjudged)}: no --judge was given")
    return tuple(warnings)


def _usage(responses: Sequence[Response]) -> dict[str, int]:
    return {
        "n_requests": len(responses),
        "n_errors": sum(r.error is not None for r in responses),
        "n_prompt_tokens": sum(r.n_prompt_tokens for r in responses),
        "n_completion_tokens": sum(r.n_completion_tokens for r in responses),
    }


_PACKAGES = ("numpy", "scipy", "sacrebleu", "rouge-score", "torch", "tokenizers")


def _environment() -> dict[str, Any]:
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "n_cpus": os.cpu_count(),
        "packages": packages,
    }


def command_line(spec: RunSpec) -> str:
    """The command that does the same run."""
    words = ["evalkit", "run", *spec.tasks, "--model", spec.model]
    if spec.judge is not None:
        words += ["--judge", spec.judge]
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


def _slug(spec: RunSpec) -> str:
    first = re.sub(r"[^a-z0-9]+", "-", Path(spec.tasks[0]).stem.lower()).strip("-") or "run"
    more = f"-and-{len(spec.tasks) - 1}-more" if len(spec.tasks) > 1 else ""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{stamp}-{first[:40]}{more}-{secrets.token_hex(3)}"


def _make_folder(out: Path, name: str) -> Path:
    """The run's folder: made, and written to once, before anything is spent."""
    folder = out / name
    try:
        folder.mkdir(parents=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RecordError(f"{out}: cannot write runs here: {error.strerror or error}") from error
    return folder
