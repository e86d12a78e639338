"""What the verbs share of the terminal: the story on stderr, the result on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from evalkit.errors import UsageError
from evalkit.report.escape import visible

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID
    from rich.table import Table

    from evalkit.runner import Progress

QUIET_LINE_S = 10.0  # where there is no terminal, a line of progress at most so often


def complain(message: str) -> None:
    """One line on stderr, control characters made visible."""
    sys.stderr.write(f"evalkit: {visible(' '.join(message.split()))}\n")


def tell(line: str) -> None:
    """A line of the story."""
    sys.stderr.write(visible(line) + "\n")


def print_json(value: Any) -> None:
    """The result as JSON on stdout; undefined numbers are null."""
    from evalkit.record import json_safe

    sys.stdout.write(json.dumps(json_safe(value), indent=1, ensure_ascii=False) + "\n")


def split_pair(text: str, option: str, form: str) -> tuple[str, str]:
    """KEY=VALUE taken apart. Raises UsageError where it is not of this form."""
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise UsageError(f"{option} {text!r}: expected {form}")
    return key, value


class ProgressLine:
    """A live bar on a terminal, quiet lines elsewhere; both on stderr."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._told_at = -QUIET_LINE_S
        self._asking_since = 0.0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show how far a run is."""
        if progress.n_total == 0:
            self._show_phase(progress.phase)
        elif self._is_terminal:
            self._update_bar(progress)
        else:
            self._tell_sometimes(progress)

    def _show_phase(self, phase: str) -> None:
        if phase != self._phase:
            self._phase = phase
            tell(phase)

    def _update_bar(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = _make_bar()
            self._bar.start()
            self._task = self._bar.add_task(progress.phase, total=progress.n_total, errors="")
        errors = f"{progress.n_error} errors" if progress.n_error else ""
        assert self._task is not None
        self._bar.update(
            self._task, description=progress.phase, completed=progress.n_done, errors=errors
        )

    def _tell_sometimes(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.n_done == 0:
            self._asking_since = now
        is_last = progress.n_done == progress.n_total
        if progress.phase != "asking" or (now - self._told_at < QUIET_LINE_S and not is_last):
            return
        self._told_at = now
        rate = progress.n_done / max(now - self._asking_since, 1e-9)
        errors = f", {progress.n_error} errors" if progress.n_error else ""
        left = (progress.n_total - progress.n_done) / rate if rate else float("nan")
        time_left = "" if is_last or progress.n_done == 0 else f", {left:.0f} s left"
        share = f"{progress.n_done}/{progress.n_total} requests"
        tell(f"{share}, {rate:.1f}/s{time_left}{errors}")


def _make_bar() -> Bar:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Task as BarTask
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: BarTask) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "–/s")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        TextColumn("[red]{task.fields[errors]}"),
        console=Console(stderr=True),
    )


def write_output(text: str, path: Path | None) -> None:
    """The result on stdout, or in a file. Raises UsageError where that cannot be written."""
    if path is None:
        sys.stdout.write(text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error


def print_columns(rows: Sequence[Mapping[str, object]]) -> None:
    """A table: aligned on a terminal, one line a row and never cut elsewhere."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(str(value))) for value in row.values()))
    print_table(table)


def print_table(table: Table) -> None:
    """A table: laid out for a terminal, one line a row and never cut elsewhere."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console().print(table)
        return
    console = Console(width=10_000)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
