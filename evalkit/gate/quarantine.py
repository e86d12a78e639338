"""Examples that are left out of the verdicts for a while: by name, with a reason, until a day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from evalkit.compare import Side
from evalkit.compare.side import BoolArray, HashArray, TextArray
from evalkit.gate.policy import QuarantineSpec
from evalkit.gate.verdict import Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """An entry of the quarantine, and where it stands."""

    id: str | None  # the id or the hash of the example is given
    sha256: str | None  # first digits
    task: str | None  # None: of any task
    until: date
    reason: str
    is_expired: bool  # it counts again
    n_found: int  # examples of the runs that it names

    @property
    def name(self) -> str:
        """The example as the policy names it."""
        name = f"id {self.id}" if self.id is not None else f"sha256 {self.sha256}"
        return f"{name} of task {self.task}" if self.task else name

    @property
    def note(self) -> str:
        """What a reader must know of it; empty if it does what it says."""
        if self.n_found == 0:
            return f"quarantine: no example has {self.name}"
        if self.is_expired:
            return f"quarantine of {self.name} is over since {self.until}: it counts again"
        return ""


def find_quarantined(
    entries: Iterable[QuarantineSpec],
    baseline: Side,
    candidate: Side,
    checks: Sequence[Check],
    *,
    today: date,
) -> tuple[Quarantined, ...]:
    """The entries with what they name in the tasks that are checked; the last day still counts."""
    tasks = dict.fromkeys(check.task for check in checks)
    found = []
    for entry in entries:
        values = entry.model_dump()
        one = Quarantined(**values, is_expired=today > entry.until, n_found=0)
        n_found = 0
        for task in tasks:
            side = baseline if task in baseline.tasks else candidate
            if task in side.tasks:
                examples = side.examples(task)
                n_found += int(_names(one, task, examples.ids, examples.sha256).sum())
        found.append(Quarantined(**values, is_expired=one.is_expired, n_found=n_found))
    return tuple(found)


def is_quarantined(
    quarantine: Iterable[Quarantined], task: str, *, ids: TextArray, sha256: HashArray
) -> BoolArray:
    """(n,) whether an entry that is not over names the example; ``ids`` and ``sha256`` are (n,)."""
    mask = np.zeros(ids.size, dtype=np.bool_)
    for one in quarantine:
        if not one.is_expired:
            mask |= _names(one, task, ids, sha256)
    return mask


def _names(one: Quarantined, task: str, ids: TextArray, sha256: HashArray) -> BoolArray:
    if one.task not in (None, task):
        return np.zeros(ids.size, dtype=np.bool_)
    if one.sha256 is None:
        return np.asarray(ids == one.id, dtype=np.bool_)
    # a baseline file keeps only the first digits of the hashes
    n_digits = min(len(one.sha256), sha256.dtype.itemsize)
    wanted = one.sha256[:n_digits].encode()
    return np.asarray(sha256.astype(f"S{n_digits}") == wanted, dtype=np.bool_)
