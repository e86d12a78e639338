"""Calibration files: what a judge's verdicts were worth against people's, and for which judge.

Written by ``evalkit calibrate``, read by runs and gates. A calibration is of one rubric, one judge
and one set of labels; where any part of these has changed it is stale, and says which.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from evalkit import resources
from evalkit.errors import RecordError
from evalkit.judges.asking import Case
from evalkit.judges.judge import JudgeInfo
from evalkit.judges.rubric import Rubric
from evalkit.record import dump_json, json_safe
from evalkit.types import sha256_of

FORMAT = "evalkit.calibration/1"

_PARTS = {
    "rubric_sha256": "the rubric",
    "model": "the judge's model",
    "sampling": "the judge's sampling",
    "method": "how verdicts are read",
    "layout": "how the prompt is laid out",
    "judge": "the judge's name",
    "vote": "how the panel votes",
    "members": "the panel's members",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledItems:
    """The items that people labelled, and what the judge said of each; columns of n values.

    ``human`` is the mean of an item's labels, ``judge`` the judge's value, ``predicted`` what a map
    fitted without the item (and without its cluster) makes of that value. ``propensity`` is the
    chance with which the item was chosen to be labelled, nan where labels are a random sample.
    """

    key: tuple[str, ...]  # as ``item_key``
    human: tuple[float, ...]
    judge: tuple[float, ...]
    predicted: tuple[float, ...]
    cluster: tuple[str | None, ...]
    propensity: tuple[float, ...]
    system: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionCalibration:
    """What was found of one criterion.

    ``figures`` is plain data to be shown: agreement, reliability, ceiling and the rest, each figure
    ``{"value": …, "low": …, "high": …, "n": …, "method": …}``.
    """

    is_accepted: bool
    reasons: tuple[str, ...]  # a sentence each, of what speaks against it; or for it, if accepted
    map: Mapping[str, Any]  # of ``stats.maps``, as JSON
    items: LabelledItems
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A judge held against people."""

    rubric: str
    rubric_version: int
    judge: str  # its specification
    identity: Mapping[str, Any]  # of the judge, as ``JudgeInfo.identity``
    labels: Mapping[str, Any]  # path, sha256, n_items, n_labels, n_annotators, design
    created: str  # ISO 8601, the day
    evalkit: str
    seed: int
    criteria: Mapping[str, CriterionCalibration]
    audit: Mapping[str, Any] = field(default_factory=dict)  # bias figures, where they were measured
    path: Path | None = None  # where it was read from

    @property
    def is_accepted(self) -> bool:
        """Whether the judge may stand in for people on every criterion."""
        return all(criterion.is_accepted for criterion in self.criteria.values())

    def stale_because(self, info: JudgeInfo) -> list[str]:
        """What differs between the judge that was calibrated and this one; empty if nothing.

        The labels are part of the file: where their file is still at hand and has changed, that is
        for ``labels_problem`` to say.
        """
        keys = dict.fromkeys((*self.identity, *info.identity))
        return [
            f"{_PARTS.get(key, key)} has changed"
            for key in keys
            if self.identity.get(key) != info.identity.get(key)
        ]

    def summary(self) -> dict[str, Any]:
        """What a reader wants to know of it: all but the labelled items."""
        data = _to_json(self)
        for criterion in data["criteria"].values():
            del criterion["items"]
        return data

    def sha256(self) -> str:
        """Of its content."""
        return sha256_of(_to_json(self))


def item_key(case: Case) -> str:
    """What makes an item the same wherever it is met: what was asked and what was answered."""
    return sha256_of([case.prompt, case.response, case.opponent])[:32]


def write_calibration(found: Calibration, path: Path) -> None:
    """Write a calibration file. Raises RecordError if that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump_json(_to_json(found)), encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file. Raises RecordError in one line."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise RecordError(f"{path}: not valid JSON: {error}") from error
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise RecordError(f"{path}: format is {found!r}; this version reads {FORMAT!r}")
    try:
        return _from_json(data, path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"{path}: not a valid calibration: {error!r}") from error


def find_calibrations(rubric: Rubric) -> list[Path]:
    """The calibration files of a rubric in ``rubrics/calibrations``, by name."""
    folders = [folder / "calibrations" for folder in resources.search_path("rubrics")]
    found = {p.name: p for folder in reversed(folders) for p in _named(folder, rubric.name)}
    return [found[name] for name in sorted(found)]


def _named(folder: Path, rubric: str) -> Iterable[Path]:
    return folder.glob(f"{rubric}--*.json")


def _to_json(found: Calibration) -> dict[str, Any]:
    data = asdict(found)
    del data["path"]
    data["is_accepted"] = found.is_accepted
    result: dict[str, Any] = json_safe({"format": FORMAT} | data)
    return result


def _from_json(data: Mapping[str, Any], path: Path) -> Calibration:
    values = {
        f.name: data[f.name] for f in fields(Calibration) if f.name not in ("path", "criteria")
    }
    criteria = {name: _criterion(one) for name, one in data["criteria"].items()}
    return Calibration(**values, criteria=criteria, path=path)


def _criterion(data: Mapping[str, Any]) -> CriterionCalibration:
    columns = data["items"]
    numbers: dict[str, Any] = {name: _numbers(columns[name]) for name in _NUMBERS}
    texts: dict[str, Any] = {name: tuple(columns[name]) for name in ("key", "cluster", "system")}
    return CriterionCalibration(
        is_accepted=data["is_accepted"],
        reasons=tuple(data["reasons"]),
        map=data["map"],
        items=LabelledItems(**numbers, **texts),
        figures=data["figures"],
    )


_NUMBERS = ("human", "judge", "predicted", "propensity")


def _numbers(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(math.nan if value is None else float(value) for value in values)
