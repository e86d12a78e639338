"""Hold a judge against people's labels: what its verdicts are worth, in a calibration file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from evalkit.calibrate import LabelSet
    from evalkit.cli.terminal import ProgressLine
    from evalkit.judges import Judge, Rubric
    from evalkit.judges.calibration import Calibration

FOLDER = Path("rubrics") / "calibrations"


def calibrate(
    rubric: Annotated[str, typer.Argument(metavar="RUBRIC", help="A name or a file.")],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What people said: .jsonl, .csv, or .yaml for any rows."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The rows that a .yaml of --labels reads.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option("--judge", "-j", help="A model, replay:FILE#NAME, replay:#NAME, [a, b]."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"Default: {FOLDER}/RUBRIC--JUDGE.json.")
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Measure also what moves it other than quality.")
    ] = False,
    require: Annotated[
        bool, typer.Option("--require", help="Exit with 1 if the judge is refused.")
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(metavar="CALIBRATION", help="Judge its items again: has the judge changed?"),
    ] = None,
    suggest: Annotated[
        int | None, typer.Option(metavar="N", help="Write N responses of --run to be labelled.")
    ] = None,
    until: Annotated[
        float | None,
        typer.Option(metavar="HALF_WIDTH", help="How many labels of --run it takes."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A run that was judged by the rubric.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of resampling, and of what is drawn.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    from evalkit.judges import load_rubric

    is_about_run = suggest is not None or until is not None
    if sum((is_about_run, check is not None)) > 1:
        raise UsageError("--check and --suggest or --until exclude each other")
    if is_about_run != (run is not None):
        raise UsageError("--suggest and --until are about the responses of a run: give --run DIR")
    found = load_rubric(rubric)
    if run is not None:
        if judge is not None or require or audit:
            raise UsageError(
                "--judge, --audit and --require have no use here: the run has been judged"
            )
        _about_run(found, run, _labels(labels, data), (suggest, until, out), seed, as_json=json)
        return
    if judge is None:
        raise UsageError("give --judge: whose verdicts are to be calibrated")
    if check is not None:
        if labels is not None or data is not None or out is not None or require or audit:
            raise UsageError("--check takes the labels of its calibration: only --judge beside it")
        _check(found, check, judge, seed, as_json=json)
        return
    read = _labels(labels, data)
    if read is None:
        raise UsageError("give --labels: what people said")
    _calibrate(found, read, judge, out, seed, as_json=json, is_required=require, is_audited=audit)


def _calibrate(
    rubric: Rubric,
    labels: LabelSet,
    spec: str,
    out: Path | None,
    seed: int,
    *,
    as_json: bool,
    is_required: bool,
    is_audited: bool,
) -> None:
    """Make a calibration, write it with its page, show it."""
    import json
    from datetime import date

    from evalkit.calibrate import Settings, slug_of
    from evalkit.calibrate import calibrate as made
    from evalkit.calibrate.page import evidence_page
    from evalkit.calibrate.study import check_labels
    from evalkit.cli.terminal import ProgressLine, print_json, tell, write_output
    from evalkit.judges.calibration import write_calibration

    path = out or FOLDER / f"{rubric.name}--{slug_of(spec)}.json"
    page = path.with_suffix(".md")
    if page == path:
        raise UsageError(f"--out {path}: the page of evidence has that name; use .json")
    check_labels(rubric, labels)  # before a model is loaded
    judge = _open(rubric, spec, labels, seed)
    with ProgressLine() as show:
        found = made(
            rubric,
            labels,
            judge,
            today=date.today(),
            settings=Settings(seed=seed),
            is_audited=is_audited,
            on_progress=_asked(show),
        )
    write_calibration(found, path)
    write_output(evidence_page(found), page)
    if as_json:
        print_json(json.loads(path.read_text(encoding="utf-8")))
    else:
        _show(found)
    tell(f"calibration: {path}")
    tell(f"evidence: {page}")
    if is_required and not found.is_accepted:
        raise typer.Exit(1)


def _show(found: Calibration) -> None:
    from evalkit.calibrate.page import verdict_line
    from evalkit.calibrate.text import audit_text, calibration_table
    from evalkit.cli.terminal import print_table
    from evalkit.report.escape import plain

    for table in (calibration_table(found), *audit_text(found)):
        print_table(table)
    for name, criterion in found.criteria.items():
        typer.echo(plain(verdict_line(name, criterion)))


def _check(rubric: Rubric, path: Path, spec: str, seed: int, *, as_json: bool) -> None:
    """Judge a calibration's items again."""
    from evalkit.calibrate import Settings
    from evalkit.calibrate.anchors import check_anchors, labels_of
    from evalkit.calibrate.text import drift_table
    from evalkit.cli.terminal import ProgressLine, print_json, print_table, tell
    from evalkit.judges.calibration import read_calibration

    calibration = read_calibration(path)
    labels = labels_of(calibration)
    judge = _open(rubric, spec, labels, seed)
    with ProgressLine() as show:
        found = check_anchors(
            calibration,
            rubric,
            labels,
            judge,
            settings=Settings(seed=seed),
            on_progress=_asked(show),
        )
    for part in found.changed:
        tell(f"note: {part} since the calibration")
    if as_json:
        print_json(found.to_json())
    else:
        print_table(drift_table(found))
        typer.echo(f"the judge: {found.verdict}")
    raise typer.Exit(found.exit_code)


def _about_run(
    rubric: Rubric,
    run: Path,
    labels: LabelSet | None,
    asked: tuple[int | None, float | None, Path | None],
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Say how many labels it takes, and write which to get next."""
    from evalkit.calibrate.run_items import judged_items
    from evalkit.calibrate.suggestion import progress, suggest, write_suggestion
    from evalkit.calibrate.text import progress_lines
    from evalkit.cli.terminal import print_json
    from evalkit.record import RunRecord

    n, half_width, out = asked
    if half_width is not None and (labels is None or not half_width > 0):
        raise UsageError("--until: a width above 0, and --labels of the run's responses")
    items = judged_items(RunRecord.load(run), rubric)
    shown: dict[str, object] = {}
    if half_width is not None and labels is not None:
        at = progress(items, labels, half_width=half_width)
        shown["until"] = [one.to_json() for one in at]
        if not as_json:
            typer.echo("\n".join(progress_lines(at)))
    if n is not None:
        path = out or Path(f"{rubric.name}-to-label.jsonl")
        found = suggest(items, n=n, labels=labels, seed=seed)
        write_suggestion(found, rubric, path)
        shown["suggest"] = {"path": str(path), "n": found.n_new, "design": found.design}
        if not as_json:
            typer.echo(
                f"{path}: {found.n_new} responses to label, {found.n_twice} of them by two people; "
                f"design: {found.design}"
            )
    elif out is not None:
        raise UsageError("--out is for what --suggest writes")
    if as_json:
        print_json(shown)


def _labels(path: Path | None, data: Path | None) -> LabelSet | None:
    from evalkit.calibrate import read_labels

    if path is None:
        if data is not None:
            raise UsageError("--data are the rows that a specification reads: give --labels FILE")
        return None
    return read_labels(path, data=data)


def _open(rubric: Rubric, spec: str, labels: LabelSet, seed: int) -> Judge:
    from evalkit.calibrate import open_judge_of
    from evalkit.cli.terminal import tell

    return open_judge_of(rubric, spec, labels, seed=seed, on_progress=tell)


def _asked(show: ProgressLine) -> Callable[[int, int], None]:
    from evalkit.runner import Progress

    return lambda n_done, n_total: show(Progress(phase="asking", n_done=n_done, n_total=n_total))
