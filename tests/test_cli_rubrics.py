"""The verbs about rubrics, and a judged run on the command line: output and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run
from tiny_model import write_tiny_model

from evalkit.record import RunRecord

TASK = """\
task: sums
version: 1
dataset: {path: sums.jsonl}
prompt: "{{ question }}"
target: "{{ answer }}"
request: generate
generate: {max_tokens: 4}
rubrics: [mine]
"""
RUBRIC = """\
rubric: mine
version: 3
description: How short it is.
kind: pointwise
system: Be strict about {{ topic }}.
prompt: |-
  {% for note in notes %}- {{ note }}
  {% endfor %}{{ response }}
  {{ question }}
  {{ scale }}
criteria:
  short: {question: "Is it short?", scale: {1: long, 3: middling, 5: short}}
"""
N = 4


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that loads in no time."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a task, a rubric and recorded verdicts; the current folder."""
    for name in ("tasks", "rubrics"):
        (tmp_path / name).mkdir()
    (tmp_path / "tasks" / "sums.yaml").write_text(TASK, encoding="utf-8")
    (tmp_path / "rubrics" / "mine.yaml").write_text(RUBRIC, encoding="utf-8")
    rows = [{"id": f"s{i}", "question": f"{i}+{i}?", "answer": str(2 * i)} for i in range(N)]
    verdicts = [{"id": f"s{i}", "judges": {"expert": 4, "lazy": None}} for i in range(N)]
    for path, content in (("tasks/sums.jsonl", rows), ("verdicts.jsonl", verdicts)):
        text = "".join(json.dumps(row) + "\n" for row in content)
        (tmp_path / path).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- list, schema


def test_the_rubrics_are_listed_with_what_they_ask(evalkit: Run) -> None:
    found = {row["name"]: row for row in json.loads(evalkit("list", "rubrics", "--json").out)}
    assert found["mine"] == {
        "name": "mine",
        "kind": "pointwise",
        "criteria": "short",
        "description": "How short it is.",
    }
    assert found["rag"]["criteria"] == "groundedness, answer_relevance"
    assert list(found) == sorted(found)
    lines = evalkit("list", "rubrics").out.split("\n")
    assert any(line.split()[:3] == ["mine", "pointwise", "short"] for line in lines)


def test_a_listed_rubric_that_is_wrong_is_named(evalkit: Run, project: Path) -> None:
    (project / "rubrics" / "mine.yaml").write_text(RUBRIC.replace("version", "verson"))
    result = evalkit("list", "rubrics")
    assert (result.code, result.out) == (2, "")
    assert "rubrics/mine.yaml:2: unknown key 'verson'; did you mean 'version'?" in result.err


def test_the_schema_of_a_rubric_is_strict(evalkit: Run) -> None:
    schema = json.loads(evalkit("schema", "rubric").out)
    assert set(schema["required"]) == {"rubric", "version", "kind", "prompt", "criteria"}
    assert schema["additionalProperties"] is False
    criterion = schema["$defs"]["CriterionSpec"]
    assert criterion["additionalProperties"] is False
    assert {"question", "scale", "labels", "weight", "modality"} == set(criterion["properties"])


# --- show


def test_show_renders_a_case_that_is_made_up(evalkit: Run) -> None:
    result = evalkit("show", "mine")
    assert result.code == 0
    head, asked = result.out.split("── made up, criterion short\n")
    assert head.startswith("mine, version 3: How short it is.\npointwise; verdict: by the prob")
    assert "  short: 1, 2, 3, 4, 5\n" in head
    assert asked.startswith("Be strict about [topic].\n\n")
    assert "\n- [notes]\n<response " in asked
    assert asked.endswith("Is it short?\n1: long\n3: middling\n5: short\n\nAnswer:\n")


