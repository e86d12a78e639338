"""The verb gate: what it prints where, the files it writes, and its exit codes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from answering import Answering, fail, say
from command_line import Result, Run

import evalkit
from evalkit.record import RunRecord
from evalkit.types import Request, Response

TASK = (
    "task: sums\nversion: 1\ndataset: {path: sums.jsonl}\nprompt: '{{ question }}'\n"
    "target: '{{ answer }}'\nrequest: generate\nmetrics: [exact_match, token_f1]\n"
)
POLICY = """\
gate: pull-request
checks:
  - {task: sums, metric: exact_match, margin: 0.05, reason: users notice}
  - {task: sums, metric: token_f1, margin: 0.05}
"""
N = 120


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task, a policy and three runs; the current one."""
    (tmp_path / "sums.yaml").write_text(TASK, encoding="utf-8")
    (tmp_path / "gate.yaml").write_text(POLICY, encoding="utf-8")
    rows = [{"id": f"s{i}", "question": f"{i}+{i}?", "answer": f"it is {2 * i}"} for i in range(N)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "sums.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run_sums("before", wrong=range(5))
    run_sums("after", wrong=range(1, 6))
    run_sums("worse", wrong=range(40))
    return tmp_path


def run_sums(name: str, *, wrong: range = range(0), failed: range = range(0)) -> RunRecord:
    """A run, written, that has some sums wrong and gets no answer to others."""

    def respond(request: Request) -> Response:
        number = int(request.example_id[1:])
        if number in failed:
            return fail()
        return say(f"it is {-1 if number in wrong else 2 * number}")

    record = evalkit.evaluate("sums.yaml", Answering(respond))
    return replace(record, id=name).write(Path("runs", name))


def gate(evalkit: Run, candidate: str, *options: object) -> Result:
    return evalkit("gate", "runs/before", candidate, "--policy", "gate.yaml", *options)


def test_a_candidate_that_changed_nothing_passes(evalkit: Run) -> None:
    found = gate(evalkit, "runs/after")
    assert (found.code, found.err) == (0, "")
    assert "gate pull-request: PASS" in found.out


def test_a_regression_exits_with_1(evalkit: Run, golden: Callable[[str, str], None]) -> None:
    found = gate(evalkit, "runs/worse")
    assert found.code == 1
    assert found.err == "exit code 1: regression\n"
    golden("gate_table.txt", found.out)


def test_what_cannot_be_told_exits_with_3_unless_the_policy_lets_it_through(
    evalkit: Run, project: Path
) -> None:
    text = POLICY.replace("0.05", "0.001")
    (project / "gate.yaml").write_text(text, encoding="utf-8")
    found = gate(evalkit, "runs/after")
    assert found.code == 3
    assert "INCONCLUSIVE" in found.out
    assert "cannot see a drop of 0.001 with 120 examples; needs" in found.err
    for word, told in (("warn", "warning: inconclusive"), ("pass", "note: inconclusive")):
        (project / "gate.yaml").write_text(f"{text}on_inconclusive: {word}\n", encoding="utf-8")
        found = gate(evalkit, "runs/after")
        assert found.code == 0
        assert told in found.err


def test_another_question_exits_with_4(evalkit: Run, project: Path) -> None:
    (project / "sums.yaml").write_text(TASK + "generate: {max_tokens: 5}\n", encoding="utf-8")
    run_sums("other")
    found = gate(evalkit, "runs/other")
    assert found.code == 4
    assert "task sums: generate.max_tokens: 256 in A, 5 in B" in found.out
    assert "gate pull-request: NOT COMPARABLE" in found.out


def test_a_run_that_did_not_finish_exits_with_5(evalkit: Run) -> None:
    record = RunRecord.load(Path("runs/after"))
    replace(record, rows=record.read_rows(), status="interrupted").write(Path("runs/half"))
    found = gate(evalkit, "runs/half")
    assert found.code == 5
    assert "warning: the candidate after is interrupted, not complete" in found.err
    assert found.err.endswith("exit code 5: the candidate did not finish\n")


def test_more_errors_than_allowed_exit_with_1(evalkit: Run) -> None:
    run_sums("errors", failed=range(100, 106))
    found = gate(evalkit, "runs/errors")
    assert found.code == 1
    assert "5.0% of the candidate's answers are errors, 2.0% may be" in found.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/gone", "runs/after", "--policy", "gate.yaml"], "runs/gone: no such run"),
        (["runs/before", "runs/gone", "--policy", "gate.yaml"], "runs/gone: no such run"),
        (["runs/before", "runs/after", "--policy", "gone.yaml"], "gone.yaml"),
        (["runs/before", "runs/after", "--policy", "sums.yaml"], "sums.yaml:1: "),
        (["latest:main", "runs/after", "--policy", "gate.yaml"], "give the folder of baselines"),
        (
            ["runs/before", "runs/after", "--policy", "gate.yaml", "--registry", "r"],
            "--registry is for",
        ),
        (
            ["latest:main", "runs/after", "--policy", "gate.yaml", "--registry", "r"],
            "no such branch with a baseline: 'main'",
        ),
        (
            ["runs/before", "runs/after", "--policy", "gate.yaml", "--junit", "no/where.xml"],
            "no/where.xml: cannot be written",
        ),
    ],
)
def test_what_is_missing_exits_with_2_and_one_line(
    evalkit: Run, words: list[str], message: str
) -> None:
    found = evalkit("gate", *words)
    assert found.code == 2
    assert found.err.startswith("evalkit: ")
    assert message in found.err
    assert found.err.count("\n") == 1


