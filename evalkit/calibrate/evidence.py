"""What people and a judge said under one criterion, side by side, as arrays over the items."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.calibrate.items import LabelledItem
from evalkit.errors import DatasetError
from evalkit.judges import Criterion, Rubric
from evalkit.judges.rubric_spec import Kind
from evalkit.stats.intervals import FloatArray
from evalkit.types import Status, Verdict

BoolArray = NDArray[np.bool_]

TIE = 0.5
_PAIR_VALUES: Mapping[float, float] = {1.0: 1.0, 2.0: 0.0, 0.0: TIE}  # as files have them
_GRADES = ("pointwise", "reward")


@dataclass(frozen=True, slots=False, kw_only=True)
class Evidence:
    """One criterion's labels and verdicts; every array is over the same n items.

    Values are those of the criterion's labels; of a pair 1 (the response is better), 0 or 0.5.
    """

    criterion: Criterion
    kind: Kind
    items: tuple[LabelledItem, ...]
    annotators: tuple[str, ...]  # h of them
    marks: FloatArray  # (n, h) what each person said; nan where nothing
    verdicts: tuple[Verdict, ...]

    @cached_property
    def human(self) -> FloatArray:
        """(n,): the mean of an item's labels."""
        return np.asarray(np.nanmean(self.marks, axis=1))

    @cached_property
    def judge(self) -> FloatArray:
        """(n,): the verdicts' values; nan where there is none."""
        return np.array([_value(v) for v in self.verdicts], dtype=np.float64)

    @cached_property
    def is_judged(self) -> BoolArray:
        """(n,): whether there is a verdict."""
        return np.isfinite(self.judge)

    @cached_property
    def is_error(self) -> BoolArray:
        """(n,): whether the judge could not be asked."""
        return np.array([v.status is Status.ERROR for v in self.verdicts], dtype=bool)

    @property
    def n_errors(self) -> int:
        """Items on which the judge could not be asked."""
        return int(self.is_error.sum())

    @cached_property
    def scale(self) -> FloatArray:
        """The values that a label can have, rising.

        None of a reward, nor where people's labels do not lie on the rubric's scale.
        """
        if self.kind == "pairwise":
            return np.array([0.0, TIE, 1.0])
        values = np.unique(list(self.criterion.labels.values()))
        given = self.marks[np.isfinite(self.marks)]
        if values.size == 0 or given.min() < values[0] or given.max() > values[-1]:
            return np.empty(0)
        return values

    @property
    def is_graded(self) -> bool:
        """Whether labels are more or less, and a mean of them is a label too."""
        return self.kind in _GRADES

    @property
    def is_probability(self) -> bool:
        """Whether a value is the chance of a yes: 0 to 1, with labels at both ends."""
        return self.kind == "pairwise" or self.scale.tolist() == [0.0, 1.0]

    @cached_property
    def consensus(self) -> FloatArray:
        """(n,): what people say together, a value of the scale; nan where they are split.

        Of grades the mean, rounded; of classes what most say; a pair without a majority is a tie.
        Without a scale all are nan.
        """
        if self.scale.size == 0:
            return np.full(len(self.items), math.nan)
        if self.is_graded:
            return self.nearest(self.human)
        split = TIE if self.kind == "pairwise" else math.nan
        return np.array([_most_common(row[np.isfinite(row)], split) for row in self.marks])

    @cached_property
    def choices(self) -> FloatArray:
        """(n,): the judge's verdicts as values of the scale; nan where there is none."""
        found = np.array([v.choice for v in self.verdicts], dtype=np.float64)
        found = np.where(self.is_judged, np.where(np.isnan(found), self.judge, found), math.nan)
        if self.scale.size == 0:
            return np.full(len(self.items), math.nan)
        return self.nearest(found)

    def nearest(self, values: FloatArray) -> FloatArray:
        """Values (n,) as the nearest of the scale, the higher of two as near; nan stays nan."""
        middles = (self.scale[1:] + self.scale[:-1]) / 2
        known = np.where(np.isfinite(values), values, 0.0)
        found = self.scale[np.searchsorted(middles, known, side="right")]
        return np.where(np.isfinite(values), found, math.nan)

    @cached_property
    def clusters(self) -> NDArray[Any] | None:
        """(n,) names of what holds items together; None where the labels name no cluster."""
        if all(item.cluster is None for item in self.items):
            return None
        return np.array(self.groups)

    @property
    def groups(self) -> list[str]:
        """Of each item its cluster, or its own key."""
        return [item.cluster or item.key for item in self.items]

    @property
    def n_units(self) -> int:
        """Independent units with a verdict: clusters, or items where there are none."""
        units = zip(self.groups, self.is_judged.tolist(), strict=True)
        return len({group for group, is_judged in units if is_judged})

    @property
    def strata(self) -> NDArray[Any] | None:
        """(n,) names of the strata, if the labels have any."""
        if all(item.stratum is None for item in self.items):
            return None
        return np.array([item.stratum or "" for item in self.items])

    def orders(self) -> tuple[list[float | None], list[float | None]] | None:
        """Of pairs the verdicts with the response shown first, and second, as 1, 2, 0 and None.

        None where no verdict was given in both orders.
        """
        if self.kind != "pairwise" or not any(len(v.orders) == 2 for v in self.verdicts):
            return None
        first: list[float | None] = []
        second: list[float | None] = []
        for verdict in self.verdicts:
            own = verdict.orders if len(verdict.orders) == 2 else (None, None)
            first.append(_as_recorded(own[0]))
            second.append(_as_recorded(own[1]))
        return first, second


