"""A judge's verdicts as metrics: one for each criterion, and one for the whole rubric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from evalkit.judges.judge import JudgeInfo
from evalkit.judges.rubric import Criterion, Rubric
from evalkit.metrics.additive import ratio
from evalkit.types import (
    IntervalKind,
    Outcome,
    RequestKind,
    Score,
    Status,
    Verdict,
    abstained,
    sha256_of,
)

if TYPE_CHECKING:
    from evalkit.types import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeMetric:
    """The value of one criterion; the mean over examples, on the criterion's scale."""

    name: str
    signature: str
    limits: tuple[float, float]
    correction: Correction | None = None
    higher_is_better: ClassVar[bool] = True
    kinds: ClassVar[frozenset[RequestKind]] = frozenset({"generate"})
    interval: ClassVar[IntervalKind] = "mean"

    def score(self, outcome: Outcome) -> Score:
        """The verdict's value, put on people's scale where there is a correction.

        Abstained or an error as the verdict is. The last statistic is the weight, 1; with a
        correction the judge's own value is the second.
        """
        verdict = outcome.verdicts.get(self.name)
        if verdict is None:
            return Score(value=math.nan, stats=(), status=Status.ERROR, reason="it was not judged")
        if verdict.status is Status.ABSTAINED:
            return abstained(verdict.problem)
        if verdict.status is Status.ERROR:
            return Score(value=math.nan, stats=(), status=Status.ERROR, reason=verdict.problem)
        if self.correction is None:
            return Score(value=verdict.value, stats=(verdict.value, 1.0))
        value = self.correction.predict(verdict.value)
        return Score(value=value, stats=(value, verdict.value, 1.0))

    def missing(self, outcome: Outcome) -> tuple[Score, Score]:
        """The ends of the scale; nan where it has none."""
        del outcome
        ends = [end if math.isfinite(end) else math.nan for end in self.limits]
        n = 1 if self.correction is None else 2
        worst, best = (Score(value=end, stats=(*(end,) * n, 1.0)) for end in ends)
        return worst, best

    def statistics(self, scores: Sequence[Score]) -> FloatArray:
        """(n, 2): values and weights; (n, 3) with a correction, the judge's own between them."""
        return np.array([score.stats for score in scores], dtype=np.float64)

    def combine(self, sums: FloatArray) -> FloatArray:
        """(..., k) sums to (...) means; nan where there is no weight."""
        return ratio(sums[..., 0], sums[..., -1])


class Correction(Protocol):
    """What puts a judge's value on people's scale."""

    def predict(self, value: float) -> float: ...


def metrics_of_rubric(rubric: Rubric, info: JudgeInfo) -> list[JudgeMetric]:
    """A metric for each criterion; with several, one for all and one for each modality of them."""
    identity = sha256_of(dict(info.identity))[:12]
    signature = f"judge:{rubric.name}|version:{rubric.spec.version}|by:{identity}"
    found = [
        JudgeMetric(
            name=rubric.metric_name(c.name),
            signature=f"{signature}|criterion:{c.name}",
            limits=c.limits,
        )
        for c in rubric.criteria
    ]
    if len(rubric.criteria) > 1:
        found += [
            JudgeMetric(
                name=name,
                signature=f"{signature}|{rubric.spec.combine}:{','.join(c.name for c in some)}",
                limits=_common_limits(some),
            )
            for name, some in _parts(rubric).items()
        ]
    return found


def with_whole(rubric: Rubric, verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """Verdicts by criterion as verdicts by metric, that of the whole rubric among them.

    The whole is the weighted mean; of criteria with different scales each is first put on 0 to 1.
    It is missing where a criterion's is.
    """
    found = {rubric.metric_name(name): verdict for name, verdict in verdicts.items()}
    if len(rubric.criteria) > 1:
        for name, some in _parts(rubric).items():
            found[name] = _weighted_mean(some, verdicts)
    return found


def criteria_of(rubric: Rubric, metric: str) -> list[Criterion]:
    """The criteria that a metric of the rubric is made of."""
    parts = _parts(rubric) if len(rubric.criteria) > 1 else {}
    single = [c for c in rubric.criteria if rubric.metric_name(c.name) == metric]
    return parts.get(metric, single)


def _parts(rubric: Rubric) -> dict[str, list[Criterion]]:
    """The metrics that several criteria make together: modalities are scored apart."""
    modalities = list(dict.fromkeys(c.modality for c in rubric.criteria))
    if len(modalities) == 1:
        return {rubric.name: list(rubric.criteria)}
    return {
        f"{rubric.name}.{modality}": [c for c in rubric.criteria if c.modality == modality]
        for modality in modalities
    }


def _common_limits(criteria: Sequence[Criterion]) -> tuple[float, float]:
    limits = {c.limits for c in criteria}
    return limits.pop() if len(limits) == 1 else (0.0, 1.0)


def _weighted_mean(criteria: Sequence[Criterion], verdicts: Mapping[str, Verdict]) -> Verdict:
    own = [verdicts[c.name] for c in criteria]
    for status in (Status.ERROR, Status.ABSTAINED):
        missing = next((v for v in own if v.status is status), None)
        if missing is not None:
            return Verdict(value=math.nan, status=status, problem=missing.problem)
    is_common = len({c.limits for c in criteria}) == 1
    total = math.fsum(c.weight for c in criteria)
    value = choice = 0.0
    for criterion, verdict in zip(criteria, own, strict=True):
        low, high = (0.0, 1.0) if is_common else criterion.limits
        share = criterion.weight / total / (high - low)
        value += share * (verdict.value - low)
        choice += share * (verdict.choice - low)
    return Verdict(value=value, choice=choice)
