"""The verb calibrate: what it writes and prints, its exit codes, and one line for mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import Answering, likelihoods, say
from command_line import Run

import evalkit
from evalkit.judges.calibration import read_calibration
from evalkit.types import Request, Response

RUBRIC = """\
rubric: better
version: 1
kind: pairwise
criteria: {preference: {question: Which answer is better?}}
prompt: "{{ prompt }} {{ first }} {{ second }}"
"""
GRADES = """\
rubric: quality
version: 1
kind: pointwise
criteria: {quality: {question: How good?, scale: {1: bad, 5: good}}}
prompt: "{{ prompt }} {{ scale }} {{ response }}"
"""
TASK = (
    "task: talk\nversion: 1\ndataset: {path: talk.jsonl}\nprompt: 'Say {{ n }}.'\n"
    "target: '{{ n }}'\nrequest: generate\nrubrics: [quality]\n"
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two rubrics, a task and labelled pairs; the current one."""
    (tmp_path / "rubrics").mkdir()
    (tmp_path / "tasks").mkdir()
    (tmp_path / "rubrics" / "better.yaml").write_text(RUBRIC, encoding="utf-8")
    (tmp_path / "rubrics" / "quality.yaml").write_text(GRADES, encoding="utf-8")
    (tmp_path / "tasks" / "talk.yaml").write_text(TASK, encoding="utf-8")
    write(tmp_path / "tasks" / "talk.jsonl", [{"id": f"n{i}", "n": i} for i in range(60)])
    write(tmp_path / "labels.jsonl", pairs())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def pairs() -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    rows = []
    for i, better in enumerate(np.where(rng.random(100) < 0.5, 1, 2).tolist()):
        people = {f"p{j}": better if rng.random() < 0.9 else 3 - better for j in range(3)}
        rows.append(
            {
                "id": i,
                "prompt": f"q{i}",
                "response": "yes",
                "opponent": "no",
                "labels": people,
                "judges": {
                    "good": {"orig": better, "swap": better},
                    "worse": {"orig": better, "swap": 1 + i % 2},
                    "first": {"orig": 1, "swap": 2},
                },
            }
        )
    return rows


BASE = ("calibrate", "better", "--labels", "labels.jsonl")
FILE = Path("rubrics") / "calibrations" / "better--replay-good.json"


def test_a_calibration_is_written_with_its_page_and_shown(evalkit: Run) -> None:
    done = evalkit(*BASE, "--judge", "replay:#good")
    assert done.code == 0
    assert "preference: accepted: 100 items were labelled and judged; " in done.out
    assert str(FILE) in done.err
    assert read_calibration(FILE).is_accepted
    page = FILE.with_suffix(".md").read_text(encoding="utf-8")
    assert page.startswith("# replay:#good under better: accepted\n")


def test_a_refused_judge_is_said_plainly_and_fails_only_on_demand(evalkit: Run) -> None:
    done = evalkit(*BASE, "--judge", "replay:#first")
    assert done.code == 0
    assert "preference: refused: no better than chance: right in 50.0 % of 100 pairs" in done.out
    assert evalkit(*BASE, "--judge", "replay:#first", "--require").code == 1
    assert evalkit(*BASE, "--judge", "replay:#good", "--require").code == 0


def test_the_same_command_twice_writes_the_same_bytes(evalkit: Run) -> None:
    files = []
    for _ in range(2):
        assert evalkit(*BASE, "--judge", "replay:#good").code == 0
        files.append((FILE.read_bytes(), FILE.with_suffix(".md").read_bytes()))
    assert files[0] == files[1]


def test_json_is_all_that_the_file_has(evalkit: Run) -> None:
    done = evalkit(*BASE, "--judge", "replay:#good", "--out", "here.json", "--json")
    assert json.loads(done.out) == json.loads(Path("here.json").read_text(encoding="utf-8"))
    assert Path("here.md").is_file()


def test_a_run_finds_the_calibration_that_was_made(evalkit: Run) -> None:
    from evalkit.judges import load_rubric
    from evalkit.judges.calibration import find_calibrations

    evalkit(*BASE, "--judge", "replay:#good")
    assert [path.name for path in find_calibrations(load_rubric("better"))] == [FILE.name]


# --- mistakes

MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "no judge": (("better", "--labels", "labels.jsonl"), "give --judge"),
    "no labels": (("better", "--judge", "replay:#good"), "give --labels"),
    "no such rubric": (("bettr", "--labels", "labels.jsonl", "-j", "x"), "did you mean 'better'"),
    "no such file": (("better", "--labels", "x.jsonl", "-j", "x"), "no such file of labels"),
    "no such judge": (
        ("better", "--labels", "labels.jsonl", "-j", "replay:#god"),
        "no such judge beside the labels: 'god'; did you mean 'good'",
    ),
    "data without labels": (("better", "--data", "x.jsonl", "-j", "x"), "give --labels FILE"),
    "data for lines": (
        ("better", "--labels", "labels.jsonl", "--data", "x.jsonl", "-j", "x"),
        "is no specification that could read it",
    ),
    "two modes": (("better", "--check", "x", "--suggest", "3"), "exclude each other"),
    "suggest without run": (("better", "--suggest", "3"), "give --run DIR"),
    "run without suggest": (("better", "--run", "runs"), "are about the responses of a run"),
    "check with labels": (
        ("better", "--check", "x.json", "-j", "x", "--labels", "labels.jsonl"),
        "--check takes the labels of its calibration",
    ),
    "no calibration": (("better", "--check", "x.json", "-j", "x"), "x.json: cannot be read"),
    "no run": (("better", "--suggest", "3", "--run", "none"), "no run record here"),
    "judge of a run": (
        ("better", "--suggest", "3", "--run", "none", "-j", "x"),
        "the run has been judged",
    ),
    "until without labels": (("better", "--until", "1", "--run", "none"), "--until: a width"),
    "page over itself": (
        ("better", "--labels", "labels.jsonl", "-j", "replay:#good", "--out", "x.md"),
        "the page of evidence has that name",
    ),
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    evalkit: Run, words: tuple[str, ...], message: str
) -> None:
    done = evalkit("calibrate", *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


# --- the same items again


def test_the_same_judge_is_found_stable_and_another_drifted(evalkit: Run) -> None:
    evalkit(*BASE, "--judge", "replay:#good")
    same = evalkit("calibrate", "better", "--check", FILE, "--judge", "replay:#good")
    assert (same.code, same.out.splitlines()[-1]) == (0, "the judge: stable")
    other = evalkit("calibrate", "better", "--check", FILE, "--judge", "replay:#worse")
    assert (other.code, other.out.splitlines()[-1]) == (1, "the judge: drifted")
    assert "note: the judge's model has changed since the calibration" in other.err


def test_a_check_of_few_items_cannot_tell(evalkit: Run) -> None:
    write(Path("labels.jsonl"), pairs()[:20])
    evalkit(*BASE, "--judge", "replay:#good")
    done = evalkit("calibrate", "better", "--check", FILE, "--judge", "replay:#good", "--json")
    assert done.code == 3
    assert json.loads(done.out)["verdict"] == "too few anchors to tell"


def test_a_check_against_changed_labels_is_refused(evalkit: Run) -> None:
    evalkit(*BASE, "--judge", "replay:#good")
    write(Path("labels.jsonl"), pairs()[1:])
    done = evalkit("calibrate", "better", "--check", FILE, "--judge", "replay:#good")
    assert done.code == 2
    assert "the labels have changed (labels.jsonl)" in done.err


# --- what to label next


def answer(request: Request) -> Response:
    text = str(request.prompts[0])
    n = int(text.split("Say ")[1].split(".")[0])
    if request.kind == "generate":
        return say(str(n))
    logprobs = [-0.01 if point == 1 + n % 5 else -9.0 for point in range(1, 6)]
    return likelihoods(*(x for logprob in logprobs for x in (logprob, -50.0)))


def judged_run() -> Path:
    model = Answering(answer)
    record = evalkit.evaluate("talk", model, judge=model.info.spec, out="runs")
    assert record.folder is not None
    return record.folder


def test_responses_of_a_run_are_proposed_and_the_labels_counted(evalkit: Run) -> None:
    run = judged_run()
    done = evalkit("calibrate", "quality", "--run", run, "--suggest", 40, "--out", "next.jsonl")
    assert done.code == 0
    assert "next.jsonl: 40 responses to label, 8 of them by two people; design: random" in done.out
    rows = [json.loads(line) for line in Path("next.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        row["labels"] = dict.fromkeys(row["labels"], 1 + int(row["response"]) % 5)
    write(Path("next.jsonl"), rows)
    words = ("calibrate", "quality", "--run", run, "--labels", "next.jsonl", "--until")
    done = evalkit(*words, "3")
    assert done.code == 0
    assert "40 labels; the interval that holds at every look is" in done.out
    assert "half-width 3.000 reached: at 30" in done.out
    shown = json.loads(evalkit(*words, "0.01", "--json").out)
    assert shown["until"][0]["reached_at"] is None
    done = evalkit(*words, "0.01", "--out", "x.jsonl")
    assert "--out is for what --suggest writes" in done.err
