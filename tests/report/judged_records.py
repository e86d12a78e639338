"""Run records with judges, for the report's tests: every standing, and one that is all hostile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from report_records import hostile_record, metric, record, task, text_row

from evalkit.record import ExampleRow, GroupResult, Judged, MetricResult, RunRecord, TaskResult
from evalkit.types import Estimate, Status, Verdict

IDENTITY = {
    "rubric_sha256": "b7" * 32,
    "model": "sha256:" + "9e" * 32,
    "method": "logits",
    "layout": "chat",
    "sampling": {"max_tokens": 200, "temperature": 0.0},
}
NOTES = {
    "calibrated": "corrected by 60 people's labels of this run's responses",
    "uncalibrated": "judge local:smollm2-135m was not compared with people on chat_pairwise",
    "stale": "calibration safety--smollm2.json is stale: how verdicts are read has changed; "
    "calibrate again",
    "refused": "calibration creative--smollm2.json refuses this judge: it is no better than chance",
}
FILES = {
    "calibrated": "calibration summary_quality--smollm2.json",
    **{word: note for word, note in NOTES.items() if word != "calibrated"},
}


def judged_metric(
    value: float,
    low: float,
    high: float,
    *,
    status: str,
    ends: tuple[float, float] = (1.0, 5.0),
    note: str | None = None,
    method: str = "ppi++",
) -> MetricResult:
    """A judge's metric; one that is calibrated is 0.4 below what the judge alone gives."""
    found = metric(value, low, high, n=40, method=method if status == "calibrated" else "t")
    is_corrected = status == "calibrated"
    judged = Judged(
        status=status,
        note=NOTES.get(status, status) if note is None else note,
        raw=alone(value + 0.4, low + 0.45, high + 0.35) if is_corrected else found.estimate,
        labels_only=(value + 0.05, low - 0.2, high + 0.3) if is_corrected else None,
        n_labels=60 if is_corrected else 0,
        lam=0.62 if is_corrected else math.nan,
        calibration={"file": "summary_quality--smollm2.json"} if is_corrected else {},
    )
    return replace(found, judged=judged, interval="mean", missing=ends, signature="judge:x|v1")


def alone(value: float, low: float, high: float) -> Estimate:
    """What a judge alone gives."""
    return metric(value, low, high, n=40, method="t").estimate


def figure(value: float | None, low: float | None, high: float | None, n: int) -> dict[str, Any]:
    """A figure as a calibration has it."""
    return {"value": value, "low": low, "high": high, "n": n, "method": "bootstrap-bca"}


def figures() -> dict[str, Any]:
    """Figures of one criterion: of each form that a calibration may have, and one unknown."""
    bins = [
        {
            "low": k / 5,
            "high": (k + 1) / 5,
            "confidence": k / 5 + 0.1,
            "frequency": figure(k / 5 + 0.05, k / 5, k / 5 + 0.2, 24),
            "band": [k / 5, k / 5 + 0.2],
        }
        for k in range(5)
    ]
    return {
        "counts": {"n_items": 120, "n_labels": 360, "n_annotators": 3, "n_abstained": 2},
        "abstained": figure(0.016, 0.003, 0.058, 122),
        "agreement": {
            "agreement": figure(0.61, 0.52, 0.69, 120),
            "kappa_quadratic": figure(0.583, 0.47, 0.68, 120),
            "pearson": figure(0.597, 0.471, 0.699, 120),
            "alpha": figure(-0.12, -0.3, 0.08, 120),
        },
        "with_each": {
            "ann-1": {"kappa": figure(0.44, 0.31, 0.57, 120), "pearson": figure(0.5, 0.4, 0.6, 99)},
            "ann-2": {"kappa": figure(0.39, 0.25, 0.52, 118), "pearson": figure(0.4, 0.3, 0.5, 98)},
        },
        "discrimination": figure(0.41, 0.28, None, 120) | {"threshold": 0.2, "is_passed": True},
        "confusion": {
            "values": [1, 2, 3, 4, 5],
            "rows": [
                [9, 4, 1, 0, 0],
                [3, 11, 6, 1, 0],
                [0, 5, 21, 9, 2],
                [0, 1, 8, 19, 5],
                [0, 0, 1, 6, 8],
            ],
        },
        "errors": {
            "map": "affine",
            "raw": {"rmse": 1.91, "bias": 1.3, "mae": figure(1.7, 1.6, 1.8, 120)},
            "mapped": {"rmse": 0.62, "bias": 0.01, "mae": figure(0.47, 0.42, 0.53, 120)},
        },
        "reliability": {"n": 120, "ece": figure(0.08, 0.05, 0.13, 120), "bins": bins},
        "ranking": {
            "systems": ["gpt-x", "tiny"],
            "people": {
                "strengths": [figure(0.4, 0.1, 0.7, 60), figure(-0.4, -0.7, -0.1, 60)],
                "ranks": [[1, 1], [2, 2]],
            },
        },
        "never_heard_of": {"deep": {"deeper": 0.25}},
    }


