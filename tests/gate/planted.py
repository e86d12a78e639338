"""Pairs of runs with a change planted in the candidate, and the policy that must see it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.compare import Side, open_side
from evalkit.gate import Policy
from evalkit.record import ExampleRow, Judged, MetricResult, RunRecord, TaskResult
from evalkit.types import Estimate, IntervalKind, ModelInfo
from evalkit.types import Verdict as JudgeVerdict

Score = float | str | None  # None: the request failed; a text: the metric abstained
Scores = Sequence[Score]

N = 500
RIGHT = [1.0] * 400 + [0.0] * 100  # of the baseline: 80 % of 500
POLICY = "gate: planted\nchecks:\n  - {task: t, metric: m, margin: 0.05, reason: users notice}\n"


def record_of(
    scores: Scores | Mapping[str, Scores] | Mapping[str, Sequence[Scores]],
    *,
    id: str = "run",
    interval: IntervalKind = "proportion",
    ids: Sequence[str] | None = None,
    contents: Mapping[int, str] | None = None,
    clusters: Sequence[str] | None = None,
    slices: Mapping[str, Sequence[str]] | None = None,
    status: str = "complete",
    labels: Mapping[int, float] | None = None,
    **changes: Any,
) -> RunRecord:
    """A run of one task ``t`` whose metrics (one: ``m``) have these scores.

    ``contents`` replaces the content of some rows; ``labels`` are what people said of some, beside
    the scores of a judge; the other arguments are those of the task, the
    metric or the record. With a sequence of scores for an example, each is a repeat.
    """
    by_metric = scores if isinstance(scores, Mapping) else {"m": scores}
    n = len(next(iter(by_metric.values())))
    names = [f"e{i}" for i in range(n)] if ids is None else ids
    rows = []
    for place in range(n):
        content = (contents or {}).get(place, names[place])
        own = {name: _repeats(values[place]) for name, values in by_metric.items()}
        for repeat in range(len(next(iter(own.values())))):
            found = {name: values[repeat] for name, values in own.items()}
            rows.append(
                ExampleRow(
                    task="t",
                    example_id=names[place],
                    example_sha256=hashlib.sha256(content.encode("utf-8", "replace")).hexdigest(),
                    repeat=repeat,
                    status="error" if None in found.values() else "ok",
                    cluster=None if clusters is None else clusters[place],
                    slices={field: values[place] for field, values in (slices or {}).items()},
                    scores={k: v for k, v in found.items() if isinstance(v, float)},
                    verdicts={} if labels is None else {"m": _verdict(labels.get(place))},
                )
            )
    task = task_of(by_metric, n=n, interval=interval, slices=slices or {}, **changes)
    return RunRecord(
        id=id,
        status=status,  # type: ignore[arg-type]
        evalkit="0.1.0",
        created="2026-03-14T09:26:53+00:00",
        seed=0,
        command="",
        model=ModelInfo(spec="test:function", fingerprint="sha256:0"),
        tasks={"t": task},
        rows=rows,
    )


def _verdict(label: float | None) -> JudgeVerdict:
    return JudgeVerdict(value=0.0, human=float("nan") if label is None else label)


def _repeats(own: Any) -> Sequence[Score]:
    return own if isinstance(own, list | tuple) else [own]


def task_of(
    metrics: Mapping[str, Any],
    *,
    n: int,
    interval: IntervalKind,
    slices: Mapping[str, Sequence[str]],
    **changes: Any,
) -> TaskResult:
    """A task of which only what a gate reads matters."""
    undefined = dict.fromkeys(("value", "stderr", "low", "high", "worst", "best"), float("nan"))
    estimate = Estimate(
        **undefined, method="wilson", n_total=n, n_scored=n, n_error=0, n_abstained=0
    )
    result = MetricResult(
        estimate=estimate,
        higher_is_better=changes.pop("higher_is_better", True),
        signature=changes.pop("signature", "m"),
        interval=interval,
        missing=changes.pop("missing", (0.0, 1.0)),
        judged=changes.pop("judged", None),
    )
    spec = {"task": "t", "version": 1, "prompt": "x", "target": "y", "request": "generate"}
    spec |= {"metrics": [{"metric": name} for name in metrics]}
    spec |= changes.pop("spec", {})
    values: dict[str, Any] = {
        "version": 1,
        "description": "",
        "spec": spec,
        "spec_sha256": "",
        "dataset": {},
        "dataset_sha256": "",
        "n_examples": n,
        "num_fewshot": 0,
        "repeats": 1,
        "metrics": dict.fromkeys(metrics, result),
        # a record's slices: field -> value -> metrics; a gate reads the fields alone
        "slices": {field: {} for field in slices},
    }
    return TaskResult(**(values | changes))


def judged(status: str, note: str = "") -> Judged:
    """What is known of the judge of a metric."""
    undefined = dict.fromkeys(("value", "stderr", "low", "high", "worst", "best"), float("nan"))
    raw = Estimate(**undefined, method="t", n_total=0, n_scored=0, n_error=0, n_abstained=0)
    return Judged(status=status, note=note, raw=raw)


def with_judge(record: RunRecord, folder: Path, judge: Mapping[str, Any]) -> Path:
    """The record, written, with what identifies the judge of its metric."""
    written = record.write(folder)
    assert written.folder is not None
    path = written.folder / "run.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["tasks"]["t"]["judges"] = {"m": {"identity": judge}}
    path.write_text(json.dumps(data), encoding="utf-8")
    return written.folder


def changed(n_lost: int, n_gained: int, *, n_error: int = 0) -> list[Score]:
    """The baseline's scores with some right ones lost, some wrong ones gained, some unanswered."""
    scores: list[Score] = list(RIGHT)
    scores[:n_lost] = [0.0] * n_lost
    scores[400 : 400 + n_gained] = [1.0] * n_gained
    scores[N - n_error :] = [None] * n_error
    return scores


