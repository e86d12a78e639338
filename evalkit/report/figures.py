"""Single figures of a calibration: a number with its range, n and method, and its name as words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from evalkit.report.facts import Fact, as_text
from evalkit.report.numerals import DASH, format_number, format_range, number_or_nan

OF_A_FIGURE = frozenset({"value", "low", "high", "n", "method"})

_WORDS: Mapping[str, str] = {
    "ac1": "Gwet's AC1",
    "ac2_linear": "Gwet's AC2, linear weights",
    "ac2_quadratic": "Gwet's AC2, quadratic weights",
    "alpha": "Krippendorff's alpha",
    "alpha_with_judge": "Krippendorff's alpha with the judge",
    "both_right": "right in both orders",
    "brier": "Brier score",
    "consistency": "same verdict in both orders",
    "debiased_ece": "calibration error (ECE), debiased",
    "ece": "calibration error (ECE)",
    "first_share": "verdicts for what is shown first",
    "icc": "intraclass correlation",
    "icc_of_mean": "intraclass correlation of the mean",
    "kappa": "Cohen's kappa",
    "kappa_linear": "kappa, linear weights",
    "kappa_quadratic": "kappa, quadratic weights",
    "kendall": "Kendall's tau-b",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "n_first_twice": "chose what was shown first, twice",
    "n_second_twice": "chose what was shown second, twice",
    "p_holm": "p (Holm)",
    "p_of_first": "p of the first place being no better",
    "pearson": "Pearson's r",
    "rmse": "root mean squared error",
    "spearman": "Spearman's rho",
}
_TINY = 0.0005  # shown with three decimals it would be 0
_SCALES = ((0.0, 1.0), (-1.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """One number with its range."""

    group: str  # what it is a part of; rows of one group follow each other
    name: str
    number: float
    low: float
    high: float
    value: str
    interval: str
    n: str
    method: str
    more: tuple[Fact, ...]  # what else is said of it


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureGroup:
    """Rows that are parts of one thing."""

    name: str
    rows: tuple[FigureRow, ...]


def figure_row(name: str, figure: Mapping[str, Any], *, group: str = "") -> FigureRow:
    """A figure as a row."""
    number, low, high = (number_or_nan(figure.get(key)) for key in ("value", "low", "high"))
    n = figure.get("n")
    more = [
        Fact(name=words(key), text=as_text(value))
        for key, value in figure.items()
        if key not in OF_A_FIGURE and value not in (None, "") and not is_many(value)
    ]
    return FigureRow(
        group=group,
        name=name,
        number=number,
        low=low,
        high=high,
        value=format_number(number, "number"),
        interval=_range(low, high),
        n=as_text(n) if n is not None else DASH,
        method=str(figure.get("method") or ""),
        more=tuple(more),
    )


def groups_of(rows: Sequence[FigureRow]) -> tuple[FigureGroup, ...]:
    """Neighbouring rows of one group, together."""
    return tuple(
        FigureGroup(name=name, rows=tuple(own))
        for name, own in groupby(rows, key=lambda row: row.group)
    )


def axis_of(rows: Sequence[FigureRow]) -> tuple[float, float] | None:
    """0 to 1, or -1 to 1, where all numbers lie there; else none."""
    numbers = [v for r in rows for v in (r.number, r.low, r.high) if not math.isnan(v)]
    fitting = (s for s in _SCALES if all(s[0] <= v <= s[1] for v in numbers))
    return next(fitting, None) if numbers else None


def words(key: str) -> str:
    """A key as words.

    >>> words("kappa_linear"), words("n_items"), words("is_passed")
    ('kappa, linear weights', 'items', 'is passed')
    """
    return _WORDS.get(key) or key.removeprefix("n_").replace("_", " ")


def is_figure(value: Any) -> bool:
    """Whether it is a number with its range: a mapping with ``value``."""
    if not isinstance(value, Mapping) or "value" not in value:
        return False
    number = value["value"]
    return number is None or (isinstance(number, int | float) and not isinstance(number, bool))


def is_many(value: Any) -> bool:
    """Whether it has parts."""
    return isinstance(value, Mapping | list | tuple)


def cell_text(value: Any) -> str:
    """A value within a table; a figure with its range."""
    if is_figure(value):
        row = figure_row("", value)
        interval = "" if row.interval == DASH else f" ({row.interval})"
        return row.value + interval + ("" if row.n == DASH else f", n = {row.n}")
    if value is None:
        return DASH
    if isinstance(value, float):
        is_tiny = 0 < value < _TINY
        return f"{value:.2g}" if is_tiny else format_number(value, "number")
    if is_range(value):
        return f"{cell_text(value[0])} – {cell_text(value[1])}"
    return as_text(value)


def is_range(value: Any) -> bool:
    """Whether it is two numbers."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_real, value))


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _range(low: float, high: float) -> str:
    """A range, of which one end may be open."""
    if math.isnan(low) == math.isnan(high):
        return format_range(low, high, "number")
    if math.isnan(high):
        return f"≥ {format_number(low, 'number')}"
    return f"≤ {format_number(high, 'number')}"
