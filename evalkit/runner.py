"""The flow of a run: tasks and a model in, a record out."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import re
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import evalkit
from evalkit import scoring
from evalkit.backends import open_backend
from evalkit.catalogue import Group
from evalkit.collect import OnAnswers, collect
from evalkit.errors import NotFoundError, RecordError, UsageError
from evalkit.judging import (
    ItemVerdicts,
    OnJudged,
    check_judgeable,
    judge_responses,
    open_judges,
)
from evalkit.prepare import RunSpec, Work, command_line, prepare, settings_of_model
from evalkit.record import RunRecord, RunStatus, TaskResult
from evalkit.scoring import ScoredTask
from evalkit.selection import select
from evalkit.types import (
    Backend,
    ModelInfo,
    Response,
    Status,
    sha256_of,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is."""

    phase: str  # what is being done
    n_done: int = 0
    n_total: int = 0
    n_error: int = 0


OnProgress = Callable[[Progress], None]


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
    tell(Progress(phase="loading tasks"))
    prepared = prepare(spec)
    works, model_settings = prepared.works, settings_of_model(spec.settings)
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
        _check_kinds(works, backend)
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
    verdicts, status = _judge(works, chosen, status, tell)
    judged = clock()
    tell(Progress(phase="scoring", n_done=len(requests), n_total=len(requests)))
    scored = {
        w.task.name: scoring.score_task(
            w.task.file, w.all_metrics, w.items, own, texts, verdicts=found
        )
        for w, own, texts, found in zip(works, chosen, prompts, verdicts, strict=True)
    }
    record = _record(spec, prepared.groups, works, scored, backend.info)
    record = replace(
        record,
        id=folder.name if folder is not None else _slug(spec),
        status=status,
        usage=_usage(responses) | _judge_usage(verdicts),
        timing={
            "load_s": loaded - started,
            "respond_s": answered - loaded,
            "judge_s": judged - answered,
            "score_s": clock() - judged,
            "total_s": clock() - started,
        },
    )
    return record if folder is None else record.write(folder)


def _check_kinds(works: Sequence[Work], backend: Backend) -> None:
    """Raise UsageError for a task that the backend cannot be asked."""
    for work in works:
        kind = work.task.spec.request
        if kind not in backend.kinds:
            raise UsageError(
                f"task {work.task.name!r} is request: {kind}, and model {backend.info.spec!r} "
                f"answers {', '.join(sorted(backend.kinds)) or 'nothing'}"
            )


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


def _choose(works: Sequence[Work], responses: Sequence[Response]) -> list[list[list[Response]]]:
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
    works: Sequence[Work], spec: RunSpec, backend: Backend, tell: OnProgress
) -> list[Work]:
    """The works with their judges, where one is named."""
    if spec.judge is None:
        return list(works)
    offered = {spec.model: backend}
    found = []
    for work in works:
        judges = open_judges(
            work.rubrics,
            spec.judge,
            offered=offered,
            offline=spec.offline,
            seed=spec.seed,
            calibrations=spec.calibrations,
            on_progress=lambda line: tell(Progress(phase=line)),
        )
        check_judgeable(judges, work.items)
        found.append(replace(work, judges=judges))
    return found


def _judge(
    works: Sequence[Work],
    chosen: Sequence[Sequence[Sequence[Response]]],
    status: RunStatus,
    tell: OnProgress,
) -> tuple[list[Sequence[ItemVerdicts]], RunStatus]:
    """Verdicts on all responses of all tasks; none where the run has ended before."""
    verdicts: list[Sequence[ItemVerdicts]] = []
    for work, own in zip(works, chosen, strict=True):
        judges = work.judges if status == "complete" else ()
        found = _run_async(judge_responses(judges, work.items, own, _judging(tell)))
        verdicts.append(found)
        for one in judges:
            if one.judge.status != "complete":
                status = one.judge.status
    return verdicts, status


def _judging(tell: OnProgress) -> OnJudged:
    return lambda n_done, n_total: tell(Progress(phase="judging", n_done=n_done, n_total=n_total))


def _record(
    spec: RunSpec,
    groups: Sequence[Group],
    works: Sequence[Work],
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
            judges={judge.rubric.name: judge.described for judge in work.judges},
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


def _warnings(work: Work) -> tuple[str, ...]:
    name, warnings = work.task.name, list(work.task.warnings)
    unjudged = [one.rubric.name for one in work.rubrics] if not work.judges else []
    if unjudged:
        warnings.append(f"{name}: not judged by {', '.join(unjudged)}: no --judge was given")
    for judge in work.judges:
        if judge.standing.status != "calibrated":
            warnings.append(
                f"{name}: {judge.rubric.name} is {judge.standing.status}: {judge.standing.note}"
            )
    return tuple(warnings)


def _usage(responses: Sequence[Response]) -> dict[str, int]:
    return {
        "n_requests": len(responses),
        "n_errors": sum(r.error is not None for r in responses),
        "n_prompt_tokens": sum(r.n_prompt_tokens for r in responses),
        "n_completion_tokens": sum(r.n_completion_tokens for r in responses),
    }


def _judge_usage(verdicts: Sequence[Sequence[ItemVerdicts]]) -> dict[str, Any]:
    """How many verdicts were wanted, and could not be had; nothing where no judge was asked."""
    found = [v for task in verdicts for item in task for one in item for v in one.values()]
    if not found:
        return {}
    failed = [v for v in found if v.status is Status.ERROR]
    usage: dict[str, Any] = {"n_verdicts": len(found), "n_verdict_errors": len(failed)}
    return usage | ({"first_verdict_error": failed[0].problem} if failed else {})


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
