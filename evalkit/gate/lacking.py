"""A candidate that lacks examples of the baseline, seen as one that did not answer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evalkit.compare import Answers, Examples, Side, SideInfo, TaskInfo, match


class WithLacking:
    """A side with the examples that only the baseline has; none of them has a score.

    An example that was not asked could have gone either way, as one whose answer did not come. The
    side's own examples keep their numbers; the others follow.
    """

    def __init__(self, side: Side, baseline: Side) -> None:
        self._side = side
        self._baseline = baseline

    @property
    def info(self) -> SideInfo:
        """Which run it is."""
        return self._side.info

    @property
    def tasks(self) -> Mapping[str, TaskInfo]:
        """The tasks of the side itself."""
        return self._side.tasks

    def examples(self, task: str) -> Examples:
        """The examples of the side, then those of the baseline that it lacks."""
        own, theirs = self._side.examples(task), self._baseline.examples(task)
        lacking = np.delete(np.arange(theirs.ids.size), match(theirs, own).index_a)
        n_digits = min(own.sha256.dtype.itemsize, theirs.sha256.dtype.itemsize)
        hashes = (own.sha256, theirs.sha256[lacking])
        nothing = np.full(lacking.size, None, dtype=np.object_)
        return Examples(
            ids=np.concatenate([own.ids, theirs.ids[lacking]]),
            sha256=np.concatenate([some.astype(f"S{n_digits}") for some in hashes]),
            clusters=np.concatenate([own.clusters, theirs.clusters[lacking]]),
            slices={
                name: np.concatenate([values, theirs.slices.get(name, nothing)[lacking]])
                if name in theirs.slices
                else np.concatenate([values, nothing])
                for name, values in own.slices.items()
            },
        )

    def answers(self, task: str, metric: str) -> Answers:
        """What a metric made of each answer; the examples that the side lacks have none."""
        own = self._side.answers(task, metric)
        n_own, n = self._side.examples(task).ids.size, self.examples(task).ids.size
        lacking = np.arange(n_own, n, dtype=np.int64)
        no, nan = np.zeros(lacking.size, dtype=np.bool_), np.full(lacking.size, np.nan)
        stats = own.stats
        if stats is not None:
            stats = np.concatenate([stats, np.full((lacking.size, stats.shape[1]), np.nan)])
        return Answers(
            example=np.concatenate([own.example, lacking]),
            is_error=np.concatenate([own.is_error, no]),
            is_scored=np.concatenate([own.is_scored, no]),
            values=np.concatenate([own.values, nan]),
            stats=stats,
        )

    def prompts(self, task: str, examples: Sequence[int]) -> list[str]:
        """Those of the side itself; empty texts for what it lacks."""
        n_own = self._side.examples(task).ids.size
        own = iter(self._side.prompts(task, [i for i in examples if i < n_own]))
        return [next(own) if i < n_own else "" for i in examples]
