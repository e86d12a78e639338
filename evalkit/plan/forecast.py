"""What a run will ask, how long that takes or what it costs, and what it will be able to see."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evalkit import models, plugins
from evalkit.backends import GROUP, open_backend
from evalkit.backends.local import Local
from evalkit.bench import Clock, measure
from evalkit.bench import Plan as Probe
from evalkit.compare import Side, open_side
from evalkit.errors import UsageError
from evalkit.gate.policy import Policy, read_policy
from evalkit.plan.prices import Price, read_price
from evalkit.plan.sensitivity import Findings, Question, Sensitivity, examine, questions_of
from evalkit.plan.tokens import Tokens, count, total
from evalkit.prepare import RunSpec, Work, prepare, settings_of_model
from evalkit.types import Backend

ENDPOINTS = ("openai", "http", "https")  # schemes of models whose tokenizer is not here
# Texts that the probe generates together, at most. The engine has up to 64 at a time, but fewer as
# they end: with 16, and short prompts, the time of a real run was met from above.
_AT_A_TIME = 16
_PROBE = Probe(n_prefill=256, n_own=16, n_new=4, seconds=0.3, matmul_size=256, copy_bytes=1 << 22)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From the least, each generated text ending at once, to the most, none before its limit."""

    low: float  # nan where it could not be measured
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How fast the model was on this machine for a moment."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float  # nan where nothing is generated
    n_at_a_time: int  # texts generated together
    probe_s: float  # what measuring took


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """What one task takes, or all of them."""

    task: str
    n_rows: int  # of the dataset
    n_examples: int  # of these, the ones that are asked
    n_requests: int
    n_duplicates: int  # requests equal to an earlier one of the run: a cache would answer them
    tokens: Tokens
    seconds: Span | None  # of a local model, without loading it; None for an endpoint
    usd: Span | None  # None where there is no price


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """A run before it is one."""

    model: str
    tasks: tuple[TaskPlan, ...]
    total: TaskPlan
    rates: Rates | None  # None for an endpoint
    price: Price | None
    sensitivities: tuple[Sensitivity, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Speed:
    """What turns tokens into seconds or dollars."""

    rates: Rates | None
    price: Price | None

    def seconds(self, tokens: Tokens) -> Span | None:
        if self.rates is None or tokens.n_distinct is None:
            return None
        prompts = tokens.n_distinct / self.rates.prefill_tokens_per_s
        if tokens.n_texts == 0:
            return Span(low=prompts, high=prompts)
        decode = self.rates.decode_tokens_per_s
        return Span(low=prompts + tokens.n_texts / decode, high=prompts + tokens.n_new / decode)

    def usd(self, tokens: Tokens) -> Span | None:
        if self.price is None:
            return None
        low, high = (
            self.price.usd(n_input=tokens.n_prompt, n_output=n)
            for n in (tokens.n_texts, tokens.n_new)
        )
        return Span(low=low, high=high)


def plan(
    spec: RunSpec,
    *,
    baseline: Path | None = None,
    policy: Path | None = None,
    prices: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
    clock: Clock = time.perf_counter,
) -> RunPlan:
    """What a run would take, asking nothing of the model but a moment's work to measure its speed.

    ``baseline`` is a run or a baseline file, ``policy`` a gate's file: with either, what so many
    examples can see is worked out too. ``prices`` says what an endpoint costs. Whatever is wrong
    with tasks, files and model is found here, as by the run itself. Raises EvalkitError.
    """
    tell = on_progress or (lambda line: None)
    rules = None if policy is None else read_policy(policy)
    side = None if baseline is None else open_side(baseline)
    target = _Target.of(spec)
    price = None if prices is None else target.price(prices)
    tell("loading tasks")
    works = prepare(spec).works
    findings = _findings(works, rules, side, seed=spec.seed)
    backend = target.open(spec, tell)
    tell("counting tokens")
    counted = [count(work.requests, backend) for work in works]
    rates = None
    if isinstance(backend, Local):
        rates = _measured(backend, total(counted), tell, clock)
    tasks = _task_plans(works, counted, _Speed(rates=rates, price=price))
    own = [f"task {w.task.name}: {line}" for w in works for line in (*w.task.warnings, *_unseen(w))]
    return RunPlan(
        model=spec.model if backend is None else backend.info.spec,
        tasks=tuple(tasks),
        total=_total(tasks, counted, _Speed(rates=rates, price=price)),
        rates=rates,
        price=price,
        sensitivities=findings.sensitivities,
        warnings=(*own, *_refusals(tasks), *findings.warnings),
    )


def _unseen(work: Work) -> list[str]:
    """What the plan leaves out: a judge is shown answers that nobody has yet."""
    n = len(work.items) * work.task.spec.repeats
    return [
        f"{use.rubric.name}: a judge's requests are not counted: "
        f"{n * len(use.rubric.criteria) * (2 if use.rubric.kind == 'pairwise' else 1):,} verdicts"
        for use in work.rubrics
    ]


def to_json(found: RunPlan) -> dict[str, Any]:
    """A plan as plain data."""
    data = asdict(found)
    for plain, one in zip(data["sensitivities"], found.sensitivities, strict=True):
        plain["is_blind"] = one.is_blind
    return data


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """The model that would be asked."""

    spec: str
    name: str  # as a file of prices calls it
    is_local: bool  # on the bundled engine
    is_endpoint: bool  # not opened: what is sent to it is known without it

    @classmethod
    def of(cls, spec: RunSpec) -> _Target:
        schemes = ["local", "hf", *plugins.names(GROUP), *ENDPOINTS]
        parsed = models.parse_spec(spec.model, schemes=list(dict.fromkeys(schemes)))
        is_endpoint = parsed.scheme in ENDPOINTS
        name = parsed.name
        if parsed.scheme in ("http", "https"):
            _, _, name = name.partition("#")
            if not name:
                raise UsageError(f"model {spec.model!r} names no model; write {spec.model}#NAME")
        settings = {**parsed.settings, **settings_of_model(spec.settings)}
        if is_endpoint and settings:
            raise UsageError(
                f"model {spec.model!r}: settings of an endpoint do not change its plan: leave out "
                f"{', '.join(settings)}"
            )
        is_local = parsed.scheme in ("local", "hf")
        return cls(spec=spec.model, name=name, is_local=is_local, is_endpoint=is_endpoint)

    def price(self, path: Path) -> Price:
        if self.is_local:
            raise UsageError(f"--prices: model {self.spec!r} runs here, and costs no tokens")
        return read_price(path, self.name)

    def open(self, spec: RunSpec, tell: Callable[[str], None]) -> Backend | None:
        if self.is_endpoint:
            return None
        tell("loading the model")
        settings = settings_of_model(spec.settings)
        return open_backend(self.spec, settings=settings, offline=spec.offline, on_progress=tell)


def _findings(
    works: Sequence[Work], policy: Policy | None, baseline: Side | None, *, seed: int
) -> Findings:
    if policy is not None:
        questions = _questions(policy)
    elif baseline is not None:
        questions = questions_of(works, baseline)
    else:
        return Findings()
    return examine(works, questions, baseline=baseline, seed=seed)


def _questions(policy: Policy) -> list[Question]:
    """The policy's checks, each at the strictest level that its adjustment may ask of it."""
    checks = policy.resolved()
    n = len(checks) if policy.adjust == "holm" else 1
    return [
        Question(
            task=check.task,
            metric=check.metric,
            slice=check.slice,
            margin=check.margin,
            alpha=policy.alpha / n,
            power=policy.power,
        )
        for check in checks
    ]


def _measured(backend: Local, tokens: Tokens, tell: Callable[[str], None], clock: Clock) -> Rates:
    """A moment's prefill and decoding; the backend does not know afterwards what ends a text."""
    tell("measuring the model's speed")
    n = min(_AT_A_TIME, tokens.n_texts)
    probe = replace(_PROBE, n_requests=(n,) if n else ())
    start = clock()
    list(backend.llm.score([([0] * 8, [0])]))  # a library's first work takes longer than its next
    found = measure(
        backend.llm, spec="", load_s=math.nan, plan=probe, tell=lambda line: None, clock=clock
    )
    return Rates(
        prefill_tokens_per_s=found.rates[0].tokens_per_s,
        decode_tokens_per_s=found.rates[1].tokens_per_s if n else math.nan,
        n_at_a_time=n,
        probe_s=clock() - start,
    )


def _task_plans(works: Sequence[Work], counted: Sequence[Tokens], speed: _Speed) -> list[TaskPlan]:
    seen: set[str] = set()
    plans = []
    for work, tokens in zip(works, counted, strict=True):
        before = len(seen)
        seen.update(request.key("") for request in work.requests)
        plans.append(
            TaskPlan(
                task=work.task.name,
                n_rows=len(work.task.dataset.rows),
                n_examples=len(work.items),
                n_requests=len(work.requests),
                n_duplicates=len(work.requests) - (len(seen) - before),
                tokens=tokens,
                seconds=speed.seconds(tokens),
                usd=speed.usd(tokens),
            )
        )
    return plans


def _total(tasks: Sequence[TaskPlan], counted: Sequence[Tokens], speed: _Speed) -> TaskPlan:
    tokens = total(counted)
    return TaskPlan(
        task="",
        n_rows=sum(task.n_rows for task in tasks),
        n_examples=sum(task.n_examples for task in tasks),
        n_requests=sum(task.n_requests for task in tasks),
        n_duplicates=sum(task.n_duplicates for task in tasks),
        tokens=tokens,
        seconds=speed.seconds(tokens),
        usd=speed.usd(tokens),
    )


def _refusals(tasks: Sequence[TaskPlan]) -> list[str]:
    return [
        f"task {task.task}: {task.tokens.n_refused:,} of {task.n_requests:,} requests will get no "
        "answer: they do not fit the model, or cannot be encoded"
        for task in tasks
        if task.tokens.n_refused
    ]
