"""What keeps two runs from being compared, and what does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from paired_runs import TASK, record_of, rows_of, run_words, write_task

from evalkit.compare import compare, open_side, paired
from evalkit.errors import NotComparableError, NotFoundError, UsageError
from evalkit.record import RunRecord

TEXTS = [f"word {i}" for i in range(8)]


def right(text: str) -> str:
    return text


def run(folder: Path, spec: str = TASK, **options: Any) -> RunRecord:
    return run_words(write_task(folder, rows_of(TEXTS), spec), right, **options)


def refusal(a: RunRecord, b: RunRecord, **options: Any) -> tuple[str, ...]:
    """Why two runs are not compared."""
    with pytest.raises(NotComparableError) as caught:
        compare(open_side(a), [open_side(b)], **options)
    return caught.value.differences


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("version: 1", "version: 2", "version: 1 in A, 2 in B"),
        ("'Say {{ text }}'", "'Say  {{ text }}'", 'prompt: "Say {{ text }}" in A, "Say  {{ te'),
        ("request", "system: Hello.\nrequest", 'system: not set in A, "Hello." in B'),
        ("request", "repeats: 2\nrequest", "repeats: 1 in A, 2 in B"),
        ("request", "cluster: id\nrequest", 'cluster: not set in A, "id" in B'),
        (
            "metrics",
            "generate: {temperature: 0.7}\nmetrics",
            "generate.temperature: 0.0 in A, 0.7 in B",
        ),
        (
            "metrics",
            "generate: {stop: ['.']}\nmetrics",
            'generate.stop: [] in A, ["."] in B',
        ),
        ("target: '{{ text }}'", "target: '{{ id }}'", "target"),
        (
            "metrics",
            "extract: last_number\nmetrics",
            'metric exact_match: extract: "" in A, "last_number" in B',
        ),
        (
            "[exact_match, token_f1]",
            "[{metric: exact_match, numeric: true}]",
            "metric exact_match: …",
        ),
    ],
)
def test_what_can_change_a_score_is_named(tmp_path: Path, old: str, new: str, line: str) -> None:
    found = refusal(run(tmp_path), run(tmp_path, TASK.replace(old, new)))
    assert any(one.startswith(f"task words: {line}") for one in found)
    assert not any("\n" in one for one in found)


def test_every_field_that_differs_has_a_line(tmp_path: Path) -> None:
    other = TASK.replace("metrics", "generate: {temperature: 0.7, top_p: 0.9}\nmetrics")
    assert refusal(run(tmp_path), run(tmp_path, other)) == (
        "task words: generate.temperature: 0.0 in A, 0.7 in B",
        "task words: generate.top_p: 1.0 in A, 0.9 in B",
    )


def test_of_two_long_texts_the_part_that_differs_is_shown(tmp_path: Path) -> None:
    long = TASK.replace("'Say", f"'{'Once more: ' * 30}Say")
    [line] = refusal(run(tmp_path, long), run(tmp_path, long.replace("Say", "Tell")))
    assert "Say {{" in line
    assert "Tell {{" in line
    assert len(line) < 200


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1", "version: 1\ndescription: Words.\ntags: [a, b]"),
        ("request", "slices: [id]\nrequest"),
        ("request", "generate: {temperature: 0}\nrequest"),
        ("token_f1", "contains"),
    ],
)
def test_what_changes_no_score_is_not_compared(tmp_path: Path, old: str, new: str) -> None:
    found = compare(
        open_side(run(tmp_path)), [open_side(run(tmp_path, TASK.replace(old, new)))], slices=False
    )
    assert found.candidates[0].metrics[0].difference.estimate == 0


def test_the_model_is_what_one_compares(tmp_path: Path) -> None:
    a = run(tmp_path)
    b = replace(a, model=replace(a.model, spec="other", fingerprint="sha256:1", dtype="bfloat16"))
    assert compare(open_side(a), [open_side(b)]).candidates[0].side.model == "other"


def test_shots_that_were_drawn_with_another_seed_are_other_prompts(tmp_path: Path) -> None:
    shots = TASK.replace("request", "num_fewshot: 2\nrequest")
    a, b = (run(tmp_path, shots, seed=seed) for seed in (0, 1))
    assert refusal(a, b) == ("task words: seed of the few-shot examples: 0 in A, 1 in B",)
    first = shots.replace("num_fewshot", "few_shot: first_n\nnum_fewshot")
    for spec in (TASK, first):
        a, b = (run(tmp_path, spec, seed=seed) for seed in (0, 1))
        assert compare(open_side(a), [open_side(b)]).candidates


def test_other_rows_are_refused_and_what_is_common_compared_if_one_asks_for_it(
    tmp_path: Path,
) -> None:
    a, b = run(tmp_path), run(tmp_path, limit=5)
    [line] = refusal(a, b)
    assert line.startswith("task words: examples: 3 (")
    assert line.endswith("0 only in B, 5 in both; --intersection compares these")
    found = compare(open_side(a), [open_side(b)], intersection=True).candidates[0]
    assert (found.pairings[0].n_common, found.metrics[0].n_pairs) == (5, 5)
    ids = {row.example_id for row in b.read_rows()}
    assert set(found.pairings[0].only_a) == {f"w{i}" for i in range(8)} - ids
    assert found.pairings[0].only_b == ()


def test_an_edited_row_is_another_example(tmp_path: Path) -> None:
    a = run(tmp_path)
    rows = rows_of([*TEXTS[:-1], "edited"])
    b = run_words(write_task(tmp_path, rows), right)
    assert "1 (w7) only in A, 1 (w7) only in B, 7 in both" in refusal(a, b)[0]


def test_without_a_common_example_there_is_nothing_to_compare() -> None:
    a, b = record_of([1.0, 0.0]), record_of([1.0, 0.0], ids=[5, 6])
    expected = ("task t: A and B have no example in common",)
    assert refusal(a, b, intersection=True) == expected


def test_equal_rows_are_paired_in_the_order_in_which_they_occur(tmp_path: Path) -> None:
    rows = [{"text": text} for text in ("same", "same", "other")]  # ids are row numbers

    def answers(*said: str) -> Callable[[str], str]:
        left = list(said)
        return lambda text: left.pop()  # the backend is asked for the last row first

    task = write_task(tmp_path, rows)
    a = run_words(task, answers("same", "no", "other"))
    b = run_words(task, answers("same", "same", "no"))
    pairs = paired(open_side(a), open_side(b), "words", "exact_match")
    values = dict(zip(pairs.ids, zip(pairs.a, pairs.b, strict=True), strict=True))
    assert values == {"0": (1, 1), "1": (0, 1), "2": (1, 0)}


def test_tasks_and_metrics_of_one_run_alone_are_named_and_left_out(tmp_path: Path) -> None:
    a = run(tmp_path)
    b = run(tmp_path, TASK.replace("token_f1", "contains"))
    b = replace(b, id="b", tasks={**b.tasks, "more": b.tasks["words"]})
    found = compare(open_side(replace(a, id="a")), [open_side(b)]).candidates[0]
    assert [d.metric for d in found.metrics] == ["exact_match"]
    assert found.notes == (
        "only in b: more",
        "task words: metrics only in a: token_f1",
        "task words: metrics only in b: contains",
    )
    with pytest.raises(NotFoundError, match="no such task in run a: 'more'"):
        compare(open_side(replace(a, id="a")), [open_side(b)], tasks=["more"])
    with pytest.raises(NotFoundError, match="no such metric in run b: 'token_f1'"):
        compare(open_side(a), [open_side(b)], metrics=["token_f1"])


def test_a_run_that_did_not_end_is_compared_and_said_to_be_so(tmp_path: Path) -> None:
    a = run(tmp_path)
    b = replace(a, id="b", status="interrupted")
    found = compare(open_side(a), [open_side(b)]).candidates[0]
    assert found.notes == ("b: the run is interrupted",)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_share(level: float) -> None:
    side = open_side(record_of([1.0]))
    with pytest.raises(UsageError, match="must lie between 0 and 1"):
        compare(side, [side], level=level)


# --- records on disk


def written(folder: Path, record: RunRecord, name: str) -> Path:
    record.write(folder / name)
    return folder / name


def test_another_judge_or_rubric_is_another_measure(tmp_path: Path) -> None:
    record = run(tmp_path)
    a, b = (written(tmp_path, record, name) for name in "ab")
    for folder, rubric in ((a, "5c"), (b, "7f")):
        data = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        identity = {"model": "m", "rubric_sha256": rubric}
        data["tasks"]["words"]["judges"] = {"quality": {"spec": folder.name, "identity": identity}}
        (folder / "run.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(NotComparableError) as caught:
        compare(open_side(a), [open_side(b)])
    assert caught.value.differences == (
        'task words: judges.quality.rubric_sha256: "5c" in A, "7f" in B',
    )


CORPUS = TASK.replace("token_f1", "bleu")


def test_a_corpus_metric_of_an_older_record_is_left_out_with_a_line(tmp_path: Path) -> None:
    record = run(tmp_path, CORPUS)
    a, b = (written(tmp_path, record, name) for name in "ab")
    table = pq.read_table(b / "examples.parquet")
    pq.write_table(table.drop_columns(["stats.bleu"]), b / "examples.parquet")
    data = json.loads((b / "run.json").read_text(encoding="utf-8"))
    for metric in data["tasks"]["words"]["metrics"].values():
        del metric["interval"], metric["missing"]
    (b / "run.json").write_text(json.dumps(data), encoding="utf-8")
    found = compare(open_side(a), [open_side(b)]).candidates[0]
    assert [d.metric for d in found.metrics] == ["exact_match"]
    line = (
        "task words: metric bleu: B has no statistics of its examples: run it again to compare it"
    )
    assert found.notes == (line,)
    with pytest.raises(NotComparableError, match="metric bleu: B has no statistics"):
        compare(open_side(a), [open_side(b)], metrics=["bleu"])


def test_statistics_that_another_version_computed_are_not_combined(tmp_path: Path) -> None:
    record = run(tmp_path, CORPUS)
    task = record.tasks["words"]
    old = replace(task.metrics["bleu"], signature="BLEU|of:before")
    record = replace(record, tasks={"words": replace(task, metrics={"bleu": old})})
    side = open_side(record)
    with pytest.raises(NotComparableError, match=r"the runs have 'BLEU\|of:before', this version"):
        compare(side, [side])