# name -> (candidate, verdict, reason, exit code) beside RIGHT, margin .05, 95 % one-sided
PLANTED: Mapping[str, tuple[RunRecord, str, str, int]] = {
    "no change": (record_of(RIGHT), "pass", "within_margin", 0),
    "noise, as much lost as gained": (
        record_of(changed(12, 12)),
        *("pass", "within_margin", 0),
    ),
    "a small real drop, by 2 points": (record_of(changed(10, 0)), "pass", "small_drop", 0),
    "a drop by about the margin": (record_of(changed(25, 0)), "regression", "drop", 1),
    "a big drop": (record_of(changed(80, 5)), "regression", "drop", 1),
    "an improvement": (record_of(changed(0, 30)), "pass", "within_margin", 0),
    "much noise": (record_of(changed(60, 45)), "inconclusive", "too_few", 3),
    "one row edited": (
        record_of(RIGHT, contents={7: "another question"}),
        *("not_comparable", "different", 4),
    ),
    "5 % errors": (record_of(changed(0, 0, n_error=25)), "regression", "errors", 1),
    "5 % errors and much better else": (
        record_of(changed(0, 75, n_error=25)),
        *("regression", "errors", 1),
    ),
    "1 % errors": (record_of(changed(0, 0, n_error=5)), "pass", "within_margin", 0),
    "another sampling": (
        record_of(RIGHT, spec={"generate": {"temperature": 0.7}}),
        *("not_comparable", "different", 4),
    ),
    "another version of the task": (
        record_of(RIGHT, version=2),
        *("not_comparable", "different", 4),
    ),
    "another metric by the same name": (
        record_of(RIGHT, signature="m|case:lower"),
        *("not_comparable", "different", 4),
    ),
}


def policy_of(margin: float = 0.05, **changes: Any) -> Policy:
    """A policy with one check of the planted task."""
    check = {"task": "t", "metric": "m", "margin": margin} | changes.pop("check", {})
    return Policy.model_validate({"gate": "planted", "checks": [check]} | changes)


def sides(a: RunRecord, b: RunRecord) -> tuple[Side, Side]:
    """Both records as sides."""
    return open_side(a), open_side(b)
