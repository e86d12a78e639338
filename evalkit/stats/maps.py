"""Maps from a judge's scores to the scale of people, as plain data that can be kept in a file.

A map takes away bias, not noise: it bends and shifts the judge's scale, and cannot tell apart
what the judge does not. Every fit takes the labels first, then the judge's scores of the same
items, and raises ValueError for none of them, for lengths that differ and for nan. An error
measured on the labels that a map was fitted to flatters it: see `crossfit`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from evalkit.stats.intervals import FloatArray

MapKind = Literal["identity", "affine", "ordinal", "isotonic", "temperature", "beta"]

_TINY = 1e-6  # probabilities are kept so far from 0 and 1: logits of at most 13.8
_MAX_LEVELS = 20  # of an ordinal scale: beyond it the answers are numbers, not levels
_STEEPEST = 50.0  # logits per standard deviation of the judge: where labels separate perfectly


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityMap:
    """The judge's scores as they are."""

    def predict(self, scores: FloatArray) -> FloatArray:
        """(n,) to (n,)."""
        return np.asarray(scores, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``map_from_json`` reads it back."""
        return {"kind": "identity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineMap:
    """A straight line."""

    intercept: float  # in the labels' unit
    slope: float

    def predict(self, scores: FloatArray) -> FloatArray:
        """(n,) to (n,), in the labels' unit; it goes on beyond the scores it was fitted to."""
        return np.asarray(self.intercept + self.slope * scores)

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``map_from_json`` reads it back."""
        return {"kind": "affine", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class IsotonicMap:
    """A rising line through knots, flat before the first and after the last."""

    scores: tuple[float, ...]  # rising
    values: tuple[float, ...]  # not falling

    def predict(self, scores: FloatArray) -> FloatArray:
        """(n,) to (n,), in the labels' unit, never outside of the labels' range."""
        return np.asarray(np.interp(scores, self.scores, self.values))

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``map_from_json`` reads it back."""
        return {"kind": "isotonic", "scores": list(self.scores), "values": list(self.values)}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdinalMap:
    """Cumulative logits: P(human <= level k) = sigmoid(cut k - slope * score)."""

    levels: tuple[float, ...]  # those that labels had, rising; k of them
    cuts: tuple[float, ...]  # k - 1, rising
    slope: float

    def probabilities(self, scores: FloatArray) -> FloatArray:
        """(n,) to (n, k): the probability of each level; rows sum to 1."""
        logits = np.asarray(self.cuts) - self.slope * np.asarray(scores)[:, None]
        return np.asarray(np.diff(special.expit(logits), axis=1, prepend=0.0, append=1.0))

    def predict(self, scores: FloatArray) -> FloatArray:
        """(n,) to (n,): the expected level."""
        return np.asarray(self.probabilities(scores) @ np.asarray(self.levels))

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``map_from_json`` reads it back."""
        lists = {"levels": list(self.levels), "cuts": list(self.cuts)}
        return {"kind": "ordinal", **lists, "slope": self.slope}


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureMap:
    """Probabilities with their logits divided by a temperature."""

    temperature: float  # above 1: the judge is too sure

    def predict(self, scores: FloatArray) -> FloatArray:
        """Probabilities (n,) to probabilities (n,)."""
        return np.asarray(special.expit(_logits(scores) / self.temperature))

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``map_from_json`` reads it back."""
        return {"kind": "temperature", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaMap:
    """Probabilities bent at both ends: logit = a log p - b log(1 - p) + c."""

    a: float  # at least 0, as b: the map never falls
    b: float
    c: float

    def predict(self, scores: FloatArray) -> FloatArray:
        """Probabilities (n,) to probabilities (n,)."""
        p = _inside(scores)
        return np.asarray(special.expit(self.a * np.log(p) - self.b * np.log1p(-p) + self.c))

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``map_from_json`` reads it back."""
        return {"kind": "beta", **asdict(self)}


ScoreMap = IdentityMap | AffineMap | IsotonicMap | OrdinalMap | TemperatureMap | BetaMap


def fit_map(human: FloatArray, judge: FloatArray, *, kind: MapKind) -> ScoreMap:
    """The map of a kind fitted to labels ``human`` (n,) and the judge's scores ``judge`` (n,)."""
    return _FITS[kind](human, judge)


def map_from_json(data: Mapping[str, Any]) -> ScoreMap:
    """What ``to_json`` wrote, as a map. ValueError: an unknown kind. TypeError: other fields."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
    kind = data.get("kind")
    if kind not in _CLASSES:
        raise ValueError(f"no map of kind {kind!r}; there are {', '.join(_CLASSES)}")
    return _CLASSES[kind](**fields)


def fit_identity(human: FloatArray, judge: FloatArray) -> IdentityMap:
    """No fit at all; the labels are only checked."""
    _check(human, judge)
    return IdentityMap()


def fit_affine(human: FloatArray, judge: FloatArray) -> AffineMap:
    """Least squares; a judge without spread gives the labels' mean, whatever it says."""
    _check(human, judge)
    centred = judge - judge.mean()
    spread = float(centred @ centred)
    is_flat = spread <= judge.size * (1e-12 * float(np.abs(judge).max())) ** 2
    slope = 0.0 if is_flat else float(centred @ human) / spread
    return AffineMap(intercept=float(human.mean() - slope * judge.mean()), slope=slope)


def fit_isotonic(human: FloatArray, judge: FloatArray) -> IsotonicMap:
    """The rising map with the least squared error, straight between the judge's scores.

    Labels of the same judge score are averaged first. Source: Barlow et al. (1972), Statistical
    Inference under Order Restrictions (pool adjacent violators), by scipy.
    """
    _check(human, judge)
    scores, codes = np.unique(judge, return_inverse=True)
    counts = np.bincount(codes.reshape(-1))
    means = np.bincount(codes.reshape(-1), weights=human) / counts
    fitted = optimize.isotonic_regression(means, weights=counts).x
    return IsotonicMap(scores=tuple(scores.tolist()), values=tuple(fitted.tolist()))


def fit_ordinal(human: FloatArray, judge: FloatArray) -> OrdinalMap:
    """Proportional odds by maximum likelihood, over the levels that occur among the labels.

    More than twenty levels, or a single one, raise ValueError. Where the judge separates the
    levels without error the slope has no maximum: it stops at 50 logits per standard deviation.
    Source: McCullagh (1980), J. R. Stat. Soc. B 42:109-142.
    """
    _check(human, judge)
    levels, ranks = np.unique(human, return_inverse=True)
    if not 2 <= levels.size <= _MAX_LEVELS:
        raise ValueError(f"{levels.size} levels among the labels: 2 to {_MAX_LEVELS} make a scale")
    ranks = ranks.reshape(-1)
    centre, width = float(judge.mean()), float(judge.std()) or 1.0
    x = (judge - centre) / width
    shares = np.cumsum(np.bincount(ranks))[:-1] / ranks.size
    first = special.logit(shares)
    steps = np.log(np.diff(first))
    start = np.concatenate(([0.0, first[0]], steps))
    bounds = [(-_STEEPEST, _STEEPEST), (None, None), *[(-12.0, 6.0)] * steps.size]
    found = optimize.minimize(
        _ordinal_loss,
        start,
        args=(x, ranks),
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"ftol": 1e-13, "gtol": 1e-8, "maxiter": 2000},
    )
    slope = float(found.x[0]) / width
    cuts = np.cumsum(np.concatenate((found.x[1:2], np.exp(found.x[2:])))) + slope * centre
    return OrdinalMap(levels=tuple(levels.tolist()), cuts=tuple(cuts.tolist()), slope=slope)


def fit_temperature(human: FloatArray, judge: FloatArray) -> TemperatureMap:
    """One temperature for all logits, by maximum likelihood, between 0.01 and 100.

    ``human`` is 0 or 1, or the share of people who say 1; ``judge`` probabilities of 1.
    Source: Guo et al. (2017), arXiv:1706.04599, section 4.2.
    """
    _check(human, judge, is_probability=True)
    logits = _logits(judge)
    found = optimize.minimize_scalar(
        lambda log_t: _cross_entropy(logits * np.exp(-log_t), human),
        bounds=(np.log(0.01), np.log(100)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return TemperatureMap(temperature=float(np.exp(found.x)))


def fit_beta(human: FloatArray, judge: FloatArray) -> BetaMap:
    """Beta calibration by maximum likelihood; ``human`` and ``judge`` as for ``fit_temperature``.

    Source: Kull, Silva Filho and Flach (2017), Electron. J. Stat. 11:5052-5080 (a and b not
    negative).
    """
    _check(human, judge, is_probability=True)
    p = _inside(judge)
    columns = np.stack((np.log(p), -np.log1p(-p), np.ones_like(p)), axis=1)

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        logits = columns @ weights
        gradient = columns.T @ (special.expit(logits) - human) / human.size
        return _cross_entropy(logits, human), gradient

    bounds = [(0.0, _STEEPEST), (0.0, _STEEPEST), (-_STEEPEST, _STEEPEST)]
    found = optimize.minimize(
        loss,
        [1.0, 1.0, 0.0],
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 2000},
    )
    a, b, c = (float(v) for v in found.x)
    return BetaMap(a=a, b=b, c=c)


def log_losses(human: FloatArray, probabilities: FloatArray) -> FloatArray:
    """(n,): the cross-entropy of each label, in nats; certainties are held at 1e-6 from 0 and 1."""
    p = _inside(probabilities)
    return np.asarray(-human * np.log(p) - (1 - human) * np.log1p(-p))


def _ordinal_loss(
    parameters: FloatArray, x: FloatArray, ranks: NDArray[np.intp]
) -> tuple[float, FloatArray]:
    """Mean negative log-likelihood and its gradient; parameters: slope, first cut, log steps."""
    steps = np.exp(parameters[2:])
    cuts = np.cumsum(np.concatenate((parameters[1:2], steps)))
    upper = np.concatenate((cuts, [np.inf]))[ranks] - parameters[0] * x
    lower = np.concatenate(([-np.inf], cuts))[ranks] - parameters[0] * x
    high, low = special.expit(upper), special.expit(lower)
    p = np.maximum(high - low, 1e-300)
    of_upper, of_lower = high * (1 - high) / p, low * (1 - low) / p
    of_cuts = np.bincount(ranks, weights=of_upper, minlength=cuts.size + 1)[:-1]
    of_cuts = of_cuts - np.bincount(ranks, weights=of_lower, minlength=cuts.size + 1)[1:]
    tails = np.cumsum(of_cuts[::-1])[::-1]  # a step moves its own cut and all above
    of_slope = float(np.sum(x * (of_lower - of_upper)))
    gradient = np.concatenate(([of_slope, tails[0]], tails[1:] * steps))
    return float(-np.log(p).mean()), -gradient / x.size


def _cross_entropy(logits: FloatArray, human: FloatArray) -> float:
    return float(np.mean(np.logaddexp(0, logits) - human * logits))


def _logits(probabilities: FloatArray) -> FloatArray:
    return np.asarray(special.logit(_inside(probabilities)))


def _inside(probabilities: FloatArray) -> FloatArray:
    return np.asarray(np.clip(probabilities, _TINY, 1 - _TINY))


def _check(human: FloatArray, judge: FloatArray, *, is_probability: bool = False) -> None:
    if human.shape != judge.shape or human.size == 0:
        raise ValueError(f"{human.size} labels and {judge.size} scores: as many are needed, not 0")
    both = np.concatenate((human, judge))
    if not np.isfinite(both).all():
        raise ValueError("a label or a score is not finite")
    if is_probability and not ((both >= 0) & (both <= 1)).all():
        raise ValueError("labels and scores must lie within 0 and 1")


Fit = Callable[[FloatArray, FloatArray], ScoreMap]
_FITS: Mapping[MapKind, Fit] = MappingProxyType(
    {
        "identity": fit_identity,
        "affine": fit_affine,
        "ordinal": fit_ordinal,
        "isotonic": fit_isotonic,
        "temperature": fit_temperature,
        "beta": fit_beta,
    }
)
_CLASSES: Mapping[Any, Callable[..., ScoreMap]] = MappingProxyType(
    {
        "identity": IdentityMap,
        "affine": AffineMap,
        "ordinal": OrdinalMap,
        "isotonic": IsotonicMap,
        "temperature": TemperatureMap,
        "beta": BetaMap,
    }
)
