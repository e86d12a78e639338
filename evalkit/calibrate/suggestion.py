"""Which responses of a run people should label next, and how many labels it takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.calibrate.evidence import label_value
from evalkit.calibrate.items import LONE, Design, LabelledItem, LabelSet
from evalkit.calibrate.run_items import RunItems
from evalkit.errors import UsageError
from evalkit.judges import Criterion, Rubric
from evalkit.stats.intervals import FloatArray
from evalkit.stats.label_sequence import (
    LabelForecast,
    forecast_labels,
    label_sequence,
    labels_until,
)
from evalkit.stats.labelling import (
    BoolArray,
    IntArray,
    Proposal,
    propose_by_strata,
    residual_spreads,
    score_strata,
)

FEWEST_FOR_STRATA = 30  # labels that tell how far the judge is off in each stratum
N_STRATA = 5
SHARE_TWICE = 0.2
_FIRST_LOOK = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A label file to be filled in."""

    items: tuple[LabelledItem, ...]  # those labelled before, with new propensities, then the new
    n_new: int
    n_twice: int
    design: Design


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelProgress:
    """How far the labels are on the way to a half-width, under one criterion."""

    criterion: str
    n_labels: int
    half_width: float
    reached_at: int | None  # labels at which the interval valid at all looks was so narrow
    anytime: tuple[float, float]  # that interval now; nan where it may not be had
    forecast: LabelForecast
    note: str  # why there is no such interval

    @property
    def n_more(self) -> float:
        """Labels still to be had, looking once when they are there; nan: all would not do."""
        n = self.forecast.n_labels
        return n if math.isnan(n) else max(0.0, n - self.n_labels)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "criterion": self.criterion,
            "n_labels": self.n_labels,
            "half_width": self.half_width,
            "reached_at": self.reached_at,
            "anytime": list(self.anytime),
            "n_needed": self.forecast.n_labels,
            "n_needed_anytime": self.forecast.n_labels_anytime,
            "n_needed_without_judge": self.forecast.n_labels_only,
            "n_more": self.n_more,
            "note": self.note,
        }


def suggest(run: RunItems, *, n: int, labels: LabelSet | None = None, seed: int = 0) -> Suggestion:
    """``n`` responses to label next, one in five of them by two people.

    The first labels are a plain random sample. From thirty labels of the run's responses on, by
    Neyman's allocation over strata of the judge's scores, for which the earlier labels say how far
    the judge is off; the earlier ones get the propensities of their strata. Raises UsageError where
    there are not as many, or the earlier labels were chosen in another way.
    """
    earlier = _earlier(run, labels)
    is_labelled = np.array([item.key in earlier for item in run.items], dtype=bool)
    n_free = int((~is_labelled).sum())
    if not 0 < n <= n_free:
        raise UsageError(f"--suggest {n}: there are {n_free} responses without a label")
    if earlier and labels is not None and labels.design not in ("random", "stratified"):
        raise UsageError(
            f"{labels.path}: the labels' design is {labels.design!r}: more can be added only to "
            "labels that were drawn at random, or within strata"
        )
    strata, spreads = np.zeros(len(run.items), dtype=np.intp), None
    design: Design = "random"
    if is_labelled.sum() >= FEWEST_FOR_STRATA:
        design = "stratified"
        strata = score_strata(run.scores, N_STRATA)
        spreads = _spreads(run, earlier, strata, is_labelled)
    try:
        proposal = propose_by_strata(
            [item.key for item in run.items],
            strata,
            n=n,
            spreads=spreads,
            is_labelled=is_labelled,
            share_twice=SHARE_TWICE,
            seed=seed,
        )
    except ValueError as error:
        raise UsageError(f"--suggest {n}: {error}") from error
    return _suggestion(run, earlier, proposal, strata, is_labelled, design)


def progress(
    run: RunItems, labels: LabelSet, *, half_width: float, level: float = 0.95
) -> list[LabelProgress]:
    """How far the labels of a run's responses are from a half-width, for each criterion.

    The interval that holds at every look is for labels drawn at random, in the order of the file.
    """
    earlier = _earlier(run, labels)
    places = {item.key: i for i, item in enumerate(run.items)}
    found = []
    for criterion in run.rubric.criteria:
        marks = {key: m for key, item in earlier.items() if (m := _mark(run, item, criterion))}
        at = [places[key] for key in marks]
        human = np.array([math.fsum(own) / len(own) for own in marks.values()])
        scores = run.by_criterion[criterion.name]
        judge, rest = scores[at], np.delete(scores, at)
        forecast = forecast_labels(
            human, judge, n_items=len(run.items), half_width=half_width, level=level
        )
        now, reached, note = (math.nan, math.nan), None, _why_not(labels, len(at), rest.size)
        if not note:
            planned = forecast.n_labels_anytime
            looks = label_sequence(
                human,
                judge,
                unlabelled=rest,
                n_planned=int(planned) if math.isfinite(planned) else len(run.items),
                alpha=1 - level,
                n_first=_FIRST_LOOK,
            )
            reached = labels_until(looks, half_width)
            now = (float(looks.low[-1]), float(looks.high[-1]))
        found.append(
            LabelProgress(
                criterion=criterion.name,
                n_labels=len(at),
                half_width=half_width,
                reached_at=reached,
                anytime=now,
                forecast=forecast,
                note=note,
            )
        )
    return found