def calibration(*, is_accepted: bool = True) -> dict[str, Any]:
    """A calibration's summary as a record has it."""
    reasons = (
        ["it tells good from bad as people do: correlation 0.597, over 120 items"]
        if is_accepted
        else ["it is no better than chance: right in 50.5 % of 100 pairs [40.8 – 60.1]"]
    )
    criterion = {
        "is_accepted": is_accepted,
        "reasons": reasons,
        "map": {"kind": "affine", "slope": 0.81, "intercept": 0.12},
        "figures": figures(),
    }
    return {
        "format": "evalkit.calibration/1",
        "rubric": "summary_quality",
        "rubric_version": 1,
        "judge": "local:smollm2-135m",
        "identity": IDENTITY,
        "labels": {
            "n_items": 120,
            "n_labels": 360,
            "n_annotators": 3,
            "design": "random",
            "files": {"labels.jsonl": "4c" * 32},
        },
        "created": "2026-03-01",
        "evalkit": "0.1.0",
        "seed": 0,
        "criteria": {
            "coherence": criterion,
            "faithfulness": criterion | {"figures": {"pearson": figure(0.7, 0.6, 0.8, 120)}},
        },
        "audit": {
            "length": figure(0.12, -0.03, 0.27, 120),
            "padding": {"change": figure(0.31, 0.2, 0.42, 60), "flips": figure(0.2, 0.1, 0.3, 60)},
        },
        "is_accepted": is_accepted,
    }


def judge(status: str, **changes: Any) -> dict[str, Any]:
    """What a record says of a judge."""
    found: dict[str, Any] = {
        "spec": "local:smollm2-135m",
        "identity": IDENTITY,
        "standing": status,
        "note": FILES.get(status, status),
    }
    if status != "uncalibrated":
        found["calibration"] = calibration(is_accepted=status != "refused")
    return found | changes


def graded(value: float, *, status: Status = Status.OK) -> Verdict:
    """A verdict of 1 to 5 with probabilities and reasons."""
    if status is not Status.OK:
        return Verdict(value=math.nan, status=status, problem="no label has any probability")
    return Verdict(
        value=value,
        choice=4.0,
        probabilities={"1": 0.02, "2": 0.08, "3": 0.25, "4": 0.4, "5": 0.25},
        missing_mass=0.031,
        reason="The summary keeps to the source and leaves out nothing that matters.",
        key="k",
    )


def pair(first: float, second: float) -> Verdict:
    """A verdict on a pair, judged in both orders."""
    share = 0.2 + 0.3 * (first + second)
    return Verdict(
        value=share,
        choice=first if first == second else 0.5,
        probabilities={"A": share, "B": 1 - share},
        missing_mass=0.002,
        orders=(first, second),
        key="k",
    )


def panel(*members: Verdict) -> Verdict:
    """A verdict of several judges."""
    value = math.fsum(m.value for m in members) / len(members)
    orders = tuple(math.fsum(m.orders[k] for m in members) / len(members) for k in (0, 1))
    return Verdict(value=value, choice=value, orders=orders, members=members, key="k")


def judged_row(i: int, task_name: str, verdicts: Mapping[str, Verdict]) -> ExampleRow:
    """A response with what judges said of it."""
    scores = {name: v.value for name, v in verdicts.items() if v.status is Status.OK}
    return text_row(
        i,
        task=task_name,
        target="",
        targets=(),
        extracted=None,
        prompt=f"Summarise in one sentence: the committee met {i} times.",
        response=f"The committee met {i} times and agreed on a date.",
        status="ok" if scores else "abstained",
        scores=scores,
        verdicts=dict(verdicts),
    )