def test_json_has_the_numbers_and_the_exit_code(evalkit: Run) -> None:
    data = json.loads(gate(evalkit, "runs/worse", "--json").out)
    assert (data["verdict"], data["exit_code"], data["gate"]) == ("regression", 1, "pull-request")
    exact, graded = data["checks"]
    assert exact["difference"] == pytest.approx(-35 / 120)
    assert exact["low"] < exact["difference"] < exact["high"] < 0
    assert (exact["n"], exact["margin"], exact["why_margin"]) == (120, 0.05, "users notice")
    assert len(exact["lost"]) == 35
    assert graded["metric"] == "token_f1"


def test_junit_has_a_case_for_each_check(evalkit: Run, project: Path) -> None:
    gate(evalkit, "runs/worse", "--junit", "gate.xml")
    [suite] = ET.parse(project / "gate.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "2", "0")
    assert [case.get("name") for case in suite] == ["sums, exact_match", "sums, token_f1"]
    failure = suite[0].find("failure")
    assert failure is not None
    assert (failure.get("type"), "difference: −29.2" in str(failure.text)) == ("drop", True)


@pytest.mark.parametrize(("word", "tag"), [("fail", "failure"), ("warn", "skipped"), ("pass", "")])
def test_junit_shows_what_is_inconclusive_as_the_policy_has_it(
    evalkit: Run, project: Path, word: str, tag: str
) -> None:
    text = POLICY.replace("0.05", "0.001") + f"on_inconclusive: {word}\n"
    (project / "gate.yaml").write_text(text, encoding="utf-8")
    gate(evalkit, "runs/after", "--junit", "gate.xml")
    [suite] = ET.parse(project / "gate.xml").getroot()
    tags = {child.tag for case in suite for child in case}
    assert tags == {tag or "system-out"}


def test_junit_shows_what_is_not_comparable_or_not_finished_as_an_error(
    evalkit: Run, project: Path
) -> None:
    record = RunRecord.load(Path("runs/after"))
    task = record.tasks["sums"]
    half = replace(
        record,
        rows=record.read_rows(),
        status="failed",
        tasks={"sums": replace(task, version=2)},
    )
    half.write(Path("runs/half"))
    gate(evalkit, "runs/half", "--junit", "gate.xml")
    [suite] = ET.parse(project / "gate.xml").getroot()
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("3", "3", "0")
    assert suite[0][0].get("message") == "task sums: version: 1 in A, 2 in B"


def test_markdown_lists_the_flips(evalkit: Run, golden: Callable[[str, str], None]) -> None:
    gate(evalkit, "runs/worse", "--markdown", "gate.md")
    golden("gate_comment.md", Path("gate.md").read_text(encoding="utf-8"))


HOSTILE = "\x1b[31m\u202e</failure><script>|`@everyone` [x](javascript:1)\x00\ufffe\ud800\n# T"


def test_hostile_names_are_harmless_in_every_output(evalkit: Run, project: Path) -> None:
    for name, wrong in (("a", range(0)), ("b", range(40))):
        record = run_sums(name, wrong=wrong)
        rows = [replace(row, example_id=f"{row.example_id}{HOSTILE}") for row in record.read_rows()]
        model = replace(record.model, spec=HOSTILE)
        replace(record, id=f"{name}{HOSTILE}", model=model, rows=rows).write(Path("hostile", name))
    found = evalkit(
        *("gate", "hostile/a", "hostile/b", "--policy", "gate.yaml"),
        *("--junit", "gate.xml", "--markdown", "gate.md"),
    )
    assert found.code == 1
    text = Path("gate.md").read_text(encoding="utf-8")
    for shown in (found.out, found.err, text):
        assert not {"\x1b", "\u202e", "\x00"} & set(shown)
    ids = [line for line in text.splitlines() if line.startswith("- ``s")]
    assert len(ids) == 20
    # all of an id stands within a fence that it does not hold itself
    assert all(line.endswith("``") and "``" not in line[4:-2] for line in ids)
    [suite] = ET.parse(project / "gate.xml").getroot()
    assert {child.tag for case in suite for child in case} == {"failure"}


def test_hostile_text_in_what_differs_leaves_the_files_whole(evalkit: Run, project: Path) -> None:
    record = RunRecord.load(Path("runs/after"))
    task = record.tasks["sums"]
    prompt = "</error>]]>\ufffe\x9b31m`` @everyone <b>"
    tasks = {"sums": replace(task, spec={**task.spec, "prompt": prompt})}
    replace(record, rows=record.read_rows(), tasks=tasks).write(Path("runs/odd"))
    found = gate(evalkit, "runs/odd", "--junit", "gate.xml", "--markdown", "gate.md")
    assert (found.code, "\x9b" in found.out) == (4, False)
    [suite] = ET.parse(project / "gate.xml").getroot()
    assert [child.tag for case in suite for child in case] == ["error", "error"]
    assert "</error>]]>\ufffd[U+009B]31m`` @everyone <b>" in str(suite[0][0].text)
    lines = Path("gate.md").read_text(encoding="utf-8").splitlines()
    quoted = [line.partition(": ")[2] for line in lines if "@everyone" in line]
    assert len(quoted) == 2
    assert all(q.startswith("```") and q.endswith("```") for q in quoted)


def test_the_latest_baseline_of_a_branch_comes_from_a_registry(evalkit: Run, project: Path) -> None:
    exported = evalkit(
        *("export", "runs/before", "--baseline", "--registry", "baselines", "--branch", "main")
    )
    assert exported.code == 0
    path = project / exported.out.strip()
    assert path.parent == project / "baselines" / "main"
    assert json.loads(path.read_text(encoding="utf-8"))["id"] == "before"
    found = evalkit(
        *("gate", "latest:main", "runs/worse", "--policy", "gate.yaml"),
        *("--registry", "baselines", "--json"),
    )
    assert (found.code, json.loads(found.out)["baseline"]["id"]) == (1, "before")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--registry", "r"], "--registry and --branch belong together"),
        (["--branch", "main"], "--registry and --branch belong together"),
        (["--registry", "r", "--branch", "main", "-o", "x"], "one of --output and --registry"),
        (["--registry", "r", "--branch", "../x"], "branch '../x'"),
        (["--registry", "sums.yaml", "--branch", "main"], "cannot be made"),
    ],
)
def test_an_export_to_a_registry_that_cannot_be_is_one_line(
    evalkit: Run, words: list[str], message: str
) -> None:
    found = evalkit("export", "runs/before", "--baseline", *words)
    assert (found.code, found.out) == (2, "")
    assert message in found.err


def test_a_run_that_did_not_finish_is_no_baseline_for_a_registry(evalkit: Run) -> None:
    record = RunRecord.load(Path("runs/after"))
    replace(record, rows=record.read_rows(), status="interrupted").write(Path("runs/half"))
    found = evalkit("export", "runs/half", "--baseline", "--registry", "r", "--branch", "main")
    assert found.code == 2
    assert "the run is interrupted: no baseline for a registry" in found.err
    assert not Path("r").exists()


def test_an_edited_row_can_be_left_to_the_bounds(evalkit: Run) -> None:
    record = RunRecord.load(Path("runs/after"))
    other = hashlib.sha256(b"edited").hexdigest()
    rows = [
        replace(row, example_sha256=other) if row.example_id == "s100" else row
        for row in record.read_rows()
    ]
    replace(record, rows=rows).write(Path("runs/edited"))
    found = gate(evalkit, "runs/edited")
    assert found.code == 4
    assert "1 (s100) only in A, 1 (s100) only in B, 119 in both" in found.out
    found = gate(evalkit, "runs/edited", "--intersection", "--json")
    exact = json.loads(found.out)["checks"][0]
    assert (exact["n"], exact["n_missing"]) == (119, 1)
