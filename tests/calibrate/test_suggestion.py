"""What to label next: drawn by chance, with the chances kept, some twice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from answering import Answering, likelihoods, say
from synthetic_labels import GRADE_RUBRIC, rubric, write_rows

import evalkit
from evalkit.calibrate import read_labels
from evalkit.calibrate.run_items import RunItems, judged_items
from evalkit.calibrate.suggestion import (
    SHARE_TWICE,
    Suggestion,
    progress,
    suggest,
    write_suggestion,
)
from evalkit.errors import RecordError, UsageError
from evalkit.record import RunRecord
from evalkit.types import Request, Response

N = 100
TASK = (
    "task: talk\nversion: 1\ndataset: {path: talk.jsonl}\nprompt: 'Say {{ n }}.'\n"
    "target: '{{ n }}'\nrequest: generate\nmetrics: [exact_match]\n"
    "rubrics: [../rubrics/quality.yaml]\n"
)


def answer(request: Request) -> Response:
    """Says the number; as a judge gives 1 to 5 by the number's last digit."""
    text = str(request.prompts[0])
    if request.kind == "generate":
        return say(text.split("Say ")[1].split(".")[0])
    grade = 1 + int(text.split("Say ")[1].split(".")[0]) % 5
    logprobs = [-0.01 if point == grade else -9.0 for point in range(1, 6)]
    return likelihoods(*(x for logprob in logprobs for x in (logprob, -50.0)))


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunItems:
    """The responses of a run, judged by the rubric."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "rubrics").mkdir()
    monkeypatch.chdir(tmp_path)
    asked = rubric(tmp_path / "rubrics", GRADE_RUBRIC)
    (tmp_path / "tasks" / "talk.yaml").write_text(TASK, encoding="utf-8")
    write_rows(tmp_path / "tasks" / "talk.jsonl", [{"id": f"n{i}", "n": i} for i in range(N)])
    model = Answering(answer)
    record = evalkit.evaluate("talk", model, judge=model.info.spec, out="runs")
    assert record.folder is not None
    return judged_items(RunRecord.load(record.folder), asked)


def label(found: Suggestion, items: RunItems, path: Path) -> Path:
    """The suggestion written, and filled in: people agree with the judge but for every seventh."""
    write_suggestion(found, items.rubric, path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        n = int(row["response"])
        row["labels"] = dict.fromkeys(row["labels"], 1 + (n if n % 7 else n + 2) % 5)
    return write_rows(path, rows)


def test_the_items_of_a_run_are_what_was_judged(judged: RunItems) -> None:
    assert len(judged.items) == N
    first = judged.items[3]
    assert (first.case.key, first.case.prompt, first.case.response) == ("talk/n3", "Say 3.", "3")
    assert judged.scores[3] == pytest.approx(4, abs=0.01)


def test_the_first_labels_are_a_random_sample_with_one_chance_for_all(judged: RunItems) -> None:
    found = suggest(judged, n=40, seed=1)
    assert (found.design, found.n_new) == ("random", 40)
    assert {item.propensity for item in found.items} == {0.4}
    assert len({item.key for item in found.items}) == 40
    assert suggest(judged, n=40, seed=2).items != found.items
    assert suggest(judged, n=40, seed=1).items == found.items


def test_one_in_five_is_for_two_people_or_more(judged: RunItems, tmp_path: Path) -> None:
    found = suggest(judged, n=38)
    path = tmp_path / "next.jsonl"
    write_suggestion(found, judged.rubric, path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    n_twice = sum(len(row["labels"]) == 2 for row in rows)
    assert n_twice == found.n_twice == math.ceil(SHARE_TWICE * 38)
    assert all(value is None for row in rows for value in row["labels"].values())


def test_what_was_written_reads_as_labels_once_it_is_filled_in(
    judged: RunItems, tmp_path: Path
) -> None:
    found = suggest(judged, n=30)
    empty = tmp_path / "empty.jsonl"
    write_suggestion(found, judged.rubric, empty)
    assert read_labels(empty).criteria == []
    labels = read_labels(label(found, judged, tmp_path / "full.jsonl"))
    assert labels.design == "random"
    assert {i.key for i in labels.items} == {i.key for i in found.items}
    assert [i.propensity for i in labels.items] == [0.3] * 30


def test_from_thirty_labels_on_strata_get_what_their_spread_asks_for(
    judged: RunItems, tmp_path: Path
) -> None:
    labels = read_labels(label(suggest(judged, n=40), judged, tmp_path / "first.jsonl"))
    found = suggest(judged, n=20, labels=labels)
    assert (found.design, found.n_new, len(found.items)) == ("stratified", 20, 60)
    kept = [item for item in found.items if any(v for v in item.labels[""].values())]
    assert {i.key for i in kept} == {i.key for i in labels.items}
    # of each stratum the propensity is the share of its items that then have labels
    scores = {i.key: round(s) for i, s in zip(judged.items, judged.scores, strict=True)}
    for grade in range(1, 6):
        own = [i for i in found.items if scores[i.key] == grade]
        n_all = sum(s == grade for s in scores.values())
        assert [i.propensity for i in own] == pytest.approx([len(own) / n_all] * len(own))


def test_labels_that_were_picked_by_hand_cannot_be_added_to(
    judged: RunItems, tmp_path: Path
) -> None:
    path = label(suggest(judged, n=10), judged, tmp_path / "first.jsonl")
    text = path.read_text(encoding="utf-8").replace('"random"', '"unknown"')
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="design is 'unknown'"):
        suggest(judged, n=10, labels=read_labels(path))


def test_more_than_there_are_cannot_be_had(judged: RunItems) -> None:
    with pytest.raises(UsageError, match="there are 100 responses without a label"):
        suggest(judged, n=101)


def test_progress_says_how_many_labels_it_takes(judged: RunItems, tmp_path: Path) -> None:
    labels = read_labels(label(suggest(judged, n=40), judged, tmp_path / "some.jsonl"))
    [wide] = progress(judged, labels, half_width=5.0)
    assert (wide.n_labels, wide.reached_at, wide.note) == (40, 30, "")
    assert wide.anytime[0] < 3 < wide.anytime[1]
    assert wide.n_more == 0
    [narrow] = progress(judged, labels, half_width=0.35)
    assert narrow.reached_at is None
    assert narrow.n_labels + narrow.n_more == narrow.forecast.n_labels
    assert 40 < narrow.forecast.n_labels <= narrow.forecast.n_labels_only <= N
    [out_of_reach] = progress(judged, labels, half_width=0.01)
    assert math.isnan(out_of_reach.n_more)


def test_an_interval_for_every_look_needs_a_random_sample(judged: RunItems, tmp_path: Path) -> None:
    path = label(suggest(judged, n=40), judged, tmp_path / "some.jsonl")
    text = path.read_text(encoding="utf-8").replace('"random"', '"stratified"')
    path.write_text(text, encoding="utf-8")
    [found] = progress(judged, read_labels(path), half_width=0.5)
    assert "needs labels drawn at random; these are stratified" in found.note
    assert math.isnan(found.anytime[0])


def test_too_few_labels_have_no_interval_yet(judged: RunItems, tmp_path: Path) -> None:
    labels = read_labels(label(suggest(judged, n=10), judged, tmp_path / "few.jsonl"))
    [found] = progress(judged, labels, half_width=0.5)
    assert "begins at 30 labels" in found.note


def test_a_task_that_is_not_what_was_run_is_refused(judged: RunItems, tmp_path: Path) -> None:
    [folder] = (tmp_path / "runs").iterdir()
    task = tmp_path / "tasks" / "talk.yaml"
    task.write_text(TASK.replace("Say {{ n }}.", "Please say {{ n }}."), encoding="utf-8")
    with pytest.raises(RecordError, match=r"task talk, example n0: the task or its rows are not"):
        judged_items(RunRecord.load(folder), judged.rubric)
    task.unlink()
    with pytest.raises(RecordError, match="task talk cannot be loaded again: no such"):
        judged_items(RunRecord.load(folder), judged.rubric)


def test_a_run_that_was_not_judged_has_nothing_to_label(judged: RunItems, tmp_path: Path) -> None:
    [folder] = (tmp_path / "runs").iterdir()
    other = rubric(tmp_path, GRADE_RUBRIC.replace("rubric: quality", "rubric: other"))
    with pytest.raises(UsageError, match="no response in it was judged by rubric 'other'"):
        judged_items(RunRecord.load(folder), other)


def test_pairs_are_labelled_with_the_other_answer_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = rubric(tmp_path)  # better.yaml, pairwise
    rows: list[dict[str, Any]] = [{"id": f"n{i}", "n": i, "old": f"was {i}"} for i in range(8)]
    write_rows(tmp_path / "talk.jsonl", rows)
    text = TASK.replace(
        "[../rubrics/quality.yaml]", "[{rubric: better.yaml, against: '{{ old }}'}]"
    )
    (tmp_path / "talk.yaml").write_text(text, encoding="utf-8")

    def by_place(request: Request) -> Response:
        if request.kind == "generate":
            return say(f"new {str(request.prompts[0]).split()[1]}")
        return likelihoods(-0.1, -50.0, -3.0, -50.0)

    model = Answering(by_place)
    record = evalkit.evaluate("talk.yaml", model, judge=model.info.spec, out="runs")
    assert record.folder is not None
    items = judged_items(RunRecord.load(record.folder), asked)
    assert [i.case.opponent for i in items.items] == [f"was {i}" for i in range(8)]
    path = tmp_path / "next.jsonl"
    write_suggestion(suggest(items, n=4), asked, path)
    assert {i.case.opponent for i in read_labels(path).items} < {f"was {i}" for i in range(8)}
