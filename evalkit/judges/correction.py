"""A judge's metric made an estimate of what people would say, where a calibration allows it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evalkit.errors import UsageError
from evalkit.estimate import ExampleScores, estimate
from evalkit.judges.calibration import Calibration, find_calibrations, read_calibration
from evalkit.judges.judge import JudgeInfo
from evalkit.judges.metric import JudgeMetric
from evalkit.judges.rubric import Criterion, Rubric
from evalkit.record import Judged
from evalkit.stats.crossfit import CrossFit, crossfit
from evalkit.stats.maps import MapKind, ScoreMap, fit_map, map_from_json
from evalkit.stats.rectify import Rectified, rectify
from evalkit.stats.transport import transported
from evalkit.types import Estimate

if TYPE_CHECKING:
    from evalkit.types import FloatArray

# With fewer labels of its own responses a run is corrected by all labels there are, of any.
FEWEST_OWN_LABELS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of a judge: a calibration that holds, or why there is none."""

    status: str  # calibrated | uncalibrated | stale | refused
    note: str
    calibration: Calibration | None = None  # that holds and accepts the judge
    found: Calibration | None = None  # that was found, whether it holds or not


@dataclass(frozen=True, slots=False, kw_only=True)
class Correction:
    """A calibration at work on one metric: of a criterion, or of several with their weights."""

    calibration: Calibration
    weights: Mapping[str, float]  # of the criteria; add up to 1
    n_own: int = FEWEST_OWN_LABELS

    @cached_property
    def _items(self) -> dict[str, tuple[float, float, str]]:
        """By the key of each labelled item: what people said, what the judge, and its cluster."""
        columns = [self.calibration.criteria[name].items for name in self.weights]
        places = [{key: i for i, key in enumerate(c.key)} for c in columns]
        shares = list(self.weights.values())
        found: dict[str, tuple[float, float, str]] = {}
        for key, i in places[0].items():
            if all(key in own for own in places):
                at = [own[key] for own in places]
                rows = list(zip(shares, columns, at, strict=True))
                human = math.fsum(share * c.human[k] for share, c, k in rows)
                judge = math.fsum(share * c.judge[k] for share, c, k in rows)
                found[key] = (human, judge, columns[0].cluster[i] or key)
        return found

    @cached_property
    def _columns(self) -> tuple[FloatArray, FloatArray, list[str]]:
        items = self._items.values()
        human = np.array([one[0] for one in items])
        judge = np.array([one[1] for one in items])
        return human, judge, [one[2] for one in items]

    @cached_property
    def _is_clustered(self) -> bool:
        clusters = self._columns[2]
        return len(set(clusters)) < len(clusters)

    @cached_property
    def _kind(self) -> MapKind:
        """Of the map that was chosen; several criteria together take a straight line."""
        if len(self.weights) > 1:
            return "affine"
        [name] = self.weights
        kind: MapKind = self.calibration.criteria[name].map["kind"]
        return kind

    @cached_property
    def map(self) -> ScoreMap:
        """From the judge's values to what people would say."""
        if len(self.weights) > 1:
            human, judge, _ = self._columns
            return fit_map(human, judge, kind="affine")
        [name] = self.weights
        return map_from_json(self.calibration.criteria[name].map)

    @cached_property
    def _fitted(self) -> CrossFit:
        human, judge, clusters = self._columns
        return crossfit(human, judge, groups=clusters, kind=self._kind)

    def predict(self, value: float) -> float:
        """What people would say of a response that the judge gives this value."""
        return float(self.map.predict(np.array([value]))[0])

    def human(self, key: str) -> float:
        """What people said of an item; nan where nobody was asked."""
        return self._items[key][0] if key in self._items else math.nan

    def of_run(
        self, judge: FloatArray, keys: Sequence[str], clusters: Sequence[str | None], level: float
    ) -> Rectified:
        """The mean that people would give to a run whose responses have these values (n,)."""
        human, known, names = self._columns
        is_clustered = self._is_clustered or any(c is not None for c in clusters)
        own = [
            key if cluster is None else cluster for key, cluster in zip(keys, clusters, strict=True)
        ]
        is_labelled = np.array([key in self._items for key in keys], dtype=bool)
        if is_labelled.sum() >= self.n_own:
            labels = np.array([self._items[key][0] for key in keys if key in self._items])
            mine = np.array(own)
            return rectify(
                labels,
                self._fitted.predicted[self._places(keys)],
                unlabelled=self._fitted.predict(judge[~is_labelled]),
                clusters=(mine[is_labelled], mine[~is_labelled]) if is_clustered else None,
                level=level,
            )
        return transported(
            human,
            known,
            unlabelled=judge,
            fitted=self._fitted,
            clusters=(names, own) if is_clustered else None,
            level=level,
        )

    def _places(self, keys: Sequence[str]) -> list[int]:
        at = {key: i for i, key in enumerate(self._items)}
        return [at[key] for key in keys if key in at]


