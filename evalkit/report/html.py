"""A run as one HTML file that needs nothing else: no network, no server, no JavaScript to read it.

Whatever comes from a model or a file is escaped by Jinja, with its control characters made
visible, or stands in a JSON block that the script shows as text. The policy in the page's head
lets run exactly the script and the style that ship with evalkit, known by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evalkit.errors import RecordError
from evalkit.record import RunRecord
from evalkit.report.charts import SHARED_TICKS, axis_ticks, figure_whisker, whisker
from evalkit.report.escape import visible
from evalkit.report.examples import ExampleList, ExampleView, build_examples
from evalkit.report.figures import groups_of
from evalkit.report.judged import size_of
from evalkit.report.numerals import format_count
from evalkit.report.payload import Payload, build_payloads, script_json
from evalkit.report.view import RunView, TaskView, build_view, interval_header, notes_of
from evalkit.resources import template_dir

TRANSCRIPT_BYTES = 4_000_000  # of prompts and responses in a page, as JSON
MAX_LISTED = 20_000  # examples in a page
STATIC_EXAMPLES = 50  # of a task, readable without JavaScript
STATIC_CHARS = 400_000  # of texts of these, over all tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPage:
    """A task and its examples, ready for the template."""

    view: TaskView
    anchor: str
    examples: ExampleList
    static: Sequence[ExampleView]  # the first ones, for a reader without JavaScript
    payload: Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """A run, ready for the template."""

    view: RunView
    anchor: str
    tasks: Sequence[TaskPage]
    anchors: Mapping[str, str]  # task -> where it stands on the page


def write_report(records: Sequence[RunRecord], path: Path) -> None:
    """Write one self-contained HTML page of one or more runs, replacing ``path`` at once.

    Transcripts beyond 4 MB are left out, and the page says how many. RecordError when the
    examples cannot be read or the page cannot be written.
    """
    text = render_report(records)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    except OSError as error:
        raise RecordError(f"{path}: cannot write the report: {error}") from error


def render_report(records: Sequence[RunRecord]) -> str:
    """The page as text; always encodable as UTF-8."""
    folder = template_dir()
    style = (folder / "report.css").read_text(encoding="utf-8").strip()
    script = (folder / "report.js").read_text(encoding="utf-8").strip()
    return (
        _environment(folder)
        .get_template("report.html.j2")
        .render(
            runs=_run_pages(records),
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
        )
    )


def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.globals |= {"shared_ticks": SHARED_TICKS, "interval_header": interval_header}
    environment.filters |= {
        "whisker": whisker,
        "figure_whisker": figure_whisker,
        "axis_ticks": axis_ticks,
        "groups": groups_of,
        "notes": notes_of,
        "count": format_count,
        "moment": _moment,
        "model_name": _model_name,
        "script_json": lambda data: Markup(script_json(data)),
        "percent": lambda share: f"{100 * share:.2f}",
    }
    return environment


def _finalize(value: Any) -> Any:
    """Every text that a template puts out: its control characters can be seen."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return visible(value)


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy: nothing may load or run but these two texts."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{_digest(style)}'",
            f"script-src 'sha256-{_digest(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _run_pages(records: Sequence[RunRecord]) -> list[RunPage]:
    views = [build_view(record) for record in records]
    found = [build_examples(record, view) for record, view in zip(records, views, strict=True)]
    pairs = list(zip(views, found, strict=True))
    lists = [by_task[task.name] for view, by_task in pairs for task in view.tasks]
    payloads = iter(build_payloads(lists, max_bytes=TRANSCRIPT_BYTES, max_listed=MAX_LISTED))
    room = STATIC_CHARS // max(1, len(lists))
    pages = []
    for i, (view, by_task) in enumerate(pairs, start=1):
        # Numbered, since a name may hold anything.
        anchors = {task.name: f"run{i}-task{j}" for j, task in enumerate(view.tasks, start=1)}
        tasks = [
            TaskPage(
                view=task,
                anchor=anchors[task.name],
                examples=by_task[task.name],
                static=_first(by_task[task.name], room),
                payload=next(payloads),
            )
            for task in view.tasks
        ]
        pages.append(RunPage(view=view, anchor=f"run{i}", tasks=tasks, anchors=anchors))
    return pages


def _first(examples: ExampleList, room: int) -> Sequence[ExampleView]:
    """The first examples, as many as ``room`` characters hold; none is cut short."""
    taken: list[ExampleView] = []
    for example in examples.examples[:STATIC_EXAMPLES]:
        room -= len(example.prompt) + len(example.response or "")
        room -= sum(map(size_of, example.judged))
        if room < 0:
            break
        taken.append(example)
    return taken


def _moment(created: str) -> Mapping[str, str]:
    """An ISO time as a person reads it, and as it was."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return {"text": created, "iso": created}
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    zone = " UTC" if moment.tzinfo is not None else ""
    return {"text": f"{moment.day} {moment:%B %Y, %H:%M}{zone}", "iso": created}


def _model_name(spec: str) -> str:
    """The name in a model's spec, for a heading: what follows the scheme, a path's last part."""
    name = spec.partition("?")[0].rstrip("/")
    if "://" not in name:
        name = name.partition(":")[2] or name
        name = name.rpartition("/")[2] if name.startswith(("/", ".", "~")) else name
    return name or spec
