"""A bias audit, and a panel held against its members, as tables of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.calibrate.tables import TextTable
from evalkit.report.numerals import (
    DASH,
    Unit,
    format_count,
    format_level,
    format_range,
    format_value,
    number_or_nan,
)

Audit = Mapping[str, Any]

_POSITION = {
    "consistency": "same in both orders",
    "first_share": "verdicts for what is shown first",
    "first_of_inconsistent": "of the pairs that follow the place, those for the first",
}
_FEATURES = {
    "length": "length",
    "list": "lists",
    "heading": "headings",
    "markup": "bold, code, tables",
    "reference": "words of the reference",
    "own_family": "own family",
}
_EDITS = {
    "padding": "padded",
    "list": "made a list",
    "heading": "under a heading",
    "expert": "called an expert's answer",
    "flattery": "with a compliment to the judge",
    "command": "with a demand for the best verdict",
}
_INJECTIONS: Mapping[str, tuple[str, Unit]] = {
    "raised": ("verdict raised by an injected text", "fraction"),
    "to_the_top": ("raised to the best there is", "fraction"),
    "control": ("raised by a text that says nothing", "fraction"),
    "beyond_control": ("raised more often than by such a text", "fraction"),
    "change": ("value, injected text", "number"),
    "change_by_control": ("value, text that says nothing", "number"),
}
_MOST_PAIRS = 10  # of systems


def audit_tables(found: Audit, criterion: str) -> Iterator[TextTable]:
    """The tables of a criterion that have rows; none if there was no audit."""
    audit = found.get("criteria", {}).get(criterion)
    if audit is None:
        return
    level = f"{format_level(found['level'])} interval"
    for title, rows, note in _parts(audit):
        if rows:
            columns = ("", "Value", level, "p", "n")
            yield TextTable(title=f"Audit: {title}", columns=columns, rows=tuple(rows), note=note)
    if audit["untested"]:
        rows_of_words = tuple((sentence,) for sentence in audit["untested"])
        yield TextTable(title="Audit: not measured", columns=("",), rows=rows_of_words)


_Part = tuple[str, list[tuple[str, ...]], str]


def _parts(audit: Audit) -> Iterator[_Part]:
    rows = [_row(words, audit["position"].get(key), "fraction") for key, words in _POSITION.items()]
    yield "the order of a pair", [row for row in rows if row], ""
    yield (
        "beyond what people say, all in one regression",
        [
            _row(f"{_FEATURES[name]} ({one['unit']})", one, "number")
            for name, one in audit["features"].items()
        ],
        "In the unit of the scale.",
    )
    yield (
        "leniency to each system",
        [_row(name, one, "number") for name, one in audit["leniency"].items()],
        "The judge less people, in the unit of the scale.",
    )
    yield _differential(audit)
    edits = audit.get("edits", {})
    yield (
        "change of value when a response is no better but",
        [_row(_EDITS[name], one, "number") for name, one in edits.items()],
        "",
    )
    found = audit.get("injections", {})
    yield (
        "texts in a bad response that tell the judge what to say",
        [
            row
            for key, (words, unit) in _INJECTIONS.items()
            if (row := _row(words, found.get(key), unit))
        ]
        + [
            _row(f"raised: {kind}", one, "fraction") for kind, one in found.get("kinds", {}).items()
        ],
        "",
    )


def _differential(audit: Audit) -> _Part:
    known = [one for one in audit["differential"] if not math.isnan(number_or_nan(one["p"]))]
    shown = sorted(known, key=lambda one: float(one["p_holm"]))
    rows: list[tuple[str, ...]] = [
        _row(f"{one['candidate']} over {one['baseline']}", one | {"p": one["p_holm"]}, "number")
        for one in shown[:_MOST_PAIRS]
    ]
    n = len(shown)
    note = "How much more lenient the judge is to the first than to the second; p is Holm's."
    if n > _MOST_PAIRS:
        note += f" The {_MOST_PAIRS} with the least p, of {format_count(n)}."
    return "between two systems", rows, note


def panel_tables(figures: Mapping[str, Any]) -> Iterator[TextTable]:
    """How a panel and its members do, and its lift over each; nothing if there is no panel."""
    found = figures.get("panel", {})
    if not found or "reason" in found:
        return
    unit: Unit = "fraction" if found["is_share"] else "number"
    rows = [_row("the panel", found["score"], unit)]
    for one in found["members"]:
        rows += [_row(one["judge"], one["score"], unit)]
        rows += [_row(f"the panel over {one['judge']}", one["lift"], unit)]
    rows.append(_row("the panel over the best, chosen on other items", found["lift"], unit))
    if "dawid_skene" in found:
        weighted = found["dawid_skene"]
        rows.append(_row("votes weighted by the errors they show", weighted["score"], unit))
        rows.append(_row("the same over the best", weighted["lift"], unit))
    yield TextTable(
        title="The panel",
        columns=("", "Value", f"{format_level(figures['level'])} interval", "p", "n"),
        rows=tuple(rows),
        note=f"A value is the {found['measure']}.",
    )


def _row(name: str, shown: Audit | None, unit: Unit) -> tuple[str, ...]:
    if shown is None:
        return ()
    return (
        name,
        format_value(number_or_nan(shown["value"]), unit),
        format_range(number_or_nan(shown["low"]), number_or_nan(shown["high"]), unit),
        _p(shown.get("p")),
        format_count(shown["n"]),
    )


def _p(value: Any) -> str:
    p = number_or_nan(value)
    if math.isnan(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
