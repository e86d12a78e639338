"""Runs beside each other, for a terminal: a table of differences, and the examples that flipped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.compare import Comparison, Flip, MetricDifference, Side, first_lines
from evalkit.report.compared import compared_marks, compared_notes
from evalkit.report.escape import plain
from evalkit.report.numerals import (
    DASH,
    format_count,
    format_level,
    format_number,
    format_value,
    unit_of,
)
from evalkit.report.text import mark_text

_LINE = 100  # characters of a prompt that are shown


def differences_table(
    found: Comparison, *, by_slice: bool = False, sides: Sequence[Side] = ()
) -> Table:
    """A line for each metric and candidate, or for each slice of them.

    ``sides`` are the baseline and the candidates of the comparison, in order: with them a judge's
    metric has the standing of its judges beside it. The caption names the runs and says what the
    columns mean. Names are stripped of control characters.
    """
    is_several = len(found.candidates) > 1
    marks = [compared_marks((sides[0], side), _compared(found)) for side in sides[1:]]
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        caption=Text("\n".join(_caption(found, sides, by_slice=by_slice))),
        caption_justify="left",
    )
    table.add_column("Task", no_wrap=True)
    if by_slice:
        table.add_column("Slice")
    table.add_column("Metric")
    if is_several:
        table.add_column("Run", no_wrap=True)
    adjusted = "p (BH)" if by_slice else "p (Holm)"
    interval = f"{format_level(found.level)} interval"
    for name in ("A", "B", "Difference", interval, "p", adjusted, "n", "+/−", "Missing"):
        table.add_column(name, justify="right", no_wrap=True)
    previous: tuple[str, ...] = ()
    for number, one in _in_order(found, by_slice=by_slice):
        names = [one.task, *([": ".join(one.slice)] if one.slice else []), one.metric]
        cells = [Text(text) for text in _names(names, previous, one)]
        if marks:
            mark = marks[number - 1].get((one.task, one.metric), "")
            cells[-1].append_text(mark_text(mark))
        if is_several:
            cells.append(Text(f"#{number}"))
        table.add_row(*cells, *_number_cells(one))
        previous = tuple(names)
    return table


def _compared(found: Comparison) -> list[tuple[str, str]]:
    return [(one.task, one.metric) for c in found.candidates for one in c.metrics]


def _in_order(found: Comparison, *, by_slice: bool) -> Iterator[tuple[int, MetricDifference]]:
    """The candidates' numbers, those of one metric together."""
    rows = [
        (number, one)
        for number, candidate in enumerate(found.candidates, 1)
        for one in (candidate.slices if by_slice else candidate.metrics)
    ]
    places: dict[tuple[object, ...], int] = {}
    for _, one in rows:
        places.setdefault((one.task, one.slice, one.metric), len(places))
    yield from sorted(rows, key=lambda row: places[row[1].task, row[1].slice, row[1].metric])


def _names(names: Sequence[str], previous: Sequence[str], one: MetricDifference) -> Iterator[str]:
    """The names of a row, left out where they are those of the row above."""
    for index, name in enumerate(names):
        is_same = tuple(names[: index + 1]) == tuple(previous[: index + 1])
        is_last = index == len(names) - 1
        arrow = " ↓" if is_last and not one.higher_is_better else ""
        yield "" if is_same else plain(name) + arrow


def _number_cells(one: MetricDifference) -> list[str]:
    unit = unit_of(one.metric, "wilson" if one.is_share else "")
    found, counts = one.difference, one.discordance
    return [
        format_value(one.value_a, unit),
        format_value(one.value_b, unit),
        _signed(found.estimate, one),
        _range(found.low, found.high, one),
        _p(found.p_value),
        _p(one.p_adjusted),
        format_count(one.n_pairs),
        DASH if counts is None else f"{counts.n_only_b}/{counts.n_only_a}",
        _missing(one),
    ]


def _signed(value: float, one: MetricDifference) -> str:
    """A difference in the metric's unit, always with its sign."""
    text = format_number(value, unit_of(one.metric, "wilson" if one.is_share else ""))
    return f"+{text}" if value > 0 and text.strip("0.,") else text


def _range(low: float, high: float, one: MetricDifference) -> str:
    """Two differences as a range; one dash when either is undefined."""
    if math.isnan(low) or math.isnan(high):
        return DASH
    return f"{_signed(low, one)} … {_signed(high, one)}"


def _p(value: float) -> str:
    if math.isnan(value):
        return DASH
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _missing(one: MetricDifference) -> str:
    """Examples without a score in A and in B, and what the difference could then have been."""
    n_a, n_b = one.n_error_a + one.n_abstained_a, one.n_error_b + one.n_abstained_b
    if not n_a and not n_b:
        return "0"
    return f"{n_a}/{n_b} ({_range(min(one.worst, one.best), max(one.worst, one.best), one)})"


def _caption(found: Comparison, sides: Sequence[Side], *, by_slice: bool) -> Iterator[str]:
    rows = [d for c in found.candidates for d in (c.slices if by_slice else c.metrics)]
    if by_slice and not rows:
        yield "No slices: the tasks name none."
        return
    yield f"A: {plain(found.baseline.model)} · {plain(found.baseline.id)}"
    for number, candidate in enumerate(found.candidates, 1):
        name = f"#{number}" if len(found.candidates) > 1 else "B"
        yield f"{name}: {plain(candidate.side.model)} · {plain(candidate.side.id)}"
    yield from map(plain, compared_notes(_named(sides), _compared(found)))
    yield "Differences are B − A, paired by example; +/−: wrong in A and right in B, and back."
    if any(d.n_error_a + d.n_abstained_a + d.n_error_b + d.n_abstained_b for d in rows):
        yield "Missing: examples without a score in A/B, and what the difference could have been."
    if any(not d.higher_is_better for d in rows):
        yield "↓ less is better."


def _named(sides: Sequence[Side]) -> Iterator[tuple[str, Side]]:
    """The sides with the names that the caption gives them."""
    for index, side in enumerate(sides):
        yield ("A" if index == 0 else "B" if len(sides) == 2 else f"#{index}"), side


def flip_lines(found: Comparison, sides: Sequence[Side], *, n: int) -> Iterator[str]:
    """The first ``n`` examples of each metric that flipped each way, with how they were asked.

    ``sides`` are the baseline and the candidates of the comparison, in order.
    """
    if n < 1:
        return
    for candidate, side in zip(found.candidates, sides[1:], strict=True):
        for one in candidate.metrics:
            for what, flips in (("lost", one.lost), ("gained", one.gained)):
                if flips:
                    yield ""
                    yield f"{_scope(one, candidate.side.id)}: {len(flips)} {what}"
                    yield from _listed(one.task, flips[:n], (side, sides[0]))
                if len(flips) > n:
                    yield f"  … and {len(flips) - n} more"


def _scope(one: MetricDifference, run: str) -> str:
    return f"{plain(one.task)}, {plain(one.metric)}, {plain(run)}"


def _listed(task: str, flips: Sequence[Flip], sides: Sequence[Side]) -> Iterator[str]:
    """A line for each example; how it was asked is taken from the first side that knows."""
    hashes = [flip.sha256 for flip in flips]
    known = [first_lines(side, task, hashes) for side in sides]
    for flip, *lines in zip(flips, *known, strict=True):
        line = plain(next(filter(None, lines), ""))
        shown = line if len(line) <= _LINE else f"{line[:_LINE]}…"
        yield f"  {plain(flip.id)}  {shown}".rstrip()
