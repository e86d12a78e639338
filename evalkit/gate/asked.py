"""A baseline with only those of its examples that a candidate was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evalkit.compare import Answers, Examples, Side, SideInfo, TaskInfo, match
from evalkit.compare.side import IntArray


class Asked:
    """A side without the examples that another one lacks, as if they had never been in the task."""

    def __init__(self, side: Side, other: Side) -> None:
        self._side = side
        self._other = other

    @property
    def info(self) -> SideInfo:
        """Which run it is."""
        return self._side.info

    @property
    def tasks(self) -> Mapping[str, TaskInfo]:
        """The tasks of the side; the values of their metrics are those over all of its examples."""
        return self._side.tasks

    def examples(self, task: str) -> Examples:
        """The examples that both sides have, in the side's order."""
        found, kept = self._side.examples(task), self._kept(task)
        return Examples(
            ids=found.ids[kept],
            sha256=found.sha256[kept],
            clusters=found.clusters[kept],
            slices={name: values[kept] for name, values in found.slices.items()},
        )

    def answers(self, task: str, metric: str) -> Answers:
        """What a metric made of the answers about them."""
        found, kept = self._side.answers(task, metric), self._kept(task)
        place = np.full(self._side.examples(task).ids.size, -1, dtype=np.int64)
        place[kept] = np.arange(kept.size)
        mask = place[found.example] >= 0
        return Answers(
            example=place[found.example][mask],
            is_error=found.is_error[mask],
            is_scored=found.is_scored[mask],
            values=found.values[mask],
            stats=None if found.stats is None else found.stats[mask],
        )

    def prompts(self, task: str, examples: Sequence[int]) -> list[str]:
        """The prompts of some of them."""
        return self._side.prompts(task, self._kept(task)[np.asarray(examples, dtype=int)].tolist())

    def _kept(self, task: str) -> IntArray:
        found = match(self._side.examples(task), self._other.examples(task))
        return np.sort(found.index_a)
