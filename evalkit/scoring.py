"""From responses to scores, estimates and the rows of a record."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.catalogue import Group, TaskFile
from evalkit.errors import MetricError, NotFoundError
from evalkit.estimate import ExampleScores, estimate, mean_of_tasks
from evalkit.metrics import build_metric
from evalkit.metrics.extract import build_extractor
from evalkit.record import ExampleRow, GroupResult, Judged, MetricResult
from evalkit.schema import ExtractSpec, RegexSpec
from evalkit.types import (
    Continuation,
    ErrorKind,
    Estimate,
    Item,
    Metric,
    Outcome,
    RequestKind,
    Response,
    ResponseError,
    Score,
    Status,
    Verdict,
)

_log = logging.getLogger(__name__)

Extractor = Callable[[str], str | None]
Finish = Callable[[Estimate, Sequence[ExampleScores]], tuple[Estimate, Judged]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMetric:
    """A metric of a task, as the record calls it, with the extraction it reads."""

    name: str
    metric: Metric
    extract: Extractor
    extract_signature: str
    finish: Finish | None = None  # of a judge's metric: the estimate as it is reported

    @property
    def signature(self) -> str:
        """The metric's signature, with that of the extraction before it."""
        extraction = f"|extract:{self.extract_signature}" if self.extract_signature else ""
        return self.metric.signature + extraction


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTask:
    """All scores of a task: for each metric, those of each example in order."""

    metrics: Sequence[NamedMetric]
    scores: Mapping[str, Sequence[ExampleScores]]
    slices: Sequence[Mapping[str, str]]  # of each example
    rows: Sequence[ExampleRow]


def metrics_of(file: TaskFile) -> list[NamedMetric]:
    """The metrics that a task asks for, built.

    Raises SpecError (path:line) for an unknown metric or option, one that cannot score this kind of
    request, or two of the same name.
    """
    spec = file.spec
    pipelines: Mapping[str, ExtractSpec | None] = spec.pipelines or {"": spec.extract}
    result: dict[str, NamedMetric] = {}
    for index, wanted in enumerate(spec.metrics):
        where = (*file.at, "metrics", index)
        try:
            metric = build_metric(wanted.metric, wanted.options)
        except (MetricError, NotFoundError) as error:
            raise file.document.error(where, str(error)) from error
        if spec.request not in metric.kinds:
            kinds = ", ".join(sorted(metric.kinds))
            problem = f"metric {wanted.metric!r} is for request: {kinds}; this is {spec.request}"
            raise file.document.error(where, problem)
        for pipeline, extract in pipelines.items():
            name = (wanted.name or metric.name) + (f"@{pipeline}" if pipeline else "")
            if name in result:
                problem = f"two metrics are called {name!r}; give one of them another 'name'"
                raise file.document.error(where, problem)
            result[name] = NamedMetric(
                name=name,
                metric=metric,
                extract=build_extractor(_extract_data(extract)),
                extract_signature="" if extract is None else str(_extract_data(extract)),
            )
    return list(result.values())


def _extract_data(extract: ExtractSpec | None) -> Any:
    """An extraction as plain data, as the file has it."""
    if extract is None:
        return "text"
    if isinstance(extract, RegexSpec):
        return extract.model_dump(exclude_unset=True)
    if isinstance(extract, list):
        return [_extract_data(one) for one in extract]
    return extract


def check_scorable(
    metrics: Sequence[NamedMetric], items: Sequence[Item], *, kind: RequestKind
) -> None:
    """Score an empty answer to every item, so that what cannot be scored is found before asking.

    Raises MetricError, naming metric and example.
    """
    for item in items:
        n = len(item.continuations) or 1
        unlikely = tuple(Continuation(logprob=-1.0, n_tokens=1, is_greedy=False) for _ in range(n))
        empty = Response(text="") if kind == "generate" else Response(continuations=unlikely)
        for m in metrics:
            m.metric.score(replace(outcome_of(item, empty, m.extract), prediction=None))


