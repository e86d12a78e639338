"""The verbs compare and export: what they print where, and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from answering import Answering, fail, say
from command_line import Run
from rich.console import Console

import evalkit
from evalkit.compare import compare, open_side
from evalkit.record import RunRecord
from evalkit.report.comparison import differences_table, flip_lines
from evalkit.types import Request, Response

TASK = (
    "task: sums\nversion: 1\ndataset: {path: sums.jsonl}\nprompt: '{{ question }}'\n"
    "target: '{{ answer }}'\nrequest: generate\n"
    "metrics: [exact_match, token_f1, bleu]\nslices: [parity]\n"
)
N = 40


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one task; the current one."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "sums.yaml").write_text(TASK, encoding="utf-8")
    rows = [
        {
            "id": f"s{i}",
            "question": f"{i}+{i}?\nPlease.",
            "answer": f"the sum of these is {2 * i}",
            "parity": "odd" if i % 2 else "even",
        }
        for i in range(N)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "tasks" / "sums.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_sums(
    name: str, *, wrong: range = range(0), failed: range = range(0), **options: Any
) -> RunRecord:
    """A run, written, that has some sums wrong and gets no answer to others."""

    def respond(request: Request) -> Response:
        number = int(request.example_id[1:])
        if number in failed:
            return fail()
        return say(f"the sum of these is {99 if number in wrong else 2 * number}")

    record = replace(evalkit.evaluate("sums", Answering(respond), **options), id=name)
    return record.write(Path("runs", name))


@pytest.fixture
def runs() -> list[RunRecord]:
    """A baseline, a candidate that is worse and one that is better."""
    return [
        run_sums("monday", wrong=range(10), failed=range(38, 40)),
        run_sums("tuesday", wrong=range(5, 22)),
        run_sums("wednesday", wrong=range(2)),
    ]


def test_the_table_of_a_comparison(
    runs: list[RunRecord], golden: Callable[[str, str], None]
) -> None:
    first, *others = map(open_side, runs)
    # without bleu, whose interval is drawn: the draws are numpy's, and may change with it
    metrics = ["exact_match", "token_f1"]
    found = compare(first, others, metrics=metrics)
    console = Console(width=150)
    with console.capture() as captured:
        console.print(differences_table(compare(first, others[:1], metrics=metrics)))
        console.print()
        console.print(differences_table(found))
        console.print()
        console.print(differences_table(found, by_slice=True))
        for line in flip_lines(found, [first, *others], n=2):
            console.print(line, markup=False)
    text = "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
    golden("compare_table.txt", text)


def test_two_runs_are_compared_on_stdout(evalkit: Run, runs: list[RunRecord]) -> None:
    result = evalkit("compare", "runs/monday", "runs/tuesday/run.json", "--metric", "exact_match")
    assert (result.code, result.err) == (0, "")
    [line] = [line for line in result.out.splitlines() if line.startswith("sums")]
    # of 38: A has 10 wrong, B 17; 5 are wrong in both, so 5 gained and 12 lost
    assert "5/12" in line
    assert "−18.4" in line
    assert "bleu" not in result.out


def test_json_has_the_numbers_and_the_flips(evalkit: Run, runs: list[RunRecord]) -> None:
    words = ("compare", "runs/monday", "runs/tuesday", "runs/wednesday", "--json")
    result = evalkit(*words, "--level", "0.9")
    found = json.loads(result.out)
    one, other = found["candidates"]
    assert (found["baseline"]["id"], one["id"], other["id"]) == ("monday", "tuesday", "wednesday")
    numbers = one["tasks"]["sums"]["metrics"]["exact_match"]
    assert numbers["difference"] == pytest.approx(-7 / 38)
    assert (numbers["level"], numbers["n_error_a"], numbers["is_better"]) == (0.9, 2, False)
    assert {flip["id"] for flip in numbers["gained"]} == {f"s{i}" for i in range(5)}
    assert one["tasks"]["sums"]["slices"] == {}
    found = json.loads(evalkit(*words, "--slices").out)
    parts = found["candidates"][0]["tasks"]["sums"]["slices"]["parity"]
    assert {part: values["exact_match"]["n_pairs"] for part, values in parts.items()} == {
        "even": 19,
        "odd": 19,
    }


def test_flips_are_listed_with_how_they_were_asked(evalkit: Run, runs: list[RunRecord]) -> None:
    out = evalkit("compare", "runs/monday", "runs/tuesday", "--flips", "3").out
    assert "sums, exact_match, tuesday: 12 lost" in out
    assert "  … and 9 more" in out
    assert "sums, exact_match, tuesday: 5 gained" in out
    listed = [line.split() for line in out.splitlines() if line.startswith("  s")]
    assert len(listed) == 6
    assert all(question == f"{name[1:]}+{name[1:]}?" for name, question in listed)


def test_the_first_line_of_a_prompt_with_shots_is_that_of_the_question(
    evalkit: Run, project: Path
) -> None:
    for name, wrong in (("a", range(3)), ("b", range(2))):
        run_sums(name, wrong=wrong, num_fewshot=2)
    assert "  s2  2+2?\n" in evalkit("compare", "runs/a", "runs/b", "--flips", "1").out


def test_a_baseline_file_stands_for_its_run(evalkit: Run, runs: list[RunRecord]) -> None:
    made = evalkit("export", "runs/monday", "--baseline", "-o", "base.json")
    assert (made.code, made.out, made.err) == (0, "", "")
    assert evalkit("export", "runs/monday", "--baseline").out == Path("base.json").read_text()
    options = ("runs/tuesday", "--metric", "exact_match", "--flips", "2")
    from_file, from_run = (evalkit("compare", a, *options) for a in ("base.json", "runs/monday"))
    assert from_file == from_run


def test_exporting_a_run_that_did_not_end_says_so(evalkit: Run, runs: list[RunRecord]) -> None:
    replace(runs[0], status="interrupted").write(Path("runs/part"))
    result = evalkit("export", "runs/part", "--baseline", "-o", "base.json")
    assert result.code == 0
    assert result.err.startswith("warning: the run is interrupted")


def test_what_is_not_comparable_is_listed_line_by_line_and_exit_4(
    evalkit: Run, runs: list[RunRecord], project: Path
) -> None:
    path = project / "tasks" / "sums.yaml"
    path.write_text(
        TASK.replace("metrics", "generate: {temperature: 0.7, max_tokens: 9}\nmetrics"),
        encoding="utf-8",
    )
    run_sums("other", first=30)
    result = evalkit("compare", "runs/monday", "runs/other")
    assert (result.code, result.out) == (4, "")
    assert result.err.splitlines() == [
        "evalkit: not comparable: A is monday, B is other",
        "  task sums: generate.max_tokens: 256 in A, 9 in B",
        "  task sums: generate.temperature: 0.0 in A, 0.7 in B",
        "  task sums: examples: 10 (s30, s31, s32, …) only in A, 0 only in B, 30 in both; "
        "--intersection compares these",
    ]


def test_what_only_one_run_has_is_left_out_if_one_asks_for_it(
    evalkit: Run, runs: list[RunRecord]
) -> None:
    run_sums("short", first=30)
    assert evalkit("compare", "runs/tuesday", "runs/short").code == 4
    result = evalkit("compare", "runs/tuesday", "runs/short", "--intersection")
    assert result.code == 0
    note = "note: task sums: left out 10 examples only in tuesday, 0 only in short\n"
    assert result.err == note


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "runs/gone", "runs/monday"], "runs/gone: no such run or baseline file"),
        (["compare", "runs/monday", "tasks"], "tasks: no run record here (no run.json)"),
        (["compare", "runs/monday", "tasks/sums.yaml"], "neither a run's folder nor a baseline"),
        (["compare", "runs/monday", "cut"], "cut/examples.parquet: cannot be read"),
        (["compare", "runs/monday", "runs/tuesday", "--task", "sum"], "did you mean 'sums'?"),
        (["compare", "runs/monday", "runs/tuesday", "--metric", "blue"], "did you mean 'bleu'?"),
        (["compare", "runs/monday", "runs/tuesday", "--level", "95"], "--level 95: must lie"),
        (["compare", "runs/monday", "runs/tuesday", "--flips", "-1"], "--flips -1: must be 0"),
        (["export", "runs/monday"], "say what to export: --baseline"),
        (["export", "tasks", "--baseline"], "no run record here"),
        (["export", "runs/monday", "--baseline", "-o", "gone/b.json"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    evalkit: Run, runs: list[RunRecord], words: list[str], message: str
) -> None:
    Path("cut").mkdir()
    Path("cut/run.json").write_bytes(Path("runs/tuesday/run.json").read_bytes())
    Path("cut/examples.parquet").write_bytes(b"PAR1")
    result = evalkit(*words)
    assert (result.code, result.out) == (2, "")
    [line] = result.err.splitlines()
    assert line.startswith("evalkit: ")
    assert message in line


def test_hostile_names_do_not_reach_the_terminal(evalkit: Run, runs: list[RunRecord]) -> None:
    for name in ("monday", "tuesday"):
        record = RunRecord.load(Path("runs", name))
        rows = [
            replace(row, task="su\x1b[31mms", example_id=f"{row.example_id}\x1b]0;x\x07\n")
            for row in record.read_rows()
        ]
        tasks = {"su\x1b[31mms": record.tasks["sums"]}
        replace(record, id=f"{name}\u202e", tasks=tasks, rows=rows).write(Path("bad", name))
    result = evalkit("compare", "bad/monday", "bad/tuesday", "--flips", "2", "--slices")
    assert result.code == 0
    assert not set("\x1b\x07\u202e") & set(result.out + result.err)
    assert "  s" in result.out
