"""A whole run with a judge: from the task that names a rubric to the record with its verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from answering import Answering, fail, say
from rubric_files import PAIRWISE, TWO_CRITERIA, believing, shown

import evalkit
from evalkit.errors import EvalkitError, SpecError, UsageError
from evalkit.judging import check_judgeable, open_judges, rubrics_of
from evalkit.prepare import RunSpec, command_line
from evalkit.record import ExampleRow, RunRecord
from evalkit.task import Task
from evalkit.types import Request, Response

TASK = """\
task: sums
version: 1
dataset: {path: rows.jsonl}
prompt: "{{ question }}"
target: "{{ answer }}"
request: generate
metrics: [exact_match]
rubrics: [helpfulness]
"""
BOTH = "test:function"  # what Answering calls itself: the model judges itself


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one task of six sums, and rubrics of its own; the current one."""
    for name in ("tasks", "rubrics"):
        (tmp_path / name).mkdir()
    (tmp_path / "tasks" / "sums.yaml").write_text(TASK, encoding="utf-8")
    rows = [
        {"id": f"s{i}", "question": f"{i}+{i}?", "answer": str(2 * i), "baseline": "99"}
        for i in range(6)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "tasks" / "rows.jsonl").write_text(text, encoding="utf-8")
    for rubric in (TWO_CRITERIA, PAIRWISE):
        name = rubric.split("\n", 1)[0].removeprefix("rubric: ")
        (tmp_path / "rubrics" / f"{name}.yaml").write_text(rubric, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def task(old: str, new: str) -> None:
    assert old in TASK
    Path("tasks", "sums.yaml").write_text(TASK.replace(old, new), encoding="utf-8")


def model(request: Request) -> Response:
    """Right below 3+3, wrong from there on."""
    number = int(str(request.prompts[0]).split("+")[0])
    return say(str(2 * number if number < 3 else 99))


def with_judge(judge: Callable[[Request], Response]) -> Answering:
    return Answering(lambda r: model(r) if r.task == "sums" else judge(r))


def strict(request: Request) -> Response:
    """5 for an answer, 1 for 99, and sure of it."""
    return believing(request, {"1": 1.0} if "\n99\n" in shown(request) else {"5": 1.0})


def by_id(record: RunRecord) -> dict[str, ExampleRow]:
    return {row.example_id: row for row in record.read_rows()}


def test_the_record_has_the_metric_of_the_rubric_beside_the_tasks_own() -> None:
    record = evalkit.evaluate("sums", with_judge(strict), judge=BOTH)
    metrics = record.tasks["sums"].metrics
    assert set(metrics) == {"exact_match", "helpfulness"}
    assert metrics["exact_match"].estimate.value == 0.5
    found = metrics["helpfulness"].estimate
    assert (found.value, found.n_total, found.n_scored) == (3.0, 6, 6)
    assert 1.0 <= found.low < 3.0 < found.high <= 5.0
    assert record.tasks["sums"].judges["helpfulness"]["spec"] == BOTH


def test_several_criteria_are_metrics_of_their_own_and_one_together() -> None:
    task("[helpfulness]", "[pair_of]")

    def judge(request: Request) -> Response:
        is_new = "Is it new?" in shown(request)
        return believing(request, {"5": 1.0} if is_new else {"1": 1.0})

    metrics = evalkit.evaluate("sums", with_judge(judge), judge=BOTH).tasks["sums"].metrics
    values = {name: m.estimate.value for name, m in metrics.items() if name != "exact_match"}
    assert values == {"pair_of.first": 1.0, "pair_of.second": 5.0, "pair_of": 4.0}  # weights 1, 3


def test_verdicts_survive_being_written_and_read(project: Path) -> None:
    task("[helpfulness]", "[{rubric: better, against: '{{ baseline }}'}, helpfulness_reasoned]")

    def judge(request: Request) -> Response:
        if request.kind == "generate":
            return say("Reasons: \x1b[31mrot\x1b[0m, ütf-8, \ud800.")
        if request.task == "better":
            return believing(request, {"A": 0.7, "B": 0.2})
        return believing(request, {"2": 0.25, "5": 0.75})

    record = evalkit.evaluate("sums", with_judge(judge), judge=BOTH, out=project / "runs")
    assert record.folder is not None
    before, after = by_id(record), by_id(RunRecord.load(record.folder))
    pair, reasoned = (after["s1"].verdicts[n] for n in ("better", "helpfulness_reasoned"))
    assert (pair.value, pair.orders, pair.choice) == (0.5, (1.0, 0.0), 0.5)
    assert pair.missing_mass == pytest.approx(0.1)
    assert reasoned.value == pytest.approx(0.25 * 2 + 0.75 * 5)
    assert reasoned.probabilities == before["s1"].verdicts["helpfulness_reasoned"].probabilities
    assert reasoned.reason.startswith("Reasons: \x1b[31mrot")
    assert math.isfinite(after["s1"].scores["better"])


def test_a_judges_error_is_one_of_its_metric_and_not_of_the_answer() -> None:
    def judge(request: Request) -> Response:
        return fail() if request.example_id == "s1" else strict(request)

    record = evalkit.evaluate("sums", with_judge(judge), judge=BOTH)
    metrics = record.tasks["sums"].metrics
    found = metrics["helpfulness"].estimate
    assert (found.n_total, found.n_scored, found.n_error) == (6, 5, 1)
    # two of 5 and three of 1; the missing one could be 1 or 5
    assert found.value == pytest.approx(13 / 5)
    assert (found.worst, found.best) == pytest.approx((14 / 6, 18 / 6))
    assert metrics["exact_match"].estimate.n_error == 0
    row = by_id(record)["s1"]
    assert (row.status, row.scores) == ("ok", {"exact_match": 1.0})
    assert row.verdicts["helpfulness"].problem == "it does not fit"


def test_where_the_judge_is_all_there_is_its_error_is_the_rows() -> None:
    task("metrics: [exact_match]\n", "")

    def judge(request: Request) -> Response:
        return fail() if request.example_id == "s1" else strict(request)

    row = by_id(evalkit.evaluate("sums", with_judge(judge), judge=BOTH))["s1"]
    assert (row.status, row.error_kind) == ("error", "judge")
    assert row.error_message == "it does not fit"
    assert row.response == "2"


def test_an_answer_that_failed_is_not_judged() -> None:
    judged: list[str] = []

    def answer(request: Request) -> Response:
        if request.task == "sums":
            return fail() if request.example_id == "s0" else model(request)
        judged.append(request.example_id)
        return strict(request)

    record = evalkit.evaluate("sums", Answering(answer), judge=BOTH)
    assert sorted(judged) == ["s1", "s2", "s3", "s4", "s5"]
    for metric in record.tasks["sums"].metrics.values():
        assert (metric.estimate.n_scored, metric.estimate.n_error) == (5, 1)


def test_a_judge_that_abstains_is_counted_as_such() -> None:
    def judge(request: Request) -> Response:
        return believing(request, {}) if request.example_id == "s1" else strict(request)

    found = evalkit.evaluate("sums", with_judge(judge), judge=BOTH).tasks["sums"].metrics
    estimate = found["helpfulness"].estimate
    assert (estimate.n_scored, estimate.n_abstained, estimate.n_error) == (5, 1, 0)


def test_each_repeat_is_judged() -> None:
    def judge(request: Request) -> Response:
        return strict(request)

    record = evalkit.evaluate("sums", with_judge(judge), judge=BOTH, repeats=2)
    rows = record.read_rows()
    assert len(rows) == 12
    assert all("helpfulness" in row.verdicts for row in rows)
    assert record.tasks["sums"].metrics["helpfulness"].estimate.n_total == 6


def test_a_pair_is_the_response_against_what_the_task_names() -> None:
    task("[helpfulness]", "[{rubric: chat_pairwise, against: 'It is {{ answer }}.'}]")
    asked: list[str] = []

    def judge(request: Request) -> Response:
        asked.append(shown(request))
        return believing(request, {"A": 1.0})

    evalkit.evaluate("sums", with_judge(judge), judge=BOTH, first=1)
    assert len(asked) == 2
    assert all("It is 0." in text and "\n0+0?\n" in text for text in asked)


def test_what_has_the_judge_recorded_is_not_asked(project: Path) -> None:
    rows = [{"id": f"s{i}", "judges": {"expert": i % 5 + 1}} for i in range(5)]
    path = project / "verdicts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    record = evalkit.evaluate("sums", Answering(model), judge=f"replay:{path}#expert")
    found = record.tasks["sums"].metrics["helpfulness"].estimate
    assert (found.value, found.n_scored, found.n_error) == (3.0, 5, 1)
    problem = by_id(record)["s5"].verdicts["helpfulness"].problem
    assert problem == f"replay:{path}#expert has no verdict on 's5'"


def test_a_run_without_a_judge_says_what_was_not_judged() -> None:
    record = evalkit.evaluate("sums", Answering(model))
    assert set(record.tasks["sums"].metrics) == {"exact_match"}
    [warning] = record.tasks["sums"].warnings
    assert warning == "sums: not judged by helpfulness: no --judge was given"
    assert record.tasks["sums"].judges == {}


def test_the_same_judged_run_twice_gives_the_same_bytes(project: Path) -> None:
    def judge(request: Request) -> Response:
        return believing(request, {"2": 0.25, "5": 0.75})

    folders = []
    for _ in range(2):
        record = evalkit.evaluate("sums", with_judge(judge), judge=BOTH, out=project / "runs")
        assert record.folder is not None
        folders.append(record.folder)
    one, other = (json.loads((f / "run.json").read_text(encoding="utf-8")) for f in folders)
    for data in (one, other):
        for name in ("id", "created", "timing"):
            del data[name]
    assert one == other
    assert folders[0].joinpath("examples.parquet").read_bytes() == (
        folders[1].joinpath("examples.parquet").read_bytes()
    )


def test_the_command_of_a_judged_run_names_the_judge() -> None:
    spec = RunSpec(tasks=("sums",), model="local:m", judge="[local:a, replay:b.jsonl#c d]")
    assert "--judge '[local:a, replay:b.jsonl#c d]'" in command_line(spec)


# --- what cannot be is one line before anything is asked


@pytest.mark.parametrize(
    ("old", "new", "judge", "error", "message"),
    [
        ("[helpfulness]", "[helpfulnes]", None, SpecError, r"sums\.yaml:8: .*did you mean 'helpf"),
        ("[helpfulness]", "[gone.yaml]", None, SpecError, r"sums\.yaml:8: .*gone\.yaml: cannot"),
        ("[helpfulness]", "[helpfulness, helpfulness]", None, SpecError, "stands here twice"),
        ("[helpfulness]", "[chat_pairwise]", None, SpecError, "give 'against', the other one"),
        (
            "[helpfulness]",
            "[{rubric: helpfulness, against: x}]",
            None,
            SpecError,
            "compares nothing: no 'against'",
        ),
        (
            "[helpfulness]",
            "[{rubric: helpfulness, agianst: x}]",
            None,
            SpecError,
            r"sums\.yaml:8: unknown key 'agianst'",
        ),
        (
            "[exact_match]",
            "[{metric: exact_match, name: helpfulness}]",
            None,
            SpecError,
            "rubric 'helpfulness' and a metric have one name",
        ),
        ("generate", "rolling", None, SpecError, "'rubrics' rate generated texts"),
        ("metrics: [exact_match]\n", "", None, UsageError, "has rubrics and no metrics: give --ju"),
        ("rubrics: [helpfulness]\n", "", BOTH, UsageError, "no task of this run has a rubric"),
        ("sums", "sums", "nowhere:x", EvalkitError, "nowhere"),
        ("sums", "sums", "replay:gone.jsonl#x", UsageError, "gone.jsonl: cannot be read"),
        ("sums", "sums", f"[{BOTH}]", UsageError, "a panel is a list of two or more"),
    ],
)
def test_a_judged_run_that_cannot_be_is_one_line(
    old: str, new: str, judge: str | None, error: type[Exception], message: str
) -> None:
    def never(request: Request) -> Response:
        raise AssertionError("a request was spent")

    task(old, new)
    options: dict[str, Any] = {} if judge is None else {"judge": judge}
    with pytest.raises(error, match=message) as caught:
        evalkit.evaluate("sums", Answering(never), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rubric", "message"),
    [
        ("faithfulness", r"faithfulness\.yaml:\d+: prompt: there is no field 'source'"),
        ("{rubric: better, against: '{{ basline }}'}", "no field 'basline'; did you mean 'baseli"),
    ],
)
def test_what_the_rows_lack_is_found_on_an_empty_response(rubric: str, message: str) -> None:
    task("[helpfulness]", f"[{rubric}]")
    file = evalkit.catalogue.select(["sums"]).tasks[0]
    judges = open_judges(
        rubrics_of(file),
        BOTH,
        offered={BOTH: Answering(model)},
        offline=True,
        seed=0,
        calibrations=(),
        on_progress=lambda line: None,
    )
    items = Task(file).items()
    with pytest.raises(EvalkitError, match=message) as caught:
        check_judgeable(judges, items)
    assert str(caught.value).endswith("(example s0)")
