"""Runs to compare: real ones, answered by a function, and records made of given scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from answering import Answering, fail, say

import evalkit
from evalkit.record import ExampleRow, MetricResult, RunRecord, TaskResult
from evalkit.types import Estimate, ModelInfo, Request, Response

TASK = (
    "task: words\nversion: 1\ndataset: {path: words.jsonl}\nprompt: 'Say {{ text }}'\n"
    "target: '{{ text }}'\nrequest: generate\nmetrics: [exact_match, token_f1]\n"
)
Say = Callable[[str], str | None]  # the text of a row -> the answer; None: no answer came


def write_task(folder: Path, rows: Sequence[Mapping[str, Any]], spec: str = TASK) -> Path:
    """A task file with its rows beside it."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "words.jsonl").write_text(text, encoding="utf-8")
    (folder / "words.yaml").write_text(spec, encoding="utf-8")
    return folder / "words.yaml"


def rows_of(texts: Sequence[str], **columns: Sequence[Any]) -> list[dict[str, Any]]:
    """A row for each text, with an id."""
    return [
        {"id": f"w{i}", "text": text} | {name: values[i] for name, values in columns.items()}
        for i, text in enumerate(texts)
    ]


def run_words(task: Path, answer: Say, **options: Any) -> RunRecord:
    """A run of a task whose prompt ends with the text, answered by a function of that text."""

    def respond(request: Request) -> Response:
        said = answer(str(request.prompts[0]).rpartition("Say ")[2])
        return fail() if said is None else say(said)

    return evalkit.evaluate(str(task), Answering(respond), **options)


Scores = Sequence[float | None]  # None: the request failed


def record_of(
    scores: Scores | Sequence[Scores],
    *,
    ids: Sequence[int] | None = None,
    interval: str = "proportion",
    clusters: Sequence[str | None] | None = None,
    **changes: Any,
) -> RunRecord:
    """A record of one task and one metric with these scores; a row of several: repeats."""
    numbers = range(len(scores)) if ids is None else ids
    rows = []
    for place, (number, own) in enumerate(zip(numbers, scores, strict=True)):
        for repeat, score in enumerate(own if isinstance(own, Sequence) else [own]):
            rows.append(
                ExampleRow(
                    task="t",
                    example_id=str(number),
                    example_sha256=hashlib.sha256(str(number).encode()).hexdigest(),
                    repeat=repeat,
                    status="error" if score is None else "ok",
                    cluster=None if clusters is None else clusters[place],
                    scores={} if score is None else {"m": score},
                )
            )
    return RunRecord(
        id=changes.pop("id", "run"),
        status="complete",
        evalkit="0.1.0",
        created="",
        seed=0,
        command="",
        model=ModelInfo(spec="test:function", fingerprint="sha256:0"),
        tasks={"t": task_result(len(scores), interval=interval, **changes)},
        rows=rows,
    )


def task_result(n: int, *, interval: str = "proportion", **changes: Any) -> TaskResult:
    """A task with one metric, of which only the identity matters here."""
    undefined = dict.fromkeys(("value", "stderr", "low", "high", "worst", "best"), float("nan"))
    estimate = Estimate(
        **undefined, method="wilson", n_total=n, n_scored=n, n_error=0, n_abstained=0
    )
    metric = MetricResult(
        estimate=estimate,
        higher_is_better=changes.pop("higher_is_better", True),
        signature="m",
        interval=interval,  # type: ignore[arg-type]
        missing=changes.pop("missing", (0.0, 1.0)),
    )
    spec = {"task": "t", "version": 1, "prompt": "x", "target": "y", "request": "generate"}
    values: dict[str, Any] = {
        "version": 1,
        "description": "",
        "spec": spec | {"metrics": [{"metric": "m"}]},
        "spec_sha256": "",
        "dataset": {},
        "dataset_sha256": "",
        "n_examples": n,
        "num_fewshot": 0,
        "repeats": 1,
        "metrics": {"m": metric},
        "slices": {},
    }
    return TaskResult(**(values | changes))
