"""A criterion's figures as tables of text: what the evidence page and the terminal show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.report.numerals import (
    DASH,
    Unit,
    format_count,
    format_number,
    format_range,
    format_value,
    number_or_nan,
)

Figures = Mapping[str, Any]

_AGREEMENT: Mapping[str, tuple[str, Unit]] = {
    "agreement": ("same label", "fraction"),
    "kappa": ("Cohen's kappa", "number"),
    "kappa_linear": ("Cohen's kappa, linear weights", "number"),
    "kappa_quadratic": ("Cohen's kappa, quadratic weights", "number"),
    "ac1": ("Gwet's AC1", "number"),
    "ac2_linear": ("Gwet's AC2, linear weights", "number"),
    "ac2_quadratic": ("Gwet's AC2, quadratic weights", "number"),
    "alpha": ("Krippendorff's alpha", "number"),
    "icc": ("intraclass correlation (2,1)", "number"),
    "pearson": ("Pearson's correlation", "number"),
    "spearman": ("Spearman's correlation", "number"),
    "kendall": ("Kendall's tau-b", "number"),
    "pair_accuracy": ("pairs of items in the same order, ties included", "fraction"),
    "pearson_within_cluster": ("Pearson's correlation within clusters", "number"),
    "pearson_of_systems": ("Pearson's correlation of systems", "number"),
    "system_pair_accuracy": ("pairs of systems in the same order", "fraction"),
}
_PEOPLE: Mapping[str, tuple[str, Unit]] = {
    "agreement": ("pairs of people with the same label", "fraction"),
    "ac1": ("Gwet's AC1", "number"),
    "alpha": ("Krippendorff's alpha", "number"),
    "alpha_with_judge": ("Krippendorff's alpha, the judge as one more", "number"),
    "icc": ("intraclass correlation of one person (2,1)", "number"),
    "icc_of_mean": ("intraclass correlation of their mean (2,k)", "number"),
}
_CEILING = {
    "ceiling": "a person, with the mean of the others",
    "judge": "the judge, with the same",
    "ratio": "the judge as a share of a person",
}

_LOSSES = {"log": "the log loss", "squared": "the squared distance from people"}
_AS = {"raw": "as it is", "mapped": "mapped", "constant": "a constant"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table of text; the first column is words, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def essentials(figures: Figures) -> list[tuple[str, ...]]:
    """(figure, value, interval, n) of what a person looks at first."""
    agreement, errors = figures["agreement"], figures["errors"]
    found = [
        _row("right", figures["accuracy"], "fraction"),
        _row("commonest label, always", figures["constant"], "fraction"),
        _row("no verdict", figures["abstained"], "fraction"),
        _row("same in both orders", figures["orders"].get("consistency"), "fraction"),
        _row("same label", None if figures["accuracy"] else agreement.get("agreement"), "fraction"),
        _row("kappa", agreement.get("kappa"), "number"),
        _row("correlation", agreement.get("pearson"), "number"),
        _row("judge / person", figures["ceiling"].get("ratio"), "number"),
    ]
    # a probability that is right is often far from every single label: its square is what counts
    error, what = ("mse", "squared error") if errors.get("chosen_by") == "log" else ("mae", "error")
    for key, words in _AS.items():
        found.append(_row(f"{what}, {words}", errors.get(key, {}).get(error), "number"))
    found.append(_row(f"bias, {_AS['raw']}", figures["bias"]["raw"], "number"))
    found.append(_row(f"bias, {_AS['mapped']}", figures["bias"]["mapped"], "number"))
    return [row for row in found if row]


def tables_of(figures: Figures) -> Iterator[TextTable]:
    """All that has rows, in the order in which a reader asks for it."""
    makers: Sequence[Callable[[Figures], TextTable]] = (
        _checks,
        _verdicts,
        _agreement,
        _each_person,
        _people,
        _ceiling,
        _errors,
        _losses,
        _confusion,
        _reliability,
        _replacement,
        _strata,
        _ranking,
    )
    for make in makers:
        table = make(figures)
        if table.rows:
            yield table


def _checks(figures: Figures) -> TextTable:
    rows = tuple(
        (
            check["check"],
            "passed" if check["is_passed"] else "failed",
            _p(check["p_holm"]),
            check["sentence"],
        )
        for check in figures["checks"]
    )
    note = "p is of a judge that is no better than is allowed, adjusted for all checks (Holm)."
    return TextTable(title="Checks", columns=("Check", "", "p", "Found"), rows=rows, note=note)


def _verdicts(figures: Figures) -> TextTable:
    orders = figures["orders"]
    rows = [
        _row("no verdict", figures["abstained"], "fraction"),
        _row("right", figures["accuracy"], "fraction"),
        _row("right in both orders", orders.get("both_right"), "fraction"),
        _row("the commonest label would be right", figures["constant"], "fraction"),
        _row("same in both orders", orders.get("consistency"), "fraction"),
        _row("verdicts for what is shown first", orders.get("first_share"), "fraction"),
    ]
    note = ""
    if orders:
        note = (
            f"In both orders of {orders['n_first_twice']} pairs what was shown first was chosen, "
            f"in both of {orders['n_second_twice']} what was shown second (p of the one as often "
            f"as the other: {_p(orders['p_of_first'])})."
        )
    return _of_rows("Verdicts", rows, figures, note)


def _agreement(figures: Figures) -> TextTable:
    found = figures["agreement"]
    rows = [_row(words, found.get(name), unit) for name, (words, unit) in _AGREEMENT.items()]
    return _of_rows("Agreement with what people say together", rows, figures)


def _each_person(figures: Figures) -> TextTable:
    rows = tuple(
        (
            name,
            *(_cell(one.get(key), unit) for key, unit in _EACH.items()),
            format_count(one["pearson"]["n"]),
        )
        for name, one in figures["annotators"].items()
    )
    columns = ("Person", "Same label", "Kappa", "Pearson", "n")
    return TextTable(title="Agreement with each person", columns=columns, rows=rows)


_EACH: Mapping[str, Unit] = {"agreement": "fraction", "kappa": "number", "pearson": "number"}


def _people(figures: Figures) -> TextTable:
    found = figures["people"]
    rows = [_row(words, found.get(name), unit) for name, (words, unit) in _PEOPLE.items()]
    return _of_rows("Agreement of people with each other", rows, figures)


def _ceiling(figures: Figures) -> TextTable:
    found = figures["ceiling"]
    rows = [_row(words, found.get(name), "number") for name, words in _CEILING.items()]
    return _of_rows("What a person reaches (Pearson's correlation)", rows, figures)


def _errors(figures: Figures) -> TextTable:
    errors, biases = figures["errors"], figures["bias"]
    names = {"raw": "the judge as it is", "mapped": "after the map", "constant": "a constant"}
    rows = tuple(
        (
            name,
            _cell(errors[key]["mae"], "number"),
            _cell(errors[key]["mse"], "number"),
            _number(errors[key]["pearson"]),
            _cell(biases[key], "number") if key in biases else _number(errors[key]["bias"]),
            format_count(errors[key]["mae"]["n"]),
        )
        for key, name in names.items()
        if key in errors
    )
    note = "All but the judge as it is: on labels that the map, or the constant, has not seen."
    columns = ("", "Mean absolute error", "Mean squared error", "Pearson", "Bias", "n")
    return TextTable(title="Distance from people", columns=columns, rows=rows, note=note)


def _losses(figures: Figures) -> TextTable:
    rows = tuple(
        (
            row["map"] + (" (chosen)" if row["map"] == figures["errors"]["map"] else ""),
            _number(row["loss"]),
            _number(row["excess"]),
            _number(row["stderr"]),
        )
        for row in figures["errors"].get("losses", ())
    )
    note = ""
    if rows:
        loss = _LOSSES[figures["errors"]["chosen_by"]]
        note = f"The loss is {loss}. Chosen is the simplest within one standard error of the best."
    columns = ("Kind", "Loss out of fold", "Above the best", "its standard error")
    return TextTable(title="The map", columns=columns, rows=rows, note=note)


def _confusion(figures: Figures) -> TextTable:
    found = figures["confusion"]
    if found is None:
        return TextTable(title="Confusion", columns=(), rows=())
    words = [_label(value, figures["kind"]) for value in found["values"]]
    rows = tuple(
        (f"people: {word}", *map(format_count, row))
        for word, row in zip(words, found["rows"], strict=True)
    )
    return TextTable(
        title="Confusion", columns=("", *(f"judge: {word}" for word in words)), rows=rows
    )


def _reliability(figures: Figures) -> TextTable:
    found = figures["reliability"]
    rows = tuple(
        (
            f"{format_number(one['low'], 'number')} – {format_number(one['high'], 'number')}",
            _number(one["confidence"]),
            _cell(one["frequency"], "number"),
            _range(*one["band"]),
            format_count(one["frequency"]["n"]),
        )
        for one in found.get("raw", {}).get("bins", ())
    )
    note = ""
    if found:
        note = " ".join(_of_ece(name, found[name]) for name in ("raw", "mapped") if name in found)
    columns = ("Probability", "Mean", "Came true", "If it were right", "n")
    return TextTable(title="Reliability of probabilities", columns=columns, rows=rows, note=note)


def _of_ece(name: str, found: Figures) -> str:
    who = {"raw": "As they are", "mapped": "After the map"}[name]
    perfect = found["perfect"]
    return (
        f"{who}: calibration error {_cell(found['ece'], 'number')}, without its bias "
        f"{_cell(found['debiased_ece'], 'number')}; right probabilities would show up to "
        f"{_number(perfect['ece_high'])} (p {_p(perfect['p'])}); "
        f"Brier score {_cell(found['brier'], 'number')}."
    )


def _replacement(figures: Figures) -> TextTable:
    found = figures["replacement"]
    one = found.get("mapped", found.get("raw", {}))
    rows = tuple(
        (
            seat["annotator"],
            _percent(seat["judge_wins"]),
            _percent(seat["human_wins"]),
            _p(seat["p"]),
            format_count(seat["n"]),
        )
        for seat in one.get("people", ())
        if not one["reason"]
    )
    if not rows:
        return TextTable(title="", columns=(), rows=())
    note = (
        f"The judge takes the place of {_percent(one['winning_rate'])} of the people, if it may "
        f"lack {_number(one['epsilon'])} beside them; it is no further from the others than a "
        f"person on {_cell(one['advantage'], 'fraction')} of the items."
    )
    columns = ("In the place of", "Judge as near", "Person as near", "p", "n")
    return TextTable(
        title="In a person's place (alternative-annotator test)",
        columns=columns,
        rows=rows,
        note=note,
    )


def _strata(figures: Figures) -> TextTable:
    rows = tuple(
        (
            name,
            _cell(one["bias"], "number"),
            _cell(one["mae"], "number"),
            format_count(one["mae"]["n"]),
        )
        for name, one in figures["strata"].items()
    )
    columns = ("Stratum", "Bias", "Mean absolute error", "n")
    return TextTable(title="By stratum, as it is", columns=columns, rows=rows)


def _ranking(figures: Figures) -> TextTable:
    found = figures["ranking"]
    rows, notes = (
        [],
        ["Log odds against the first system; a rank is a range that holds for all at once."],
    )
    for k, system in enumerate(found.get("systems", ())):
        cells: list[str] = []
        n = 0
        for who in ("people", "judge"):
            if "reason" in found[who]:
                cells += [DASH, DASH]
                continue
            best, worst = found[who]["ranks"][k]
            cells += [
                _cell(found[who]["strengths"][k], "number"),
                str(best) if best == worst else f"{best} – {worst}",
            ]
            n = found[who]["strengths"][k]["n"]
        rows.append((system, *cells, format_count(n)))
    for who in ("people", "judge") if found else ():
        if "reason" in found[who]:
            notes.append(f"No strengths by {who}: {found[who]['reason']}.")
    return TextTable(
        title="Systems by people and by the judge",
        columns=("System", "People", "Rank", "Judge", "Rank", "n"),
        rows=tuple(rows),
        note=" ".join(notes),
    )


def _of_rows(
    title: str, rows: Sequence[tuple[str, ...]], figures: Figures, note: str = ""
) -> TextTable:
    level = format_value(figures["level"], "fraction").replace(".0", "")
    return TextTable(
        title=title,
        columns=("", "Value", f"{level} interval", "n"),
        rows=tuple(row for row in rows if row),
        note=note,
    )


def _row(name: str, shown: Figures | None, unit: Unit) -> tuple[str, ...]:
    """(name, value, interval, n); empty where there is no figure."""
    if shown is None:
        return ()
    return (
        name,
        format_value(number_or_nan(shown["value"]), unit),
        format_range(number_or_nan(shown["low"]), number_or_nan(shown["high"]), unit),
        format_count(shown["n"]),
    )


def _cell(shown: Figures | None, unit: Unit) -> str:
    """A value with its interval in brackets."""
    if shown is None:
        return DASH
    span = format_range(number_or_nan(shown["low"]), number_or_nan(shown["high"]), unit)
    return f"{format_value(number_or_nan(shown['value']), unit)} [{span}]"


def _number(value: Any) -> str:
    return format_number(number_or_nan(value), "number")


def _range(low: Any, high: Any) -> str:
    return format_range(number_or_nan(low), number_or_nan(high), "number")


def _percent(value: Any) -> str:
    return format_value(number_or_nan(value), "fraction")


def _p(value: Any) -> str:
    p = number_or_nan(value)
    if math.isnan(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _label(value: float, kind: str) -> str:
    if kind == "pairwise":
        return {1.0: "response", 0.0: "other", 0.5: "tie"}[value]
    return format(value, "g")
