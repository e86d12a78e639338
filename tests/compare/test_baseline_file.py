"""The small file that stands for a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paired_runs import TASK, record_of, rows_of, run_words, write_task

from evalkit.compare import baseline_text, compare, open_side
from evalkit.compare.baseline import BaselineSide
from evalkit.compare.plain import to_json
from evalkit.errors import RecordError
from evalkit.record import RunRecord

SPEC = (
    TASK.replace("[exact_match, token_f1]", "[exact_match, token_f1, bleu, f1]")
    + "slices: [kind]\ncluster: source\n"
)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[RunRecord, RunRecord]:
    """Two runs with errors, slices, clusters and corpus metrics."""
    texts = [f"one two three four {i}" for i in range(30)]
    kinds, sources = ["x", "y"] * 15, [f"s{i // 2}" for i in range(30)]
    task = write_task(tmp_path, rows_of(texts, kind=kinds, source=sources), SPEC)
    a = run_words(task, lambda text: None if text.endswith(" 4") else text)
    b = run_words(task, lambda text: "one two three" if text.endswith("7") else text)
    return a, b


def saved(record: RunRecord, path: Path) -> Path:
    path.write_text(baseline_text(open_side(record)), encoding="utf-8")
    return path


def numbers(a: Any, b: Any) -> Any:
    """What a comparison says, its metrics in the order of their names."""
    found = to_json(compare(open_side(a), [open_side(b)]))
    return json.loads(json.dumps(found, sort_keys=True))


def test_a_baseline_file_compares_as_its_run_does(
    runs: tuple[RunRecord, RunRecord], tmp_path: Path
) -> None:
    a, b = runs
    file_a, file_b = saved(a, tmp_path / "a.json"), saved(b, tmp_path / "b.json")
    expected = numbers(a, b)
    for found in (numbers(file_a, b), numbers(a, file_b), numbers(file_a, file_b)):
        for metric in found["candidates"][0]["tasks"]["words"]["metrics"].values():
            for flip in metric["gained"] + metric["lost"]:
                [whole] = [
                    row.example_sha256 for row in a.read_rows() if row.example_id == flip["id"]
                ]
                assert whole.startswith(flip["sha256"])
                flip["sha256"] = whole
        assert found == expected


def test_the_file_has_an_example_a_line_and_the_same_bytes_for_the_same_run(
    runs: tuple[RunRecord, RunRecord], tmp_path: Path
) -> None:
    a, b = runs
    text = baseline_text(open_side(a))
    assert text == baseline_text(open_side(saved(a, tmp_path / "a.json")))
    assert text == baseline_text(open_side(a.write(tmp_path / "run")))
    again = replace(a, id="again", created="later", timing={"total_s": 9.0})
    changed = set(baseline_text(open_side(again)).splitlines()) ^ set(text.splitlines())
    assert changed == {f' "id": "{a.id}",', ' "id": "again",'}
    lines = [line for line in text.splitlines() if line.startswith("[")]
    assert lines == sorted(lines)
    assert len(lines) == 30
    task = json.loads(text)["tasks"]["words"]
    assert task["columns"] == [
        *("sha256", "id", "cluster", "slice.kind"),
        *("stats.bleu", "score.exact_match", "stats.f1", "score.token_f1"),
    ]
    [failed] = [row for row in task["examples"] if row[1] == "w4"]
    assert failed[2:] == ["s2", "x", "error", "error", "error", "error"]
    assert json.loads(baseline_text(open_side(b)))["format"] == "evalkit.baseline/1"


@given(
    st.lists(
        st.lists(
            st.one_of(st.none(), st.floats(allow_nan=False, width=64)), min_size=1, max_size=3
        ),
        min_size=1,
        max_size=10,
    )
)
def test_every_score_is_read_back_as_it_was(scores: list[list[float | None]]) -> None:
    record = record_of(scores, interval="mean")
    run, file = open_side(record), BaselineSide(json.loads(baseline_text(open_side(record))))
    order = {str(example): index for index, example in enumerate(file.examples("t").ids)}
    found, expected = file.answers("t", "m"), run.answers("t", "m")
    by_example: dict[int, list[tuple[bool, str]]] = {}
    for example, is_error, value in zip(found.example, found.is_error, found.values, strict=True):
        by_example.setdefault(int(example), []).append((bool(is_error), repr(float(value))))
    ids = run.examples("t").ids
    wanted: dict[int, list[tuple[bool, str]]] = {}
    states = zip(expected.example, expected.is_error, expected.values, strict=True)
    for example, is_error, value in states:
        at = order[str(ids[example])]
        wanted.setdefault(at, []).append((bool(is_error), repr(float(value) + 0.0)))
    assert by_example == wanted


def test_hashes_are_cut_to_what_tells_the_examples_apart() -> None:
    record = record_of([1.0, 0.0])
    assert record.rows is not None
    near = [
        replace(row, example_sha256="a" * 40 + str(i) * 24) for i, row in enumerate(record.rows)
    ]
    rows = json.loads(baseline_text(open_side(replace(record, rows=near))))["tasks"]["t"][
        "examples"
    ]
    assert [row[0] for row in rows] == ["a" * 40 + "0", "a" * 40 + "1"]
    rows = json.loads(baseline_text(open_side(record)))["tasks"]["t"]["examples"]
    assert {len(row[0]) for row in rows} == {16}


def test_ten_thousand_examples_take_a_few_hundred_kilobytes() -> None:
    record = record_of([float(i % 3 == 0) for i in range(10_000)])
    assert len(baseline_text(open_side(record))) < 350_000


def test_a_corpus_metric_without_statistics_is_not_kept(runs: tuple[RunRecord, RunRecord]) -> None:
    a, _ = runs
    rows = [replace(row, stats={}) for row in a.read_rows()]
    kept = json.loads(baseline_text(open_side(replace(a, rows=rows))))["tasks"]["words"]["metrics"]
    assert list(kept) == ["exact_match", "token_f1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data | {"format": "evalkit.run/1"}, "format is 'evalkit.run/1'; give a"),
        (lambda data: data | {"format": "evalkit.baseline/9"}, "format is 'evalkit.baseline/9'"),
        (lambda data: [data], "format is None"),
        (lambda data: {k: v for k, v in data.items() if k != "tasks"}, "KeyError\\('tasks'\\)"),
        (lambda data: data | {"tasks": {"t": {}}}, "not a valid baseline file"),
        (lambda data: _with_row(data, ["00", "0"]), "does not have the 3 columns"),
        (lambda data: _with_row(data, ["00", "0", "right"]), "could not convert string"),
        (lambda data: _with_row(data, ["00", "0", [1, 2]]), "not a valid baseline file"),
    ],
)
def test_a_file_that_is_no_baseline_is_one_line(tmp_path: Path, change: Any, message: str) -> None:
    data = json.loads(baseline_text(open_side(record_of([1.0, 0.0]))))
    path = tmp_path / "b.json"
    path.write_text(json.dumps(change(data)), encoding="utf-8")
    with pytest.raises(RecordError, match=message) as caught:
        open_side(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def _with_row(data: Any, row: list[Any]) -> Any:
    data["tasks"]["t"]["examples"][0] = row
    return data


def test_a_file_that_is_not_there_or_not_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such run or baseline file"):
        open_side(tmp_path / "gone.json")
    (tmp_path / "b.json").write_bytes(b"PAR1\xff")
    with pytest.raises(RecordError, match="neither a run's folder nor a baseline file"):
        open_side(tmp_path / "b.json")
