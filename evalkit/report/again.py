"""An A/A report for a terminal and for a program: how often a gate is red, and where noise is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.gate.again import AgainReport, CheckAgain, Noise
from evalkit.gate.verdict import Check
from evalkit.record import json_safe
from evalkit.report.escape import plain
from evalkit.report.numerals import DASH, Unit, format_level, format_number, unit_of
from evalkit.stats.intervals import Interval
from evalkit.stats.variance import Components

COLUMNS = ("Pairs", "Not PASS", "Regressions", "Margin", "SE of a run", "SE of A/A")


def again_table(report: AgainReport) -> Table:
    """A line for each check."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("Check")
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for found in report.checks:
        unit, noise = _unit(found), found.noise
        table.add_row(
            Text(plain(_name(found.check))),
            str(found.n_pairs),
            _share(found.not_pass),
            _share(found.false_red),
            format_number(found.check.margin, unit),
            DASH if noise is None else format_number(noise.stderr, unit),
            DASH if noise is None else format_number(noise.gate_stderr, unit),
        )
    return table


def again_lines(report: AgainReport) -> Iterator[str]:
    """What the table is about, and of each check where its noise comes from."""
    n = len(report.runs)
    ids = ", ".join(plain(run.id) for run in report.runs)
    yield f"{n} runs of {plain(report.runs[0].model)}: {ids}"
    yield (
        f"{n} runs make {n * (n - 1)} ordered pairs, which share runs: the intervals of the shares "
        "are narrower than those of so many independent pairs should be."
    )
    yield (
        f"A regression is a false red here; {format_level(report.alpha)} of the pairs may be one. "
        "SE of a run: of its mean; SE of A/A: of the difference between two runs."
    )
    yield ""
    if report.is_deterministic:
        yield "Deterministic: every run has the same scores; nothing varies but the examples."
    for found in report.checks:
        if found.noise is None:
            yield f"{plain(_name(found.check))}: no mean over examples: its variance is not parted"
            continue
        if not found.is_deterministic:
            yield f"{plain(_name(found.check))}: {_sources(found.noise)}"
        yield from _next(found, found.noise, report.example_cost)


def again_to_json(report: AgainReport) -> dict[str, Any]:
    """The report as JSON has it; undefined numbers are None, an infinite break-even too."""
    data = {
        "gate": report.gate,
        "alpha": report.alpha,
        "runs": [asdict(run) for run in report.runs],
        "is_deterministic": report.is_deterministic,
        "example_cost": report.example_cost,
        "checks": [_check_to_json(found) for found in report.checks],
    }
    result: dict[str, Any] = json_safe(data)
    return result


def _check_to_json(found: CheckAgain) -> dict[str, Any]:
    check, noise = found.check, found.noise
    data: dict[str, Any] = {
        "task": check.task,
        "metric": check.metric,
        "slice": check.slice,
        "margin": check.margin,
        "n_pairs": found.n_pairs,
        "n_regression": found.n_regression,
        "n_inconclusive": found.n_inconclusive,
        "not_pass": asdict(found.not_pass),
        "false_red": asdict(found.false_red),
        "is_deterministic": found.is_deterministic,
        "noise": None,
    }
    if noise is not None:
        data["noise"] = {
            "n_examples": noise.n_examples,
            "n_repeats": noise.n_repeats,
            "answers": _components_to_json(noise.answers),
            "runs": None if noise.runs is None else _components_to_json(noise.runs),
            "stderr": noise.stderr,
            "gate_stderr": noise.gate_stderr,
            "best": None if noise.best is None else asdict(noise.best),
            "break_even": noise.break_even,
        }
    return data


def _components_to_json(found: Components) -> dict[str, Any]:
    names = {"seed": "run", "item:seed": "item:run"} if found.design == "seeds" else {}
    return {
        "mean": found.mean,
        "variances": {names.get(k, k): v for k, v in found.variances.items()},
        "clipped": [names.get(k, k) for k in found.clipped],
    }


def _sources(noise: Noise) -> str:
    item, repeat = noise.answers.variances["item"], noise.answers.variances["repeat"]
    text = (
        f"of one answer's variance {_percent(item, item + repeat)} is the examples', "
        f"{_percent(repeat, item + repeat)} comes from answer to answer"
    )
    if noise.runs is None:
        return text
    found, whole = noise.runs.variances, sum(noise.runs.variances.values())
    return (
        f"{text}; {_percent(found['seed'], whole)} is what all answers of a run have in common, "
        f"{_percent(found['item:seed'], whole)} what an example's answers in a run have"
    )


def _next(found: CheckAgain, noise: Noise, example_cost: float) -> Iterator[str]:
    if noise.best is None:
        return
    unit = _unit(found)
    before, after = (format_number(e, unit) for e in (noise.stderr, noise.best.stderr))
    answers = "1 answer" if noise.best.n_repeats == 1 else f"{noise.best.n_repeats} answers"
    yield (
        f"{plain(_name(found.check))}: twice the cost of a run (an example costs {example_cost:g} "
        f"beside its answers, which cost 1 each) buys most as {noise.best.n_items} examples with "
        f"{answers} each: SE {after} instead of {before}"
    )
    if math.isfinite(noise.break_even):
        yield (
            f"{plain(_name(found.check))}: a second answer pays where an example costs more than "
            f"{noise.break_even:.3g}"
        )


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole > 0 and math.isfinite(part) else DASH


def _share(found: Interval) -> str:
    low, high = (f"{100 * end:.0f}" for end in (found.low, found.high))
    return f"{100 * found.estimate:.0f} % ({low} to {high})"


def _unit(found: CheckAgain) -> Unit:
    return unit_of(found.check.metric, "")


def _name(check: Check) -> str:
    part = f", {check.slice[0]}={check.slice[1]}" if check.slice else ""
    return f"{check.task}, {check.metric}{part}"
