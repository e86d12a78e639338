"""Say what a run would ask, take and see, before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.cli.run import DEFAULT_MODEL
from evalkit.cli.terminal import split_pair


def plan(
    tasks: Annotated[
        list[str], typer.Argument(metavar="TASK...", help="Names, files, globs, groups or tags.")
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="As for a run; openai:NAME or http://HOST/v1#NAME.")
    ] = DEFAULT_MODEL,
    baseline: Annotated[
        Path | None, typer.Option(metavar="RUN", help="What the run will be compared with.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of the gate: what it must be able to see.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="A seeded random subset of so many examples a task.")
    ] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="Shots in the prompt.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Answers for each example.")] = None,
    seed: Annotated[int, typer.Option(help="Of subsets and shots.")] = 0,
    dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=FILE", help="A local file in place of a task's rows."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="As for a run."),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML: what an endpoint's tokens cost.")
    ] = None,
    offline: Annotated[bool, typer.Option(help="Forbid every download.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    from evalkit import plan as library
    from evalkit.cli.terminal import print_json, print_table, tell
    from evalkit.plan.tables import tables
    from evalkit.prepare import RunSpec

    spec = RunSpec(
        tasks=tuple(tasks),
        model=model,
        limit=limit,
        num_fewshot=num_fewshot,
        repeats=repeats,
        seed=seed,
        settings=dict(split_pair(text, "--set", "KEY=VALUE") for text in set_ or ()),
        datasets={
            name: Path(file)
            for name, file in (split_pair(text, "--dataset", "TASK=FILE") for text in dataset or ())
        },
        offline=offline,
    )
    found = library.plan(spec, baseline=baseline, policy=policy, prices=prices, on_progress=tell)
    for warning in found.warnings:
        tell(f"warning: {warning}")
    if json:
        print_json(library.to_json(found))
        return
    for number, table in enumerate(tables(found)):
        if number:
            typer.echo()
        print_table(table)
