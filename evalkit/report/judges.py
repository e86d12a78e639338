"""The judges of a task as they are shown: who judged, and what is known of them beside people."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from evalkit.record import Judged, MetricResult, TaskResult
from evalkit.report.facts import Fact, flatten
from evalkit.report.figure_tables import FigureTable, figure_tables
from evalkit.report.figures import FigureRow, axis_of, figure_row
from evalkit.report.numerals import format_level, format_number, number_or_nan
from evalkit.report.standing import CALIBRATED, Standing

_METHODS: Mapping[str, str] = {
    "logits": "by the probabilities of the labels",
    "text": "read from what the judge writes",
    "reward": "the number of a reward model",
    "replay": "looked up in a file of recorded verdicts",
}
_LAYOUTS: Mapping[str, str] = {
    "chat": "with the model's chat template",
    "plain": "as plain text",
}
_SENTENCES: Mapping[str, str] = {
    "calibrated": "People's labels speak for this judge.",
    "uncalibrated": "Nobody has compared this judge with people under this rubric: its numbers "
    "say what the judge thinks, not what people would say.",
    "stale": "This judge was compared with people once, but that no longer holds: its numbers say "
    "what the judge thinks, not what people would say.",
    "refused": "People's labels speak against this judge: its numbers do not say what people "
    "would say.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionView:
    """What a calibration found of one criterion."""

    name: str
    is_accepted: bool
    reasons: tuple[str, ...]
    interval: str  # the heading of intervals: their level, where it is known
    tables: tuple[FigureTable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationView:
    """A judge held against people."""

    facts: tuple[Fact, ...]  # whose labels, when, how many
    criteria: tuple[CriterionView, ...]
    audit: tuple[FigureTable, ...]  # what moves the judge other than quality


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedNumber:
    """One corrected metric: the corrected value, the labels alone and the judge alone."""

    metric: str
    rows: tuple[FigureRow, ...]
    axis: tuple[float, float] | None
    interval: str  # the heading of the intervals
    share: str  # of the judge in the estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeView:
    """A rubric of a task and the judge that was asked."""

    rubric: str
    spec: str
    standing: Standing
    sentence: str
    facts: tuple[Fact, ...]
    fingerprints: tuple[Fact, ...]
    command: str  # that compares the judge with people; "" where a calibration holds
    numbers: tuple[JudgedNumber, ...]
    calibration: CalibrationView | None


def judge_views(task: TaskResult) -> tuple[JudgeView, ...]:
    """The judges of a task, by rubric."""
    return tuple(
        _judge_view(rubric, judge, task.metrics)
        for rubric, judge in task.judges.items()
        if isinstance(judge, Mapping)
    )


def metrics_of_rubric(rubric: str, metrics: Iterable[str]) -> list[str]:
    """Those of some metrics that are a rubric's: its whole and its criteria."""
    return [name for name in metrics if name == rubric or name.startswith(f"{rubric}.")]


def _judge_view(
    rubric: str, judge: Mapping[str, Any], metrics: Mapping[str, MetricResult]
) -> JudgeView:
    spec, word = str(judge.get("spec", "")), str(judge.get("standing", "uncalibrated"))
    identity = _mapping(judge.get("identity"))
    calibration = judge.get("calibration")
    judged = {name: metrics[name].judged for name in metrics_of_rubric(rubric, metrics)}
    corrected = {k: j for k, j in judged.items() if j is not None and j.status == CALIBRATED}
    command = shlex.join(["evalkit", "calibrate", rubric, "--labels", "FILE", "--judge", spec])
    return JudgeView(
        rubric=rubric,
        spec=spec,
        standing=Standing(word=word, note=str(judge.get("note", ""))),
        sentence=_SENTENCES.get(word, ""),
        facts=tuple(_facts(spec, identity)),
        fingerprints=tuple(_in_words(flatten(_numbered(identity)))),
        command="" if word in (CALIBRATED, "refused") else command,
        numbers=tuple(_number(name, metrics[name], one) for name, one in corrected.items()),
        calibration=_calibration(calibration) if isinstance(calibration, Mapping) else None,
    )