def test_show_renders_the_first_rows_of_a_file(evalkit: Run, project: Path) -> None:
    rows = [
        {"id": "a", "response": "ok", "topic": "sums", "notes": ["x", "y"]},
        {"response": "fine", "fields": {"topic": "sums", "notes": []}},
        {"response": "never shown"},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (project / "cases.jsonl").write_text(text, encoding="utf-8")
    shown = json.loads(evalkit("show", "mine", "--dataset", "mine=cases.jsonl", "--json").out)
    assert [case["id"] for case in shown["cases"]] == ["a", "1"]
    assert "- x\n- y\n<response" in shown["cases"][0]["prompt"]
    assert shown["criteria"] == {"short": {str(i): i for i in range(1, 6)}}
    one = json.loads(
        evalkit("show", "mine", "--dataset", "mine=cases.jsonl", "--json", "--n", 1).out
    )
    assert len(one["cases"]) == 1


def test_show_lays_a_rubric_out_for_a_model_and_counts(evalkit: Run, tiny_model: Path) -> None:
    shown = json.loads(evalkit("show", "mine", "-m", f"local:{tiny_model}", "--json").out)
    [case] = shown["cases"]
    assert case["prompt"].startswith("<|im_start|>system\nBe strict about [topic].<|im_end|>\n")
    assert case["prompt"].endswith("<|im_start|>assistant\nAnswer:")
    # one token a byte, and each of the five marks one token
    marks = case["prompt"].count("<|im_start|>") + case["prompt"].count("<|im_end|>")
    bare = case["prompt"].replace("<|im_start|>", "").replace("<|im_end|>", "")
    assert (marks, case["n_tokens"]) == (5, len(bare.encode()) + 5)


def test_show_says_how_the_verdict_is_made(evalkit: Run) -> None:
    reasoned = evalkit("show", "helpfulness_reasoned").out
    assert "verdict: by the probabilities of the labels, after the judge's own reasons" in reasoned
    assert reasoned.endswith("the verdict comes after them.\n")
    pair = evalkit("show", "chat_pairwise").out
    assert "  preference: A = 1, B = 0\n" in pair
    assert "[the other response]" in pair


def test_a_task_is_shown_as_before(evalkit: Run) -> None:
    result = evalkit("show", "sums", "--n", 1)
    assert result.code == 0
    assert "── example s0\n0+0?\n" in result.out


def test_a_name_of_a_task_and_a_rubric_has_to_be_a_file(evalkit: Run, project: Path) -> None:
    text = TASK.replace("task: sums", "task: mine")
    (project / "tasks" / "mine.yaml").write_text(text, encoding="utf-8")
    result = evalkit("show", "mine")
    assert result.code == 2
    assert "'mine' is a task and a rubric: give the file that you mean" in result.err
    assert "tasks/mine.yaml or rubrics/mine.yaml" in result.err
    assert "[response]" in evalkit("show", "rubrics/mine.yaml").out
    assert "── example s0\n0+0?\n" in evalkit("show", "tasks/mine.yaml").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "mein"], "no such task or rubric: 'mein'; did you mean 'mine'"),
        (["show", "helpfulnes"], "did you mean 'helpfulness'"),
        (["show", "summs"], "did you mean 'sums'"),
        (["show", "rubrics/gone.yaml"], "rubrics/gone.yaml: no such task file"),
        (["show", "broken.yaml"], "broken.yaml:3: unknown key 'descripton'"),
        (["show", "mine", "--n", "-1"], "--n -1: must be 0 or more"),
        (["show", "mine", "--num-fewshot", "2"], "mine is a rubric: it has no shots"),
        (["show", "mine", "--seed", "0"], "mine is a rubric: it has no shots"),
        (["show", "mine", "--dataset", "gone.jsonl"], "expected NAME=FILE"),
        (["show", "mine", "--dataset", "mine=gone.jsonl"], "gone.jsonl: no such file"),
        (["show", "mine", "--dataset", "mine=bad.jsonl"], "bad.jsonl:1: a row needs 'response'"),
        (["show", "mine", "--dataset", "mine=few.jsonl"], "there is no field 'notes'"),
        (["show", "chat_pairwise", "--dataset", "x=few.jsonl"], "few.jsonl:1: a pair needs 'opp"),
        (["run", "sums", "--judge", "replay:verdicts.jsonl"], "has verdicts of expert, lazy"),
        (["run", "sums", "--judge", "replay:verdicts.jsonl#exprt"], "did you mean 'expert'"),
        (["run", "sums"], "task 'sums' has rubrics and no metrics: give --judge"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    evalkit: Run, project: Path, tiny_model: Path, words: list[str], message: str
) -> None:
    (project / "bad.jsonl").write_text('{"text": "x"}\n', encoding="utf-8")
    (project / "few.jsonl").write_text('{"response": "x", "topic": "y"}\n', encoding="utf-8")
    broken = RUBRIC.replace("rubric: mine", "rubric: broken").replace("description:", "descripton:")
    (project / "broken.yaml").write_text(broken, encoding="utf-8")
    result = evalkit(*words, *(["--model", f"local:{tiny_model}"] if words[0] == "run" else []))
    last = result.err.strip().split("\n")[-1]
    assert (result.code, result.out) == (2, "")
    assert last.startswith("evalkit: ")
    assert message in last
    assert "Traceback" not in result.err