def finished(
    metric: JudgeMetric,
    found: Estimate,
    groups: Sequence[ExampleScores],
    *,
    standing: Standing,
    correction: Correction | None,
    seed: int,
) -> tuple[Estimate, Judged]:
    """A metric's estimate as it is reported, and how far it speaks for people.

    ``found`` is over ``groups`` as they were scored: mapped where there is a correction.
    """
    if correction is None:
        return found, Judged(status=standing.status, note=standing.note, raw=found)
    raw = estimate(replace(metric, correction=None), [_raw(g) for g in groups], seed=seed)
    scored = [g for g in groups if g.scored]
    values = np.array([np.mean([s.stats[1] for s in g.scored]) for g in scored])
    keys = [g.outcome.verdicts[metric.name].key for g in scored]
    made = correction.of_run(values, keys, [g.cluster for g in scored], found.level)
    if not math.isfinite(made.stderr):
        note = f"{standing.note}; it could not be applied: {made.reason}"
        return raw, Judged(status="uncalibrated", note=note, raw=raw)
    labels = made.labels_only
    own = "transported" not in made.method
    low, high = metric.limits
    calibration = correction.calibration
    corrected = replace(
        found,
        value=made.value,
        stderr=made.stderr,
        low=max(low, made.low),
        high=min(high, made.high),
        method=made.method,
        worst=made.value + (found.worst - found.value),
        best=made.value + (found.best - found.value),
    )
    note = (
        f"corrected by {made.n_labels} people's labels of this run's responses"
        if own
        else f"corrected by {made.n_labels} people's labels of other responses: it holds as far as "
        "the judge errs on these as on those"
    )
    if made.is_wider and own:
        note += "; wider than the labels alone: the judge adds nothing here"
    judged = Judged(
        status="calibrated",
        note=note,
        raw=raw,
        labels_only=(labels.estimate, labels.low, labels.high) if own else None,
        n_labels=made.n_labels,
        lam=made.lam,
        calibration={
            "file": calibration.path.name if calibration.path else "",
            "sha256": calibration.sha256(),
            "created": calibration.created,
        },
    )
    return corrected, judged


def _raw(group: ExampleScores) -> ExampleScores:
    """The scores as the judge gave them, before the map."""
    scores = tuple(
        s if s is None or len(s.stats) < 2 else replace(s, value=s.stats[1], stats=s.stats[1:])
        for s in group.scores
    )
    return replace(group, scores=scores)


def correction_of(criteria: Sequence[Criterion], calibration: Calibration) -> Correction:
    """The calibration at work on criteria of its rubric, weighted as the rubric weights them."""
    total = math.fsum(c.weight for c in criteria)
    return Correction(calibration=calibration, weights={c.name: c.weight / total for c in criteria})


def standing_of(rubric: Rubric, info: JudgeInfo, given: Sequence[Path] = ()) -> Standing:
    """What is known of a judge under a rubric, by the files given or else those that are found.

    A file of the same judge that no longer fits is stale and says why; a file that was given and is
    of another rubric is a UsageError.
    """
    stale: tuple[str, Calibration] | None = None
    for path in given or find_calibrations(rubric):
        found = read_calibration(path)
        if found.rubric != rubric.name:
            if path in given and len(given) == 1:
                raise UsageError(f"{path}: is of rubric {found.rubric!r}, not {rubric.name!r}")
            continue
        problems = [*found.stale_because(info), *labels_problems(found)]
        if not problems:
            return _of_holding(found)
        if path in given or found.judge == info.spec:
            note = f"calibration {path.name} is stale: {', '.join(problems)}; calibrate again"
            stale = note, found
    if stale is not None:
        return Standing(status="stale", note=stale[0], found=stale[1])
    note = f"judge {info.spec} was not compared with people on {rubric.name}"
    return Standing(status="uncalibrated", note=note)


def _of_holding(found: Calibration) -> Standing:
    name = found.path.name if found.path else "calibration"
    if found.is_accepted:
        return Standing(
            status="calibrated", note=f"calibration {name}", calibration=found, found=found
        )
    reasons = [r for c in found.criteria.values() if not c.is_accepted for r in c.reasons]
    note = f"calibration {name} refuses this judge: {reasons[0]}"
    return Standing(status="refused", note=note, found=found)


def labels_problems(found: Calibration) -> list[str]:
    """Whether a file that labels came from is still at hand and has changed."""
    problems = []
    for name, sha256 in found.labels.get("files", {}).items():
        path = Path(name)
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            problems.append(f"the labels have changed ({path.name})")
    return problems
