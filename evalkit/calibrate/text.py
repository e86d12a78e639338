"""Calibrations, checks of anchors and progress of labelling, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.calibrate.anchors import AnchorCheck
from evalkit.calibrate.audit_tables import audit_tables
from evalkit.calibrate.suggestion import LabelProgress
from evalkit.calibrate.tables import essentials
from evalkit.judges.calibration import Calibration
from evalkit.report.escape import plain
from evalkit.report.numerals import (
    DASH,
    format_count,
    format_level,
    format_number,
    format_range,
)
from evalkit.stats.drift import Drift


def calibration_table(found: Calibration) -> Table:
    """The figures that a person looks at first, a line each."""
    level = next(iter(found.criteria.values())).figures["level"]
    table = _table(("Criterion", "Figure"), ("Value", f"{format_level(level)} interval", "n"))
    for name, criterion in found.criteria.items():
        for number, row in enumerate(essentials(criterion.figures)):
            first = plain(name) if number == 0 else ""
            table.add_row(Text(first), *(Text(cell) for cell in row))
        table.add_section()
    return table


def audit_text(found: Calibration) -> Iterator[Table]:
    """The tables of the bias audit; none if there was none."""
    for name in found.criteria:
        for one in audit_tables(found.audit, name):
            title = one.title if len(found.criteria) == 1 else f"{one.title}, {name}"
            table = _table((plain(title),), one.columns[1:])
            for row in one.rows:
                table.add_row(*(Text(plain(cell)) for cell in row))
            yield table


def drift_table(found: AnchorCheck) -> Table:
    """The change of scores and of agreement under each criterion, within which margin."""
    table = _table(("Criterion", "Of"), ("Change", "Bounds", "Margin", "n", "Verdict"))
    for one in found.criteria:
        table.add_row(Text(plain(one.criterion)), Text("score"), *_drift_cells(one.score))
        if one.agreement is not None:
            table.add_row(Text(""), Text("agreement"), *_drift_cells(one.agreement))
    return table


def progress_lines(found: Sequence[LabelProgress]) -> list[str]:
    """Whether the labels do, and how many more it takes, a line or two for each criterion."""
    return [line for one in found for line in _progress(one)]


def _progress(one: LabelProgress) -> list[str]:
    aim, n = format_number(one.half_width, "number"), format_count(one.n_labels)
    lines = []
    if one.note:
        lines.append(f"{one.criterion}: {n} labels; {one.note}")
    else:
        span = format_range(*one.anytime, "number")
        at = f"at {format_count(one.reached_at)}" if one.reached_at is not None else "not yet"
        lines.append(
            f"{one.criterion}: {n} labels; the interval that holds at every look is {span}; "
            f"half-width {aim} reached: {at}"
        )
    f = one.forecast
    if math.isnan(f.n_labels):
        lines.append(f"{one.criterion}: a half-width of {aim} is out of reach, by what is known")
    else:
        lines.append(
            f"{one.criterion}: {_count(one.n_more)} more labels for {aim} at one look "
            f"({_count(f.n_labels)} in all; {_count(f.n_labels_anytime)} looking after each, "
            f"{_count(f.n_labels_only)} without the judge)"
        )
    return lines


def _count(value: float) -> str:
    return DASH if math.isnan(value) else format_count(int(value))


def _drift_cells(found: Drift) -> list[Text]:
    cells = (
        format_number(found.change.estimate, "number"),
        format_range(found.low, found.high, "number"),
        format_number(found.margin, "number"),
        format_count(found.n),
        str(found.verdict),
    )
    return [Text(cell) for cell in cells]


def _table(words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in words:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
