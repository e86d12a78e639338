"""What a record keeps so that it can be compared later."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from answering import Answering, likelihoods
from paired_runs import TASK, rows_of, run_words, write_task
from sacrebleu.metrics.bleu import BLEU

import evalkit
from evalkit.record import RunRecord

CORPUS = TASK.replace("[exact_match, token_f1]", "[exact_match, bleu, f1]")
TEXTS = ["one two three four five", "six seven eight nine ten", "a b c d e"]


def run(folder: Path) -> RunRecord:
    task = write_task(folder, rows_of(TEXTS), CORPUS)
    return run_words(task, lambda t: None if t == TEXTS[1] else t.rpartition(" ")[0])


def test_a_metric_that_is_no_mean_leaves_what_it_adds_up(tmp_path: Path) -> None:
    record = run(tmp_path)
    frame = record.to_frame()
    assert [c for c in frame if str(c).startswith("stats.")] == ["stats.bleu", "stats.f1"]
    # sacrebleu's own counts: lengths, matches and totals of 1..4 words
    segment = BLEU(smooth_method="none", effective_order=True).sentence_score(
        "one two three four", [TEXTS[0]]
    )
    expected = [segment.sys_len, segment.ref_len, *segment.counts, *segment.totals]
    first, failed, _ = frame["stats.bleu"]
    assert list(first) == expected
    assert failed is None


def test_the_statistics_are_read_back(tmp_path: Path) -> None:
    record = run(tmp_path)
    written = record.write(tmp_path / "run")
    loaded = RunRecord.load(tmp_path / "run")
    assert [row.stats for row in loaded.read_rows()] == [row.stats for row in record.read_rows()]
    assert loaded.to_json() == written.to_json()
    assert loaded.table(["stats.f1", "repeat", "nothing"]).column_names == ["stats.f1", "repeat"]
    assert record.table(["repeat", "nothing"]).column_names == ["repeat"]


def test_a_column_whose_name_begins_with_anothers_is_not_read_with_it(tmp_path: Path) -> None:
    record = run(tmp_path)
    assert record.rows is not None
    rows = [replace(row, scores={"quality": 1.0, "quality.tone": 0.5}) for row in record.rows]
    replace(record, rows=rows).write(tmp_path / "run")
    table = RunRecord.load(tmp_path / "run").table(["score.quality"])
    assert table.column_names == ["score.quality"]


def test_the_record_says_what_a_missing_answer_could_have_been_worth(tmp_path: Path) -> None:
    record = run(tmp_path)
    record.write(tmp_path / "run")
    data = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    metrics = data["tasks"]["words"]["metrics"]
    assert {n: (m["interval"], m["missing"]) for n, m in metrics.items()} == {
        "exact_match": ("proportion", [0.0, 1.0]),
        "bleu": ("bootstrap", [None, None]),
        "f1": ("bootstrap", [None, None]),
    }
    loaded = RunRecord.load(tmp_path / "run").tasks["words"].metrics
    assert loaded["exact_match"].missing == (0.0, 1.0)
    assert all(math.isnan(end) for end in loaded["bleu"].missing)


def test_of_an_error_score_the_worst_is_the_larger_end(tmp_path: Path) -> None:
    (tmp_path / "pick.yaml").write_text(
        "task: pick\nversion: 1\ndataset: {path: pick.jsonl}\nprompt: x\nchoices: [a, b]\n"
        "target: '{{ answer }}'\nrequest: choice\nmetrics: [brier]\n",
        encoding="utf-8",
    )
    (tmp_path / "pick.jsonl").write_text('{"answer": 0}\n', encoding="utf-8")
    record = evalkit.evaluate(
        str(tmp_path / "pick.yaml"), Answering(lambda request: likelihoods(-1.0, -2.0))
    )
    # Brier (1950), eq. 2: 0 for a right answer given for certain, 2 for a wrong one
    assert record.tasks["pick"].metrics["brier"].missing == pytest.approx((2.0, 0.0))
