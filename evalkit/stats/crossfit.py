"""Maps judged on labels they have not seen: out-of-fold predictions, errors, and the choice of one.

Folds follow from the groups' names alone: a hash of each decides, so that the order of the rows
changes nothing, and items of one group (a prompt, a document) are never on both sides.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.stats.influence import equal_weights, mean_of
from evalkit.stats.intervals import FloatArray, cluster_codes, spread_is_zero
from evalkit.stats.maps import MapKind, ScoreMap, fit_map, log_losses

Loss = Literal["squared", "log"]
"""``log`` is for probabilities of a 0/1 label, ``squared`` for anything else."""

MIN_ISOTONIC = 50  # labels; with fewer the steps follow the noise
_COMPLEXITY: tuple[MapKind, ...] = (
    "identity",
    "temperature",
    "affine",
    "beta",
    "ordinal",
    "isotonic",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossFit:
    """A map fitted once without each fold, and what it says of that fold."""

    kind: MapKind
    folds: NDArray[np.intp]  # (n,) codes 0..k-1 of the folds that hold any labels
    maps: tuple[ScoreMap, ...]  # k; map i has not seen fold i. Empty where one fold holds all
    predicted: FloatArray  # (n,) out of fold; nan where there are no maps

    def predict(self, scores: FloatArray) -> FloatArray:
        """(m,) to (m,): the mean over the maps, each weighted by the size of its fold."""
        if not self.maps:
            return np.full(np.shape(scores), np.nan)
        return np.asarray(self.shares @ [m.predict(scores) for m in self.maps])

    @property
    def shares(self) -> FloatArray:
        """(k,): the part of the labels that each fold holds."""
        return np.asarray(np.bincount(self.folds) / self.folds.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How near scores come to labels; in the labels' unit, nan where undefined."""

    n: int
    mae: float
    rmse: float
    pearson: float
    bias: float  # mean of score - label


@dataclass(frozen=True, slots=True, kw_only=True)
class MapLoss:
    """The mean out-of-fold loss of a kind of map, and by how much the best kind is better."""

    kind: MapKind
    loss: float
    excess: float  # over the best kind
    excess_stderr: float  # paired, of groups; 0 for the best itself


@dataclass(frozen=True, slots=True, kw_only=True)
class MapChoice:
    """The map that was chosen, fitted to all labels, and how it does out of fold."""

    map: ScoreMap
    crossfit: CrossFit
    losses: tuple[MapLoss, ...]  # of all candidates, the simpler first
    raw: Fidelity
    mapped: Fidelity  # out of fold
    constant: Fidelity  # of the other folds' mean label: what a judge must beat


def fold_of(groups: ArrayLike, *, n_folds: int = 10, seed: int = 0) -> NDArray[np.intp]:
    """(n,): the fold 0..n_folds-1 of each group's name, by its SHA-256 with the seed."""
    return np.asarray(
        [int.from_bytes(_digest(g, seed)) % n_folds for g in np.asarray(groups).tolist()],
        dtype=np.intp,
    )


def content_order(names: Sequence[str], *, seed: int, purpose: str) -> FloatArray:
    """(n,): a number in [0, 1) of each name, as good as random and the same in any company."""
    digests = [_digest(f"{purpose}:{name}", seed) for name in names]
    return np.array([int.from_bytes(d[:7]) / 2**56 for d in digests])


def crossfit(
    human: FloatArray,
    judge: FloatArray,
    *,
    groups: ArrayLike,
    kind: MapKind,
    n_folds: int = 10,
    seed: int = 0,
) -> CrossFit:
    """Fit the kind of map without each fold in turn; all (n,), ``groups`` names of any type.

    Where all groups fall into one fold nothing is left to fit to: no maps, predictions of nan.
    """
    codes, n_used = cluster_codes(fold_of(groups, n_folds=n_folds, seed=seed))
    predicted = np.full(human.size, np.nan)
    if n_used < 2:
        return CrossFit(kind=kind, folds=codes, maps=(), predicted=predicted)
    maps = []
    for fold in range(n_used):
        is_out = codes == fold
        found = fit_map(human[~is_out], judge[~is_out], kind=kind)
        predicted[is_out] = found.predict(judge[is_out])
        maps.append(found)
    return CrossFit(kind=kind, folds=codes, maps=tuple(maps), predicted=predicted)


