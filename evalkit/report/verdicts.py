"""A gate's report for a terminal: a table of the checks, and lines on why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.compare import Side
from evalkit.gate import CheckResult, GateReport, Verdict
from evalkit.report.compared import compared_marks, compared_notes
from evalkit.report.escape import plain
from evalkit.report.numerals import (
    DASH,
    Unit,
    format_count,
    format_level,
    format_number,
    format_value,
    unit_of,
)
from evalkit.report.text import mark_text

COLUMNS = ("n", "A", "B", "Difference", "Bounds", "Margin", "MDE")

_STYLES = {
    Verdict.PASS: "green",
    Verdict.REGRESSION: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.NOT_COMPARABLE: "magenta",
}


def verdict_name(verdict: Verdict) -> str:
    """A verdict as it is shown.

    >>> verdict_name(Verdict.NOT_COMPARABLE)
    'NOT COMPARABLE'
    """
    return verdict.value.replace("_", " ").upper()


def check_name(found: CheckResult) -> str:
    """Task, metric and slice of a check, as the policy names them."""
    check = found.check
    part = f", {check.slice[0]}={check.slice[1]}" if check.slice else ""
    return f"{check.task}, {check.metric}{part}"


def number_cells(found: CheckResult) -> list[str]:
    """The numbers of a check under ``COLUMNS``, in the metric's unit; dashes where there are none.

    Differences are signed so that a drop is negative, whatever the metric.
    """
    unit = unit_of(found.check.metric, "wilson" if found.is_share else "")
    bounds = f"{_signed(found.low, unit)} … {_signed(found.high, unit)}"
    is_compared = found.verdict is not Verdict.NOT_COMPARABLE
    return [
        format_count(found.n) if is_compared else DASH,
        format_value(found.value_a, unit),
        format_value(found.value_b, unit),
        _signed(found.difference, unit),
        DASH if math.isnan(found.low) or math.isnan(found.high) else bounds,
        format_number(found.check.margin, unit),
        format_number(found.mde, unit),
    ]


def verdicts_table(report: GateReport, *, sides: Sequence[Side] = ()) -> Table:
    """A line for each check.

    ``sides`` are the baseline and the candidate: with them the check of a judge's metric has the
    standing of its judges beside its name.
    """
    marks = check_marks(report, sides)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("Check")
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    for found, mark in zip(report.checks, marks, strict=True):
        arrow = "" if found.higher_is_better else " ↓"
        table.add_row(
            Text(plain(check_name(found)) + arrow).append_text(mark_text(mark)),
            *(Text(cell) for cell in number_cells(found)),
            Text(verdict_name(found.verdict), style=_STYLES[found.verdict]),
        )
    return table


def verdict_lines(report: GateReport, *, sides: Sequence[Side] = ()) -> Iterator[str]:
    """What the table shows, why each check has its verdict, and last the verdict of the whole.

    ``sides`` as in ``verdicts_table``: what is known of the judges is said of each.
    """
    yield from _legend(report)
    yield from map(plain, judge_notes(report, sides))
    yield ""
    for found in report.checks:
        yield f"{plain(check_name(found))}: {verdict_name(found.verdict)}: {plain(found.detail)}"
        for line in found.differences[1:]:
            yield f"  {plain(line)}"
    for one in report.quarantine:
        if one.n_found and not one.is_expired:
            yield plain(f"left out until {one.until}: {one.name}: {one.reason}")
    yield f"gate {plain(report.gate)}: {verdict_name(report.verdict)}"


def check_marks(report: GateReport, sides: Sequence[Side]) -> list[str]:
    """The mark of each check: how far the judges of its metric speak for people; "" for others."""
    marks = compared_marks(sides, _checked(report))
    return [marks.get((found.check.task, found.check.metric), "") for found in report.checks]


def judge_notes(report: GateReport, sides: Sequence[Side]) -> list[str]:
    """What is known of the judges of the checks' metrics, a line each."""
    return compared_notes(zip("AB", sides, strict=False), _checked(report))


def _checked(report: GateReport) -> list[tuple[str, str]]:
    return [(found.check.task, found.check.metric) for found in report.checks]


def level_note(report: GateReport) -> str:
    """What the bounds are, in a sentence."""
    note = f"Bounds: each one-sided, wrong with a chance of {format_level(report.alpha)}"
    is_adjusted = report.adjust != "none" and len(report.checks) > 1
    return f"{note}, all together ({report.adjust.capitalize()})." if is_adjusted else f"{note}."


def _legend(report: GateReport) -> Iterator[str]:
    yield f"A: {plain(report.baseline.model)} · {plain(report.baseline.id)}"
    yield f"B: {plain(report.candidate.model)} · {plain(report.candidate.id)}"
    yield "Differences are paired by example; a drop is negative."
    yield level_note(report)
    power = format_level(report.power)
    yield f"MDE: the smallest margin that an unchanged candidate passes with a chance of {power}."
    if not all(found.higher_is_better for found in report.checks):
        yield "↓ less is better."


def _signed(value: float, unit: Unit) -> str:
    text = format_number(value, unit)
    return f"+{text}" if value > 0 and text.strip("0.,") else text