def gather(
    rubric: Rubric,
    criterion: Criterion,
    items: Sequence[LabelledItem],
    verdicts: Sequence[Mapping[str, Verdict]],
) -> Evidence:
    """The evidence of one criterion: of the items that are labelled under it.

    Raises DatasetError (path:line) for a label that the criterion does not have.
    """
    is_lone = len(rubric.criteria) == 1
    own = [
        (item, item.of(criterion.name, is_lone=is_lone), found[criterion.name])
        for item, found in zip(items, verdicts, strict=True)
    ]
    own = [row for row in own if row[1]]
    annotators = sorted({name for _, labels, _ in own for name in labels})
    marks = np.full((len(own), len(annotators)), math.nan)
    for i, (item, labels, _) in enumerate(own):
        for j, name in enumerate(annotators):
            if name in labels:
                marks[i, j] = label_value(labels[name], criterion, rubric.kind, item.where)
    return Evidence(
        criterion=criterion,
        kind=rubric.kind,
        items=tuple(item for item, _, _ in own),
        annotators=tuple(annotators),
        marks=marks,
        verdicts=tuple(verdict for _, _, verdict in own),
    )


def label_value(given: Any, criterion: Criterion, kind: Kind, where: str) -> float:
    """A person's label as a number. Raises DatasetError (``where``: path:line)."""
    if kind == "pairwise":
        number = _PAIR_VALUES.get(_number(given), math.nan)
        wanted = "1 (the response is better), 2 (the other one) or 0 (a tie)"
    else:
        by_name = {label.lower(): value for label, value in criterion.labels.items()}
        named = by_name.get(str(given).strip().lower())
        number = _number(given) if named is None else named
        if kind not in _GRADES and number not in by_name.values():
            number = math.nan
        wanted = " or ".join(map(repr, criterion.labels)) if kind not in _GRADES else "a number"
    if not math.isfinite(number):
        raise DatasetError(
            f"{where}: label {given!r} of criterion {criterion.name!r} is not {wanted}"
        )
    return number


def _number(given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        return math.nan


def _value(verdict: Verdict) -> float:
    return verdict.value if verdict.status is Status.OK else math.nan


def _as_recorded(choice: float | None) -> float | None:
    """1, 2 or 0 of the chance that the response is better; a panel's may lie anywhere."""
    if choice is None or math.isnan(choice):
        return None
    return 0.0 if choice == TIE else 1.0 if choice > TIE else 2.0


def _most_common(values: FloatArray, split: float) -> float:
    found, counts = np.unique(values, return_counts=True)
    first = found[counts == counts.max()]
    return float(first[0]) if first.size == 1 else split
