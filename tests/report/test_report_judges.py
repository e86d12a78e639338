"""The judges of a task, their figures, and what they said of one response."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_records import (
    IDENTITY,
    figure,
    figures,
    graded,
    judged_record,
    judged_task,
    pair,
    panel,
)

from evalkit.report.charts import axis_ticks, figure_whisker
from evalkit.report.examples import build_examples
from evalkit.report.figure_tables import FigureTable, figure_tables
from evalkit.report.figures import axis_of, figure_row
from evalkit.report.judged import judged_view, members_of
from evalkit.report.judges import JudgeView, judge_views
from evalkit.report.standing import Standing
from evalkit.report.view import build_view
from evalkit.types import Status, Verdict


def view_of(rubric: str) -> JudgeView:
    views = {j.rubric: j for task in build_view(judged_record()).tasks for j in task.judges}
    return views[rubric]


def test_a_judge_that_nobody_was_compared_with_says_so_and_how_to_do_it() -> None:
    view = view_of("chat_pairwise")
    assert view.sentence.startswith("Nobody has compared this judge with people")
    assert view.command == (
        "evalkit calibrate chat_pairwise --labels FILE --judge '[local:a, local:b]'"
    )
    assert view.calibration is None


@pytest.mark.parametrize(
    ("rubric", "sentence", "has_command"),
    [
        ("summary_quality", "People's labels speak for this judge.", False),
        ("safety", "This judge was compared with people once, but that no longer holds", True),
        ("creative", "People's labels speak against this judge", False),
    ],
)
def test_each_standing_is_a_sentence(rubric: str, sentence: str, has_command: bool) -> None:
    view = view_of(rubric)
    assert view.sentence.startswith(sentence)
    assert bool(view.command) == has_command
    assert view.calibration is not None


def test_a_corrected_metric_stands_beside_labels_and_judge_on_the_scale() -> None:
    [first, *_] = view_of("summary_quality").numbers
    values = {row.name: (row.value, row.interval, row.n) for row in first.rows}
    assert values == {
        "corrected": ("3.420", "3.110 – 3.730", "40"),
        "labels only": ("3.470", "2.910 – 4.030", "60"),
        "judge alone": ("3.820", "3.560 – 4.080", "40"),
    }
    assert (first.axis, first.share) == ((1.0, 5.0), "0.620")
    assert view_of("safety").numbers == ()


def test_each_criterion_has_its_verdict_and_its_reasons() -> None:
    found = view_of("creative").calibration
    assert found is not None
    for criterion in found.criteria:
        assert not criterion.is_accepted
        assert "no better than chance" in criterion.reasons[0]


def test_who_judged_is_told_in_words_and_the_fingerprints_are_there() -> None:
    view = view_of("summary_quality")
    facts = {fact.name: fact.text for fact in view.facts}
    assert facts["verdicts"] == "by the probabilities of the labels"
    assert facts["prompt"] == "with the model's chat template"
    assert {f.name: f.text for f in view.fingerprints}["model"] == IDENTITY["model"]


def test_a_panel_has_the_fingerprints_of_each_member() -> None:
    names = [fact.name for fact in view_of("chat_pairwise").fingerprints]
    assert "members.1.model" in names
    assert "members.2.model" in names


def test_a_judge_of_which_a_record_says_little_is_shown() -> None:
    [view] = judge_views(judged_task({}, {"x": {"spec": "local:a"}}))
    assert (view.standing.word, view.numbers, view.calibration) == ("uncalibrated", (), None)


def tables(data: dict[str, Any]) -> dict[str, FigureTable]:
    return {table.title: table for table in figure_tables(data)}


def test_figures_of_one_entry_share_an_axis() -> None:
    found = tables(figures())
    assert found["Agreement"].axis == (-1.0, 1.0)
    assert found["With each"].axis == (0.0, 1.0)
    assert [row.group for row in found["With each"].rows] == ["ann-1"] * 2 + ["ann-2"] * 2
    assert found["Agreement"].rows[1].name == "kappa, quadratic weights"


def test_numbers_beyond_one_have_an_axis_each() -> None:
    rows = [figure_row("a", figure(0.5, 0.4, 0.6, 9)), figure_row("b", figure(7, 6, 8, 9))]
    assert axis_of(rows) is None
    w = figure_whisker(rows[1], None)
    assert [tick.label for tick in w.ticks] == ["0", "10"]
    assert w.value == 70.0


def test_a_shared_axis_has_five_places() -> None:
    assert [t.label for t in axis_ticks((-1.0, 1.0))] == ["−1", "−0.5", "0", "0.5", "1"]
    assert [t.label for t in axis_ticks((1.0, 5.0))] == ["1", "2", "3", "4", "5"]


def test_a_one_sided_bound_is_shown_as_one() -> None:
    [row] = tables(figures())[""].rows[1:]
    assert (row.name, row.interval) == ("discrimination", "≥ 0.280")
    assert ("threshold", "0.2") in [(f.name, f.text) for f in row.more]


def test_a_confusion_is_a_grid_of_what_people_and_the_judge_say() -> None:
    [grid] = tables(figures())["Confusion"].grids
    assert grid.columns == ("1", "2", "3", "4", "5")
    assert (grid.rows[2].name, grid.rows[2].cells) == ("3", ("0", "5", "21", "9", "2"))
    assert grid.rows[2].shades == (0, 1, 3, 2, 1)  # ceil(5 * count / 37)


def test_a_reliability_table_has_a_row_for_each_bin() -> None:
    table = tables(figures())["Reliability"]
    [grid] = table.grids
    assert grid.columns == ("low", "high", "confidence", "frequency", "band")
    assert grid.rows[1].cells[2:] == ("0.300", "0.250 (0.200 – 0.400), n = 24", "0.200 – 0.400")


def test_errors_before_and_after_the_map_stand_below_each_other() -> None:
    [grid] = tables(figures())["Errors"].grids
    assert [row.name for row in grid.rows] == ["raw", "mapped"]
    assert grid.rows[0].cells == ("1.910", "1.300", "1.700 (1.600 – 1.800), n = 120")


def test_rows_with_a_name_of_their_own_go_by_it() -> None:
    checks = [
        {"check": "enough items", "is_passed": True, "p": None},
        {"check": "tells good from bad", "is_passed": False, "p": 9.57e-9},
    ]
    [grid] = tables({"checks": checks})["Checks"].grids
    assert (grid.corner, grid.columns) == ("check", ("is passed", "p"))
    assert [row.name for row in grid.rows] == ["enough items", "tells good from bad"]
    assert [row.cells for row in grid.rows] == [("yes", "–"), ("no", "9.6e-09")]


def test_lists_of_figures_have_the_names_that_stand_beside_them() -> None:
    table = tables(figures())["Ranking"]
    assert [row.name for row in table.rows] == ["gpt-x", "tiny"]
    [ranks] = table.grids
    assert [(row.name, row.cells) for row in ranks.rows] == [
        ("gpt-x", ("1 – 1",)),
        ("tiny", ("2 – 2",)),
    ]


def test_the_audit_is_shown() -> None:
    found = view_of("summary_quality").calibration
    assert found is not None
    assert [table.title for table in found.audit] == ["", "Padding"]


LEAVES = st.one_of(
    st.integers(2, 10**6).map(lambda n: figure(n / 7, n / 8, n / 6, n)),
    st.integers(2, 10**6),
    st.integers(2, 10**6).map(lambda n: f"text {n}"),
)
NAMES = st.text("abcxyz_", min_size=1, max_size=6).filter(lambda name: name != "n_")
NESTED = st.recursive(
    LEAVES,
    lambda inner: (
        st.dictionaries(NAMES, inner, min_size=1, max_size=4)
        | st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=12,
)


def ends_of(data: Any) -> list[str]:
    """The counts and texts at the ends of nested data, as they are to be read."""
    if isinstance(data, dict) and "value" in data:
        return [f"{data['n']:,}"]
    if isinstance(data, dict | list):
        parts = data.values() if isinstance(data, dict) else data
        return [text for part in parts for text in ends_of(part)]
    return [f"{data:,}" if isinstance(data, int) else data]


def texts_in(found: tuple[FigureTable, ...]) -> str:
    texts: list[str] = []
    for table in found:
        texts += [text for r in table.rows for text in (r.value, r.n, *(f.text for f in r.more))]
        texts += [fact.text for fact in table.facts]
        texts += [c for grid in table.grids for row in grid.rows for c in (row.name, *row.cells)]
    return "\n".join(texts)


@given(st.dictionaries(NAMES, NESTED, max_size=5))
def test_no_figure_and_no_text_of_any_name_and_depth_is_lost(data: dict[str, Any]) -> None:
    shown = texts_in(figure_tables(data))
    for text in ends_of(data):
        assert text in shown


@given(st.dictionaries(NAMES, st.none() | st.booleans() | st.floats() | st.just([]) | st.just({})))
def test_nothing_and_no_number_are_no_nan(data: dict[str, Any]) -> None:
    assert "nan" not in texts_in(figure_tables(data))


def test_probabilities_are_bars_and_the_likeliest_is_named() -> None:
    view = judged_view("q", graded(3.4), standing=Standing(word="calibrated"))
    assert [bar.percent for bar in view.labels] == ["2.0 %", "8.0 %", "25.0 %", "40.0 %", "25.0 %"]
    assert [bar.label for bar in view.labels if bar.is_picked] == ["4"]
    assert ("other texts than labels", "3.1 %") in [(f.name, f.text) for f in view.facts]
    assert view.doubt == ""


def test_two_labels_as_likely_as_each_other_are_neither_picked() -> None:
    view = judged_view("q", pair(1.0, 0.0), standing=Standing())
    assert not any(bar.is_picked for bar in view.labels)


@pytest.mark.parametrize(
    ("orders", "first", "second", "together"),
    [
        ((1.0, 1.0), "this response", "this response", "agree"),
        ((0.0, 0.0), "the other answer", "the other answer", "agree"),
        ((1.0, 0.0), "this response", "the other answer", "disagree: the order matters"),
        ((0.5, 0.0), "a tie", "the other answer", "disagree: the order matters"),
        ((0.75, 0.75), "this response by 75.0 %", "this response by 75.0 %", "agree"),
    ],
)
def test_a_pair_says_what_it_was_in_each_order(
    orders: tuple[float, float], first: str, second: str, together: str
) -> None:
    view = judged_view("q", pair(*orders), standing=Standing())
    facts = {fact.name: fact.text for fact in view.facts}
    assert facts["better when shown first"] == first
    assert facts["better when shown second"] == second
    assert facts["the two orders"] == together
    assert [bar.label for bar in view.labels] == ["A: this response", "B: the other answer"]


def test_no_verdict_says_why() -> None:
    view = judged_view("q", graded(0, status=Status.ABSTAINED), standing=Standing())
    assert (view.value, view.problem) == ("–", "abstained: no label has any probability")
    assert view.labels == ()


def test_members_of_a_panel_have_the_names_of_their_judges() -> None:
    run = judged_record()
    example = build_examples(run, build_view(run))["chat"].examples[1]
    [view] = example.judged
    assert [member.name for member in view.members] == ["local:a", "local:b"]
    assert view.doubt == "⚠ uncalibrated"


def test_members_without_names_are_numbered() -> None:
    verdict = panel(pair(1.0, 1.0), pair(1.0, 0.0), pair(0.0, 0.0))
    view = judged_view("q", verdict, standing=Standing(), members=members_of("local:one"))
    assert [member.name for member in view.members] == [f"judge {i} of 3" for i in (1, 2, 3)]


def test_an_undefined_probability_is_a_dash() -> None:
    verdict = Verdict(value=math.nan, probabilities={"1": math.nan, "2": 0.5})
    view = judged_view("q", verdict, standing=Standing())
    assert [bar.percent for bar in view.labels] == ["–", "50.0 %"]
