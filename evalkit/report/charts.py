"""Where things stand on a chart: positions in percent of its width, from numbers alone.

The templates draw these as SVG; no text of a model or a file takes part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.report.figures import FigureRow
from evalkit.report.numerals import Unit, format_number, metric_base
from evalkit.report.view import MetricRow

_ROUND_ENDS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0)
_SMALLEST, _LARGEST = 1e-300, 1e300  # beyond these a power of ten under- or overflows


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled place on an axis."""

    at: float  # percent of the width
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisker:
    """An estimate on its axis, all places in percent of the width; None is not drawn."""

    value: float | None
    low: float | None
    high: float | None
    worst: float | None  # the bounds, where answers are missing
    best: float | None
    is_shared: bool  # on the axis of 0 to 100 that a column shares; else on one of its own
    ticks: tuple[Tick, ...]  # the ends of an own axis
    label: str  # the same in words


_PLACES = (0, 25, 50, 75, 100)
SHARED_TICKS = tuple(Tick(at=float(p), label=str(p)) for p in _PLACES)


def whisker(row: MetricRow) -> Whisker:
    """The row's estimate on the shared axis, or on its own when its unit has no end."""
    estimate = row.estimate
    bounds = (estimate.worst, estimate.best) if row.bounds else (math.nan, math.nan)
    words = f"{row.metric} {row.value}"
    if row.standing.word:
        words += f", {row.standing.word}"
    if row.interval != "–":
        words += f", {row.level} interval {row.interval}"
    return _whisker(
        (estimate.value, estimate.low, estimate.high, *bounds),
        _axis(row),
        is_shared=row.unit != "number",
        words=words,
    )


def figure_whisker(row: FigureRow, axis: tuple[float, float] | None) -> Whisker:
    """A figure on the axis that its table shares; on its own where ``axis`` is None."""
    numbers = (row.number, row.low, row.high)
    words = f"{row.name} {row.value}"
    if row.interval != "–":
        words += f", interval {row.interval}"
    return _whisker(
        (*numbers, math.nan, math.nan),
        axis or _own_axis(numbers),
        is_shared=axis is not None,
        words=words,
    )


def axis_ticks(axis: tuple[float, float]) -> tuple[Tick, ...]:
    """Five places on an axis, at equal distances."""
    low, high = axis
    return tuple(Tick(at=float(p), label=_end(low + p / 100 * (high - low))) for p in _PLACES)


def _whisker(
    numbers: tuple[float, float, float, float, float],
    axis: tuple[float, float],
    *,
    is_shared: bool,
    words: str,
) -> Whisker:
    low, high = axis
    own = (Tick(at=0, label=_end(low)), Tick(at=100, label=_end(high)))
    value, start, end, worst, best = (_place(v, low, high) for v in numbers)
    return Whisker(
        value=value,
        low=start,
        high=end,
        worst=worst,
        best=best,
        is_shared=is_shared,
        ticks=() if is_shared or value is None else own,
        label=words,
    )


def softmax(logprobs: Sequence[float]) -> tuple[float, ...]:
    """Probabilities (n,) that sum to one from log-probabilities (n,); nan where undefined.

    >>> softmax([0.0, 0.0])
    (0.5, 0.5)
    """
    top = max(logprobs, default=-math.inf)
    if any(math.isnan(v) for v in logprobs) or not math.isfinite(top):
        return tuple(math.nan for _ in logprobs)
    weights = [math.exp(v - top) for v in logprobs]
    total = math.fsum(weights)
    return tuple(w / total for w in weights)


def _axis(row: MetricRow) -> tuple[float, float]:
    ends: dict[Unit, tuple[float, float]] = {"fraction": (0.0, 1.0), "points": (0.0, 100.0)}
    if row.unit in ends:
        return ends[row.unit]
    if metric_base(row.metric) == "mcc":
        return -1.0, 1.0
    if row.standing.ends is not None:
        return row.standing.ends
    estimate = row.estimate
    return _own_axis((estimate.value, estimate.low, estimate.high))


def _own_axis(found: Sequence[float]) -> tuple[float, float]:
    """From 0 to a round number beyond what was found, on either side."""
    numbers = [v for v in found if math.isfinite(v)]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    return -_round_up(max(0.0, -low)), _round_up(max(0.0, high))


def _round_up(size: float) -> float:
    """The next round number, somewhat above ``size``; 0 stays 0."""
    if size < _SMALLEST:
        return 0.0
    wanted = 1.15 * min(size, _LARGEST)
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(end * power for end in _ROUND_ENDS if end * power >= wanted * (1 - 1e-12))


def _place(value: float, low: float, high: float) -> float | None:
    """Percent of the way from ``low`` to ``high``; what lies outside stands at the edge."""
    if math.isnan(value) or high <= low:
        return None
    if math.isinf(value):
        return 100.0 if value > 0 else 0.0
    return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)


def _end(value: float) -> str:
    return f"{value:,.6g}".replace("-", "−") if value else format_number(0.0, "points")[0]
