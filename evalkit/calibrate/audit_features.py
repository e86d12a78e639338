"""Features of responses that should not move a judge, and how far they do at equal labels."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.calibrate.evidence import Evidence
from evalkit.calibrate.figures import Figure, Settings
from evalkit.calibrate.items import LabelledItem
from evalkit.stats.bias import residual_bias
from evalkit.stats.intervals import FloatArray
from evalkit.stats.regression import Effect

_FEWEST = 5  # items that must differ from the others in a feature
_METHOD = "least squares, CR2"
_LIST_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+\S", re.MULTILINE)
_MARKUP = re.compile(r"\*\*\S[^*\n]*\*\*|`[^`\n]+`|^\|.+\|\s*$", re.MULTILINE)
_RECORDED_IN = re.compile(r"replay:[^#,\]]*#")  # a file is not a name
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A column (n,) of the regression: of a pair what the response has more than the other one."""

    name: str
    values: FloatArray
    unit: str  # of what the effect is


def features_of(evidence: Evidence, judge: str) -> tuple[list[Feature], list[str]]:
    """The features that can be measured, and a sentence for each that cannot.

    ``judge`` is the judge's specification: a system is of its own family if the name of the
    system's family (``family`` among an item's fields, of a pair two) occurs in it.
    """
    items, found, untested = evidence.items, [], []
    if all(item.has_texts for item in items):
        found = [
            _scaled("length", _differences(items, lambda text: math.log1p(len(text)))),
            Feature(name="list", values=_marks(items, _LIST_ITEM), unit="with a list"),
            Feature(name="heading", values=_marks(items, _HEADING), unit="with a heading"),
            Feature(name="markup", values=_marks(items, _MARKUP), unit="with bold, code or tables"),
        ]
        if all(item.case.target for item in items):
            found.append(_overlap(items))
        else:
            untested.append("nearness to the reference: not every item has one")
    else:
        untested.append("length and format: the labels give no responses")
    own = _own_family(items, judge)
    if isinstance(own, str):
        untested.append(f"self-preference: {own}")
    else:
        found.append(Feature(name="own_family", values=own, unit="of the judge's own family"))
    kept, problems = _distinct(found, evidence)
    return kept, untested + problems


def _distinct(found: Sequence[Feature], evidence: Evidence) -> tuple[list[Feature], list[str]]:
    """The features that vary, and not only with people's labels or with those before them."""
    kept, problems = [], []
    columns = [np.ones(int(evidence.is_judged.sum())), evidence.human[evidence.is_judged]]
    rank = int(np.linalg.matrix_rank(np.column_stack(columns)))
    for feature in found:
        values = feature.values[evidence.is_judged]
        counts = np.unique(values, return_counts=True)[1]
        n_other = int(counts.sum() - counts.max()) if values.size else 0
        if n_other < _FEWEST:
            problems.append(f"{feature.name}: only {n_other} items differ in it from the others")
        elif np.linalg.matrix_rank(np.column_stack((*columns, values))) == rank:
            problems.append(f"{feature.name}: it cannot be told apart from what is measured before")
        else:
            kept.append(feature)
            columns.append(values)
            rank += 1
    return kept, problems


def effects(evidence: Evidence, features: Sequence[Feature], settings: Settings) -> dict[str, Any]:
    """What each feature adds to the judge beyond people's labels, all in one regression."""
    if not features:
        return {}
    known = evidence.is_judged
    found = residual_bias(
        evidence.judge[known],
        evidence.human[known],
        features=np.column_stack([feature.values for feature in features])[known],
        control_human=bool(np.ptp(evidence.human[known]) > 0),
        clusters=None if evidence.clusters is None else evidence.clusters[known],
        level=settings.level,
    )
    return {
        feature.name: effect_figure(effect) | {"unit": feature.unit}
        for feature, effect in zip(features, found, strict=True)
    }


def effect_figure(found: Effect) -> Figure:
    """A coefficient as plain data, with its p and why it has none."""
    return {
        "value": found.estimate,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "method": _METHOD,
        "p": found.p_value,
        "reason": found.reason,
    }


def _differences(items: Sequence[LabelledItem], measure: Callable[[str], float]) -> FloatArray:
    """(n,): the measure of each response, less that of the other one of a pair."""
    return np.array(
        [
            measure(item.case.response)
            - (0.0 if item.case.opponent is None else measure(item.case.opponent))
            for item in items
        ],
        dtype=np.float64,
    )


def _scaled(name: str, values: FloatArray) -> Feature:
    spread = float(values.std())
    centred = values - values.mean()
    return Feature(
        name=name,
        values=centred / spread if spread > 0 else centred,
        unit=f"a standard deviation of log {name}, {math.exp(spread):.2f} times as long",
    )


def _marks(items: Sequence[LabelledItem], pattern: re.Pattern[str]) -> FloatArray:
    return _differences(items, lambda text: float(pattern.search(text) is not None))


def _overlap(items: Sequence[LabelledItem]) -> Feature:
    """The share of a response's words that the reference has."""
    values = []
    for item in items:
        known = _words(item.case.target)
        others = () if item.case.opponent is None else (item.case.opponent,)
        shares = [
            len(words & known) / len(words) if (words := _words(text)) else 0.0
            for text in (item.case.response, *others)
        ]
        values.append(shares[0] - sum(shares[1:]))
    unit = "all words those of the reference, against none"
    return Feature(name="reference", values=np.array(values, dtype=np.float64), unit=unit)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _own_family(items: Sequence[LabelledItem], judge: str) -> FloatArray | str:
    """(n,), or why it is not known."""
    name, values = _RECORDED_IN.sub("", judge).lower(), []
    for item in items:
        given = item.case.fields.get("family")
        families: Sequence[Any] = given if isinstance(given, list | tuple) else [given]
        n_wanted = 1 if item.case.opponent is None and len(item.systems) < 2 else 2
        if len(families) != n_wanted or not all(isinstance(f, str) and f for f in families):
            return "the labels do not name every system's family (fields: family)"
        is_own = [float(family.lower() in name) for family in families]
        values.append(is_own[0] - sum(is_own[1:]))
    if not any(values):
        return "no system is of a family that the judge's name has in it"
    return np.array(values, dtype=np.float64)
