"""A gate's checks while the examples come in: bounds that hold at every look, and when to stop.

The bounds are those of confidence sequences, so that looking often costs nothing: whichever look
decides, a candidate that is worse by the margin passes with probability alpha at most, and one that
is no worse is called a regression with probability alpha at most. What is decided stays decided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from evalkit.compare import Filled, Side
from evalkit.compare.pairing import Aligned, align
from evalkit.compare.side import BoolArray
from evalkit.errors import MetricError, UsageError
from evalkit.gate.quarantine import Quarantined, is_quarantined
from evalkit.gate.verdict import Check, CheckResult, Reason, Verdict
from evalkit.stats.intervals import FloatArray
from evalkit.stats.sequential import difference_sequence, sequential_verdict
from evalkit.types import sha256_of

Decision = Literal["pass", "regression", "continue"]

# verdicts about something else than the difference, which no sequence of differences overrules
_KEPT = (Reason.ERRORS, Reason.NO_CALIBRATION, Reason.DIFFERENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a check stands after ``n`` examples; a difference is positive where B is better."""

    n: int
    low: float  # of the difference; nan: the sequence has excluded every value
    high: float
    decision: Decision


def look_sizes(budget: int, *, n_looks: int = 5) -> tuple[int, ...]:
    """How many examples have been asked at each look: twice as many each time, up to ``budget``.

    A clear case is decided at one of the first looks, and from there on none goes on for longer
    than twice what it takes to decide it. ValueError unless both are 1 or more.

    >>> look_sizes(400)
    (25, 50, 100, 200, 400)
    """
    if budget < 1 or n_looks < 1:
        raise ValueError(f"budget and looks must be 1 or more: got {budget} and {n_looks}")
    return tuple(sorted({math.ceil(budget / 2**k) for k in range(n_looks)}))


class Watch:
    """The bounds of one check, fed with differences in random order.

    A missing answer has two differences: as if it had gone against the candidate, and for it. The
    lower bound is of the former and the upper one of the latter, so a decision holds for both.
    """

    def __init__(
        self,
        *,
        margin: float,
        alpha: float,
        score_range: tuple[float, float] = (0.0, 1.0),
        n_grid: int = 10_000,
    ) -> None:
        self._margin = margin
        self._worst = difference_sequence(alpha=alpha, score_range=score_range, n_grid=n_grid)
        self._best = difference_sequence(alpha=alpha, score_range=score_range, n_grid=n_grid)
        span = score_range[1] - score_range[0]
        self._standing = Standing(n=0, low=-span, high=span, decision="continue")

    @property
    def standing(self) -> Standing:
        """The latest look; of a check that was decided, the look that decided it."""
        return self._standing

    def extend(self, worst: FloatArray, best: FloatArray) -> Standing:
        """The look after the next examples, ``worst`` and ``best`` (k,) being their differences.

        Examples that come after the decision change nothing. ValueError for a difference that the
        range of the scores does not allow.
        """
        if self._standing.decision != "continue" or len(worst) == 0:
            return self._standing
        low, high = self._worst.extend(worst).last(), self._best.extend(best).last()
        self._standing = Standing(
            n=low.n,
            low=low.low,
            high=high.high,
            decision=sequential_verdict(low.low, high.high, margin=self._margin),
        )
        return self._standing


