"""A judge's number never stands without what the judge is worth: terminal, Markdown, JSON, gate."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from xml.etree import ElementTree as ET

import pytest
from judged_records import judged_metric, judged_record
from report_records import metric, record, small_record, task, text_row
from rich.console import Console
from rich.table import Table

from evalkit.compare import RunSide, Side, compare
from evalkit.gate import GateReport, Policy, evaluate
from evalkit.record import GroupResult, RunRecord
from evalkit.report.comparison import differences_table
from evalkit.report.examples import build_examples
from evalkit.report.text import results_table, to_json, to_markdown
from evalkit.report.verdict_files import to_junit
from evalkit.report.verdict_files import to_markdown as gate_markdown
from evalkit.report.verdicts import verdict_lines, verdicts_table
from evalkit.report.view import MetricRow, build_view

DOUBTS = ("uncalibrated", "stale", "refused")


def printed(table: Table, width: int = 200) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def test_the_terminal_table_of_judges_is_as_reviewed(golden: Callable[[str, str], None]) -> None:
    table = results_table(build_view(judged_record()))
    golden("report_judged_table.txt", printed(table, width=100))


def test_the_markdown_of_judges_is_as_reviewed(golden: Callable[[str, str], None]) -> None:
    golden("report_judged.md", to_markdown(build_view(judged_record())))


def rows_of(run: RunRecord) -> dict[tuple[str, str], MetricRow]:
    return {(row.name, row.metric): row for row in build_view(run).rows}


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("word", DOUBTS)
def test_a_narrow_terminal_still_has_the_word_and_the_note(width: int, word: str) -> None:
    name = "quality.of_the_whole_summary"
    number = judged_metric(3.25, 3.0, 3.5, status=word, note="nobody was asked")
    run = record({"t": task({name: number})})
    text = printed(results_table(build_view(run)), width)
    assert max(map(len, text.splitlines())) <= width
    table, _, caption = text.rpartition("⚠")
    assert "3.250" in table
    assert word in table
    assert f"{word}: {name}: nobody was asked" in " ".join(caption.split())


def test_a_run_without_judges_has_no_mark() -> None:
    view = build_view(small_record())
    assert not set("⚠✓") & set(printed(results_table(view)))
    assert not any(row.standing.word for row in view.rows)


@pytest.mark.parametrize("word", DOUBTS)
def test_a_group_is_worth_what_its_weakest_task_is(word: str) -> None:
    good, bad = (judged_metric(3, 2.5, 3.5, status=s) for s in ("calibrated", word))
    mean = metric(3, 2.5, 3.5, method="t")  # a mean over tasks has no judge of its own in a record
    groups = {"g": GroupResult(tasks=("a", "b"), metrics={"macro_q": mean})}
    run = record({"a": task({"q": good}), "b": task({"q": bad})}, groups=groups)
    row = rows_of(run)["g", "macro_q"]
    assert (row.standing.word, row.standing.ends) == (word, (1.0, 5.0))
    assert row.value == "3.000"


def test_a_rubric_with_the_name_of_a_share_keeps_its_scale() -> None:
    run = record({"t": task({"contains": judged_metric(3.5, 3, 4, status="stale")})})
    assert rows_of(run)["t", "contains"].value == "3.500"


def test_a_corrected_number_has_its_two_others_in_words() -> None:
    row = rows_of(judged_record())["summaries", "summary_quality.coherence"]
    assert row.raw == "3.820 (3.560 – 4.080)"
    assert row.labels_only == "3.470 (2.910 – 4.030)"


def test_an_uncorrected_number_has_no_others() -> None:
    row = rows_of(judged_record())["chat", "chat_pairwise"]
    assert (row.raw, row.labels_only) == ("", "")


def test_json_says_of_a_judged_metric_what_the_record_says() -> None:
    run = judged_record()
    ours, theirs = to_json(build_view(run)), run.to_json()
    for name in run.tasks:
        assert ours["tasks"][name]["metrics"] == theirs["tasks"][name]["metrics"]
    assert ours["tasks"]["chat"]["metrics"]["safety"]["judged"]["status"] == "stale"
    json.dumps(ours, allow_nan=False)


def test_the_headline_has_a_rubric_as_a_whole() -> None:
    names = [(r.name, r.metric) for r in build_view(judged_record()).headline]
    assert ("summaries", "rouge1") in names
    assert ("summaries", "summary_quality") in names
    assert ("summaries", "summary_quality.coherence") not in names
    assert ("stories", "creative") in names


def test_a_slice_has_its_own_standing() -> None:
    [summaries] = [t for t in build_view(judged_record()).tasks if t.name == "summaries"]
    [table] = summaries.slices
    [judged] = [part for part in table.metrics if part.metric == "summary_quality"]
    found = {row.value: row.row.standing.word for row in judged.rows}
    assert found == {"news": "calibrated", "mail": "uncalibrated"}


def test_the_score_of_an_example_is_marked_among_its_facts() -> None:
    run = judged_record()
    [first, _] = build_examples(run, build_view(run))["chat"].examples
    facts = {fact.name: fact.text for fact in first.facts}
    assert facts["chat_pairwise"] == "0.500 ⚠ uncalibrated"
    assert facts["safety"] == "0.900 ⚠ stale"
    assert (first.verdict, first.score) == ("scored", "0.500")


def side(name: str, word: str, shift: float = 0.0) -> Side:
    """A run of 40 responses with a judge of this standing; ``""``: a metric without a judge."""
    note = f"the note of {name}"
    number = judged_metric(3, 2.5, 3.5, status=word or "x", note=note)
    number = number if word else replace(number, judged=None)
    rows = [
        text_row(i, task="t", scores={"q": 1.0 + (i * 7 % 40) / 10 + shift * (i % 2)})
        for i in range(40)
    ]
    return RunSide(record({"t": task({"q": number}, n_examples=40)}, rows, id=name))


@pytest.mark.parametrize(
    ("a", "b", "mark"),
    [
        ("uncalibrated", "uncalibrated", "q ⚠ uncalibrated"),
        ("calibrated", "stale", "q ⚠ A calibrated, B stale"),
        ("", "refused", "q ⚠ A unknown, B refused"),
        ("calibrated", "calibrated", "q ✓ calibrated"),
    ],
)
def test_a_comparison_says_what_the_judges_of_both_sides_are_worth(
    a: str, b: str, mark: str
) -> None:
    sides = [side("monday", a), side("tuesday", b, 0.5)]
    text = printed(differences_table(compare(sides[0], sides[1:]), sides=sides))
    assert f"{mark}  " in text
    assert ("q: the note of monday" in text) == (a != "")
    assert "q: the note of tuesday" in text


def test_each_of_several_candidates_has_its_own_mark() -> None:
    sides = [side("monday", "stale"), side("tuesday", "stale", 0.5), side("w", "refused", 0.7)]
    lines = printed(differences_table(compare(sides[0], sides[1:]), sides=sides)).splitlines()
    assert "q ⚠ stale" in next(line for line in lines if "#1" in line)
    assert "⚠ A stale, B refused" in next(line for line in lines if "#2" in line)
    assert "#2: ⚠ refused: q: the note of w" in lines


def test_what_is_known_of_both_sides_is_said_once() -> None:
    sides = [side("monday", "stale"), side("monday", "stale", 0.5)]
    lines = printed(differences_table(compare(sides[0], sides[1:]), sides=sides)).splitlines()
    assert "A, B: ⚠ stale: q: the note of monday" in lines


def test_a_comparison_of_metrics_without_judges_is_as_it_was() -> None:
    sides = [side("monday", ""), side("tuesday", "", 0.5)]
    found = compare(sides[0], sides[1:])
    assert printed(differences_table(found, sides=sides)) == printed(differences_table(found))


def gated(a: Side, b: Side) -> GateReport:
    policy = Policy.model_validate(
        {
            "gate": "pull-request",
            "checks": [{"task": "t", "metric": "q", "margin": 0.5, "reason": "people notice"}],
        }
    )
    return evaluate(a, b, policy, today=date(2026, 3, 14))


def test_a_gate_says_what_the_judges_are_worth_wherever_it_is_shown() -> None:
    sides = [side("monday", "calibrated"), side("tuesday", "stale", 0.2)]
    report = gated(*sides)
    mark = "⚠ A calibrated, B stale"
    assert f"t, q {mark}" in printed(verdicts_table(report, sides=sides))
    assert "B: ⚠ stale: q: the note of tuesday" in list(verdict_lines(report, sides=sides))
    markdown = gate_markdown(report, sides=sides)
    assert f"| t, q {mark} |" in markdown
    assert "- `B: ⚠ stale: q: the note of tuesday`" in markdown
    [case] = ET.fromstring(to_junit(report, sides=sides)).iter("testcase")
    assert f"judge: {mark}" in "".join(case.itertext())


def test_undefined_ends_of_a_scale_are_no_axis() -> None:
    number = judged_metric(3, 2.5, 3.5, status="stale", ends=(-math.inf, math.inf))
    [row] = build_view(record({"t": task({"reward": number})})).rows
    assert row.standing.ends is None
