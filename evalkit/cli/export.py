"""Write a run as the small baseline file that a repository keeps, for compare and gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.errors import UsageError


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run record.")],
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Scores by example: what compare and gate need.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: stdout.")
    ] = None,
    registry: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Add to a folder of baselines, for gate's latest:BRANCH."),
    ] = None,
    branch: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="The branch that the run is of.")
    ] = None,
) -> None:
    from evalkit.cli.terminal import tell, write_output
    from evalkit.compare import baseline_text, open_side

    if not baseline:
        raise UsageError("say what to export: --baseline")
    if (registry is None) != (branch is None):
        raise UsageError("--registry and --branch belong together")
    if registry is not None and branch is not None:
        if output is not None:
            raise UsageError("give one of --output and --registry")
        output = _entry(run, registry, branch)
    side = open_side(run)
    write_output(baseline_text(side), output)
    if registry is not None:
        typer.echo(str(output))
    if side.info.status != "complete":
        tell(f"warning: the run is {side.info.status}: what it did not answer counts as errors")


def _entry(run: Path, registry: Path, branch: str) -> Path:
    """Where the run belongs in a registry; its folder is made.

    Raises UsageError for a run that did not finish: candidates would be held against it.
    """
    from evalkit.gate.registry import entry
    from evalkit.record import RunRecord

    record = RunRecord.load(run)
    if record.status != "complete":
        raise UsageError(f"{run}: the run is {record.status}: no baseline for a registry")
    path = entry(registry, branch, created=record.created, id=record.id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path.parent}: cannot be made: {error.strerror or error}") from error
    return path
