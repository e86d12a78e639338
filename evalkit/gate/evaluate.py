"""A candidate run against a policy: every check, and what follows for the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from evalkit.compare import Flip, Paired, Side, SideInfo, refuse_unless_comparable
from evalkit.compare.labelled import Labels
from evalkit.compare.pairing import Aligned, align
from evalkit.compare.side import BoolArray
from evalkit.errors import NotComparableError, NotFoundError, UsageError
from evalkit.gate.lacking import WithLacking
from evalkit.gate.policy import OnInconclusive, Policy
from evalkit.gate.quarantine import Quarantined, find_quarantined, is_quarantined
from evalkit.gate.verdict import Check, CheckResult, Reason, Verdict, decide, holm_levels
from evalkit.stats.bias import differential_bias
from evalkit.types import sha256_of

_WORST_FIRST = (Verdict.NOT_COMPARABLE, Verdict.REGRESSION, Verdict.INCONCLUSIVE, Verdict.PASS)
_TAIL_DRAWS = 40  # resamples beyond a bound: fewer would make it a matter of luck


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """What a gate found."""

    gate: str
    baseline: SideInfo
    candidate: SideInfo
    alpha: float
    power: float
    adjust: str  # holm | bonferroni (in looks) | none
    on_inconclusive: OnInconclusive
    checks: tuple[CheckResult, ...]
    quarantine: tuple[Quarantined, ...]
    notes: tuple[str, ...]  # what a reader must know, a line each

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks."""
        return min((found.verdict for found in self.checks), key=_WORST_FIRST.index)

    @property
    def exit_code(self) -> int:
        """0 pass, 1 regression, 3 inconclusive, 4 not comparable, 5 the candidate did not finish.

        Inconclusive is 0 where the policy lets it through.
        """
        if self.candidate.status != "complete":
            return 5
        if self.verdict is Verdict.INCONCLUSIVE:
            return 3 if self.on_inconclusive == "fail" else 0
        return {Verdict.PASS: 0, Verdict.REGRESSION: 1, Verdict.NOT_COMPARABLE: 4}[self.verdict]


