"""How far a judge's numbers speak for people, as it is said beside each of them.

Texts of a record are carried as they are; whoever shows them makes them harmless for the place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from evalkit.record import MetricResult, TaskResult

CALIBRATED = "calibrated"
WARNING = "⚠"
_CHECK = "✓"

_WEAKEST_FIRST = ("refused", "stale", "uncalibrated", CALIBRATED)
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of the judge behind a number; an empty ``word`` where no judge gave it."""

    word: str = ""  # calibrated | uncalibrated | stale | refused
    note: str = ""  # one sentence
    ends: tuple[float, float] | None = None  # of the judge's scale, where it has any

    @property
    def is_doubtful(self) -> bool:
        """Whether a judge gave the number that nothing shows to speak for people."""
        return self.word not in ("", CALIBRATED)

    @property
    def mark(self) -> str:
        """What stands beside the number: ``⚠ uncalibrated``, ``✓ calibrated``, nothing."""
        if not self.word:
            return ""
        return f"{WARNING} {self.word}" if self.is_doubtful else f"{_CHECK} {self.word}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingNote:
    """What is known of the judge behind some metrics."""

    standing: Standing
    metrics: tuple[str, ...]

    @property
    def names(self) -> str:
        """The first of the metrics, and how many more there are."""
        n_more = len(self.metrics) - _MOST_NAMED
        shown = ", ".join(self.metrics[:_MOST_NAMED])
        return f"{shown} and {n_more} more" if n_more > 0 else shown

    @property
    def text(self) -> str:
        """The same as one line: the mark, the metrics, why."""
        return f"{self.standing.mark}: {self.names}: {self.standing.note}"


def standing_of(result: MetricResult) -> Standing:
    """What is known of the judge behind a number of a task."""
    if result.judged is None:
        return Standing()
    low, high = result.missing
    is_bounded = math.isfinite(low) and math.isfinite(high)
    return Standing(
        word=result.judged.status,
        note=result.judged.note,
        ends=(low, high) if is_bounded else None,
    )


def standing_of_parts(metric: str, tasks: Sequence[TaskResult]) -> Standing:
    """That of a number over several tasks, or of a mean over them: of the weakest among them."""
    name = metric.removeprefix("macro_")
    parts = [standing_of(task.metrics[name]) for task in tasks if name in task.metrics]
    judged = [part for part in parts if part.word]
    if not judged:
        return Standing()
    ends = {part.ends for part in judged}
    return replace(min(judged, key=_rank), ends=ends.pop() if len(ends) == 1 else None)


def standing_notes(said: Iterable[tuple[str, Standing]]) -> tuple[StandingNote, ...]:
    """The metrics of many numbers by what is known of their judges."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for metric, standing in said:
        if standing.word:
            found.setdefault((standing.word, standing.note), {})[metric] = None
    return tuple(
        StandingNote(standing=Standing(word=word, note=note), metrics=tuple(metrics))
        for (word, note), metrics in found.items()
    )


def _rank(standing: Standing) -> int:
    """The weaker the less; a word that is not known counts for nothing."""
    word = standing.word
    return _WEAKEST_FIRST.index(word) if word in _WEAKEST_FIRST else -1
