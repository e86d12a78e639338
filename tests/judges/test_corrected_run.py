"""From people's labels to a run that says what people would say, and a gate that asks for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from answering import Answering, say

import evalkit
from evalkit.calibrate import calibrate, open_judge_of, read_labels
from evalkit.compare import open_side
from evalkit.gate import evaluate, read_policy
from evalkit.judges import load_rubric
from evalkit.judges.calibration import read_calibration, write_calibration
from evalkit.record import RunRecord

N, N_LABELLED = 200, 60
RUBRIC = (
    "rubric: warmth\nversion: 1\nkind: pointwise\n"
    "criteria:\n  warmth: {question: How warm?, scale: {1: cold, 3: neither, 5: warm}}\n"
    "prompt: '{{ response }} {{ question }} {{ scale }}'\n"
)
TASK = (
    "task: letters\nversion: 1\ndataset: {path: rows.jsonl}\nprompt: '{{ question }}'\n"
    "target: none\nrequest: generate\nrubrics: [warmth]\n"
)
JUDGE = "replay:verdicts.jsonl#lenient"


def people_and_judge() -> tuple[np.ndarray, np.ndarray]:
    """What people would say of all responses, and a judge that is a point too kind."""
    rng = np.random.default_rng(7)
    human = np.clip(rng.normal(2.6, 0.8, N), 1, 5)
    judge = np.clip(human + 1 + rng.normal(0, 0.4, N), 1, 5)
    return human, judge


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task of 200 letters, a recorded judge, and labels of 60 of the responses."""
    monkeypatch.chdir(tmp_path)
    human, judge = people_and_judge()
    (tmp_path / "rubrics").mkdir()
    (tmp_path / "rubrics" / "warmth.yaml").write_text(RUBRIC)
    (tmp_path / "letters.yaml").write_text(TASK.replace("[warmth]", "[rubrics/warmth.yaml]"))
    write("rows.jsonl", [{"id": f"r{i}", "question": f"letter {i}"} for i in range(N)])
    verdicts = [{"id": f"r{i}", "judges": {"lenient": float(judge[i])}} for i in range(N)]
    write("verdicts.jsonl", verdicts)
    labelled = np.random.default_rng(1).choice(N, N_LABELLED, replace=False)
    write(
        "labels.jsonl",
        [
            {
                "id": f"r{i}",
                "prompt": f"letter {i}",
                "response": f"Dear {i}",
                "labels": {"ann": float(human[i]), "bob": float(human[i])},
            }
            for i in sorted(labelled.tolist())
        ],
    )
    return tmp_path


def write(name: str, rows: Sequence[Mapping[str, object]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def calibrated() -> Path:
    rubric = load_rubric("rubrics/warmth.yaml")
    labels = read_labels(Path("labels.jsonl"))
    judge = open_judge_of(rubric, JUDGE, labels)
    found = calibrate(rubric, labels, judge, today=date(2026, 11, 22))
    path = Path("rubrics/calibrations/warmth--lenient.json")
    write_calibration(found, path)
    return path


def run(judge: str = JUDGE) -> RunRecord:
    backend = Answering(lambda request: say(f"Dear {str(request.prompts[0]).split()[-1]}"))
    return evalkit.evaluate("letters.yaml", backend, judge=judge)


def gate_of(record: RunRecord) -> int:
    Path("gate.yaml").write_text(
        "gate: warm\nchecks: [{task: letters, metric: warmth, margin: 0.2, requires: calibrated}]\n"
    )
    policy = read_policy(Path("gate.yaml"))
    other = replace(record, id="candidate")
    report = evaluate(open_side(record), open_side(other), policy, today=date(2026, 11, 22))
    return report.exit_code


def test_without_a_calibration_the_judges_own_mean_is_marked_and_opens_no_gate() -> None:
    record, (_, judge) = run(), people_and_judge()
    found = record.tasks["letters"].metrics["warmth"]
    assert found.judged is not None
    assert found.judged.status == "uncalibrated"
    assert found.estimate.value == pytest.approx(judge.mean())
    assert any("uncalibrated" in warning for warning in record.tasks["letters"].warnings)
    assert gate_of(record) == 3


def test_with_labels_of_its_own_responses_a_run_says_what_people_would_say() -> None:
    calibrated()
    record, (human, judge) = run(), people_and_judge()
    found = record.tasks["letters"].metrics["warmth"]
    assert found.judged is not None
    assert (found.judged.status, found.judged.n_labels) == ("calibrated", N_LABELLED)
    assert "ppi++" in found.estimate.method
    assert found.estimate.low < human.mean() < found.estimate.high < judge.mean()
    labels_only = found.judged.labels_only
    assert labels_only is not None
    assert found.estimate.high - found.estimate.low < labels_only[2] - labels_only[1]
    assert found.judged.raw.value == pytest.approx(judge.mean())
    assert gate_of(record) == 0


def test_labels_of_other_responses_are_carried_over_and_the_record_says_so() -> None:
    calibrated()
    Path("letters.yaml").write_text(
        TASK.replace("[warmth]", "[rubrics/warmth.yaml]").replace(
            "{{ question }}", "A {{ question }}"
        )
    )
    record, (human, _) = run(), people_and_judge()
    found = record.tasks["letters"].metrics["warmth"]
    assert found.judged is not None
    assert found.estimate.method == "transported"
    assert "labels of other responses" in found.judged.note
    assert found.judged.labels_only is None
    assert found.estimate.low < human.mean() < found.estimate.high


@pytest.mark.parametrize(
    ("file", "old", "new", "part"),
    [
        ("rubrics/warmth.yaml", "How warm?", "How warm!", "the rubric has changed"),
        ("labels.jsonl", '"ann": 2.', '"ann": 3.', "the labels have changed"),
        ("verdicts.jsonl", '"id": "r1", ', '"id": "r1",  ', "the judge's model has changed"),
    ],
)
def test_one_character_makes_a_calibration_stale_and_the_gate_not_comparable(
    file: str, old: str, new: str, part: str
) -> None:
    calibrated()
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new, 1))
    record = run()
    found = record.tasks["letters"].metrics["warmth"].judged
    assert found is not None
    assert found.status == "stale"
    assert part in found.note
    assert gate_of(record) == 4


def test_a_constant_judge_is_refused_and_its_numbers_stay_its_own() -> None:
    write("verdicts.jsonl", [{"id": f"r{i}", "judges": {"lenient": 3.0}} for i in range(N)])
    path = calibrated()
    assert not read_calibration(path).is_accepted
    found = run().tasks["letters"].metrics["warmth"].judged
    assert found is not None
    assert found.status == "refused"
    assert gate_of(run()) == 3


def test_a_calibrated_record_is_the_same_after_it_was_written(tmp_path: Path) -> None:
    calibrated()
    record = run().write(tmp_path / "run")
    assert record.folder is not None
    read = RunRecord.load(record.folder)
    assert read.to_json() == record.to_json()
    verdicts = [row.verdicts["warmth"] for row in read.read_rows()]
    assert sum(not np.isnan(v.human) for v in verdicts) == N_LABELLED
