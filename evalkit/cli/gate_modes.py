"""The other two ways to gate: repeated runs of the same thing, and a candidate run in looks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.errors import UsageError

if TYPE_CHECKING:
    from evalkit.compare import Side
    from evalkit.gate import GateReport, Policy
    from evalkit.gate.sequential import Standing
    from evalkit.sequential import Look, SequentialSpec


AgainOption = Annotated[
    bool, typer.Option("--aa", help="Gate all pairs of repeated RUNs of the same thing.")
]
SequentialOption = Annotated[
    str | None, typer.Option(metavar="TASK", help="Run a candidate in looks; stop once decided.")
]
ModelOption = Annotated[str | None, typer.Option(help="Of --sequential, as in run.")]
BaselineOption = Annotated[
    str | None, typer.Option(metavar="BASELINE", help="Of --sequential, as above.")
]
BudgetOption = Annotated[
    int | None, typer.Option(metavar="N", help="Of --sequential: examples at most.")
]
OutOption = Annotated[Path | None, typer.Option(help="Of --sequential: the folder of runs (runs).")]


def run_aa(runs: Sequence[str], policy: Policy, *, today: date, as_json: bool) -> None:
    """Gate every ordered pair of runs of the same thing and print what that says of the gate."""
    from evalkit.cli.terminal import print_json, print_table
    from evalkit.compare import open_side
    from evalkit.gate.again import again
    from evalkit.report.again import again_lines, again_table, again_to_json

    report = again([open_side(run) for run in runs], policy, today=today)
    if as_json:
        print_json(again_to_json(report))
        return
    print_table(again_table(report))
    for line in again_lines(report):
        typer.echo(line)


def sequential_spec(
    task: str, *, model: str | None, budget: int | None, out: Path | None
) -> SequentialSpec:
    """What the options say. Raises UsageError where one that is needed is missing."""
    from evalkit.sequential import SequentialSpec

    if model is None or budget is None:
        raise UsageError("--sequential needs --model SPEC and --budget N, examples at most")
    return SequentialSpec(task=task, model=model, budget=budget, out=out or Path("runs"))


def run_sequential(
    spec: SequentialSpec, policy: Policy, *, baseline: Path | None, today: date
) -> tuple[GateReport, tuple[Side, Side]]:
    """Run a candidate in looks; the gate's report, and both sides. Looks are told on stderr."""
    from evalkit.cli.terminal import ProgressLine, tell
    from evalkit.compare import RunSide, open_side
    from evalkit.sequential import gate_sequentially

    if baseline is None:
        raise UsageError("--sequential needs --baseline: a run's folder or a baseline file")
    side = open_side(baseline)
    with ProgressLine() as show:
        found = gate_sequentially(
            spec, side, policy, today=today, on_progress=show, on_look=_tell_look
        )
    tell(f"asked {found.n_asked} of at most {found.budget} examples")
    tell(f"record: {found.record.folder}")
    return found.report, (side, RunSide(found.record))


def refuse_options(mode: str, **given: object) -> None:
    """Raise UsageError for the first option that is given and that a mode does not have."""
    for name, value in given.items():
        if value:
            option = name if name.isupper() else f"--{name}"
            raise UsageError(f"{option} does not go with {mode}")


def _tell_look(look: Look) -> None:
    from evalkit.cli.terminal import tell

    states = "; ".join(_state(standing) for standing in look.standings)
    tell(f"look at {look.n_asked} examples: {states}")


def _state(standing: Standing) -> str:
    decision = "undecided" if standing.decision == "continue" else standing.decision
    return f"{decision} (difference {standing.low:+.3g} to {standing.high:+.3g})"
