"""Compare runs on the same examples: paired differences, intervals, and what flipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.errors import UsageError

if TYPE_CHECKING:
    from evalkit.compare import Comparison


def compare(
    baseline: Annotated[
        Path, typer.Argument(metavar="BASELINE", help="A run's folder, or a baseline file.")
    ],
    candidates: Annotated[list[Path], typer.Argument(metavar="CANDIDATE...", help="Likewise.")],
    task: Annotated[list[str] | None, typer.Option(help="Only this task; repeatable.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric; repeatable.")] = None,
    slices: Annotated[bool, typer.Option("--slices", help="Also by slice.")] = False,
    flips: Annotated[
        int, typer.Option(metavar="N", help="List so many examples that flipped each way.")
    ] = 0,
    intersection: Annotated[
        bool, typer.Option("--intersection", help="Leave out examples that one run lacks.")
    ] = False,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of resampling.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    from evalkit.cli.terminal import print_json, print_table, tell
    from evalkit.compare import compare as compare_sides
    from evalkit.compare import open_side
    from evalkit.compare.plain import to_json
    from evalkit.report.comparison import differences_table, flip_lines

    if flips < 0:
        raise UsageError(f"--flips {flips}: must be 0 or more")
    first, others = open_side(baseline), [open_side(path) for path in candidates]
    found = compare_sides(
        first,
        others,
        tasks=task or (),
        metrics=metric or (),
        level=level,
        seed=seed,
        slices=slices,
        intersection=intersection,
    )
    for note in dict.fromkeys(_notes(found)):
        tell(f"note: {note}")
    if json:
        print_json(to_json(found))
        return
    print_table(differences_table(found, sides=[first, *others]))
    if slices:
        print_table(differences_table(found, by_slice=True, sides=[first, *others]))
    for line in flip_lines(found, [first, *others], n=flips):
        typer.echo(line)


def _notes(found: Comparison) -> Iterator[str]:
    for candidate in found.candidates:
        yield from candidate.notes
        for pairing in candidate.pairings:
            n_a, n_b = len(pairing.only_a), len(pairing.only_b)
            if n_a or n_b:
                yield (
                    f"task {pairing.task}: left out {n_a} examples only in {found.baseline.id}, "
                    f"{n_b} only in {candidate.side.id}"
                )
