"""How far a judge's numbers speak for people, where two runs stand beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evalkit.compare import Side
from evalkit.report.standing import WARNING, Standing, standing_notes


def compared_marks(
    sides: Sequence[Side], wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """The mark of each (task, metric) that a judge gave in either of two runs."""
    found: dict[tuple[str, str], str] = {}
    for task, metric in wanted if len(sides) == 2 else ():
        words = [_known(side, task, metric).word for side in sides]
        if words[0] == words[1]:
            mark = Standing(word=words[0]).mark
        else:
            mark = f"{WARNING} A {words[0] or 'unknown'}, B {words[1] or 'unknown'}"
        if mark:
            found[task, metric] = mark
    return found


def compared_notes(
    named: Iterable[tuple[str, Side]], wanted: Iterable[tuple[str, str]]
) -> list[str]:
    """A line for each thing that is known of the judges of some (task, metric) by named sides."""
    pairs = list(dict.fromkeys(wanted))
    said: dict[str, list[str]] = {}
    for name, side in named:
        known = ((metric, _known(side, task, metric)) for task, metric in pairs)
        for note in standing_notes(known):
            said.setdefault(note.text, []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in said.items()]


def _known(side: Side, task: str, metric: str) -> Standing:
    info = side.tasks[task].metrics.get(metric) if task in side.tasks else None
    return Standing() if info is None else Standing(word=info.standing, note=info.standing_note)
