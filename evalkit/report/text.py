"""The numbers of a run for a terminal, for a pull request, and for a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.record import MetricResult, json_safe
from evalkit.report.escape import markdown, plain
from evalkit.report.standing import WARNING
from evalkit.report.view import MetricRow, RunView, interval_header, notes_of

_BOUNDS_NOTE = "In brackets: the value if every example without a score were wrong, or right."


def results_table(view: RunView) -> Table:
    """The numbers of a run as a rich table, a line for each task and metric.

    The caption says what a reader must know before the numbers: a run that is not complete, and
    what the brackets mean where answers are missing. Names are stripped of control characters.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        caption=_caption(view),
        caption_justify="left",
    )
    table.add_column("Task", no_wrap=True)
    table.add_column("Metric", overflow="fold")
    table.add_column("Value", justify="right", no_wrap=True)
    table.add_column(interval_header(view.rows), justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("Failures", justify="right")
    previous: MetricRow | None = None
    for row in view.rows:
        table.add_row(
            _name_cell(row, repeated=_same_block(previous, row)),
            _metric_cell(row),
            Text(row.value, style="bold"),
            Text(row.interval),
            Text(row.n),
            _failures_cell(row),
        )
        previous = row
    return table


def to_markdown(view: RunView) -> str:
    """The numbers of a run as GitHub-flavoured Markdown, with its status and warnings."""
    lines = [f"**{markdown(view.model)}** · seed {view.seed} · {markdown(view.id)}", ""]
    if view.status_note:
        lines += [f"> **{view.status.upper()}.** {view.status_note}", ""]
    lines += [
        f"| Task | Metric | Value | {interval_header(view.rows)} | n | Failures |",
        "|:--|:--|--:|--:|--:|--:|",
    ]
    for row in view.rows:
        name = markdown(row.name)
        name = f"**{name}**" if row.scope == "group" else name
        cells = (
            name,
            markdown(_metric_name(row)),
            _marked_value(row),
            row.interval,
            row.n,
            _failures(row, between=" "),
        )
        lines.append("| " + " | ".join(cells) + " |")
    if _has_bounds(view.rows):
        lines += ["", _BOUNDS_NOTE]
    if notes_of(view.rows):
        lines += ["", *(f"- {markdown(note.text)}" for note in notes_of(view.rows))]
    if view.warnings:
        lines += ["", *(f"- ⚠ {markdown(warning)}" for warning in view.warnings)]
    return "\n".join(lines) + "\n"


def to_json(view: RunView) -> dict[str, Any]:
    """The numbers of a run as plain data, in each metric's own unit; undefined ones are None.

    ``tasks.<task>.metrics.<metric>`` and ``groups.<group>.metrics.<metric>`` have the fields of
    ``run.json``, so that one path reads both.
    """
    return {
        "id": view.id,
        "status": view.status,
        "model": view.model,
        "seed": view.seed,
        "folder": None if view.folder is None else str(view.folder),
        "tasks": _by_name(view.rows, "task"),
        "groups": _by_name(view.rows, "group"),
        "warnings": list(view.warnings),
    }


def mark_text(mark: str) -> Text:
    """A mark as it follows a name, one word apart; nothing where there is no mark."""
    style = "yellow" if mark.startswith(WARNING) else "dim"
    return Text(f" {plain(mark)}" if mark else "", style=style)


def _by_name(rows: Sequence[MetricRow], scope: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for row in rows:
        if row.scope == scope:
            numbers = json_safe(_numbers(row.result))
            result.setdefault(row.name, {"metrics": {}})["metrics"][row.metric] = numbers
    return result


def _numbers(result: MetricResult) -> dict[str, Any]:
    """A metric as ``run.json`` has it."""
    found = asdict(result.estimate)
    found |= {"higher_is_better": result.higher_is_better, "signature": result.signature}
    if result.interval is not None:
        found |= {"interval": result.interval, "missing": result.missing}
    return found if result.judged is None else found | {"judged": asdict(result.judged)}


def _same_block(previous: MetricRow | None, row: MetricRow) -> bool:
    return previous is not None and (previous.scope, previous.name) == (row.scope, row.name)


def _name_cell(row: MetricRow, *, repeated: bool) -> Text:
    """The name once a block; tasks of a group stand under it."""
    if repeated:
        return Text("")
    if row.scope == "group":
        return Text(plain(row.name), style="bold")
    return Text(("  " if row.group is not None else "") + plain(row.name))


def _metric_name(row: MetricRow) -> str:
    """The metric, with an arrow when less is better."""
    return plain(row.metric) if row.higher_is_better else f"{plain(row.metric)} ↓"


def _marked_value(row: MetricRow) -> str:
    """The value, with a warning where a judge gave it that people were not compared with."""
    return f"{row.value} {markdown(row.standing.mark)}" if row.standing.is_doubtful else row.value


def _metric_cell(row: MetricRow) -> Text:
    """The metric and what its judge is worth; where there is no room that is the next line."""
    cell = Text(_metric_name(row))
    return cell.append_text(mark_text(row.standing.mark))


def _failures(row: MetricRow, *, between: str) -> str:
    return f"{row.failures}{between}({row.bounds})" if row.bounds else row.failures


def _failures_cell(row: MetricRow) -> Text:
    return Text(_failures(row, between="\n"), style="yellow" if row.bounds else "dim")


def _has_bounds(rows: Sequence[MetricRow]) -> bool:
    return any(row.bounds for row in rows)


def _caption(view: RunView) -> Text | None:
    lines = []
    if view.status_note:
        lines.append(f"{view.status.upper()}. {view.status_note}")
    if _has_bounds(view.rows):
        lines.append(_BOUNDS_NOTE)
    if any(not row.higher_is_better for row in view.rows):
        lines.append("↓ less is better.")
    lines += [plain(note.text) for note in notes_of(view.rows)]
    return Text("\n".join(lines)) if lines else None