def write_suggestion(found: Suggestion, rubric: Rubric, path: Path) -> None:
    """Write a label file: what there is, and null where a label is wanted."""
    rows = [_row(item, found.design, rubric) for item in found.items]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error


def _earlier(run: RunItems, labels: LabelSet | None) -> dict[str, LabelledItem]:
    """The items of the run that have labels, by their keys, in the order of the labels."""
    keys = {item.key for item in run.items}
    names = [criterion.name for criterion in run.rubric.criteria]
    items = [] if labels is None else labels.labelled(names)
    return {item.key: item for item in items if item.key in keys}


def _mark(run: RunItems, item: LabelledItem, criterion: Criterion) -> list[float]:
    own = item.of(criterion.name, is_lone=len(run.rubric.criteria) == 1)
    return [label_value(v, criterion, run.rubric.kind, item.where) for v in own.values()]


def _spreads(
    run: RunItems,
    earlier: Mapping[str, LabelledItem],
    strata: IntArray,
    is_labelled: BoolArray,
) -> FloatArray:
    """(k,): how far people are from what the judge leads to expect, in each stratum.

    Of several criteria the mean of those of each, as a share of its scale.
    """
    n_strata = int(strata.max()) + 1
    rows = np.flatnonzero(is_labelled)
    found = []
    for criterion in run.rubric.criteria:
        marks = [_mark(run, earlier[run.items[i].key], criterion) for i in rows]
        known = [k for k, own in enumerate(marks) if own]
        human = np.array([math.fsum(marks[k]) / len(marks[k]) for k in known])
        judge = run.by_criterion[criterion.name][rows[known]]
        centred = judge - judge.mean() if judge.size else judge
        squares = float(centred @ centred)
        slope = float(centred @ human) / squares if squares > 0 else 0.0
        residuals = human - slope * judge
        span = float(np.ptp(human)) if human.size else 0.0
        own_spreads = residual_spreads(residuals, strata[rows[known]], n_strata=n_strata)
        found.append(own_spreads / (span or 1.0))
    return np.asarray(np.nan_to_num(np.mean(found, axis=0), nan=1.0))


def _suggestion(
    run: RunItems,
    earlier: Mapping[str, LabelledItem],
    proposal: Proposal,
    strata: IntArray,
    is_labelled: BoolArray,
    design: Design,
) -> Suggestion:
    chosen = proposal.chosen
    is_after = is_labelled.copy()
    is_after[chosen] = True
    rates = {
        int(s): float(is_after[strata == s].sum() / (strata == s).sum()) for s in np.unique(strata)
    }

    def placed(item: LabelledItem, at: int) -> LabelledItem:
        return replace(item, propensity=rates[int(strata[at])])

    places = {item.key: i for i, item in enumerate(run.items)}
    before = [placed(item, places[key]) for key, item in earlier.items()]
    is_lone = len(run.rubric.criteria) == 1
    fresh = []
    for at, is_twice in zip(chosen.tolist(), proposal.is_twice.tolist(), strict=True):
        slots: dict[str, Any] = {f"annotator_{k + 1}": None for k in range(1 + is_twice)}
        labels = {criterion.name: dict(slots) for criterion in run.rubric.criteria}
        fresh.append(
            replace(placed(run.items[at], at), labels={LONE: slots} if is_lone else labels)
        )
    return Suggestion(
        items=(*before, *fresh),
        n_new=len(fresh),
        n_twice=int(proposal.is_twice.sum()),
        design=design,
    )


def _row(item: LabelledItem, design: Design, rubric: Rubric) -> dict[str, Any]:
    is_lone = len(rubric.criteria) == 1 and list(item.labels) in ([LONE], [])
    case = item.case
    row: dict[str, Any] = {
        "id": case.key,
        "prompt": case.prompt,
        "response": case.response,
        "opponent": case.opponent,
        "target": case.target or None,
        "fields": dict(case.fields) or None,
        "labels": item.labels.get(LONE, {}) if is_lone else dict(item.labels),
        "cluster": item.cluster,
        "stratum": item.stratum,
        "propensity": item.propensity,
        "design": design,
    }
    return {key: value for key, value in row.items() if value is not None}


def _why_not(labels: LabelSet, n_labels: int, n_rest: int) -> str:
    if labels.design != "random":
        return f"an interval for every look needs labels drawn at random; these are {labels.design}"
    if n_labels < _FIRST_LOOK:
        return f"an interval for every look begins at {_FIRST_LOOK} labels"
    return "" if n_rest >= 2 else "every response has a label"
