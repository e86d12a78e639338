"""The verdict of one check: whether the candidate is worse than the baseline by the margin.

Pure: pairs of scores in, a verdict with its numbers out. Three answers, since data may be too few
to say; a verdict about missing answers holds only if it holds whatever they would have been.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.special import ndtri

from evalkit.compare import Flip, Paired
from evalkit.errors import UsageError
from evalkit.gate.ends import Bounded, Ends, bounded_ends
from evalkit.stats.power import non_inferiority_mde, non_inferiority_n


class Verdict(StrEnum):
    """The answer of a check, or of a gate."""

    PASS = "pass"
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not_comparable"


class Reason(StrEnum):
    """Why a check has its verdict: a closed set."""

    WITHIN_MARGIN = "within_margin"  # pass: a drop of the margin is excluded
    SMALL_DROP = "small_drop"  # pass, although a drop smaller than the margin is proven
    IDENTICAL = "identical"  # pass: no score differs, and none is missing
    DROP = "drop"  # regression: a drop is proven, and one of the margin not excluded
    ERRORS = "errors"  # regression: more of the candidate's answers are errors than may be
    TOO_FEW = "too_few"  # inconclusive: the bounds are too wide
    MISSING = "missing"  # inconclusive: it hangs on answers that did not come
    UNDEFINED = "undefined"  # inconclusive: the difference cannot be bounded
    NO_CALIBRATION = "no_calibration"  # inconclusive: the judge was not held against people
    DIFFERENT = "different"  # not comparable: the runs do not ask the same question


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A number that must not drop by ``margin`` or more."""

    task: str
    metric: str
    margin: float  # > 0, in the metric's unit: accuracy 0..1, BLEU 0..100
    reason: str = ""  # why this margin and no other
    slice: tuple[str, str] | None = None  # field and value; None: all examples
    max_error_rate: float = 0.02  # share of the candidate's answers that may be errors
    is_calibration_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The verdict of a check.

    ``difference``, ``low`` and ``high`` are signed so that higher is better, whatever the metric:
    a drop is negative. Where answers are missing the bounds span both ends of what they could have
    been.
    """

    check: Check
    verdict: Verdict
    reason: Reason
    detail: str  # a sentence for people
    alpha: float  # of each bound, adjusted for the checks beside it
    higher_is_better: bool = True  # the metric itself, not the difference
    n: int = 0  # examples that both sides have a score for
    n_missing: int = 0  # examples of both sides for which one has no score
    error_rate: float = math.nan  # share of the candidate's answers
    value_a: float = math.nan  # as the metric is, over the n examples
    value_b: float = math.nan
    difference: float = math.nan
    low: float = math.nan  # nan also of an identical candidate: the scores show no spread
    high: float = math.nan
    p_value: float = math.nan  # of a drop of the margin or more; the larger over what is missing
    is_share: bool = False  # the values are shares of one
    mde: float = math.nan  # smallest margin that so many examples pass if nothing changed
    n_needed: int | None = None  # examples to do so with the check's margin; None: unknown
    method: str = ""
    lost: tuple[Flip, ...] = ()  # right in the baseline alone; of a metric that is right or wrong
    gained: tuple[Flip, ...] = ()
    differences: tuple[str, ...] = ()  # what keeps the runs from being compared, a line each

    @property
    def is_blind(self) -> bool:
        """Whether so few examples cannot tell a drop of the margin from none."""
        return self.mde > self.check.margin

    @property
    def blindness(self) -> str:
        """A sentence about what the examples cannot see; empty if they see the margin, or did."""
        if not self.is_blind or self.verdict is not Verdict.INCONCLUSIVE:
            return ""
        return (
            f"cannot see a drop of {self.check.margin:g} with {self.n} examples; "
            f"needs {self.n_needed}"
        )


def decide(
    pairs: Paired,
    check: Check,
    *,
    alpha: float,
    power: float,
    rng_seed: int,
    n_resamples: int = 2000,
    error_rate: float | None = None,
) -> CheckResult:
    """The verdict on paired scores, each bound one-sided at ``alpha``.

    PASS if the lower bound is above -margin; REGRESSION if it is not and the upper bound is below
    0; else INCONCLUSIVE. With missing answers both their worst and their best end must say so.
    More errors than the check allows are a REGRESSION; their share is that of the examples unless
    ``error_rate`` is given. ``rng_seed`` and ``n_resamples`` are for metrics that are no means.
    Raises UsageError for a margin of 1 or more of a metric that is right or wrong.
    Source: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15:657-680, one of the two tests.
    """
    if pairs.is_binary and check.margin >= 1:
        raise UsageError(
            f"task {check.task}: metric {check.metric}: margin {check.margin:g} of a share of "
            "right answers; a drop of two points in a hundred is 0.02"
        )
    rng = np.random.default_rng(rng_seed)
    ends = bounded_ends(pairs, check.margin, alpha=alpha, rng=rng, n_resamples=n_resamples)
    if error_rate is None:
        error_rate = pairs.n_error_b / pairs.n_common if pairs.n_common else math.nan
    verdict, reason = _agreed(ends, check.margin)
    if error_rate > check.max_error_rate:
        verdict, reason = Verdict.REGRESSION, Reason.ERRORS
    mde, n_needed = _needs(pairs, check.margin, stderr=ends.seen.stderr, alpha=alpha, power=power)
    value_a, value_b = _values(pairs)
    low, high, p_value = math.nan, math.nan, math.nan
    if reason is not Reason.IDENTICAL:
        low = float(np.min([ends.worst.low, ends.best.low]))
        high = float(np.max([ends.worst.high, ends.best.high]))
        p_value = float(np.max([ends.worst.p_value, ends.best.p_value]))
    result = CheckResult(
        check=check,
        verdict=verdict,
        reason=reason,
        detail="",
        alpha=alpha,
        higher_is_better=pairs.higher_is_better,
        n=pairs.ids.size,
        n_missing=pairs.n_common - pairs.ids.size,
        error_rate=error_rate,
        value_a=value_a,
        value_b=value_b,
        difference=ends.seen.difference,
        low=low,
        high=high,
        p_value=p_value,
        is_share=pairs.is_binary,
        mde=mde,
        n_needed=n_needed,
        method=ends.seen.method,
    )
    return replace(result, detail=_detail(result))


def _verdict(found: Bounded, margin: float) -> tuple[Verdict, Reason]:
    if found.is_identical:
        return Verdict.PASS, Reason.IDENTICAL
    if found.low > -margin:
        reason = Reason.SMALL_DROP if found.high < 0 else Reason.WITHIN_MARGIN
        return Verdict.PASS, reason
    if found.high < 0:
        return Verdict.REGRESSION, Reason.DROP
    is_undefined = math.isnan(found.low) or math.isnan(found.high)
    return Verdict.INCONCLUSIVE, Reason.UNDEFINED if is_undefined else Reason.TOO_FEW


def _agreed(ends: Ends, margin: float) -> tuple[Verdict, Reason]:
    """What both ends say; inconclusive where they differ."""
    seen = _verdict(ends.seen, margin)
    if not ends.is_missing:
        return seen
    worst, best = _verdict(ends.worst, margin), _verdict(ends.best, margin)
    if worst[0] is not best[0]:
        return Verdict.INCONCLUSIVE, Reason.MISSING
    if worst[0] is Verdict.INCONCLUSIVE:
        return seen if seen[0] is worst[0] else (worst[0], Reason.MISSING)
    # the two agree: what is true of both is the weaker statement
    is_mixed = worst[1] is not best[1] or worst[1] is Reason.IDENTICAL
    return worst[0], Reason.WITHIN_MARGIN if is_mixed else worst[1]


def _needs(
    pairs: Paired, margin: float, *, stderr: float, alpha: float, power: float
) -> tuple[float, int | None]:
    """The smallest margin that so many examples pass if nothing changed, and how many it takes.

    A score bound does not reach above -z^2 / (n + z^2), the one of no differing answer; so few
    differing ones as promise more do not count.
    """
    n = pairs.ids.size
    mde, n_needed = math.nan, None
    if stderr > 0:
        variance = stderr**2 * n  # of one example, its cluster's part included
        mde = non_inferiority_mde(n, variance, alpha=alpha, power=power)
        n_needed = non_inferiority_n(margin, variance, alpha=alpha, power=power)
    if pairs.is_binary and pairs.clusters is None and n > 0:
        square = float(ndtri(alpha)) ** 2
        mde = max(square / (n + square), 0.0 if n_needed is None else mde)
        n_needed = max(math.floor(square * (1 - margin) / margin) + 1, n_needed or 0)
    return mde, n_needed


def _values(pairs: Paired) -> tuple[float, float]:
    if pairs.ids.size == 0:
        return math.nan, math.nan
    if pairs.stats_a is None or pairs.stats_b is None or pairs.combine is None:
        return float(pairs.a.mean()), float(pairs.b.mean())
    value_a, value_b = (pairs.combine(s.sum(axis=0)) for s in (pairs.stats_a, pairs.stats_b))
    return float(value_a), float(value_b)


def _detail(found: CheckResult) -> str:
    margin = f"{found.check.margin:g}"
    sentences = {
        Reason.WITHIN_MARGIN: f"a drop of {margin} is excluded",
        Reason.SMALL_DROP: f"a drop is proven, but it is smaller than {margin}",
        Reason.IDENTICAL: f"identical: no score differs on {found.n} examples",
        Reason.DROP: f"a drop is proven, and one of {margin} is not excluded",
        Reason.ERRORS: f"{found.error_rate:.1%} of the candidate's answers are errors, "
        f"{found.check.max_error_rate:.1%} may be",
        Reason.TOO_FEW: f"no drop is proven, but one of {margin} is not excluded",
        Reason.MISSING: "it hangs on the answers that are missing",
        Reason.UNDEFINED: f"nothing bounds the difference on {found.n} examples",
    }
    sentence = sentences[found.reason]
    return f"{sentence}; {found.blindness}" if found.blindness else sentence


def holm_levels(p_values: Sequence[float], alpha: float) -> list[float]:
    """The level of each test in Holm's procedure: p below it exactly where Holm rejects.

    The smallest p is held against alpha / m, the next against alpha / (m - 1), up to the first that
    is not below its level; all after it are held against the same. nan counts as 1.
    Source: Holm (1979), Scand. J. Statist. 6:65-70.

    >>> [round(level, 4) for level in holm_levels([0.01, 0.04, 0.03], 0.05)]
    [0.0167, 0.025, 0.025]
    """
    values = [1.0 if math.isnan(p) else p for p in p_values]
    levels = [alpha] * len(values)
    n_left = len(values)
    for index in sorted(range(len(values)), key=values.__getitem__):
        levels[index] = alpha / n_left
        if values[index] < levels[index]:
            n_left -= 1
    return levels
