"""Numbers as a person reads them: in the metric's unit, a dash where there is none."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

Unit = Literal["fraction", "points", "number"]

DASH = "–"
MINUS = "−"

# Metrics whose value is a share, 0..1: shown in percent. Other names are shown as they are.
_FRACTIONS = frozenset(
    {
        "accuracy",
        "accuracy_per_byte",
        "accuracy_per_token",
        "contains",
        "ece",
        "exact_match",
        "f1",
        "greedy_match",
        "instruction_accuracy",
        "instructions_followed",
        "probability_mass",
        "rouge1",
        "rouge2",
        "rougeL",
        "rougeLsum",
        "token_f1",
        "unit_tests",
    }
)
_POINTS = frozenset({"bleu", "chrf", "ter"})  # 0..100 by their own definition


def metric_base(metric: str) -> str:
    """The metric's name without its pipeline, and without the mark of a mean over tasks.

    >>> metric_base("exact_match@strict"), metric_base("macro_accuracy")
    ('exact_match', 'accuracy')
    """
    match = re.match(r"(?:macro_)?(\w+)", metric)
    return match.group(1) if match else metric


def unit_of(metric: str, method: str) -> Unit:
    """The unit of a metric's value: a share of one, points of a hundred, or its own.

    ``method`` is that of the interval: a Wilson interval is always of a share.
    """
    base = metric_base(metric)
    if base in _FRACTIONS or method == "wilson":
        return "fraction"
    return "points" if base in _POINTS else "number"


def format_number(value: float, unit: Unit) -> str:
    """A value in its unit, without the sign of the unit.

    >>> format_number(0.4753, "fraction"), format_number(12.3456, "number")
    ('47.5', '12.35')
    >>> format_number(math.nan, "fraction")
    '–'
    """
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    scaled = 100 * value if unit == "fraction" else value
    text = f"{scaled:,.{_decimals(scaled, unit)}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def format_value(value: float, unit: Unit) -> str:
    """A value with its unit.

    >>> format_value(0.4753, "fraction")
    '47.5 %'
    """
    text = format_number(value, unit)
    return f"{text} %" if unit == "fraction" and math.isfinite(value) else text


def format_score(value: float, unit: Unit) -> str:
    """The score of one example, where a whole percent needs no decimals.

    >>> format_score(1.0, "fraction"), format_score(2 / 3, "fraction")
    ('100 %', '66.7 %')
    """
    text = format_value(value, unit)
    return text.replace(".0 %", " %") if unit == "fraction" else text


def format_range(low: float, high: float, unit: Unit) -> str:
    """Two values as a range; one dash when either is undefined.

    >>> format_range(0.431, 0.52, "fraction")
    '43.1 – 52.0'
    """
    if math.isnan(low) or math.isnan(high):
        return DASH
    return f"{format_number(low, unit)} – {format_number(high, unit)}"


def format_level(level: float) -> str:
    """A confidence level in percent.

    >>> format_level(0.95), format_level(0.999)
    ('95 %', '99.9 %')
    """
    return f"{100 * level:.10g} %"


def format_count(n: int) -> str:
    """A count, thousands apart.

    >>> format_count(1319)
    '1,319'
    """
    return f"{n:,}"


def format_seconds(value: float) -> str:
    """A duration; a dash when it was not measured.

    >>> format_seconds(0.0421), format_seconds(12.3), format_seconds(754.0)
    ('42 ms', '12.3 s', '12 min 34 s')
    """
    if not math.isfinite(value):
        return DASH
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 100:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def number_or_nan(value: Any) -> float:
    """A number of plain data; nan for what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else math.nan


def _decimals(value: float, unit: Unit) -> int:
    """One decimal in percent and points; about four digits in a unit of its own."""
    if unit != "number":
        return 1
    size = abs(value)
    if size >= 1000:
        return 0
    return 1 if size >= 100 else 2 if size >= 10 else 3
