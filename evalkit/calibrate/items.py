"""What people said: items, their labels with who gave them, and how the items were chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalkit.errors import DatasetError, NotFoundError
from evalkit.judges import Case
from evalkit.judges.calibration import item_key
from evalkit.types import sha256_of

Design = Literal["random", "stratified", "active", "unknown"]
"""How the items to be labelled were chosen: all alike, at random within strata or by uncertainty,
with propensities in either case, or nobody knows."""

People = Literal["experts", "skilled", "crowd"]

LONE = ""  # the criterion of labels that name none: a rubric's only one
Labels = Mapping[str, Mapping[str, Any]]  # criterion -> annotator -> what the file says


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledItem:
    """A response, or a pair of them, with its labels; those not yet given are left out."""

    case: Case
    where: str  # path:line
    labels: Labels
    has_texts: bool = True  # False: the file gives no response, so only recorded judges can judge
    cluster: str | None = None
    stratum: str | None = None
    systems: tuple[str, ...] = ()  # who wrote the response, and for a pair the other one
    propensity: float = math.nan  # the chance with which it was chosen to be labelled
    judges: Mapping[str, Any] = field(default_factory=dict)  # what judges said, as recorded

    @property
    def key(self) -> str:
        """What makes it the same item wherever it is met; without texts, its id."""
        if self.has_texts:
            return item_key(self.case)
        return item_key(Case(key=self.case.key, prompt=self.case.key, response=""))

    def of(self, criterion: str, *, is_lone: bool) -> Mapping[str, Any]:
        """The labels under a criterion; of a rubric's only one also those that name none."""
        found = self.labels.get(criterion)
        if found is None and is_lone:
            found = self.labels.get(LONE)
        return found or {}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSet:
    """All that a label file holds."""

    name: str
    path: Path
    data: Path | None  # the rows, where the file is a specification that was pointed at others
    files: Mapping[str, str]  # each file that was read, and its sha256
    items: tuple[LabelledItem, ...]
    design: Design = "unknown"
    people: People = "skilled"

    @property
    def sha256(self) -> str:
        """Of the labels and of what they are about, however they are written down."""
        items = [
            {
                "key": item.key,
                "id": item.case.key,
                "fields": dict(item.case.fields),
                "target": item.case.target,
                "labels": {name: dict(own) for name, own in item.labels.items()},
                "cluster": item.cluster,
                "stratum": item.stratum,
                "systems": item.systems,
                "propensity": None if math.isnan(item.propensity) else item.propensity,
            }
            for item in sorted(self.items, key=lambda item: item.case.key)
        ]
        return sha256_of({"items": items, "design": self.design})

    @property
    def criteria(self) -> list[str]:
        """The criteria that have labels."""
        names = (name for item in self.items for name, own in item.labels.items() if own)
        return list(dict.fromkeys(names))

    def labelled(self, criteria: Sequence[str]) -> list[LabelledItem]:
        """The items with a label under one of the criteria at least."""
        is_lone = len(criteria) == 1
        return [i for i in self.items if any(i.of(name, is_lone=is_lone) for name in criteria)]

    def verdicts_of(self, judge: str) -> dict[str, Any]:
        """What a recorded judge said, by the items' ids. NotFoundError names those there are."""
        names = list(dict.fromkeys(name for item in self.items for name in item.judges))
        if judge not in names:
            raise NotFoundError("judge beside the labels", judge, names, hint=_some(names))
        return {i.case.key: i.judges[judge] for i in self.items if judge in i.judges}


def systems_of(value: Any, where: str) -> tuple[str, ...]:
    """One name, or of a pair two. Raises DatasetError."""
    if value is None or value == "":
        return ()
    names = value if isinstance(value, list) else [value]
    if not (0 < len(names) <= 2 and all(isinstance(name, str) and name for name in names)):
        raise DatasetError(f"{where}: system is a name, or of a pair two: {value!r}")
    return tuple(names)


def propensity_of(value: Any, where: str) -> float:
    """The chance with which an item was chosen; nan where none is given. Raises DatasetError."""
    if value is None or value == "":
        return math.nan
    try:
        chance = float(value)
    except (TypeError, ValueError):
        chance = math.nan
    if not 0 < chance <= 1:
        raise DatasetError(f"{where}: propensity is a chance above 0 and up to 1: {value!r}")
    return chance


def _some(names: Sequence[str], n: int = 8) -> str:
    """The first names, and that there are more."""
    if not names:
        return "the file records no judge's verdicts"
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return f"there is: {', '.join(names[:n])}{more}"
