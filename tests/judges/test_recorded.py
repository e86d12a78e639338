"""Verdicts from a file: what is read, and how a bad file is told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from rubric_files import PAIRWISE, POINTWISE, TWO_CRITERIA, cases, verdicts_of, write_rubric

from evalkit.errors import DatasetError, NotFoundError, UsageError
from evalkit.judges import Rubric, Verdicts, open_judge
from evalkit.types import Verdict


def record(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "verdicts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def replayed(folder: Path, rubric: Rubric, said: Any) -> Verdicts:
    """What becomes of one recorded entry about case c0."""
    path = record(folder, {"id": "c0", "judges": {"j": said}})
    judge = open_judge(rubric, f"replay:{path}#j")
    [found] = verdicts_of(judge, cases("four", opponent="five"))
    return found


def told(verdict: Verdict) -> tuple[str, float | None, tuple[float, ...]]:
    value = None if math.isnan(verdict.value) else verdict.value
    return str(verdict.status), value, verdict.orders


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (4, ("ok", 4.0, ())),
        (3.5, ("ok", 3.5, ())),
        ({"quality": 2}, ("ok", 2.0, ())),
        (None, ("abstained", None, ())),
        ({"quality": None}, ("abstained", None, ())),
        ("4", ("abstained", None, ())),
        (True, ("abstained", None, ())),
        (float("nan"), ("abstained", None, ())),
        (6, ("abstained", None, ())),  # the scale ends at 5
        (0, ("abstained", None, ())),
        ([4], ("abstained", None, ())),
        ({"other": 4}, ("abstained", None, ())),
    ],
)
def test_a_number_on_the_scale_is_a_verdict(
    tmp_path: Path, said: Any, found: tuple[str, float | None, tuple[float, ...]]
) -> None:
    rubric = write_rubric(tmp_path, POINTWISE)
    assert told(replayed(tmp_path, rubric, said)["quality"]) == found


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"orig": 1, "swap": 1}, ("ok", 1.0, (1.0, 1.0))),
        ({"orig": 2, "swap": 2}, ("ok", 0.0, (0.0, 0.0))),
        ({"orig": 1, "swap": 2}, ("ok", 0.5, (1.0, 0.0))),
        ({"orig": 0, "swap": 1}, ("ok", 0.75, (0.5, 1.0))),
        ({"better": {"orig": 1, "swap": 1}}, ("ok", 1.0, (1.0, 1.0))),
        (1, ("ok", 1.0, ())),
        (2.0, ("ok", 0.0, ())),
        (0, ("ok", 0.5, ())),
        ({"orig": 1, "swap": None}, ("abstained", None, ())),
        ({"orig": 1}, ("abstained", None, ())),
        ({"orig": True, "swap": 1}, ("abstained", None, ())),
        ({"orig": [1], "swap": 1}, ("abstained", None, ())),
        (3, ("abstained", None, ())),
        (None, ("abstained", None, ())),
        ("A", ("abstained", None, ())),
    ],
)
def test_a_pairs_verdict_is_in_the_files_own_naming(
    tmp_path: Path, said: Any, found: tuple[str, float | None, tuple[float, ...]]
) -> None:
    rubric = write_rubric(tmp_path, PAIRWISE)
    assert told(replayed(tmp_path, rubric, said)["better"]) == found


def test_several_criteria_need_a_mapping(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, TWO_CRITERIA)
    found = replayed(tmp_path, rubric, {"first": 5, "second": 1})
    assert [found[name].value for name in ("first", "second")] == [5.0, 1.0]
    partial = replayed(tmp_path, rubric, {"first": 5})
    assert [v.status for v in partial.values()] == ["ok", "error"]
    assert "no verdict on 'c0' under 'second'" in partial["second"].problem
    assert {v.status for v in replayed(tmp_path, rubric, 5).values()} == {"error"}
    assert {v.status for v in replayed(tmp_path, rubric, None).values()} == {"abstained"}


def test_a_case_that_the_file_does_not_have_is_an_error_of_its_own(tmp_path: Path) -> None:
    rows = [{"id": "c0", "judges": {"j": 4, "k": 1}}, {"id": "c1", "judges": {"k": 1}}]
    path = record(tmp_path, *rows)
    judge = open_judge(write_rubric(tmp_path, POINTWISE), f"replay:{path}#j")
    found = [one["quality"] for one in verdicts_of(judge, cases("a", "b", "c"))]
    assert [v.status for v in found] == ["ok", "error", "error"]
    assert found[2].problem == f"replay:{path}#j has no verdict on 'c2'"


def test_the_name_may_be_left_out_where_there_is_one_judge(tmp_path: Path) -> None:
    path = record(tmp_path, {"id": 0, "judges": {"only": 4}})
    rubric = write_rubric(tmp_path, POINTWISE)
    assert open_judge(rubric, f"replay:{path}").info.spec == f"replay:{path}#only"


def test_another_file_and_another_name_are_other_judges(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, POINTWISE)
    path = record(tmp_path, {"id": "c0", "judges": {"j": 4, "k": 4}})
    one = open_judge(rubric, f"replay:{path}#j").info.identity
    other = open_judge(rubric, f"replay:{path}#k").info.identity
    record(tmp_path, {"id": "c0", "judges": {"j": 5, "k": 4}})
    changed = open_judge(rubric, f"replay:{path}#j").info.identity
    assert one != other
    assert one["model"] != changed["model"]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b'{"id": "a", "judges": {"j": 1}}\n{"id"\n', DatasetError, r":2: not valid JSON"),
        (b'{"id": "a", "judges": \xff}\n', DatasetError, r":1: not valid JSON"),
        (b"[" * 100_000, DatasetError, r":1: not valid JSON"),
        (b"[1]\n", DatasetError, r":1: a line needs 'id'"),
        (b'\n{"id": "a"}\n', DatasetError, r":2: a line needs 'id', .* and 'judges', a mapping"),
        (b'{"judges": {"j": 1}}\n', DatasetError, r":1: a line needs 'id'"),
        (b'{"id": null, "judges": {"j": 1}}\n', DatasetError, r":1: a line needs 'id'"),
        (b'{"id": "a", "judges": [1]}\n', DatasetError, r":1: a line needs 'id'"),
        (
            b'{"id": "a", "judges": {"j": 1}}\n{"id": "a", "judges": {"j": 2}}\n',
            DatasetError,
            r":2: id 'a' stands here twice",
        ),
        (b"", DatasetError, r"no judge's verdicts in it"),
        (b'{"id": "a", "judges": {}}\n', DatasetError, r"no judge's verdicts in it"),
        (
            b'{"id": "a", "judges": {"GPT-4/CoT": 1}}\n',
            NotFoundError,
            "no such judge in the file: 'j'",
        ),
    ],
)
def test_a_bad_file_is_one_line(
    tmp_path: Path, content: bytes, error: type[Exception], message: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        open_judge(write_rubric(tmp_path, POINTWISE), f"replay:{path}#j")
    assert "\n" not in str(caught.value)
    assert "bad.jsonl" in str(caught.value)


def test_whose_verdicts_are_meant_has_to_be_said(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, POINTWISE)
    path = record(tmp_path, {"id": "a", "judges": {"GPT-4/CoT": 1, "PaLM2/CoT": 1}})
    with pytest.raises(UsageError, match="has verdicts of GPT-4/CoT, PaLM2/CoT: say whose"):
        open_judge(rubric, f"replay:{path}")
    with pytest.raises(NotFoundError, match=r"'GPT-4/Cot'; did you mean 'GPT-4/CoT'"):
        open_judge(rubric, f"replay:{path}#GPT-4/Cot")
    for gone in (tmp_path / "gone.jsonl", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            open_judge(rubric, f"replay:{gone}#j")
