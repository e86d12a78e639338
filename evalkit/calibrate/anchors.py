"""Is the judge still the one that was calibrated? The labelled items, judged once more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.calibrate.evidence import Evidence, gather
from evalkit.calibrate.figures import Settings
from evalkit.calibrate.items import LabelSet
from evalkit.calibrate.label_files import read_labels
from evalkit.calibrate.study import OnProgress, check_labels, judge_items
from evalkit.errors import NotComparableError, UsageError
from evalkit.judges import Judge, Rubric
from evalkit.judges.calibration import Calibration, LabelledItems
from evalkit.judges.correction import labels_problems
from evalkit.stats.drift import Drift, DriftVerdict, agreement_drift, score_drift
from evalkit.stats.intervals import FloatArray

ALPHA = 0.05
MARGIN = 0.05  # of the scale, and of the share of items on which the judge says what people say


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionDrift:
    """How much the verdicts under one criterion have changed."""

    criterion: str
    n_lost: int  # items that had a verdict and have none now
    score: Drift
    agreement: Drift | None  # None where labels are not on the rubric's scale

    @property
    def verdict(self) -> DriftVerdict:
        """Stable only if both are."""
        own = [self.score.verdict]
        own += [] if self.agreement is None else [self.agreement.verdict]
        for verdict in (DriftVerdict.DRIFTED, DriftVerdict.TOO_FEW):
            if verdict in own:
                return verdict
        return DriftVerdict.STABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorCheck:
    """A calibrated judge against the judge there is now, on the same items."""

    calibration: Calibration
    judge: str
    changed: tuple[str, ...]  # parts of the judge that differ; empty if it is the same by its hash
    criteria: tuple[CriterionDrift, ...]

    @property
    def verdict(self) -> DriftVerdict:
        """Drifted if it has under any criterion, stable if it is under all."""
        own = [criterion.verdict for criterion in self.criteria]
        for verdict in (DriftVerdict.DRIFTED, DriftVerdict.TOO_FEW):
            if verdict in own:
                return verdict
        return DriftVerdict.STABLE

    @property
    def exit_code(self) -> int:
        """0 stable, 1 drifted, 3 cannot tell."""
        codes = {DriftVerdict.STABLE: 0, DriftVerdict.DRIFTED: 1, DriftVerdict.TOO_FEW: 3}
        return codes[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "calibration": None if self.calibration.path is None else str(self.calibration.path),
            "judge": self.judge,
            "changed": list(self.changed),
            "verdict": str(self.verdict),
            "criteria": {
                one.criterion: {
                    "verdict": str(one.verdict),
                    "n_lost": one.n_lost,
                    "score": _drift_json(one.score),
                    "agreement": None if one.agreement is None else _drift_json(one.agreement),
                }
                for one in self.criteria
            },
        }


def labels_of(calibration: Calibration) -> LabelSet:
    """The labels that a calibration was made from, read again.

    Raises UsageError where they are not at hand or have changed.
    """
    where, data = calibration.labels["path"], calibration.labels["data"]
    problems = labels_problems(calibration)
    if problems:
        raise UsageError(f"{calibration.path}: {problems[0]}: calibrate again")
    found = read_labels(Path(where), data=None if data is None else Path(data))
    if found.sha256 != calibration.labels["sha256"]:
        raise UsageError(f"{calibration.path}: the labels have changed ({where}): calibrate again")
    return found


def check_anchors(
    calibration: Calibration,
    rubric: Rubric,
    labels: LabelSet,
    judge: Judge,
    *,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
) -> AnchorCheck:
    """Judge the calibration's items again and compare with what was said of them then.

    Raises NotComparableError where the calibration is of another rubric or other criteria, and as
    ``judge_items``.
    """
    settings = settings or Settings(seed=calibration.seed)
    names = [criterion.name for criterion in rubric.criteria]
    if calibration.rubric != rubric.name or set(calibration.criteria) != set(names):
        wanted = f"{calibration.rubric!r} with {', '.join(calibration.criteria)}"
        raise NotComparableError([f"the calibration is of rubric {wanted}, not of {rubric.name!r}"])
    check_labels(rubric, labels)
    items = labels.labelled(names)
    verdicts = judge_items(rubric, items, judge, on_progress)
    return AnchorCheck(
        calibration=calibration,
        judge=judge.info.spec,
        changed=tuple(calibration.stale_because(judge.info)),
        criteria=tuple(
            _of_criterion(
                gather(rubric, criterion, items, verdicts),
                calibration.criteria[criterion.name].items,
                settings,
            )
            for criterion in rubric.criteria
        ),
    )


def _of_criterion(evidence: Evidence, before: LabelledItems, settings: Settings) -> CriterionDrift:
    then = _before(evidence, before)
    had = np.isfinite(then)
    both = had & evidence.is_judged
    low, high = evidence.criterion.limits
    if not math.isfinite(high - low):
        values = np.concatenate((then[both], evidence.judge[both]))
        low, high = float(values.min(initial=0.0)), float(values.max(initial=1.0))
    clusters = evidence.clusters
    name = evidence.criterion.name
    score = score_drift(
        then[both],
        evidence.judge[both],
        margin=MARGIN * (high - low),
        scale=(low, high),
        rng=settings.rng(name, "score"),
        clusters=None if clusters is None else clusters[both],
        alpha=ALPHA,
    )
    agreement = None
    used = had & np.isfinite(evidence.consensus)
    if used.any():
        agreement = agreement_drift(
            evidence.nearest(then)[used],
            evidence.nearest(evidence.judge)[used],
            labels=evidence.consensus[used],
            margin=MARGIN,
            rng=settings.rng(name, "agreement"),
            clusters=None if clusters is None else clusters[used],
            alpha=ALPHA,
        )
    return CriterionDrift(
        criterion=name,
        n_lost=int((had & ~evidence.is_judged).sum()),
        score=score,
        agreement=agreement,
    )


def _before(evidence: Evidence, before: LabelledItems) -> FloatArray:
    """(n,): what the judge said then; the k-th of items with one key is the k-th there was."""
    known: dict[str, list[float]] = {}
    for key, value in zip(before.key, before.judge, strict=True):
        known.setdefault(key, []).append(value)
    left = {key: iter(values) for key, values in known.items()}
    return np.array([next(left.get(item.key, iter(())), math.nan) for item in evidence.items])


def _drift_json(found: Drift) -> Mapping[str, Any]:
    return {
        "verdict": str(found.verdict),
        "change": found.change.estimate,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "n_needed": found.n_needed,
        "margin": found.margin,
        "p": found.change.p_value,
    }
