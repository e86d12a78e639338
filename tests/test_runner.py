"""A run: from task files to a record, whatever happens on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from answering import Answering, fail, likelihoods, say

import evalkit
from evalkit.errors import (
    EvalkitError,
    MetricError,
    NotFoundError,
    RecordError,
    SpecError,
    UsageError,
)
from evalkit.prepare import RunSpec, command_line
from evalkit.record import RunRecord
from evalkit.runner import Progress, run
from evalkit.types import Request, Response

GENERATE = (
    "task: sums\nversion: 2\ndataset: {path: rows.jsonl}\nprompt: '{{ question }}'\n"
    "target: '{{ answer }}'\nrequest: generate\nextract: last_number\n"
    "metrics: [exact_match]\nslices: [level]\n"
)
PICK = (
    "task: colours\nversion: 1\ndataset: {path: colours.jsonl}\nprompt: '{{ question }}'\n"
    "choices: '{{ choices }}'\ntarget: '{{ answer }}'\nrequest: choice\n"
    "metrics: [accuracy, brier]\n"
)
SUMS: list[dict[str, Any]] = [
    {
        "id": f"s{i}",
        "question": f"{i}+{i}?",
        "answer": str(2 * i),
        "level": "even" if i % 2 else "odd",
    }
    for i in range(10)
]
COLOURS = [
    {"id": "sky", "question": "The sky is", "choices": ["red", "blue"], "answer": 1},
    {"id": "grass", "question": "Grass is", "choices": ["green", "black"], "answer": 0},
]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two tasks and their rows; the current one."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "sums.yaml").write_text(GENERATE, encoding="utf-8")
    (folder / "colours.yaml").write_text(PICK, encoding="utf-8")
    for name, rows in (("rows", SUMS), ("colours", COLOURS)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(name: str, old: str, new: str) -> None:
    path = Path("tasks", name)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def add(request: Request) -> Response:
    """Right below 5+5, wrong from there on."""
    number = int(str(request.prompts[0]).split("+")[0])
    return say(f"It is {2 * number if number < 5 else 99}.")


def answer(request: Request) -> Response:
    if request.kind == "choice":
        return likelihoods(-2.0, -1.0)
    return add(request)


def test_a_run_scores_every_example_and_says_how_sure_it_is() -> None:
    record = evalkit.evaluate(["sums", "colours"], Answering(answer))
    found = record.tasks["sums"].metrics["exact_match"].estimate
    # Wilson 5/10: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), z = 1.959964
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.2366, 0.7634), abs=1e-4)
    assert (found.n_total, found.n_scored, found.method) == (10, 10, "wilson")
    assert record.tasks["colours"].metrics["accuracy"].estimate.value == 0.5
    # Brier over two choices: p = softmax(-2, -1) = (.2689, .7311); right: 2·.2689², wrong: 2·.7311²
    expected = (2 * 0.26894142**2 + 2 * 0.73105858**2) / 2
    assert record.tasks["colours"].metrics["brier"].estimate.value == pytest.approx(expected)
    assert record.status == "complete"


def test_slices_split_the_examples() -> None:
    slices = evalkit.evaluate("sums", Answering(answer)).tasks["sums"].slices["level"]
    values = {name: m["exact_match"].estimate.value for name, m in slices.items()}
    assert values == {"even": pytest.approx(2 / 5), "odd": pytest.approx(3 / 5)}


def test_a_failed_request_is_an_error_and_never_a_wrong_answer() -> None:
    def some_fail(request: Request) -> Response:
        return fail() if request.example_id in ("s0", "s9") else add(request)

    record = evalkit.evaluate("sums", Answering(some_fail))
    found = record.tasks["sums"].metrics["exact_match"].estimate
    assert (found.n_total, found.n_scored, found.n_error) == (10, 8, 2)
    assert (found.value, found.worst, found.best) == pytest.approx((4 / 8, 4 / 10, 6 / 10))
    assert record.usage["n_errors"] == 2
    row = next(row for row in record.read_rows() if row.example_id == "s0")
    assert (row.status, row.error_kind) == ("error", "context_length")
    assert (row.error_message, dict(row.scores)) == ("it does not fit", {})


def test_an_interrupted_run_keeps_what_was_answered_and_counts_the_rest(project: Path) -> None:
    record = evalkit.evaluate("sums", Answering(answer, stop_after=4), out=project / "runs")
    found = record.tasks["sums"].metrics["exact_match"].estimate
    assert (record.status, found.n_scored, found.n_error) == ("interrupted", 4, 6)
    assert (found.worst, found.best) == pytest.approx((0.0, 0.6))  # the last four are wrong
    assert record.folder is not None
    assert RunRecord.load(record.folder).status == "interrupted"


def test_a_backend_that_breaks_half_way_leaves_a_failed_record() -> None:
    record = evalkit.evaluate("sums", Answering(answer, fail_after=3))
    assert record.status == "failed"
    messages = {row.error_message for row in record.read_rows() if row.error_kind == "internal"}
    assert messages == {"the backend failed: RuntimeError: the device is gone"}


def test_the_same_run_twice_gives_the_same_bytes(project: Path) -> None:
    folders = []
    for _ in range(2):
        record = evalkit.evaluate(["sums", "colours"], Answering(answer), out=project / "runs")
        assert record.folder is not None
        folders.append(record.folder)
    one, other = (json.loads((f / "run.json").read_text()) for f in folders)
    for data in (one, other):
        for name in ("id", "created", "timing"):
            del data[name]
    assert json.dumps(one) == json.dumps(other)
    assert folders[0].joinpath("examples.parquet").read_bytes() == (
        folders[1].joinpath("examples.parquet").read_bytes()
    )


def test_a_record_is_read_back_as_it_was_written(project: Path) -> None:
    record = evalkit.evaluate(["sums", "colours"], Answering(answer), out=project / "runs")
    assert record.folder is not None
    loaded = RunRecord.load(record.folder)
    pd.testing.assert_frame_equal(loaded.to_frame(), record.to_frame())
    assert loaded.to_json() == record.to_json()
    rows = [replace(row, latency_s=0.0) for row in record.read_rows()]
    assert [replace(row, latency_s=0.0) for row in loaded.read_rows()] == rows


def test_the_record_has_the_columns_of_its_contract(project: Path) -> None:
    frame = evalkit.evaluate(["sums", "colours"], Answering(answer)).to_frame()
    contract = (
        "task example_id example_sha256 repeat status error_kind prompt target response "
        "choice_logprobs score.exact_match score.accuracy n_prompt_tokens n_completion_tokens "
        "latency_s cached"
    )
    assert set(contract.split()) <= set(frame.columns)
    sky = frame.set_index("example_id").loc["sky"]
    assert (sky["response"], sky["target"], list(sky["choice_logprobs"])) == (
        "blue",
        "blue",
        [-2, -1],
    )


def test_repeats_are_averaged_within_their_example() -> None:
    def sometimes(request: Request) -> Response:
        return add(request) if request.repeat == 0 else say("99")

    record = evalkit.evaluate("sums", Answering(sometimes), repeats=2)
    found = record.tasks["sums"].metrics["exact_match"].estimate
    assert (found.n_total, found.value) == (10, 0.25)
    assert len(record.read_rows()) == 20


def test_pipelines_name_their_metrics() -> None:
    new = "pipelines: {last: last_number, strict: {regex: '^(\\d+)$'}}\n"
    edit("sums.yaml", "extract: last_number\n", new)
    metrics = evalkit.evaluate("sums", Answering(answer)).tasks["sums"].metrics
    values = {name: m.estimate.value for name, m in metrics.items()}
    assert values == {"exact_match@last": 0.5, "exact_match@strict": 0.0}


def test_a_group_is_scored_over_examples_and_over_tasks() -> None:
    Path("tasks", "both.yaml").write_text(
        "group: both\nversion: 1\nmembers: [even, odd]\ntask:\n"
        "  dataset: {path: rows.jsonl, where: {level: '${member}'}}\n"
        "  prompt: '{{ question }}'\n  target: '{{ answer }}'\n  request: generate\n"
        "  extract: last_number\n  metrics: [exact_match]\n",
        encoding="utf-8",
    )
    edit(
        "rows.jsonl",
        '"s9", "question": "9+9?", "answer": "18", "level": "even"',
        '"s9", "question": "9+9?", "answer": "18", "level": "odd"',
    )
    record = evalkit.evaluate("both", Answering(answer))
    metrics = record.groups["both"].metrics
    # even: 1+1, 3+3 right of 4; odd: 0, 2, 4 right of 6
    assert metrics["exact_match"].estimate.value == pytest.approx(5 / 10)
    assert metrics["macro_exact_match"].estimate.value == pytest.approx((2 / 4 + 3 / 6) / 2)
    assert record.groups["both"].tasks == ("both_even", "both_odd")


def test_a_local_file_stands_in_for_the_rows_of_a_task(project: Path) -> None:
    path = project / "mine.csv"
    path.write_text("question,answer,level\n1+1?,2,x\n7+7?,14,x\n", encoding="utf-8")
    record = evalkit.evaluate("sums", Answering(answer), datasets={"sums": path})
    assert record.tasks["sums"].metrics["exact_match"].estimate.value == 0.5
    with pytest.raises(NotFoundError, match="no such task in this run: 'sum'; did you mean 'sums'"):
        evalkit.evaluate("sums", Answering(answer), datasets={"sum": path})


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        (
            "[exact_match]",
            "[exact_mach]",
            SpecError,
            r"sums\.yaml:8: no such metric: 'exact_mach'",
        ),
        (
            "[exact_match]",
            "[accuracy]",
            SpecError,
            r"sums\.yaml:8: metric 'accuracy' is for",
        ),
        ("[exact_match]", "[exact_match, exact_match]", SpecError, "two metrics are called"),
        ("[exact_match]", "[{metric: exact_match, ignore_cas: true}]", SpecError, "ignore_cas"),
        ("last_number", "last_nummer", EvalkitError, "last_nummer"),
        ("rows.jsonl", "rows.csv", EvalkitError, "no such file"),
    ],
)
def test_a_task_that_cannot_be_run_is_one_line_before_anything_is_asked(
    old: str, new: str, error: type[Exception], message: str
) -> None:
    edit("sums.yaml", old, new)

    def never(request: Request) -> Response:
        raise AssertionError("a request was spent")

    with pytest.raises(error, match=message) as caught:
        evalkit.evaluate("sums", Answering(never))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": -1}, "--limit -1: must be 1 or more"),
        ({"limit": 0}, "--limit 0: must be 1 or more"),
        ({"first": 2, "limit": 2}, "exclude each other"),
        ({"num_fewshot": -1}, "--num-fewshot -1: must be 0 or more"),
        ({"limt": 3}, "no such option of evaluate\\(\\): 'limt'; did you mean 'limit'"),
    ],
)
def test_an_impossible_option_is_one_line(options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evalkit.evaluate("sums", Answering(answer), **options)  # type: ignore[arg-type]


def test_an_output_folder_that_cannot_be_written_is_found_before_anything_is_asked(
    project: Path,
) -> None:
    (project / "file").write_text("", encoding="utf-8")
    with pytest.raises(RecordError, match=r"file: cannot write runs here"):
        evalkit.evaluate("sums", Answering(answer), out=project / "file")


def test_a_run_that_cannot_start_leaves_no_folder_behind(project: Path) -> None:
    with pytest.raises(EvalkitError, match="unknown scheme"):
        evalkit.evaluate("sums", "nowhere:model", out=project / "runs")
    assert list((project / "runs").iterdir()) == []


def test_a_record_of_another_format_is_refused(project: Path) -> None:
    (project / "run.json").write_text('{"format": "evalkit.run/99"}', encoding="utf-8")
    with pytest.raises(RecordError, match=r"format is 'evalkit.run/99'; this version reads"):
        RunRecord.load(project)
    with pytest.raises(RecordError, match="no run record here"):
        RunRecord.load(project / "tasks")


def test_progress_is_told_to_the_end() -> None:
    told: list[Progress] = []
    run(RunSpec(tasks=("sums",), model="x"), backend=Answering(answer), on_progress=told.append)
    asked = [p for p in told if p.phase == "asking"]
    assert [p.n_done for p in asked] == list(range(11))
    assert {p.n_total for p in asked} == {10}


def test_the_record_says_which_command_does_the_same_run() -> None:
    spec = RunSpec(
        tasks=("sums", "a b"), model="local:m", limit=5, seed=3, settings={"dtype": "float32"}
    )
    assert command_line(spec) == (
        "evalkit run sums 'a b' --model local:m --limit 5 --seed 3 --set dtype=float32"
    )


def test_a_defect_in_a_metric_costs_one_answer_and_not_the_run() -> None:
    edit("colours.yaml", "[accuracy, brier]", "[accuracy]")

    def short(request: Request) -> Response:
        return likelihoods(-1.0) if request.example_id == "sky" else likelihoods(-1.0, -2.0)

    record = evalkit.evaluate("colours", Answering(short))
    found = record.tasks["colours"].metrics["accuracy"].estimate
    assert found.n_total == 2
    assert found.n_scored + found.n_error == 2


def test_a_metric_that_cannot_be_computed_on_a_task_stops_it() -> None:
    edit("sums.yaml", "[exact_match]", "[instructions_followed]")

    def never(request: Request) -> Response:
        raise AssertionError("a request was spent")

    with pytest.raises(MetricError, match="constraints"):
        evalkit.evaluate("sums", Answering(never))


BEST = "generate: {temperature: 1}\nbest_of: {n: 3, by: BY}\nextract: last_number\n"


def draws(request: Request) -> Response:
    """Three draws for each example: 1 with -3 nats, the right answer with -2, 1 with -5."""
    number = int(str(request.prompts[0]).split("+")[0])
    texts = ["It is 1.", f"It is {2 * number}.", "So 1."]
    return replace(
        say(texts[request.repeat % 3]), logprobs=([-3.0, -2.0, -5.0][request.repeat % 3],)
    )


@pytest.mark.parametrize(
    ("by", "value"),
    [("logprob", 1.0), ("vote", 0.0), ("exact_match", 1.0)],
)
def test_the_best_of_several_draws_is_kept(by: str, value: float) -> None:
    edit("sums.yaml", "extract: last_number\n", BEST.replace("BY", by))
    record = evalkit.evaluate("sums", Answering(draws), repeats=2)
    found = record.tasks["sums"].metrics["exact_match"].estimate
    assert (found.value, found.n_total) == (value, 10)
    assert record.usage["n_requests"] == 60
    rows = record.read_rows()
    assert len(rows) == 20
    assert rows[0].candidates == ("It is 1.", "It is 0.", "So 1.")
    is_bound = any("upper bound" in w for w in record.tasks["sums"].warnings)
    assert is_bound == (by == "exact_match")


def test_a_failed_draw_fails_its_example() -> None:
    edit("sums.yaml", "extract: last_number\n", BEST.replace("BY", "vote"))

    def one_fails(request: Request) -> Response:
        return fail() if (request.example_id, request.repeat) == ("s3", 1) else draws(request)

    found = evalkit.evaluate("sums", Answering(one_fails)).tasks["sums"].metrics["exact_match"]
    assert (found.estimate.n_error, found.estimate.n_scored) == (1, 9)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("by: BY", "by: exact_mach", r"sums\.yaml:8: best_of\.by: 'exact_mach' is neither"),
        ("temperature: 1", "temperature: 0", r"greedy draws are all equal"),
        ("n: 3", "n: 1", r"sums\.yaml:8: best_of\.n: input should be greater than"),
    ],
)
def test_a_best_of_that_cannot_be_is_one_line(old: str, new: str, message: str) -> None:
    edit("sums.yaml", "extract: last_number\n", BEST.replace(old, new))
    with pytest.raises(SpecError, match=message):
        evalkit.evaluate("sums", Answering(draws))
