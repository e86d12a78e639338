"""Metrics of a model that judges pairs, each pair shown in both orders within one example.

Such an example has four choices, in this order: A and B with one answer shown first, then A and B
with the other shown first; A names what is shown first, and the right choices are one of each
order. A verdict is the likelier of an order's two; equal ones are a tie, which is no pick of either
place and never right. The formulas are those of ``evalkit.stats.ordering``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from evalkit.errors import MetricError
from evalkit.metrics.additive import Additive, bounds, gold_of, mean_score, ratio
from evalkit.metrics.choice import logprobs_of, undecidable
from evalkit.types import IntervalKind, Outcome, RequestKind, Score, abstained

if TYPE_CHECKING:
    from evalkit.types import FloatArray

_CHOICE: frozenset[RequestKind] = frozenset({"choice"})
_RIGHT_IN_BOTH = ((0, 3), (1, 2))  # the right answer is shown first, then second; or the reverse
_TIE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Picks:
    """What is picked in each order: 1 what is shown first, 0 what is shown second, 0.5 a tie."""

    orders: tuple[float, float]
    right: tuple[float, float]  # what should be
    problem: str = ""  # why there is no verdict

    @property
    def n_right(self) -> int:
        """The orders, of two, in which the verdict is right."""
        return sum(pick == right for pick, right in zip(self.orders, self.right, strict=True))

    @property
    def is_same(self) -> bool:
        """Whether both orders have the same outcome: one answer twice, or a tie twice."""
        return sum(self.orders) == 1.0


def picks_of(metric: str, outcome: Outcome) -> Picks:
    """The verdicts of an outcome. MetricError unless it is laid out as this module says."""
    gold = gold_of(metric, outcome)
    if len(outcome.choices) != 4 or gold not in _RIGHT_IN_BOTH:
        raise MetricError(
            f"{metric}: example {outcome.example.id!r} has {len(outcome.choices)} choices, of "
            f"which {list(gold)} are right; it needs four, A and B in each order, and as right "
            "ones [0, 3] or [1, 2]"
        )
    logprobs = logprobs_of(metric, outcome).reshape(2, 2)
    problem = next(filter(None, map(undecidable, logprobs)), "")
    first, second = (_pick(*order) for order in logprobs.tolist())
    right = (1.0, 0.0) if gold == (0, 3) else (0.0, 1.0)
    return Picks(orders=(first, second), right=right, problem=problem)


def _pick(first: float, second: float) -> float:
    return _TIE if first == second else float(first > second)


def _scored(metric: str, outcome: Outcome, of: Callable[[Picks], Score]) -> Score:
    picks = picks_of(metric, outcome)
    return abstained(picks.problem) if picks.problem else of(picks)


class _OfPair(Additive):
    """A share of pairs; subclasses say of which."""

    __slots__ = ()
    kinds: ClassVar[frozenset[RequestKind]] = _CHOICE

    def missing(self, outcome: Outcome) -> tuple[Score, Score]:
        return bounds(0.0, 1.0) if self.higher_is_better else bounds(1.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAccuracy(_OfPair):
    """The share of the two orders in which the verdict is right: 0, one half or 1."""

    name: ClassVar[str] = "pair_accuracy"

    def score(self, outcome: Outcome) -> Score:
        return _scored(self.name, outcome, lambda picks: mean_score(picks.n_right / 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class BothOrdersRight(_OfPair):
    """1 when the verdict is right in both orders, else 0; a coin has one quarter."""

    name: ClassVar[str] = "both_orders_right"
    interval: ClassVar[IntervalKind] = "proportion"

    def score(self, outcome: Outcome) -> Score:
        return _scored(self.name, outcome, lambda picks: mean_score(float(picks.n_right == 2)))


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConsistency(_OfPair):
    """1 when both orders have the same outcome, right or wrong, else 0.

    Source: Zheng et al. (2023), arXiv:2306.05685, section 3.3.
    """

    name: ClassVar[str] = "order_consistency"
    interval: ClassVar[IntervalKind] = "proportion"

    def score(self, outcome: Outcome) -> Score:
        return _scored(self.name, outcome, lambda picks: mean_score(float(picks.is_same)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTwice(_OfPair):
    """1 when what is shown first is picked in both orders, whichever answer that is, else 0.

    Source: Zheng et al. (2023), arXiv:2306.05685, section 3.3 ("biased toward first").
    """

    name: ClassVar[str] = "first_twice"
    higher_is_better: ClassVar[bool] = False
    interval: ClassVar[IntervalKind] = "proportion"

    def score(self, outcome: Outcome) -> Score:
        return _scored(self.name, outcome, _twice(1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondTwice(_OfPair):
    """1 when what is shown second is picked in both orders, whichever answer that is, else 0."""

    name: ClassVar[str] = "second_twice"
    higher_is_better: ClassVar[bool] = False
    interval: ClassVar[IntervalKind] = "proportion"

    def score(self, outcome: Outcome) -> Score:
        return _scored(self.name, outcome, _twice(0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionBias(Additive):
    """How far picks of what is shown first are from half of all picks, times two: 0..1.

    A single pair says nothing of that: without a bias a verdict that follows the place follows
    either as often. So picks are summed over the examples before the absolute value
    is taken, and an example has no value of its own. Statistics: picks of the first less picks of
    the second, all picks (ties are none), and how much those without an answer could add or take
    away.
    """

    name: ClassVar[str] = "position_bias"
    kinds: ClassVar[frozenset[RequestKind]] = _CHOICE
    higher_is_better: ClassVar[bool] = False
    interval: ClassVar[IntervalKind] = "bootstrap"

    def score(self, outcome: Outcome) -> Score:
        return _scored(self.name, outcome, _toward_first)

    def missing(self, outcome: Outcome) -> tuple[Score, Score]:
        worst, best = ((0.0, 2.0, slack) for slack in (2.0, -2.0))
        return Score(value=math.nan, stats=worst), Score(value=math.nan, stats=best)

    def combine(self, sums: FloatArray) -> FloatArray:
        """(..., 3) sums to (...) shares in 0..1."""
        return ratio(np.maximum(np.abs(sums[..., 0]) + sums[..., 2], 0.0), sums[..., 1])


def _toward_first(picks: Picks) -> Score:
    signs = [2 * pick - 1 for pick in picks.orders]
    n_picks = sum(sign != 0 for sign in signs)
    return Score(value=math.nan, stats=(sum(signs), float(n_picks), 0.0))


def _twice(place: float) -> Callable[[Picks], Score]:
    return lambda picks: mean_score(float(picks.orders == (place, place)))
