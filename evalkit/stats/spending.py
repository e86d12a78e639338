"""Group-sequential tests: a few planned looks, alpha spent look by look.

Where the looks are few and planned, these stop sooner than a confidence sequence, which must hold
at every look. In return nobody may look in between, and the statistic must be a normal one with
independent increments: a mean, a paired difference. It must be nearly normal at the first look
already, which accuracies near 0 or 1 are not. Of few examples compare Student's p-value with the
normal tail of the bound, not Student's t with the bound itself.

The distribution after each look is carried to the next by numerical integration.
Source: Armitage, McPherson and Rowe (1969), J. R. Stat. Soc. A 132:235-244.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from evalkit.stats.intervals import FloatArray

SpendingFunction = Callable[[float, float], float]
"""(information fraction in (0, 1], alpha) to the alpha spent by then; alpha at 1."""

_REACH = 10.0  # standard deviations integrated over: 1e-23 lies beyond
_LEAST = 1e-15  # less than that to spend at a look: no bound, and the next look has it too
_CLOSEST = 1e-3  # looks nearer than that need more nodes than memory should be spent on
_PANEL_NODES, _PANEL_WEIGHTS = np.polynomial.legendre.leggauss(10)  # on [-1, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exits:
    """The probability of first leaving the bounds at each look, above and below; both (k,)."""

    above: FloatArray
    below: FloatArray


def obrien_fleming(fraction: float, alpha: float) -> float:
    """Spends next to nothing early: the last bound is close to that of a single look.

    Source: Lan and DeMets (1983), Biometrika 70:659-663, alpha*_1.
    """
    return float(2 * ndtr(ndtri(alpha / 2) / math.sqrt(fraction)))


def pocock(fraction: float, alpha: float) -> float:
    """Spends evenly: bounds of about the same height at each look.

    Source: Lan and DeMets (1983), alpha*_2.
    """
    return alpha * math.log1p((math.e - 1) * fraction)


def power_family(rho: float) -> SpendingFunction:
    """Spends alpha t^rho: 1 is near to Pocock's, 3 to O'Brien and Fleming's.

    Source: Kim and DeMets (1987), Biometrika 74:149-154.
    """
    if not rho > 0:
        raise ValueError(f"rho must be positive: got {rho}")

    def spent(fraction: float, alpha: float) -> float:
        return float(alpha * fraction**rho)

    return spent


def boundaries(
    information_fractions: Sequence[float],
    *,
    alpha: float,
    spending: SpendingFunction = obrien_fleming,
    sided: Literal[1, 2] = 2,
) -> FloatArray:
    """The bounds (k,) that the z statistic must reach at each look to stop and reject.

    ``information_fractions`` (k,) rise within (0, 1], by 0.001 or more: the share of all planned
    examples seen at each look. A bound does not depend on the looks to come, so it may be worked
    out when its look comes; when to look must not depend on what was seen. ``alpha`` (below 1/2)
    is that of all looks together; with ``sided`` = 2 half of it is for each of the bounds z and
    -z. A look with less than 1e-15 to spend has an infinite bound. ValueError for fractions that
    do not rise so.

    >>> boundaries([0.2, 0.4, 0.6, 0.8, 1.0], alpha=0.05).round(2).tolist()
    [4.88, 3.36, 2.68, 2.29, 2.03]
    """
    fractions = _checked_fractions(information_fractions)
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must lie between 0 and 0.5: got {alpha}")
    bounds = np.full(len(fractions), np.inf)
    state, spent = _State.at_start(), 0.0
    for k, fraction in enumerate(fractions):
        state.move_to(fraction)
        to_spend = spending(fraction, alpha / sided) - spent
        if to_spend >= _LEAST:
            bounds[k] = state.upper_bound(to_spend, lowest=0.0 if sided == 2 else -_REACH)
            spent += to_spend
        if k + 1 < len(fractions):
            width = math.sqrt(fractions[k + 1] - fraction)
            state.keep(-bounds[k] if sided == 2 else -math.inf, bounds[k], next_width=width)
    return bounds


def exit_probabilities(
    bounds: Sequence[float] | FloatArray,
    information_fractions: Sequence[float],
    *,
    drift: float = 0.0,
    sided: Literal[1, 2] = 2,
) -> Exits:
    """How likely z first reaches each of the ``bounds`` (k,), or with ``sided`` = 2 its negative.

    ``drift`` is what z amounts to on average at information 1: for n examples in all and a mean
    difference delta, delta sqrt(n) / sd. The sum above is the error rate at drift 0, the power
    elsewhere; 1 less all sums is the probability of reaching the end without a rejection.
    """
    fractions = _checked_fractions(information_fractions)
    if len(bounds) != len(fractions):
        raise ValueError(f"{len(bounds)} bounds for {len(fractions)} looks")
    above, below = np.zeros(len(fractions)), np.zeros(len(fractions))
    state = _State.at_start(drift=drift)
    for k, fraction in enumerate(fractions):
        state.move_to(fraction)
        upper = float(bounds[k])
        lower = -upper if sided == 2 else -math.inf
        above[k], below[k] = state.above(upper), state.below(lower)
        if k + 1 < len(fractions):
            state.keep(lower, upper, next_width=math.sqrt(fractions[k + 1] - fraction))
    return Exits(above=above, below=below)


@dataclass(slots=True, kw_only=True)
class _State:
    """The distribution of the score b = z sqrt(t) over those that have not stopped.

    A Brownian motion with drift: mass (m,) at scores (m,) at the look before, and the way from
    there to this look.
    """

    scores: FloatArray
    masses: FloatArray
    drift: float
    then: float  # information fraction at the look before
    now: float

    @classmethod
    def at_start(cls, *, drift: float = 0.0) -> _State:
        return cls(scores=np.zeros(1), masses=np.ones(1), drift=drift, then=0.0, now=0.0)

    def move_to(self, fraction: float) -> None:
        self.then, self.now = self.now, fraction

    def above(self, bound: float) -> float:
        """The probability of z at or above ``bound`` now."""
        return float(self.masses @ ndtr(-self._steps(bound * math.sqrt(self.now))))

    def below(self, bound: float) -> float:
        return float(self.masses @ ndtr(self._steps(bound * math.sqrt(self.now))))

    def upper_bound(self, probability: float, *, lowest: float) -> float:
        """The bound that z reaches now with ``probability``."""

        def excess(bound: float) -> float:
            return self.above(bound) - probability

        return float(brentq(excess, lowest, _REACH, xtol=1e-12))

    def keep(self, lower: float, upper: float, *, next_width: float) -> None:
        """Drop what lies outside the bounds of z now, and stand at this look.

        ``next_width`` is the standard deviation of the next step, which the nodes must resolve.
        """
        centre, reach = self.drift * self.now, _REACH * math.sqrt(self.now)
        low = max(lower * math.sqrt(self.now), centre - reach)
        high = max(min(upper * math.sqrt(self.now), centre + reach), low)
        width = math.sqrt(self.now - self.then)
        n_panels = max(1, math.ceil((high - low) / (2 * min(width, next_width))))
        half = (high - low) / (2 * n_panels)
        middles = low + half * (2 * np.arange(n_panels) + 1)
        scores = (middles[:, None] + half * _PANEL_NODES).reshape(-1)
        weights = np.tile(half * _PANEL_WEIGHTS, n_panels)
        heights = np.exp(-0.5 * self._steps(scores[:, None]) ** 2)
        densities = heights @ self.masses / (math.sqrt(2 * math.pi) * width)
        self.scores, self.masses = scores, weights * densities

    def _steps(self, score: float | FloatArray) -> FloatArray:
        """From the scores before to ``score``, in standard deviations of the step."""
        elapsed = self.now - self.then
        return np.asarray((score - self.scores - self.drift * elapsed) / math.sqrt(elapsed))


def _checked_fractions(fractions: Sequence[float]) -> list[float]:
    found = [float(fraction) for fraction in fractions]
    rises = all(b - a >= _CLOSEST * 0.999 for a, b in zip([0.0, *found], found, strict=False))
    if not (found and rises and found[-1] <= 1):
        raise ValueError(
            f"information fractions must rise within (0, 1] by 0.001 or more: got {found}"
        )
    return found