def _facts(spec: str, identity: Mapping[str, Any]) -> list[Fact]:
    facts = [Fact(name="judge", text=spec)]
    for key, name, texts in (
        ("method", "verdicts", _METHODS),
        ("layout", "prompt", _LAYOUTS),
        ("vote", "panel's vote", {}),
    ):
        if identity.get(key):
            text = str(identity[key])
            facts.append(Fact(name=name, text=texts.get(text, text)))
    members = identity.get("members")
    if isinstance(members, list | tuple):
        facts.append(Fact(name="members", text=str(len(members))))
    sampling = flatten(_mapping(identity.get("sampling")))
    return facts + [replace(f, name=f"reasons: {f.name}") for f in _in_words(sampling)]


def _numbered(identity: Mapping[str, Any]) -> Mapping[str, Any]:
    """The identity with the members of a panel by number."""
    return {
        key: {str(i): one for i, one in enumerate(value, start=1)}
        if isinstance(value, list | tuple)
        else value
        for key, value in identity.items()
    }


def _number(metric: str, result: MetricResult, judged: Judged) -> JudgedNumber:
    found, raw = result.estimate, judged.raw
    rows = [figure_row("corrected", _figure(found.value, found.low, found.high, found.n_scored))]
    if judged.labels_only is not None:
        rows.append(figure_row("labels only", _figure(*judged.labels_only, judged.n_labels)))
    rows.append(figure_row("judge alone", _figure(raw.value, raw.low, raw.high, raw.n_scored)))
    share = "" if math.isnan(judged.lam) else format_number(judged.lam, "number")
    ends = result.missing if all(map(math.isfinite, result.missing)) else axis_of(rows)
    interval = f"{format_level(found.level)} interval"
    return JudgedNumber(metric=metric, rows=tuple(rows), axis=ends, interval=interval, share=share)


def _figure(value: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n}


_SHOWN_ELSEWHERE = frozenset(
    {"format", "rubric", "judge", "identity", "labels", "criteria", "audit", "is_accepted"}
)


def _calibration(data: Mapping[str, Any]) -> CalibrationView:
    rest = {key: value for key, value in data.items() if key not in _SHOWN_ELSEWHERE}
    return CalibrationView(
        facts=tuple(_in_words([*flatten(_mapping(data.get("labels"))), *flatten(rest)])),
        criteria=tuple(
            _criterion(str(name), one)
            for name, one in _mapping(data.get("criteria")).items()
            if isinstance(one, Mapping)
        ),
        audit=figure_tables(_mapping(data.get("audit"))),
    )


def _criterion(name: str, data: Mapping[str, Any]) -> CriterionView:
    reasons = data.get("reasons")
    rest = {k: v for k, v in data.items() if k not in ("is_accepted", "reasons", "figures", "map")}
    figures = dict(_mapping(data.get("figures")))
    level = number_or_nan(figures.pop("level", None))
    shown = figures | {key: value for key, value in rest.items() if key not in figures}
    mapped = _mapping(data.get("map"))
    tables = list(figure_tables(shown))
    if mapped:
        facts = tuple(flatten(mapped))
        tables.append(
            FigureTable(title="Map to people's scale", rows=(), axis=None, grids=(), facts=facts)
        )
    return CriterionView(
        name=name,
        is_accepted=data.get("is_accepted") is True,
        reasons=tuple(map(str, reasons)) if isinstance(reasons, list | tuple) else (),
        interval="Interval" if math.isnan(level) else f"{format_level(level)} interval",
        tables=tuple(tables),
    )


def _in_words(facts: Iterable[Fact]) -> Iterator[Fact]:
    """Facts with their keys as words."""
    for fact in facts:
        yield replace(fact, name=fact.name.removeprefix("n_").replace("_", " "))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