def judged_record() -> RunRecord:
    """A run with a judge of each standing, alone and in a group."""
    summaries = {
        "rouge1": metric(0.31, 0.27, 0.35, n=40, method="bootstrap-bca"),
        "summary_quality.coherence": judged_metric(3.42, 3.11, 3.73, status="calibrated"),
        "summary_quality.faithfulness": judged_metric(3.9, 3.6, 4.2, status="calibrated"),
        "summary_quality": judged_metric(3.66, 3.4, 3.9, status="calibrated"),
    }
    slices = {
        "source": {
            "news": {k: summaries[k] for k in ("rouge1", "summary_quality")},
            "mail": {
                "rouge1": metric(0.29, 0.22, 0.36, n=20, method="bootstrap-bca"),
                "summary_quality": judged_metric(
                    3.1, 2.6, 3.6, status="uncalibrated", note="it could not be applied: 3 labels"
                ),
            },
        }
    }
    unit = (0.0, 1.0)
    chat = {
        "chat_pairwise": judged_metric(0.55, 0.43, 0.67, status="uncalibrated", ends=unit),
        "safety": judged_metric(0.91, 0.84, 0.96, status="stale", ends=unit),
    }
    stories = {
        "creative.empathy": judged_metric(2.2, 1.9, 2.5, status="refused"),
        "creative.surprise": judged_metric(3.0, 2.7, 3.3, status="refused"),
        "creative": judged_metric(2.6, 2.4, 2.8, status="refused"),
    }
    members = panel(pair(1.0, 1.0), pair(1.0, 0.0))
    rows = [
        judged_row(0, "summaries", {f"summary_quality.{c}": graded(3.4) for c in CRITERIA}),
        judged_row(1, "summaries", {"summary_quality": graded(0, status=Status.ABSTAINED)}),
        judged_row(2, "chat", {"chat_pairwise": pair(1.0, 0.0), "safety": graded(0.9)}),
        judged_row(3, "chat", {"chat_pairwise": members}),
    ]
    return record(
        {
            "summaries": judged_task(
                summaries, {"summary_quality": judge("calibrated")}, slices=slices
            ),
            "chat": judged_task(
                chat,
                {
                    "chat_pairwise": judge(
                        "uncalibrated",
                        spec="[local:a, local:b]",
                        identity={"vote": "mean", "members": [IDENTITY, IDENTITY]},
                    ),
                    "safety": judge("stale"),
                },
            ),
            "stories": judged_task(stories, {"creative": judge("refused")}),
        },
        rows,
        groups={
            "open_ended": GroupResult(
                tasks=("chat",),
                metrics={
                    "chat_pairwise": chat["chat_pairwise"],
                    "macro_chat_pairwise": metric(0.55, 0.43, 0.67, n=40, method="t"),
                },
            )
        },
    )


CRITERIA = ("coherence", "faithfulness")


def judged_task(
    metrics: Mapping[str, MetricResult], judges: Mapping[str, Any], **changes: Any
) -> TaskResult:
    """A task with judges."""
    return task(metrics, judges=judges, n_examples=40, description="", **changes)


def hostile_judged_record(text: str) -> RunRecord:
    """The hostile record with a judge, every text of which is ``text`` too."""
    run = hostile_record(text)
    [name] = run.tasks
    one = Verdict(
        value=0.5,
        probabilities={text: 0.5, "other": 0.5},
        orders=(1.0, 0.0),
        missing_mass=0.1,
        reason=text,
        problem=text,
        key=text,
    )
    verdict = replace(one, members=(one, replace(one, status=Status.ERROR)))
    found = {**calibration(), "audit": {text: figures()}, "labels": {text: text}, "design": text}
    found["criteria"] = {
        text: {
            "is_accepted": False,
            "reasons": [text],
            "map": {text: text},
            "figures": {text: {text: figure(0.5, 0.4, 0.6, 9) | {"method": text, text: text}}},
        }
    }
    judged = judge(text, spec=text, identity={text: text, "method": text}, calibration=found)
    number = judged_metric(0.5, 0.4, 0.6, status=text, note=text)
    corrected = judged_metric(0.5, 0.4, 0.6, status="calibrated", note=text)
    task_result = replace(
        run.tasks[name],
        judges={text: judged},
        metrics={text: number, f"{text}.a": corrected, "other": number},
        slices={text: {text: {text: number}}},
    )
    rows = [replace(row, verdicts={text: verdict}) for row in run.read_rows()]
    return replace(run, tasks={name: task_result}, rows=rows)