def score_task(
    file: TaskFile,
    metrics: Sequence[NamedMetric],
    items: Sequence[Item],
    responses: Sequence[Sequence[Response]],
    prompts: Sequence[str],
    verdicts: Sequence[Sequence[Mapping[str, Verdict]]] | None = None,
) -> ScoredTask:
    """Score every response: ``responses`` has those of each item, a repeat each.

    ``prompts`` are the texts that the model saw, for the rows; ``verdicts`` are those of judges, a
    repeat each like the responses.
    """
    verdicts = verdicts or [[{} for _ in answers] for answers in responses]
    scores: dict[str, list[ExampleScores]] = {m.name: [] for m in metrics}
    rows: list[ExampleRow] = []
    for item, answers, prompt, judged in zip(items, responses, prompts, verdicts, strict=True):
        outcomes: list[dict[str, Outcome]] = []
        by_repeat: list[dict[str, Score | None]] = []
        for repeat, answer in enumerate(answers):
            seen = {
                m.name: replace(outcome_of(item, answer, m.extract), verdicts=judged[repeat])
                for m in metrics
            }
            answer, found = _score(metrics, seen, answer)
            outcomes.append(seen)
            by_repeat.append(found)
            first = seen[metrics[0].name]
            stats = _stats(metrics, found)
            rows.append(_row(file.name, first, answer, prompt, found, stats, repeat))
        for m in metrics:
            scores[m.name].append(
                ExampleScores(
                    scores=tuple(found[m.name] for found in by_repeat),
                    outcome=outcomes[0][m.name],
                    cluster=item.example.cluster,
                )
            )
    slices = [item.example.slices for item in items]
    return ScoredTask(metrics=metrics, scores=scores, slices=slices, rows=rows)


def outcome_of(item: Item, response: Response, extract: Extractor) -> Outcome:
    """An answer as a metric sees it: extraction applied to the response and to the targets."""
    prediction = None if response.text is None else extract(response.text)
    targets = item.targets
    if response.text is not None:
        targets = tuple(extract(t) or t.strip() for t in targets)
    return Outcome(
        example=item.example,
        response=response,
        targets=targets,
        choices=item.choices,
        gold=item.gold,
        prediction=prediction,
    )


def _score(
    metrics: Sequence[NamedMetric], outcomes: Mapping[str, Outcome], response: Response
) -> tuple[Response, dict[str, Score | None]]:
    """The scores of one answer. A defect in a metric costs this answer, not the run."""
    if response.error is not None:
        return response, {m.name: None for m in metrics}
    try:
        return response, {m.name: m.metric.score(outcomes[m.name]) for m in metrics}
    except Exception as error:
        _log.exception("scoring example %s", outcomes[metrics[0].name].example.id)
        message = f"scoring failed: {type(error).__name__}: {error}"
        failed = Response(error=ResponseError(kind=ErrorKind.INTERNAL, message=message))
        return failed, {m.name: None for m in metrics}


def _row(
    task: str,
    outcome: Outcome,
    response: Response,
    prompt: str,
    scores: Mapping[str, Score | None],
    stats: Mapping[str, tuple[float, ...]],
    repeat: int,
) -> ExampleRow:
    example, error = outcome.example, response.error
    found = [s for s in scores.values() if s is not None]
    status = Status.OK if any(s.status is Status.OK for s in found) else Status.ABSTAINED
    unjudged = next((s for s in found if s.status is Status.ERROR), None)
    if unjudged is not None and status is not Status.OK:
        error = ResponseError(kind=ErrorKind.JUDGE, message=unjudged.reason)
    logprobs = tuple(c.logprob for c in response.continuations)
    text = response.text
    if outcome.choices and logprobs:
        text = outcome.choices[logprobs.index(max(logprobs))]
    return ExampleRow(
        task=task,
        example_id=example.id,
        example_sha256=example.sha256,
        repeat=repeat,
        status=Status.ERROR if error else status,
        error_kind=error.kind if error else None,
        error_message=error.message if error else None,
        prompt=prompt,
        target=outcome.targets[0] if outcome.targets else "",
        targets=outcome.targets,
        response=text,
        extracted=outcome.prediction,
        candidates=response.candidates,
        choices=outcome.choices,
        choice_logprobs=logprobs,
        gold=outcome.gold,
        finish_reason=response.finish_reason,
        cluster=example.cluster,
        n_prompt_tokens=response.n_prompt_tokens,
        n_completion_tokens=response.n_completion_tokens,
        latency_s=response.latency_s,
        cached=response.cached,
        slices=example.slices,
        scores={
            name: s.value
            for name, s in scores.items()
            if s is not None and s.status is Status.OK and not math.isnan(s.value)
        },
        stats=stats,
        verdicts=outcome.verdicts,
    )


