"""The evidence page: what a calibration rests on, in Markdown, for a person to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.calibrate.acceptance import people
from evalkit.calibrate.audit_tables import audit_tables, panel_tables
from evalkit.calibrate.tables import TextTable, tables_of
from evalkit.judges.calibration import Calibration, CriterionCalibration
from evalkit.report.escape import markdown
from evalkit.report.numerals import format_count

_DESIGNS = {
    "random": "drawn at random",
    "stratified": "drawn at random within strata, with known chances",
    "active": "drawn by uncertainty, with known chances",
    "unknown": "chosen in a way that is not known",
}


def evidence_page(found: Calibration) -> str:
    """The page of a calibration."""
    return "\n".join(_lines(found)) + "\n"


def verdict_line(name: str, criterion: CriterionCalibration) -> str:
    """Whether a judge is accepted under one criterion, and why, in a line."""
    verdict = "accepted" if criterion.is_accepted else "refused"
    return f"{name}: {verdict}: {'; '.join(criterion.reasons)}."


def _lines(found: Calibration) -> Iterator[str]:
    verdict = "accepted" if found.is_accepted else "refused"
    yield f"# {markdown(found.judge)} under {markdown(found.rubric)}: {verdict}"
    yield ""
    for name, criterion in found.criteria.items():
        yield f"- **{markdown(name)}**{markdown(verdict_line(name, criterion)[len(name) :])}"
    yield ""
    yield from _what_was_measured(found)
    for name, criterion in found.criteria.items():
        yield f"## {markdown(name)}"
        yield ""
        yield from _of_criterion(criterion)
        for table in (*panel_tables(criterion.figures), *audit_tables(found.audit, name)):
            yield from _table(table)


def _what_was_measured(found: Calibration) -> Iterator[str]:
    labels = found.labels
    design = _DESIGNS[labels["design"]]
    yield "## What was measured"
    yield ""
    n_items, n_labels = (format_count(labels[key]) for key in ("n_items", "n_labels"))
    name, rubric = markdown(labels["name"]), markdown(found.rubric)
    yield (
        f"{n_items} items with {n_labels} labels by {people(labels['n_annotators'])} ({name}), "
        f"{design}. The judge was asked about each of them under rubric {rubric}, version "
        f"{found.rubric_version}, and its verdicts were held against the labels."
    )
    yield ""
    if labels["design"] == "unknown":
        yield (
            "The figures are of these items. They speak for others as far as these are like them, "
            "which a random sample would make sure of."
        )
        yield ""
    identity = {"judge": found.judge, **_flat(found.identity)}
    rows = {
        **identity,
        "labels": f"sha256 {labels['sha256']}",
        **{f"file {name}": f"sha256 {sha}" for name, sha in labels["files"].items()},
        "made": f"{found.created} by evalkit {found.evalkit}, seed {found.seed}",
    }
    yield "| part | |"
    yield "|---|---|"
    for name, value in rows.items():
        yield f"| {markdown(name)} | {markdown(str(value))} |"
    yield ""


def _of_criterion(criterion: CriterionCalibration) -> Iterator[str]:
    counts = criterion.figures["counts"]
    shown = {name: format_count(n) for name, n in counts.items()}
    who = people(counts["n_annotators"])
    yield (
        f"{shown['n_items']} items, {shown['n_labels']} labels by {who}; "
        f"{shown['n_labelled_twice']} have two labels or more; {shown['n_judged']} were judged, "
        f"{shown['n_abstained']} without a verdict, {shown['n_errors']} could not be asked about."
    )
    yield ""
    if counts["n_units"] < counts["n_items"]:
        yield (
            f"Items come in {format_count(counts['n_units'])} clusters; intervals, tests and folds "
            "are of whole clusters."
        )
        yield ""
    for note in criterion.figures["notes"]:
        yield f"Note: {markdown(note)}."
        yield ""
    for table in tables_of(criterion.figures):
        yield from _table(table)


def _table(table: TextTable) -> Iterator[str]:
    yield f"### {table.title}"
    yield ""
    yield f"| {' | '.join(markdown(name) for name in table.columns)} |"
    is_words = table.columns[-1] == "Found"
    yield f"|---|{('---|' if is_words else '---:|') * (len(table.columns) - 1)}"
    for row in table.rows:
        yield f"| {' | '.join(markdown(cell) for cell in row)} |"
    yield ""
    if table.note:
        yield markdown(table.note)
        yield ""


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a judge's identity; of a panel each member's."""
    found: dict[str, Any] = {}
    for key, value in identity.items():
        if key == "members":
            for number, member in enumerate(value, 1):
                found |= {f"member {number}, {k}": v for k, v in _flat(member).items()}
        elif key != "judge" and value is not None:
            found[key] = value
    return found