# --- a judged run


def test_a_judged_run_exits_0_and_shows_its_metric(
    evalkit: Run, project: Path, tiny_model: Path
) -> None:
    judge = "replay:verdicts.jsonl#expert"
    result = evalkit("run", "sums", "--model", f"local:{tiny_model}", "--judge", judge, "--json")
    assert result.code == 0
    found = json.loads(result.out)["tasks"]["sums"]["metrics"]["mine"]
    assert (found["value"], found["n_total"], found["n_scored"]) == (4.0, N, N)
    [folder] = (project / "runs").iterdir()
    record = RunRecord.load(folder)
    assert f"--judge '{judge}'" in record.command
    assert {row.verdicts["mine"].value for row in record.read_rows()} == {4.0}


def test_a_judge_that_has_no_verdict_is_no_failed_run(evalkit: Run, tiny_model: Path) -> None:
    """It answered, and said nothing: the estimate counts it, and the exit code is of failures."""
    judge = "replay:verdicts.jsonl#lazy"
    result = evalkit("run", "sums", "--model", f"local:{tiny_model}", "--judge", judge, "--json")
    assert result.code == 0
    found = json.loads(result.out)["tasks"]["sums"]["metrics"]["mine"]
    assert (found["n_abstained"], found["value"]) == (N, None)


def test_a_judge_that_could_not_be_asked_is_exit_5(
    evalkit: Run, project: Path, tiny_model: Path
) -> None:
    lines = (project / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()
    (project / "verdicts.jsonl").write_text("\n".join(lines[1:]), encoding="utf-8")
    judge = "replay:verdicts.jsonl#expert"
    result = evalkit("run", "sums", "--model", f"local:{tiny_model}", "--judge", judge)
    assert result.code == 5
    assert "first: sums, example s0: replay:verdicts.jsonl#expert has no verdict on 's0'" in (
        result.err
    )


def test_the_model_can_be_its_own_judge(evalkit: Run, project: Path, tiny_model: Path) -> None:
    text = RUBRIC.replace("Be strict about {{ topic }}.", "Be strict.")
    text = text.replace("{% for note in notes %}- {{ note }}\n  {% endfor %}", "")
    (project / "rubrics" / "mine.yaml").write_text(text, encoding="utf-8")
    spec = f"local:{tiny_model}"
    result = evalkit("run", "sums", "--model", spec, "--judge", spec, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)["tasks"]["sums"]["metrics"]["mine"]
    assert found["n_scored"] == N
    assert 1.0 <= found["low"] <= found["value"] <= found["high"] <= 5.0
    [folder] = (project / "runs").iterdir()
    for row in RunRecord.load(folder).read_rows():
        verdict = row.verdicts["mine"]
        assert set(verdict.probabilities) == {"1", "2", "3", "4", "5"}
        assert sum(verdict.probabilities.values()) == pytest.approx(1.0)
        assert 0.0 < verdict.missing_mass < 1.0
