"""Run tasks on a model: scores with intervals, a record, a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.cli.terminal import split_pair

if TYPE_CHECKING:
    from evalkit.record import RunRecord
    from evalkit.schema import DatasetSpec

DEFAULT_MODEL = "local:smollm2-135m"


def run(
    tasks: Annotated[
        list[str], typer.Argument(metavar="TASK...", help="Names, files, globs, groups or tags.")
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="local:NAME or local:PATH, with ?key=value.")
    ] = DEFAULT_MODEL,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge", "-j", help="Rates by the rubrics: a model, replay:FILE#NAME, [a, b]."
        ),
    ] = None,
    calibration: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Of the judge; default: rubrics/…")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="A seeded random subset of so many examples a task.")
    ] = None,
    first: Annotated[int | None, typer.Option(help="The first so many rows a task.")] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="Shots in the prompt.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Answers for each example.")] = None,
    seed: Annotated[int, typer.Option(help="Of subsets, shots, sampling and resampling.")] = 0,
    out: Annotated[Path, typer.Option(help="The folder of run records.")] = Path("runs"),
    dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=FILE", help="A local file in place of a task's rows."),
    ] = None,
    dataset_map: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML: task -> dataset, as in a task file.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="dtype=float32, generate.max_tokens=64 …"),
    ] = None,
    offline: Annotated[bool, typer.Option(help="Forbid every download.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    from evalkit import runner
    from evalkit.cli.terminal import ProgressLine
    from evalkit.prepare import RunSpec

    spec = RunSpec(
        tasks=tuple(tasks),
        model=model,
        judge=judge,
        calibrations=tuple(calibration or ()),
        limit=limit,
        first=first,
        num_fewshot=num_fewshot,
        repeats=repeats,
        seed=seed,
        settings=dict(split_pair(text, "--set", "KEY=VALUE") for text in set_ or ()),
        datasets=_datasets(dataset or (), dataset_map),
        out=out,
        offline=offline,
    )
    with ProgressLine() as show:
        record = runner.run(spec, on_progress=show)
    _finish(record, as_json=json)


def _finish(record: RunRecord, *, as_json: bool) -> None:
    """Write the page, print the table, say what went wrong, choose the exit code."""
    from evalkit.cli.terminal import complain, print_json, tell
    from evalkit.report.html import write_report
    from evalkit.report.text import results_table, to_json
    from evalkit.report.view import build_view

    assert record.folder is not None
    page = record.folder / "report.html"
    write_report([record], page)
    view = build_view(record)
    if as_json:
        print_json(to_json(view))
    else:
        from rich.console import Console

        Console().print(results_table(view))
    for warning in view.warnings:
        tell(f"warning: {warning}")
    tell(f"record: {record.folder}")
    tell(f"report: {page}")
    first_error = next((r for r in record.read_rows() if r.status == "error"), None)
    n_unjudged = record.usage.get("n_verdict_errors", 0)
    if record.status == "complete" and first_error is None and not n_unjudged:
        return
    n = record.usage["n_errors"]
    why = ""
    if first_error is not None:
        why = f"; first: {first_error.task}, example {first_error.example_id}: "
        why += f"{first_error.error_message}"
    elif n_unjudged:
        why = f"; {n_unjudged} of {record.usage['n_verdicts']} verdicts could not be had; first: "
        why += record.usage["first_verdict_error"]
    complain(
        f"the run is {record.status}: {n} of {record.usage['n_requests']} requests failed{why}"
    )
    raise typer.Exit(5)


def _datasets(pairs: list[str] | tuple[()], file: Path | None) -> dict[str, DatasetSpec | Path]:
    found: dict[str, DatasetSpec | Path] = {}
    if file is not None:
        from evalkit.schema import read_dataset_map

        found.update(read_dataset_map(file))
    for text in pairs:
        name, value = split_pair(text, "--dataset", "TASK=FILE")
        found[name] = Path(value)
    return found