def evaluate(
    baseline: Side,
    candidate: Side,
    policy: Policy,
    *,
    today: date,
    intersection: bool = False,
    seed: int = 0,
) -> GateReport:
    """The verdicts of a policy's checks on a candidate.

    Runs that do not ask the same question are NOT COMPARABLE, with what differs and no number. With
    ``intersection`` they may have different examples: those that only the candidate has are left
    out, those that it lacks count as unanswered. ``seed`` is that of resampling, ``today`` decides
    which quarantines are over.
    Raises NotFoundError for a task, metric or slice that neither run has, and UsageError for a
    margin that no candidate could miss.
    """
    checks = policy.resolved()
    quarantine = find_quarantined(policy.quarantine, baseline, candidate, checks, today=today)
    gated = _Gated(
        baseline=baseline,
        candidate=candidate,
        policy=policy,
        quarantine=quarantine,
        intersection=intersection,
        seed=seed,
    )
    found = list(gated.decided([gated.prepared(check) for check in checks]))
    return GateReport(
        gate=policy.gate,
        baseline=baseline.info,
        candidate=candidate.info,
        alpha=policy.alpha,
        power=policy.power,
        adjust=policy.adjust,
        on_inconclusive=policy.on_inconclusive,
        checks=tuple(found),
        quarantine=quarantine,
        notes=tuple(gated.notes()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A check with its pairs, or with what differs instead."""

    check: Check
    pairs: Paired | None = None
    is_share: bool = False
    error_rate: float = math.nan
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gated:
    baseline: Side
    candidate: Side
    policy: Policy
    quarantine: tuple[Quarantined, ...]
    intersection: bool
    seed: int

    def prepared(self, check: Check) -> _Prepared:
        """The scores that a check is about."""
        try:
            aligned = self._aligned(check)
        except NotComparableError as error:
            return _Prepared(
                check=check, is_share=self._is_share(check), differences=error.differences
            )
        _refuse_too_wide(check, aligned.info_a.missing)
        mask = _in_slice(aligned, check) & ~is_quarantined(
            self.quarantine, check.task, ids=aligned.match.ids, sha256=aligned.match.sha256
        )
        # the ends that a run has found for itself are of all its examples
        is_whole = bool(mask.all()) and not self._lacks_examples(check.task)
        pairs = aligned.select(None if is_whole else mask)
        return _Prepared(
            check=check,
            pairs=pairs,
            is_share=self._is_share(check),
            error_rate=self._error_rate(check, aligned.match.index_b[mask]),
        )

    def decided(self, prepared: Sequence[_Prepared]) -> Iterator[CheckResult]:
        """The verdicts, each bound at the level that is left to it beside the other checks."""
        alphas = [self.policy.alpha] * len(prepared)
        if self.policy.adjust == "holm" and len(prepared) > 1:
            first = [self._decide(one, self.policy.alpha) for one in prepared]
            # an identical candidate is no chance finding: it takes no part of alpha away
            p_values = [0.0 if r.reason is Reason.IDENTICAL else r.p_value for r in first]
            alphas = holm_levels(p_values, self.policy.alpha)
        for one, alpha in zip(prepared, alphas, strict=True):
            yield self._decide(one, alpha)

    def notes(self) -> Iterator[str]:
        """What a reader must know besides the verdicts."""
        for side, name in ((self.baseline, "baseline"), (self.candidate, "candidate")):
            if side.info.status != "complete":
                yield f"the {name} {side.info.id} is {side.info.status}, not complete"
        for entry in self.quarantine:
            if entry.note:
                yield entry.note

    def _aligned(self, check: Check) -> Aligned:
        a, b = self.baseline, self.candidate
        _refuse_unless_present(check, a, b)
        metrics = {check.task: [check.metric]}
        refuse_unless_comparable(a, b, metrics=metrics, intersection=self.intersection)
        if self.intersection:
            b = WithLacking(b, a)
        return align(a, b, check.task, check.metric)

    def _is_share(self, check: Check) -> bool:
        for side in (self.baseline, self.candidate):
            if check.task in side.tasks and check.metric in side.tasks[check.task].metrics:
                return side.tasks[check.task].metrics[check.metric].interval == "proportion"
        return False

    def _lacks_examples(self, task: str) -> bool:
        if not self.intersection:
            return False
        whole = WithLacking(self.candidate, self.baseline).examples(task)
        return whole.ids.size > self.candidate.examples(task).ids.size

    def _error_rate(self, check: Check, examples: np.ndarray[Any, np.dtype[np.int64]]) -> float:
        """Share of the candidate's answers about some examples; nan where there are none."""
        answers = self.candidate.answers(check.task, check.metric)
        is_gated = np.isin(answers.example, examples)
        return float(answers.is_error[is_gated].mean()) if is_gated.any() else math.nan

    def _decide(self, prepared: _Prepared, alpha: float) -> CheckResult:
        check, policy = prepared.check, self.policy
        if prepared.pairs is None:
            first, *more = prepared.differences
            return CheckResult(
                check=check,
                verdict=Verdict.NOT_COMPARABLE,
                reason=Reason.DIFFERENT,
                detail=f"{first} (and {len(more)} more)" if more else first,
                alpha=alpha,
                is_share=prepared.is_share,
                differences=prepared.differences,
            )
        parts = [self.seed, check.task, check.metric, check.slice]
        m = len(policy.checks) if policy.adjust == "holm" else 1
        result = decide(
            prepared.pairs,
            check,
            alpha=alpha,
            power=policy.power,
            rng_seed=int(sha256_of(parts)[:16], 16),
            # the same for each level, so that a bound and the p that Holm orders agree
            n_resamples=max(2000, math.ceil(_TAIL_DRAWS * m / policy.alpha)),
            error_rate=prepared.error_rate,
        )
        lost, gained = _flips(prepared.pairs)
        result = replace(result, is_share=prepared.is_share, lost=lost, gained=gained)
        return self._calibrated(result, prepared.pairs)

    def _calibrated(self, result: CheckResult, pairs: Paired) -> CheckResult:
        """A judge that was not held against people, or favours one side, decides nothing."""
        check = result.check
        if not check.is_calibration_required or result.reason is Reason.ERRORS:
            return result
        infos = [
            side.tasks[check.task].metrics[check.metric] for side in (self.candidate, self.baseline)
        ]
        for info in infos:
            if info.standing == "stale":
                return replace(
                    result,
                    verdict=Verdict.NOT_COMPARABLE,
                    reason=Reason.DIFFERENT,
                    detail=info.standing_note,
                    differences=(info.standing_note,),
                )
        for info in infos:
            if info.standing != "calibrated":
                detail = info.standing_note or "no calibration: no judge was held against people"
                return replace(
                    result,
                    verdict=Verdict.INCONCLUSIVE,
                    reason=Reason.NO_CALIBRATION,
                    detail=detail,
                )
        favour = "" if pairs.labels is None else _favour(pairs.labels, check, self.policy.alpha)
        if favour:
            return replace(
                result, verdict=Verdict.INCONCLUSIVE, reason=Reason.NO_CALIBRATION, detail=favour
            )
        return result


def _favour(labels: Labels, check: Check, alpha: float) -> str:
    """Which side the judge favours beyond what people see between them; empty if neither."""
    n = labels.judge_a.size
    found = differential_bias(
        np.concatenate((labels.judge_a, labels.judge_b)),
        np.concatenate((labels.human_a, labels.human_b)),
        is_candidate=np.repeat([0.0, 1.0], n),
        margin=check.margin,
        clusters=np.tile(np.arange(n), 2),
        alpha=alpha,
    )
    if found.finding != "biased":
        return ""
    bias = found.effect
    side = "candidate" if bias.estimate > 0 else "baseline"
    return (
        f"the judge favours the {side} by {abs(bias.estimate):.3g} over what people see between "
        f"the two, on {n} examples that people labelled"
    )


def _refuse_unless_present(check: Check, a: Side, b: Side) -> None:
    """What neither run has is a mistake in the policy; what one has cannot be compared."""
    sides = {"baseline": a, "candidate": b}
    names = {where: set(side.tasks) for where, side in sides.items()}
    _require("task", check.task, names)
    metrics = {where: set(side.tasks[check.task].metrics) for where, side in sides.items()}
    _require(f"metric of task {check.task}", check.metric, metrics)


def _require(kind: str, name: str, known: Mapping[str, set[str]]) -> None:
    lacking = [where for where, names in known.items() if name not in names]
    if len(lacking) == len(known):
        raise NotFoundError(kind, name, sorted(set().union(*known.values())))
    if lacking:
        raise NotComparableError([f"{kind}: {name} is not in the {lacking[0]}"])


def _refuse_too_wide(check: Check, ends: tuple[float, float]) -> None:
    """A margin as wide as the scores' range would let everything pass; nan: no range is known."""
    reach = abs(ends[1] - ends[0])
    if check.margin >= reach:
        raise UsageError(
            f"task {check.task}: metric {check.metric}: margin {check.margin:g}: nothing can drop "
            f"so far, its scores reach over {reach:g}"
        )


def _in_slice(aligned: Aligned, check: Check) -> BoolArray:
    """(n,) whether an example that both sides have is in the check's slice."""
    if check.slice is None:
        return np.ones(aligned.match.ids.size, dtype=np.bool_)
    field, value = check.slice
    slices = aligned.match.slices
    if field not in slices:
        raise NotFoundError(f"slice of task {check.task}", field, slices)
    known = {str(v) for v in slices[field] if v is not None}
    if value not in known:
        raise NotFoundError(f"value of slice {field} of task {check.task}", value, known)
    return np.asarray(slices[field] == value, dtype=np.bool_)


def _flips(pairs: Paired) -> tuple[tuple[Flip, ...], tuple[Flip, ...]]:
    """The examples that only the baseline, and only the candidate, got right, sorted by hash."""
    if not pairs.is_binary:
        return (), ()
    first, second = (pairs.a, pairs.b) if pairs.higher_is_better else (pairs.b, pairs.a)
    return _named(pairs, first > second), _named(pairs, first < second)


def _named(pairs: Paired, mask: BoolArray) -> tuple[Flip, ...]:
    found = zip(pairs.ids[mask], pairs.sha256[mask], strict=True)
    return tuple(Flip(id=str(i), sha256=sha.decode()) for i, sha in found)
