"""Verdicts that were recorded: a judge that only looks them up.

A file of JSON lines, one object a case: ``id``, and ``judges``, a mapping from the name of a judge
to what it said:

- a number on the criterion's scale, or null for no verdict;
- for pairs 1 (the response, the first text of the file, is better), 2 (the other one), 0 for a tie,
  or ``{"orig": v, "swap": v}``: that with the response shown first, and second. Always in the
  file's naming, and not by what was shown where;
- under a rubric with several criteria, a mapping from each criterion to that.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import DatasetError, NotFoundError, UsageError
from evalkit.judges.asking import Case
from evalkit.judges.judge import JudgeInfo, OnProgress, Verdicts
from evalkit.judges.rubric import Criterion, Rubric
from evalkit.record import RunStatus
from evalkit.types import Status, Verdict

_PAIR_VALUES: Mapping[Any, float] = {1: 1.0, 2: 0.0, 0: 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A judge whose verdicts lie in a file."""

    rubric: Rubric
    spec: str
    verdicts: Mapping[str, Any]  # by the id of the case
    sha256: str  # of the file

    @property
    def status(self) -> RunStatus:
        """Always complete: nothing is asked."""
        return "complete"

    @property
    def info(self) -> JudgeInfo:
        """Who judged, and by what."""
        return JudgeInfo(
            spec=self.spec,
            rubric=self.rubric.name,
            identity={
                "rubric_sha256": self.rubric.sha256,
                "model": f"sha256:{self.sha256}",
                "judge": self.spec.partition("#")[2],
                "method": "replay",
            },
        )

    async def judge(self, cases: Sequence[Case], on_progress: OnProgress) -> list[Verdicts]:
        """What the file says of each case; a case that it does not have is an error of its own."""
        on_progress(len(cases), len(cases))
        return [
            {c.name: self._verdict(case.key, c) for c in self.rubric.criteria} for case in cases
        ]

    def _verdict(self, key: str, criterion: Criterion) -> Verdict:
        if key not in self.verdicts:
            return _none(Status.ERROR, f"{self.spec} has no verdict on {key!r}")
        said = self.verdicts[key]
        if isinstance(said, Mapping) and criterion.name in said:
            said = said[criterion.name]
        elif said is not None and len(self.rubric.criteria) > 1:
            problem = f"{self.spec} has no verdict on {key!r} under {criterion.name!r}"
            return _none(Status.ERROR, problem)
        if self.rubric.kind == "pairwise":
            return _of_pair(said)
        low, high = criterion.limits
        if not _is_number(said) or not low <= said <= high:
            return _none(Status.ABSTAINED, f"what was recorded is no point of the scale: {said!r}")
        return Verdict(value=float(said), choice=float(said))


def _of_pair(said: Any) -> Verdict:
    orders = (
        [said.get("orig"), said.get("swap")] if isinstance(said, Mapping) else [said]
    )  # recorded in one order only
    values = [_PAIR_VALUES.get(v) if _is_number(v) else None for v in orders]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return _none(Status.ABSTAINED, f"what was recorded is no verdict: {said!r}")
    if len(known) == 1:
        return Verdict(value=known[0], choice=known[0])
    first, second = known
    return Verdict(
        value=(first + second) / 2,
        choice=first if first == second else 0.5,
        orders=(first, second),
    )


def _is_number(value: Any) -> bool:
    is_plain = isinstance(value, int | float) and not isinstance(value, bool)
    return is_plain and math.isfinite(value)


def _none(status: Status, problem: str) -> Verdict:
    return Verdict(value=math.nan, status=status, problem=problem)


def open_recorded(rubric: Rubric, spec: str) -> Recorded:
    """The judge of ``replay:FILE#NAME``; the name may be left out where the file has one judge.

    Raises UsageError, NotFoundError or DatasetError (path:line).
    """
    path_text, _, name = spec.removeprefix("replay:").partition("#")
    path = Path(path_text)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    rows: dict[str, Mapping[str, Any]] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            key, judges = _row(line, f"{path}:{number}")
            if key in rows:
                raise DatasetError(f"{path}:{number}: id {key!r} stands here twice")
            rows[key] = judges
    name = _chosen(
        name, list(dict.fromkeys(one for judges in rows.values() for one in judges)), path
    )
    return Recorded(
        rubric=rubric,
        spec=f"replay:{path_text}#{name}",
        verdicts={key: judges[name] for key, judges in rows.items() if name in judges},
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _chosen(name: str, names: Sequence[str], path: Path) -> str:
    if not names:
        raise DatasetError(f"{path}: no judge's verdicts in it")
    if not name and len(names) > 1:
        some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise UsageError(f"{path}: has verdicts of {some}: say whose, replay:{path}#NAME")
    if name and name not in names:
        raise NotFoundError("judge in the file", name, names, hint=f"replay:{path}#NAME")
    return name or names[0]


def _row(line: bytes, where: str) -> tuple[str, Mapping[str, Any]]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: not valid JSON: {error}") from error
    judges = row.get("judges") if isinstance(row, dict) else None
    if not isinstance(judges, dict) or not isinstance(row.get("id"), str | int):
        raise DatasetError(
            f"{where}: a line needs 'id', a text or whole number, and 'judges', a mapping"
        )
    return str(row["id"]), judges
