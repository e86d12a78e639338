"""The verb gate with --aa and --sequential: what it prints where, and its exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from evalkit import cli
from evalkit.prepare import RunSpec
from evalkit.record import RunRecord
from evalkit.runner import run

TASK = (
    "task: letters\nversion: 1\ndataset: {path: letters.jsonl}\nprompt: '{{ text }}'\n"
    "choices: ['a', 'b']\ntarget: '{{ answer }}'\nrequest: choice\nmetrics: [accuracy, ece]\n"
)
POLICY = "gate: pull-request\nchecks:\n  - {task: letters, metric: accuracy, margin: 0.1}\n"
N = 120


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Gate = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a task, a policy, and two runs of the one on the other."""
    found = tmp_path_factory.mktemp("gate")
    write_tiny_model(found / "model")
    (found / "letters.yaml").write_text(TASK, encoding="utf-8")
    (found / "gate.yaml").write_text(POLICY, encoding="utf-8")
    rows = [{"id": f"r{i}", "text": f"{i} {i * i}", "answer": i % 2} for i in range(N)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (found / "letters.jsonl").write_text(text, encoding="utf-8")
    for name in ("one", "two"):
        record = run(
            RunSpec(tasks=(str(found / "letters.yaml"),), model=f"local:{found / 'model'}")
        )
        RunRecord.write(record, found / name)
    return found


@pytest.fixture
def gate(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Gate:
    """Run the verb in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Result:
        rest = ["--policy", str(folder / "gate.yaml")]
        monkeypatch.setattr(sys, "argv", ["evalkit", "gate", *map(str, words), *rest])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        captured = capsys.readouterr()
        return Result(code=code, out=captured.out, err=captured.err)

    return call


def looking(folder: Path, *, budget: int = N) -> list[object]:
    return [
        *("--sequential", folder / "letters.yaml", "--model", f"local:{folder / 'model'}"),
        *("--baseline", folder / "one", "--budget", budget),
    ]


def test_repeated_runs_of_an_exact_model_are_deterministic(gate: Gate, folder: Path) -> None:
    found = gate("--aa", folder / "one", folder / "two")
    assert (found.code, found.err) == (0, "")
    assert "2 runs make 2 ordered pairs" in found.out
    assert "Deterministic: every run has the same scores" in found.out
    assert "letters, accuracy: twice the cost of a run" in found.out
    assert "0 % (0 to 66)" in found.out  # Wilson 0 of 2: z^2 / (2 + z^2) = 0.658


def test_the_numbers_of_an_a_a_are_to_be_had_as_json(gate: Gate, folder: Path) -> None:
    data = json.loads(gate("--aa", folder / "one", folder / "two", "--json").out)
    assert data["is_deterministic"] is True
    (check,) = data["checks"]
    assert (check["n_pairs"], check["n_regression"], check["n_inconclusive"]) == (2, 0, 0)
    assert check["noise"]["answers"]["variances"]["repeat"] == 0
    assert check["noise"]["n_examples"] == N
    assert check["noise"]["break_even"] is None


def test_a_sequential_gate_tells_its_looks_and_gives_the_gates_verdict(
    gate: Gate, folder: Path, tmp_path: Path
) -> None:
    files = ("--junit", tmp_path / "gate.xml", "--markdown", tmp_path / "gate.md")
    found = gate(*looking(folder), *files)
    assert found.code == 0
    assert found.out.splitlines()[-1] == "gate pull-request: PASS"
    assert "look at 60 examples" in found.err
    (record,) = (tmp_path / "runs").iterdir()
    assert f"record: {Path('runs') / record.name}" in found.err
    n = RunRecord.load(record).tasks["letters"].n_examples
    assert f"asked {n} of at most {N} examples" in found.err
    assert 'failures="0"' in (tmp_path / "gate.xml").read_text(encoding="utf-8")
    assert (tmp_path / "gate.md").stat().st_size > 0


def test_a_budget_that_does_not_decide_exits_3(gate: Gate, folder: Path) -> None:
    found = gate(*looking(folder, budget=8), "--json")
    data = json.loads(found.out)
    assert (found.code, data["verdict"], data["exit_code"]) == (3, "inconclusive", 3)
    assert data["checks"][0]["n"] == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--aa", "one", "two", "--budget", "5"), "--budget does not go with --aa"),
        (("one", "two", "--model", "local:x"), "--model does not go with a gate of two runs"),
        (("one",), "give a BASELINE and a CANDIDATE: got 1 runs"),
        (("--aa", "{folder}/one"), "A/A needs two runs or more"),
        (("one", "--sequential", "letters"), "RUN does not go with --sequential"),
        (
            ("--sequential", "letters", "--model", "local:x", "--budget", "5"),
            "--sequential needs --baseline",
        ),
        (
            ("--sequential", "letters", "--baseline", "{folder}/one", "--budget", "5"),
            "--sequential needs --model",
        ),
        (
            ("--sequential", "letters", "--baseline", "one", "--intersection"),
            "--intersection does not go with --sequential",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused_in_one_line(
    gate: Gate, folder: Path, words: tuple[str, ...], message: str
) -> None:
    found = gate(*(word.format(folder=folder) for word in words))
    assert (found.code, found.out) == (2, "")
    assert message in found.err
    assert len(found.err.splitlines()) == 1
