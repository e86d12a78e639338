"""Let a candidate run pass, or not: every check of a policy against a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.cli.gate_modes import (
    AgainOption,
    BaselineOption,
    BudgetOption,
    ModelOption,
    OutOption,
    SequentialOption,
    refuse_options,
    run_aa,
    run_sequential,
    sequential_spec,
)
from evalkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.compare import Side
    from evalkit.gate import GateReport


def gate(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BASELINE CANDIDATE",
            help="Each a run's folder or a baseline file; BASELINE also latest:BRANCH.",
            show_default=False,
        ),
    ] = None,
    *,
    policy: Annotated[Path, typer.Option(metavar="FILE", help="What must not drop: YAML.")],
    registry: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of baselines by branch.")
    ] = None,
    intersection: Annotated[
        bool,
        typer.Option(
            "--intersection",
            help="Allow different examples; those that the candidate lacks count as unanswered.",
        ),
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write JUnit XML, a case for each check.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write Markdown, for a comment.")
    ] = None,
    aa: AgainOption = False,
    sequential: SequentialOption = None,
    model: ModelOption = None,
    baseline: BaselineOption = None,
    budget: BudgetOption = None,
    out: OutOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    from datetime import UTC, datetime

    from evalkit.gate import evaluate, read_policy

    rules, today = read_policy(policy), datetime.now(UTC).date()
    of_looks = {"model": model, "baseline": baseline, "budget": budget, "out": out}
    files = {"junit": junit, "markdown": markdown}
    if aa:
        others = {"registry": registry, "intersection": intersection, "sequential": sequential}
        refuse_options("--aa", **others, **of_looks, **files)
        run_aa(runs or (), rules, today=today, as_json=json)
        return
    if sequential is None:
        refuse_options("a gate of two runs", **of_looks)
        sides = _two_sides(runs or (), registry)
        report = evaluate(*sides, rules, today=today, intersection=intersection)
    else:
        refuse_options("--sequential", intersection=intersection, RUN=runs)
        source = None if baseline is None else _baseline_file(baseline, registry)
        spec = sequential_spec(sequential, model=model, budget=budget, out=out)
        report, sides = run_sequential(spec, rules, baseline=source, today=today)
    _finish(report, sides, as_json=json, **files)


def _two_sides(runs: Sequence[str], registry: Path | None) -> tuple[Side, Side]:
    from evalkit.compare import open_side

    if len(runs) != 2:
        raise UsageError(f"give a BASELINE and a CANDIDATE: got {len(runs)} runs")
    return open_side(_baseline_file(runs[0], registry)), open_side(runs[1])


def _finish(
    report: GateReport,
    sides: tuple[Side, Side],
    *,
    as_json: bool,
    junit: Path | None,
    markdown: Path | None,
) -> None:
    """Print the verdicts, write the files, choose the exit code."""
    from evalkit.cli.terminal import print_json, print_table, tell, write_output
    from evalkit.gate.plain import to_json
    from evalkit.report.verdict_files import to_junit, to_markdown
    from evalkit.report.verdicts import verdict_lines, verdicts_table

    if as_json:
        print_json(to_json(report))
    else:
        print_table(verdicts_table(report, sides=sides))
        for line in verdict_lines(report, sides=sides):
            typer.echo(line)
    _warn(report)
    if junit is not None:
        write_output(to_junit(report, sides=sides), junit)
    if markdown is not None:
        write_output(to_markdown(report, sides=sides), markdown)
    if report.exit_code:
        tell(f"exit code {report.exit_code}: {_why(report)}")
        raise typer.Exit(report.exit_code)


def _baseline_file(name: str, registry: Path | None) -> Path:
    from evalkit.gate.registry import LATEST, latest

    if not name.startswith(LATEST):
        if registry is not None:
            raise UsageError(f"--registry is for a baseline {LATEST}BRANCH, not {name!r}")
        return Path(name)
    if registry is None:
        raise UsageError(f"{name}: give the folder of baselines with --registry")
    return latest(registry, name.removeprefix(LATEST))


def _warn(report: GateReport) -> None:
    from evalkit.cli.terminal import tell
    from evalkit.gate import Verdict
    from evalkit.report.verdicts import check_name

    for note in report.notes:
        tell(f"warning: {note}")
    for found in report.checks:
        if found.blindness:
            tell(f"warning: {check_name(found)}: {found.blindness}")
    if report.verdict is Verdict.INCONCLUSIVE and report.on_inconclusive != "fail":
        word = "warning" if report.on_inconclusive == "warn" else "note"
        tell(f"{word}: inconclusive, let through by on_inconclusive: {report.on_inconclusive}")


def _why(report: GateReport) -> str:
    if report.candidate.status != "complete":
        return "the candidate did not finish"
    return report.verdict.value.replace("_", " ")