class CheckWatch:
    """A check watched on two sides, of which the candidate has more examples at each look."""

    def __init__(
        self,
        check: Check,
        *,
        baseline: Side,
        planned: Side,
        quarantine: Sequence[Quarantined],
        alpha: float,
        seed: int,
    ) -> None:
        """``planned`` has the examples that the whole budget asks. Raises what score_range does."""
        self.check = check
        self._baseline = baseline
        self._quarantine = quarantine
        self._alpha = alpha
        limits = score_range(baseline, check.task, check.metric)
        self._watch = Watch(margin=check.margin, alpha=alpha, score_range=limits)
        parts = [check.task, check.metric, check.slice]
        self._rng = np.random.default_rng([seed, int(sha256_of(parts)[:16], 16)])
        self._seen: set[str] = set()
        _, self._n_planned = self._answers(planned, *self._part(planned))
        self._has_errors, self._is_hopeless = False, False

    @property
    def standing(self) -> Standing:
        """The latest look; of a check that was decided, the look that decided it."""
        return self._watch.standing

    @property
    def is_settled(self) -> bool:
        """Whether no further example can change the verdict, or none is needed.

        A candidate with more errors than the check allows does not pass; it goes on until there are
        too few of them, or so many that the budget cannot make them few.
        """
        if self._has_errors:
            return self._is_hopeless
        return self.standing.decision != "continue"

    def look(self, candidate: Side) -> Standing:
        """The look after the examples that are new since the last one, in random order.

        Raises MetricError for a score outside of the range that the metric states.
        """
        aligned, mask = self._part(candidate)
        n_error, n_answers = self._answers(candidate, aligned, mask)
        limit = self.check.max_error_rate
        self._has_errors = n_error > limit * n_answers
        self._is_hopeless = n_error > limit * self._n_planned
        ids = aligned.match.ids[mask]
        is_new = np.array([name not in self._seen for name in ids], dtype=np.bool_)
        fresh = self._rng.permutation(np.flatnonzero(is_new))
        self._seen.update(ids[fresh])
        pairs = aligned.select(mask)
        where = f"task {pairs.task}: metric {pairs.metric}"
        if pairs.filled_worst is None or pairs.filled_best is None:
            raise MetricError(f"{where}: a score is not finite")
        try:
            return self._watch.extend(
                _oriented(pairs.filled_worst, pairs.higher_is_better)[fresh],
                _oriented(pairs.filled_best, pairs.higher_is_better)[fresh],
            )
        except ValueError as error:
            raise MetricError(f"{where}: a difference of scores: {error}") from error

    def verdict_on(self, found: CheckResult) -> CheckResult:
        """``found``, the check on all that was asked, with the bounds and verdict of the looks."""
        at = self.standing
        verdict, reason, detail = self._verdict()
        if found.reason in _KEPT:
            verdict, reason, detail = found.verdict, found.reason, found.detail
        return replace(
            found,
            verdict=verdict,
            reason=reason,
            detail=detail,
            alpha=self._alpha,
            low=at.low,
            high=at.high,
            # those of a gate of fixed size: they do not hold where one stops when one likes
            p_value=math.nan,
            mde=math.nan,
            n_needed=None,
            method="betting-sequence",
        )

    def _verdict(self) -> tuple[Verdict, Reason, str]:
        at, margin = self.standing, f"{self.check.margin:g}"
        after = f"after {at.n} examples"
        if at.decision == "pass" and at.high < 0:
            text = f"{after}: a drop is proven, but it is smaller than {margin}"
            return Verdict.PASS, Reason.SMALL_DROP, text
        if at.decision == "pass":
            return Verdict.PASS, Reason.WITHIN_MARGIN, f"{after}: a drop of {margin} is excluded"
        if at.decision == "regression":
            text = f"{after}: a drop is proven, and one of {margin} is not excluded"
            return Verdict.REGRESSION, Reason.DROP, text
        if math.isnan(at.low):
            text = f"{after}: the sequence excludes every difference; are they in random order?"
            return Verdict.INCONCLUSIVE, Reason.UNDEFINED, text
        text = f"{after}: no drop is proven, but one of {margin} is not excluded"
        return Verdict.INCONCLUSIVE, Reason.TOO_FEW, text

    def _part(self, candidate: Side) -> tuple[Aligned, BoolArray]:
        """The check's metric on both sides, and which of the common examples (n,) it is about."""
        check = self.check
        aligned = align(self._baseline, candidate, check.task, check.metric)
        match = aligned.match
        mask = ~is_quarantined(self._quarantine, check.task, ids=match.ids, sha256=match.sha256)
        if check.slice is not None:
            field, value = check.slice
            mask &= np.asarray(match.slices[field] == value, dtype=np.bool_)
        return aligned, mask

    def _answers(self, candidate: Side, aligned: Aligned, mask: BoolArray) -> tuple[int, int]:
        """How many of the candidate's answers are errors, and how many there are."""
        answers = candidate.answers(self.check.task, self.check.metric)
        is_in = np.isin(answers.example, aligned.match.index_b[mask])
        return int(answers.is_error[is_in].sum()), int(is_in.sum())


def score_range(baseline: Side, task: str, metric: str) -> tuple[float, float]:
    """Between what the scores of a metric lie, for a sequence to bet on.

    Raises UsageError for what no sequence is valid for: a metric that is no mean, one without known
    ends, and examples in clusters, which would have to come cluster by cluster.
    """
    where, instead = f"task {task}: metric {metric}", "gate a whole run instead"
    info = baseline.tasks[task].metrics[metric]
    if info.interval == "bootstrap":
        raise UsageError(f"{where} is no mean over examples, as looks need; {instead}")
    ends = (min(info.missing), max(info.missing))
    if not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
        raise UsageError(f"{where} has no known range, as looks need; {instead}")
    named = [cluster for cluster in baseline.examples(task).clusters if cluster is not None]
    if len(named) != len(set(named)):
        raise UsageError(f"task {task}: its examples come in clusters; {instead}")
    return ends


def _oriented(filled: Filled, higher_is_better: bool) -> FloatArray:
    difference = filled.b - filled.a
    return difference if higher_is_better else -difference
