"""Whether a panel of judges is any better than the best of its members, on the labelled items."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evalkit.calibrate import fitting
from evalkit.calibrate.evidence import BoolArray, Evidence
from evalkit.calibrate.figures import Figure, Settings, mean_of
from evalkit.judges import Panel
from evalkit.stats.crossfit import fold_of
from evalkit.stats.crowd import PanelLift, dawid_skene, panel_lift, vote_counts
from evalkit.stats.intervals import FloatArray
from evalkit.stats.paired import Difference

_N_FOLDS = 10
_FEWEST_VOTERS = 3  # two judges' errors cannot be told apart without labels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """How well each did on the same items (n,), higher is better, and of which that is known."""

    panel: FloatArray
    members: FloatArray  # (n, j)
    known: BoolArray
    measure: str
    is_binary: bool


def lift(evidence: Evidence, panel: Panel, settings: Settings) -> dict[str, Any]:
    """The panel's lift over its best member with interval and p, and how each member does.

    Of pairs and classes the share that is right, no verdict being wrong; of grades minus the
    distance from people's mean after each one's own map, out of fold: a panel whose members' biases
    cancel each other is no better than a member with a map. The best member is chosen on other
    items than those it is held against. Of three members or more on pairs and classes,
    ``dawid_skene`` is the same for votes that are weighted by errors which they show themselves.
    ``reason`` says why there is no lift.
    """
    parts = [
        replace(evidence, verdicts=tuple(v.members[j] for v in evidence.verdicts))
        for j in range(len(panel.members))
    ]
    scored = _graded(evidence, parts) if evidence.is_graded else _classed(evidence, parts)
    names = [member.info.spec for member in panel.members]
    folds = fold_of(evidence.groups, n_folds=_N_FOLDS)
    if np.unique(folds[scored.known]).size < 2:
        return {"reason": "too few items have labels and verdicts of all members"}
    found = _of_vote(scored, names, evidence, folds, settings)
    if scored.is_binary and len(parts) >= _FEWEST_VOTERS:
        vote = _dawid_skene(evidence, parts)
        right = (vote == evidence.consensus).astype(np.float64)
        weighted = _of_vote(replace(scored, panel=right), names, evidence, folds, settings)
        found["dawid_skene"] = {key: weighted[key] for key in ("score", "lift", "is_better")}
    return found


def p_of_lift(found: Mapping[str, Any]) -> float:
    """One-sided p of a panel that is no better than its best member; 1 where it is not known.

    The largest of those against each member and against the one that was chosen.
    Source: Berger (1982), Technometrics 24:295-300.
    """
    if "reason" in found:
        return 1.0
    ps = [_one_sided(found["lift"]), *(_one_sided(one["lift"]) for one in found["members"])]
    return 1.0 if any(map(math.isnan, ps)) else max(ps)


def _of_vote(
    scored: _Scored,
    names: Sequence[str],
    evidence: Evidence,
    folds: np.ndarray[Any, np.dtype[np.intp]],
    settings: Settings,
) -> dict[str, Any]:
    known = scored.known
    clusters = None if evidence.clusters is None else evidence.clusters[known]
    result: PanelLift = panel_lift(
        scored.panel[known],
        scored.members[known],
        folds=folds[known],
        is_binary=scored.is_binary,
        clusters=clusters,
        level=settings.level,
    )
    values, counts = np.unique(result.chosen, return_counts=True)
    return {
        "measure": scored.measure,
        "is_share": scored.is_binary,
        "score": _mean(scored.panel, scored, evidence, settings),
        "best": names[int(values[counts.argmax()])],
        "lift": _figure(result.lift),
        "is_better": result.is_accepted,
        "members": [
            {
                "judge": name,
                "score": _mean(scored.members[:, j], scored, evidence, settings),
                "lift": _figure(result.against[j]),
            }
            for j, name in enumerate(names)
        ],
    }


def _classed(evidence: Evidence, parts: Sequence[Evidence]) -> _Scored:
    n_failed = np.sum([part.is_error for part in (evidence, *parts)], axis=0)
    known: BoolArray = np.isfinite(evidence.consensus)
    known[n_failed > 0] = False
    right = [(part.choices == part.consensus).astype(np.float64) for part in (evidence, *parts)]
    return _Scored(
        panel=right[0],
        members=np.column_stack(right[1:]),
        known=known,
        measure="share that is right",
        is_binary=True,
    )


def _graded(evidence: Evidence, parts: Sequence[Evidence]) -> _Scored:
    distances = [
        np.abs(fitting.fit(part).predicted - evidence.human) for part in (evidence, *parts)
    ]
    return _Scored(
        panel=-distances[0],
        members=-np.column_stack(distances[1:]),
        known=np.isfinite(np.sum(distances, axis=0)),
        measure="distance from people, mapped, with a minus",
        is_binary=False,
    )


def _dawid_skene(evidence: Evidence, parts: Sequence[Evidence]) -> FloatArray:
    """(n,): the likeliest label by all members' votes and their errors; nan where two are."""
    scale = evidence.scale
    votes = np.column_stack([part.choices for part in parts])
    places = np.where(np.isfinite(votes), np.searchsorted(scale, votes), math.nan)
    found = dawid_skene(vote_counts(places, n_classes=scale.size)).labels
    known = np.isfinite(found)
    return np.where(known, scale[np.where(known, found, 0).astype(np.intp)], math.nan)


def _mean(values: FloatArray, scored: _Scored, evidence: Evidence, settings: Settings) -> Figure:
    return mean_of(np.where(scored.known, values, math.nan), evidence, settings)


def _figure(found: Difference) -> Figure:
    return {
        "value": found.estimate,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "method": found.method,
        "p": found.p_value,
    }


def _one_sided(found: Mapping[str, Any]) -> float:
    """The p of no gain, out of a two-sided one."""
    half: float = found["p"] / 2
    return half if found["value"] > 0 else 1 - half
