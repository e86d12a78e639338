"""The sequential gate: ask a candidate some of a baseline's examples, and stop once that is enough.

The candidate is run in looks, each on twice as many examples as the one before. After each look
every check of the policy is decided by bounds that hold at all looks together. It ends when all
checks are decided, or with the budget: what is undecided then is inconclusive.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import get_args

from evalkit.backends import open_backend
from evalkit.compare import RunSide, Side, match
from evalkit.compare.identity import with_defaults
from evalkit.errors import NotComparableError, NotFoundError, UsageError
from evalkit.gate.asked import Asked
from evalkit.gate.evaluate import GateReport, evaluate
from evalkit.gate.policy import Policy
from evalkit.gate.quarantine import find_quarantined
from evalkit.gate.sequential import CheckWatch, Standing, look_sizes
from evalkit.prepare import RunSpec
from evalkit.record import RunRecord
from evalkit.runner import OnProgress, run
from evalkit.types import Backend, ModelInfo, Prompt, Request, RequestKind, Response


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialSpec:
    """What a sequential gate is asked to do."""

    task: str  # a name or a file: one task
    model: str
    budget: int  # examples at most
    n_looks: int = 5
    out: Path | None = None  # the folder of runs; None writes nothing
    offline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Where the checks stand after a look, in the policy's order."""

    n_asked: int  # examples
    standings: tuple[Standing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialReport:
    """What a sequential gate found; ``report`` is on the examples that were asked."""

    report: GateReport
    looks: tuple[Look, ...]
    n_asked: int  # examples
    budget: int  # examples that might have been asked: no more than the baseline has
    record: RunRecord

    @property
    def exit_code(self) -> int:
        """That of the gate."""
        return self.report.exit_code


OnLook = Callable[[Look], None]


def gate_sequentially(
    spec: SequentialSpec,
    baseline: Side,
    policy: Policy,
    *,
    today: date,
    backend: Backend | None = None,
    on_progress: OnProgress | None = None,
    on_look: OnLook | None = None,
) -> SequentialReport:
    """Run a candidate on as many of the baseline's examples as it takes to decide every check.

    The candidate is asked as the baseline was: with its seed, shots and repeats. The examples come
    in the random order of ``limit``, which is that of the seed, and the last look's record is that
    of ``evalkit run --limit``. It is written after each look, so what was paid for is kept.
    With several checks each gets its equal part of alpha, unless the policy adjusts for none.
    Everything that keeps the runs from being compared is found before the first request.
    Raises NotComparableError, UsageError for what no look can decide, and what ``run`` raises.
    """
    if spec.budget < 1:
        raise UsageError(f"--budget {spec.budget}: must be 1 or more")
    plan = _plan(spec, baseline, policy)
    planned = RunSide(run(plan, backend=_Silent()))
    _refuse_unless_comparable(baseline, planned, policy, today=today)
    watches = _watches(baseline, planned, policy, today=today, seed=plan.seed)
    budget = planned.examples(policy.checks[0].task).ids.size
    asked = Remembering(backend or open_backend(spec.model, offline=spec.offline))
    looks: list[Look] = []
    record: RunRecord | None = None
    for n in look_sizes(budget, n_looks=spec.n_looks):
        record = _extended(replace(plan, limit=n), record, asked, out=spec.out, tell=on_progress)
        if record.status != "complete":
            break
        side = RunSide(record)
        standings = tuple(watch.look(side) for watch in watches)
        looks.append(Look(n_asked=n, standings=standings))
        if on_look is not None:
            on_look(looks[-1])
        if all(watch.is_settled for watch in watches):
            break
    assert record is not None  # there is a look
    return SequentialReport(
        report=_report(baseline, record, policy, watches, today=today),
        looks=tuple(looks),
        n_asked=looks[-1].n_asked if looks else 0,
        budget=budget,
        record=record,
    )


def _plan(spec: SequentialSpec, baseline: Side, policy: Policy) -> RunSpec:
    """The run that spends the whole budget, asked as the baseline was."""
    tasks = {check.task for check in policy.checks}
    if len(tasks) > 1:
        raise UsageError(
            f"the policy checks {', '.join(sorted(tasks))}; a sequential gate is of one task"
        )
    (task,) = tasks
    if task not in baseline.tasks:
        raise NotFoundError("task in the baseline", task, baseline.tasks)
    asked = with_defaults(baseline.tasks[task].spec)
    return RunSpec(
        tasks=(spec.task,),
        model=spec.model,
        limit=min(spec.budget, baseline.examples(task).ids.size),
        num_fewshot=asked["num_fewshot"],
        repeats=asked["repeats"],
        seed=baseline.info.seed,
        offline=spec.offline,
    )


def _refuse_unless_comparable(
    baseline: Side, planned: Side, policy: Policy, *, today: date
) -> None:
    (task,) = {check.task for check in policy.checks}
    if list(planned.tasks) != [task]:
        raise UsageError(f"the policy checks {task}, the run is of {', '.join(planned.tasks)}")
    problems = []
    lacking = match(baseline.examples(task), planned.examples(task)).only_b
    if lacking:
        first = ", ".join(lacking[:3]) + (", …" if len(lacking) > 3 else "")
        problems.append(f"task {task}: examples: the baseline lacks {len(lacking)} ({first})")
    found = evaluate(Asked(baseline, planned), planned, policy, today=today, intersection=True)
    problems += [line for check in found.checks for line in check.differences]
    if problems:
        runs = f"A is {baseline.info.id}, B is the run to be"
        raise NotComparableError(list(dict.fromkeys(problems)), runs=runs)


def _watches(
    baseline: Side, planned: Side, policy: Policy, *, today: date, seed: int
) -> list[CheckWatch]:
    """A watch for each check, at its part of alpha."""
    checks = policy.resolved()
    share = len(checks) if policy.adjust == "holm" else 1
    quarantine = find_quarantined(policy.quarantine, baseline, planned, checks, today=today)
    return [
        CheckWatch(
            check,
            baseline=baseline,
            planned=planned,
            quarantine=quarantine,
            alpha=policy.alpha / share,
            seed=seed,
        )
        for check in checks
    ]


def _extended(
    spec: RunSpec,
    before: RunRecord | None,
    backend: Backend,
    *,
    out: Path | None,
    tell: OnProgress | None,
) -> RunRecord:
    """The run on more examples, in the place of the one before; its times are those of both."""
    if before is None:
        return run(replace(spec, out=out), backend=backend, on_progress=tell)
    found = run(spec, backend=backend, on_progress=tell)
    timing = {name: before.timing[name] + seconds for name, seconds in found.timing.items()}
    found = replace(found, id=before.id, created=before.created, timing=timing)
    return found if before.folder is None else found.write(before.folder)


def _report(
    baseline: Side,
    record: RunRecord,
    policy: Policy,
    watches: Sequence[CheckWatch],
    *,
    today: date,
) -> GateReport:
    """The gate on what was asked, with the bounds and verdicts of the looks."""
    side = RunSide(record)
    found = evaluate(Asked(baseline, side), side, policy, today=today)
    # what a gate of fixed size would need is not what this one needs
    blind = {f"task {c.check.task}, {c.check.metric}: {c.blindness}" for c in found.checks}
    return replace(
        found,
        adjust="bonferroni" if policy.adjust == "holm" else policy.adjust,
        checks=tuple(w.verdict_on(c) for w, c in zip(watches, found.checks, strict=True)),
        notes=tuple(note for note in found.notes if note not in blind),
    )


class _Silent:
    """A backend that answers nothing: a run on it shows what would be asked."""

    info = ModelInfo(spec="", fingerprint="")
    kinds: frozenset[RequestKind] = frozenset(get_args(RequestKind))

    def count_tokens(self, prompt: Prompt) -> int | None:
        return None

    def render(self, prompt: Prompt) -> str:
        return ""

    async def respond(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Response]]:
        nothing: tuple[tuple[int, Response], ...] = ()
        for answer in nothing:
            yield answer


class Remembering:
    """A backend that asks another one each request once, and repeats its answer from then on.

    So that a run on more examples costs only what is new in it.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._answers: dict[Request, Response] = {}

    @property
    def info(self) -> ModelInfo:
        """That of the backend that is asked."""
        return self._backend.info

    @property
    def kinds(self) -> frozenset[RequestKind]:
        """Those of the backend that is asked."""
        return self._backend.kinds

    def count_tokens(self, prompt: Prompt) -> int | None:
        """As the backend that is asked counts."""
        return self._backend.count_tokens(prompt)

    def render(self, prompt: Prompt) -> str:
        """As the backend that is asked renders."""
        return self._backend.render(prompt)

    async def respond(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Response]]:
        """What is known at once, then what the backend answers."""
        fresh = [i for i, request in enumerate(requests) if request not in self._answers]
        for index, request in enumerate(requests):
            if request in self._answers:
                yield index, self._answers[request]
        if not fresh:
            return
        async for place, response in self._backend.respond([requests[i] for i in fresh]):
            self._answers[requests[fresh[place]]] = response
            yield fresh[place], response