def _stats(
    metrics: Sequence[NamedMetric], scores: Mapping[str, Score | None]
) -> dict[str, tuple[float, ...]]:
    """What the metrics that are no means add up: without it two runs could not be paired."""
    found = {m.name: scores[m.name] for m in metrics if m.metric.interval == "bootstrap"}
    return {name: s.stats for name, s in found.items() if s is not None and s.status is Status.OK}


def estimate_task(
    scored: ScoredTask, *, seed: int
) -> tuple[dict[str, MetricResult], dict[str, dict[str, dict[str, MetricResult]]]]:
    """The metrics of a task over all examples, and for each value of each slice."""
    everything = range(len(scored.slices))
    fields = dict.fromkeys(name for values in scored.slices for name in values)
    slices: dict[str, dict[str, dict[str, MetricResult]]] = {}
    for field in fields:
        members: dict[str, list[int]] = {}
        for index, values in enumerate(scored.slices):
            members.setdefault(values[field], []).append(index)
        slices[field] = {
            value: _estimates(scored, members[value], seed) for value in sorted(members)
        }
    return _estimates(scored, everything, seed), slices


def _estimates(scored: ScoredTask, indices: Sequence[int], seed: int) -> dict[str, MetricResult]:
    results = {}
    for m in scored.metrics:
        groups = [scored.scores[m.name][i] for i in indices]
        found, judged = _finished(m, groups, seed)
        results[m.name] = MetricResult(
            estimate=found,
            judged=judged,
            higher_is_better=m.metric.higher_is_better,
            signature=m.signature,
            interval=m.metric.interval,
            missing=_missing(m.metric, groups),
        )
    return results


def _finished(
    m: NamedMetric, groups: Sequence[ExampleScores], seed: int
) -> tuple[Estimate, Judged | None]:
    found = estimate(m.metric, groups, seed=seed)
    return (found, None) if m.finish is None else m.finish(found, groups)


def _missing(metric: Metric, groups: Sequence[ExampleScores]) -> tuple[float, float]:
    """The least and the most favourable value that an example without a score could have had.

    nan for a metric that is no mean: there it takes the example's statistics to say.
    """
    if metric.interval == "bootstrap" or not groups:
        return math.nan, math.nan
    ends = [metric.missing(group.outcome) for group in groups]
    worst, best = {worst.value for worst, _ in ends}, {best.value for _, best in ends}
    return (min(worst), max(best)) if metric.higher_is_better else (max(worst), min(best))


def estimate_group(
    group: Group,
    tasks: Mapping[str, ScoredTask],
    results: Mapping[str, Mapping[str, MetricResult]],
    *,
    seed: int,
) -> GroupResult:
    """What a group's tasks say together, for each metric that all of them have alike.

    Over all examples under the metric's own name, and as the mean over tasks as ``macro_<name>``.
    """
    names = [name for name in group.tasks if name in tasks]
    metrics: dict[str, MetricResult] = {}
    for m in tasks[names[0]].metrics:
        alike = [results[name].get(m.name) for name in names]
        found = [a for a in alike if a is not None and a.signature == m.signature]
        if len(found) < len(names):
            continue
        pooled = [scores for name in names for scores in tasks[name].scores[m.name]]
        better = m.metric.higher_is_better
        estimate_of_all, judged = _finished(m, pooled, seed)
        metrics[m.name] = MetricResult(
            estimate=estimate_of_all,
            judged=judged,
            higher_is_better=better,
            signature=m.signature,
        )
        metrics[f"macro_{m.name}"] = MetricResult(
            estimate=mean_of_tasks([f.estimate for f in found]),
            higher_is_better=better,
            signature=f"mean over tasks|{m.signature}",
        )
    return GroupResult(tasks=tuple(names), metrics=metrics)
