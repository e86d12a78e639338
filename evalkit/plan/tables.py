"""A plan for a terminal: what each task takes, and what each check can see."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.plan.forecast import RunPlan, Span, TaskPlan
from evalkit.plan.sensitivity import Sensitivity
from evalkit.plan.spread import CORRELATION, CORRELATIONS, DISCORDANCE, Basis
from evalkit.plan.tokens import CHARACTERS_PER_TOKEN
from evalkit.report.escape import plain
from evalkit.report.numerals import (
    DASH,
    format_count,
    format_level,
    format_range,
    format_seconds,
    format_value,
    unit_of,
)


def spending_table(found: RunPlan) -> Table:
    """A line for each task and one for all; the caption says how the numbers were come by."""
    table = _table(_spending_notes(found))
    table.add_column("Task", no_wrap=True)
    takes = "Cost" if found.rates is None else "Time"
    counted = ("Examples", "Requests", "Duplicates", "Prompt tokens", "Computed", "New tokens")
    for name in (*counted, takes):
        table.add_column(name, justify="right", no_wrap=True)
    for task in found.tasks:
        table.add_row(Text(plain(task.task)), *_spending_cells(task, found))
    if len(found.tasks) > 1:
        table.add_section()
        table.add_row(Text("all"), *_spending_cells(found.total, found))
    return table


def sensitivity_table(found: RunPlan) -> Table:
    """A line for each question that a comparison or a gate will ask of the run."""
    rows = found.sensitivities
    table = _table(_sensitivity_notes(rows))
    table.add_column("Task", no_wrap=True)
    table.add_column("Metric", no_wrap=True)
    is_sliced = any(row.question.slice for row in rows)
    if is_sliced:
        table.add_column("Slice")
    for name in ("n", "α", "Margin", "Detectable", "Range", "Needed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Spread", no_wrap=True)
    for row in rows:
        part = [": ".join(row.question.slice or ())] if is_sliced else []
        names = [row.question.task, row.question.metric, *part]
        table.add_row(*(Text(plain(name)) for name in names), *_sensitivity_cells(row))
    return table


def _table(notes: Iterator[str]) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        caption=Text("\n".join(notes)),
        caption_justify="left",
    )


def _spending_cells(task: TaskPlan, found: RunPlan) -> list[str]:
    tokens = task.tokens
    about = "≈ " if tokens.is_estimate else ""
    span = task.usd if found.rates is None else task.seconds
    return [
        format_count(task.n_examples),
        format_count(task.n_requests),
        format_count(task.n_duplicates),
        f"{about}{format_count(tokens.n_prompt)}",
        DASH if tokens.n_distinct is None else format_count(tokens.n_distinct),
        f"≤ {format_count(tokens.n_new)}" if tokens.n_texts else "0",
        _span(span, is_usd=found.rates is None),
    ]


def _span(span: Span | None, *, is_usd: bool) -> str:
    if span is None or math.isnan(span.high):
        return DASH
    low, high = (_usd(x) if is_usd else format_seconds(x) for x in (span.low, span.high))
    return high if low == high else f"{low} … {high}"


def _usd(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.2g}"


def _spending_notes(found: RunPlan) -> Iterator[str]:
    yield f"Model: {plain(found.model)}"
    if found.total.n_duplicates:
        yield "Duplicates: requests equal to an earlier one, which a cache would answer."
    if found.total.tokens.is_estimate:
        yield f"≈ estimated: a token for every {CHARACTERS_PER_TOKEN} characters."
    if found.total.tokens.n_distinct is not None:
        yield "Computed: prompt tokens less those that an earlier prompt of the task begins with."
    least = "from every text ending at once to none before its limit"
    if found.rates is not None:
        rates, decode = found.rates, ""
        if rates.n_at_a_time:
            decode = f", {rates.decode_tokens_per_s:,.0f} new ones ({rates.n_at_a_time} at a time)"
        yield (
            f"Time: an estimate for this machine as it is now, measured for {rates.probe_s:.1f} s: "
            f"{rates.prefill_tokens_per_s:,.0f} prompt tokens a second{decode};"
        )
        yield f"without loading the model{'; ' + least if rates.n_at_a_time else ''}."
    elif found.price is None:
        yield "No cost: give the model's price with --prices FILE."
    else:
        price = found.price
        yield (
            f"Cost: {least}; ${price.input_usd_per_million:g} a million tokens in, "
            f"${price.output_usd_per_million:g} out ({plain(price.source)}, {price.date})."
        )


def _sensitivity_cells(row: Sensitivity) -> list[str]:
    unit = unit_of(row.question.metric, "wilson" if row.is_share else "")
    margin = row.question.margin
    return [
        format_count(row.n),
        f"{row.question.alpha:.3g}",
        DASH if margin is None else format_value(margin, unit),
        format_value(row.detectable, unit),
        format_range(row.detectable_low, row.detectable_high, unit),
        _needed(row),
        _BASES[row.basis],
    ]


def _needed(row: Sensitivity) -> str:
    if row.n_needed is None:
        return DASH
    return f"{format_count(row.n_needed)} {'too few' if row.is_blind else 'enough'}"


_BASES: dict[Basis, str] = {
    "baseline": "baseline",
    "discordance": f"assumed: {format_level(DISCORDANCE)} differ",
    "omega": "assumed: ω² = 1/9",
    "unknown": "unknown",
}


def _sensitivity_notes(rows: Sequence[Sensitivity]) -> Iterator[str]:
    powers = sorted({row.question.power for row in rows})
    often = f"{' or '.join(map(format_level, powers))} of the time"
    if any(row.question.margin is not None for row in rows):
        yield f"Detectable: the smallest margin that an unchanged candidate passes {often}."
        yield "Needed: the examples for the check's own margin."
    else:
        yield f"Detectable: the smallest difference that a two-sided test finds {often}."
    bases = {row.basis for row in rows}
    low, high = CORRELATIONS
    if "baseline" in bases:
        yield (
            f"baseline: its scores vary as observed, and correlate with the candidate's by "
            f"{CORRELATION:g}; Range: by {high:g} … {low:g}."
        )
    if "discordance" in bases:
        share = format_level(DISCORDANCE)
        yield f"assumed: {share} of the examples are right in one run and wrong in the other."
    if "omega" in bases:
        yield "assumed: the variance of a difference is 1/9 of the squared scale (Miller 2024)."


def tables(found: RunPlan) -> list[Table]:
    """All tables of a plan: the second only where something is going to be compared."""
    first = spending_table(found)
    return [first, sensitivity_table(found)] if found.sensitivities else [first]