def fidelity(human: FloatArray, scores: FloatArray) -> Fidelity:
    """How near ``scores`` (n,) come to ``human`` (n,); a constant has no correlation: nan."""
    if human.size == 0:
        return Fidelity(n=0, mae=math.nan, rmse=math.nan, pearson=math.nan, bias=math.nan)
    gaps = scores - human
    a, b = human - human.mean(), scores - scores.mean()
    is_flat = spread_is_zero(float(np.ptp(human)), human) or spread_is_zero(
        float(np.ptp(scores)), scores
    )
    correlation = math.nan if is_flat else float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    return Fidelity(
        n=human.size,
        mae=float(np.abs(gaps).mean()),
        rmse=math.sqrt(float(gaps @ gaps) / gaps.size),
        pearson=correlation,
        bias=float(gaps.mean()),
    )


def choose_map(
    human: FloatArray,
    judge: FloatArray,
    *,
    groups: ArrayLike,
    candidates: Sequence[MapKind] = ("identity", "affine", "isotonic"),
    loss: Loss = "squared",
    n_folds: int = 10,
    seed: int = 0,
) -> MapChoice:
    """The simplest candidate whose out-of-fold loss is within one standard error of the best.

    The error is that of the difference to the best candidate, over groups. Isotonic is left out
    below 50 labels. ValueError where no candidate is left or one fold holds all labels.
    Source: Breiman et al. (1984), Classification and Regression Trees, section 3.4.3 (the rule;
    theirs has the error of the best loss itself, which two losses on the same items share).
    """
    kinds = [k for k in _COMPLEXITY if k in candidates]
    if human.size < MIN_ISOTONIC:
        kinds = [k for k in kinds if k != "isotonic"]
    fits = {
        k: crossfit(human, judge, groups=groups, kind=k, n_folds=n_folds, seed=seed) for k in kinds
    }
    if not fits or not all(f.maps for f in fits.values()):
        raise ValueError(f"no map can be chosen from {human.size} labels of {tuple(candidates)}")
    losses = {k: _losses(human, f.predicted, loss) for k, f in fits.items()}
    best = min(kinds, key=lambda k: float(losses[k].mean()))  # of equals the simpler
    table = tuple(_against(k, losses, best, groups) for k in kinds)
    chosen = next(row.kind for row in table if row.excess <= row.excess_stderr)
    folds = fits[chosen].folds
    return MapChoice(
        map=fit_map(human, judge, kind=chosen),
        crossfit=fits[chosen],
        losses=table,
        raw=fidelity(human, judge),
        mapped=fidelity(human, fits[chosen].predicted),
        constant=_constant(human, folds),
    )


def _against(
    kind: MapKind, losses: dict[MapKind, FloatArray], best: MapKind, groups: ArrayLike
) -> MapLoss:
    excess = losses[kind] - losses[best]
    units, n_units = cluster_codes(groups)
    found = mean_of(excess, equal_weights(excess.size), units=units, n_units=n_units)
    stderr = 0.0 if kind == best else found.stderr
    return MapLoss(
        kind=kind,
        loss=float(losses[kind].mean()),
        excess=found.value,
        excess_stderr=0.0 if math.isnan(stderr) else stderr,
    )


def _constant(human: FloatArray, folds: NDArray[np.intp]) -> Fidelity:
    """The mean label of the other folds; its correlation would only mirror the folds: nan."""
    sums, counts = np.bincount(folds, weights=human), np.bincount(folds)
    means = (human.sum() - sums) / (human.size - counts)
    found = fidelity(human, means[folds])
    return Fidelity(n=found.n, mae=found.mae, rmse=found.rmse, pearson=math.nan, bias=found.bias)


def _losses(human: FloatArray, predicted: FloatArray, loss: Loss) -> FloatArray:
    if loss == "log":
        return log_losses(human, predicted)
    return np.asarray((predicted - human) ** 2)


def _digest(name: object, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
