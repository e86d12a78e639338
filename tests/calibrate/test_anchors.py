"""The same items judged again: stable, drifted, or too few to tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic_labels import (
    FAST,
    GRADE_RUBRIC,
    PAIR_RUBRIC,
    TODAY,
    Rows,
    grades,
    label_set,
    pairs,
    rubric,
    with_fields,
    write_rows,
)

from evalkit.calibrate import LabelSet, calibrate, open_judge_of
from evalkit.calibrate.anchors import AnchorCheck, check_anchors, labels_of
from evalkit.errors import NotComparableError, UsageError
from evalkit.judges.calibration import Calibration, read_calibration, write_calibration
from evalkit.stats.drift import DriftVerdict


def checked(
    folder: Path, rows: Rows, then: str, now: str, *, text: str = GRADE_RUBRIC
) -> AnchorCheck:
    asked, labels = rubric(folder, text), label_set(folder, rows)
    before = calibrate(
        asked,
        labels,
        open_judge_of(asked, f"replay:#{then}", labels),
        today=TODAY,
        settings=FAST,
    )
    judge = open_judge_of(asked, f"replay:#{now}", labels)
    return check_anchors(before, asked, labels, judge, settings=FAST)


def test_the_same_judge_is_stable(tmp_path: Path) -> None:
    found = checked(tmp_path, grades(100), "good", "good")
    assert found.verdict is DriftVerdict.STABLE
    assert (found.exit_code, found.changed) == (0, ())
    assert found.criteria[0].score.change.estimate == 0


def test_a_judge_that_became_lenient_has_drifted(tmp_path: Path) -> None:
    found = checked(tmp_path, grades(100, shift=0.8), "good", "lenient")
    assert found.verdict is DriftVerdict.DRIFTED
    assert found.exit_code == 1
    assert found.criteria[0].score.change.estimate == pytest.approx(0.75, abs=0.15)
    assert "the judge's model has changed" in found.changed


def test_a_judge_that_keeps_its_mean_and_loses_its_sense_has_drifted(tmp_path: Path) -> None:
    def swapped(i: int, row: dict[str, Any]) -> dict[str, Any]:
        better = row["judges"]["one order"]
        return {"judges": {"then": better, "now": 3 - better if i % 2 else better}}

    found = checked(tmp_path, with_fields(pairs(200), swapped), "then", "now", text=PAIR_RUBRIC)
    [one] = found.criteria
    assert one.agreement is not None
    assert one.agreement.verdict is DriftVerdict.DRIFTED
    assert found.verdict is DriftVerdict.DRIFTED


def test_a_few_items_cannot_tell(tmp_path: Path) -> None:
    found = checked(tmp_path, grades(20), "good", "good")
    assert found.verdict is DriftVerdict.TOO_FEW
    assert found.exit_code == 3


def test_verdicts_that_are_missing_now_are_counted(tmp_path: Path) -> None:
    rows = with_fields(
        grades(100), lambda i, row: {"judges": {"then": 3, "now": 3 if i % 2 else None}}
    )
    found = checked(tmp_path, rows, "then", "now")
    assert found.criteria[0].n_lost == 50


def written(folder: Path, labels: LabelSet) -> Calibration:
    asked = rubric(folder, GRADE_RUBRIC)
    judge = open_judge_of(asked, "replay:#good", labels)
    path = folder / "quality--good.json"
    write_calibration(calibrate(asked, labels, judge, today=TODAY, settings=FAST), path)
    return read_calibration(path)


def test_labels_are_read_again_and_must_be_the_same(tmp_path: Path) -> None:
    labels = label_set(tmp_path, grades(40))
    found = written(tmp_path, labels)
    assert labels_of(found).sha256 == labels.sha256
    rows = grades(40)
    rows[3]["labels"]["p0"] = 6 - rows[3]["labels"]["p0"]
    write_rows(labels.path, rows)
    with pytest.raises(UsageError, match=r"the labels have changed \(labels.jsonl\)"):
        labels_of(found)
    labels.path.unlink()
    with pytest.raises(UsageError, match="no such file of labels"):
        labels_of(found)


def test_a_calibration_of_another_rubric_cannot_be_checked(tmp_path: Path) -> None:
    labels = label_set(tmp_path, grades(40))
    found = written(tmp_path, labels)
    other = rubric(tmp_path, GRADE_RUBRIC.replace("rubric: quality", "rubric: kindness"))
    judge = open_judge_of(other, "replay:#good", labels)
    with pytest.raises(NotComparableError, match="'quality' with quality, not of 'kindness'"):
        check_anchors(found, other, labels, judge)
