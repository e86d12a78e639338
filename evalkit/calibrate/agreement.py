"""How far a judge agrees with people, people with each other, and what a constant would get."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from evalkit.calibrate.evidence import Evidence
from evalkit.calibrate.figures import Figure, Settings, figure, share_of
from evalkit.stats.agreement import Weights, cohen_kappa
from evalkit.stats.human_ceiling import human_ceiling
from evalkit.stats.icc import icc
from evalkit.stats.intervals import FloatArray, Interval
from evalkit.stats.krippendorff import Scale, krippendorff_alpha
from evalkit.stats.panel_agreement import gwet_ac, label_counts, pairwise_agreement
from evalkit.stats.rank_agreement import correlation, pair_accuracy, pearson
from evalkit.stats.system_agreement import (
    system_correlation,
    system_pair_accuracy,
    within_group_correlation,
)

MOST_ROWS = 2000  # for what compares every row with every other, resampled
_FEWEST = 10  # items of a person, to be held against on their own


def with_consensus(evidence: Evidence, settings: Settings) -> dict[str, Figure]:
    """The judge against what people say together, by every usual measure.

    Labels as classes where people's labels are on the rubric's scale, and as numbers.
    """
    found = _of_classes(evidence, evidence.consensus, settings)
    found |= _of_numbers(evidence, settings)
    if evidence.clusters is not None and len({i.systems for i in evidence.items}) > 2:
        found |= _of_systems(evidence, settings)
    return found


def _of_classes(evidence: Evidence, truth: FloatArray, settings: Settings) -> dict[str, Figure]:
    values, level, clusters = evidence.scale.tolist(), settings.level, evidence.clusters
    if not values:
        return {}
    said = evidence.choices
    both = np.isfinite(truth) & np.isfinite(said)
    n = int(both.sum())
    same = np.where(both, (truth == said).astype(np.float64), math.nan)
    found = {"agreement": share_of(same, evidence, settings)}
    counted = label_counts(np.column_stack((truth, said))[both], labels=values)
    units = None if clusters is None else clusters[both]
    for name, of_ac, weights in _weightings(evidence):
        kappa = cohen_kappa(
            truth, said, labels=values, weights=weights, clusters=clusters, level=level
        )
        found[name] = figure(kappa, n)
        ac = gwet_ac(counted, weights=weights, clusters=units, level=level)
        found[of_ac] = figure(ac, n)
    return found


def _weightings(evidence: Evidence) -> Iterator[tuple[str, str, Weights]]:
    """Names of kappa and of Gwet's coefficient with their weights; classes have no distances."""
    yield "kappa", "ac1", "none"
    if evidence.scale.size > 2 and (evidence.is_graded or evidence.kind == "pairwise"):
        yield "kappa_linear", "ac2_linear", "linear"
        yield "kappa_quadratic", "ac2_quadratic", "quadratic"


def _of_numbers(evidence: Evidence, settings: Settings) -> dict[str, Figure]:
    human, judge, clusters = evidence.human, evidence.judge, evidence.clusters
    n, name = int(evidence.is_judged.sum()), evidence.criterion.name
    both = np.column_stack((human, judge))[evidence.is_judged]

    def drawn(what: str, of: Callable[..., Interval], **options: Any) -> Figure:
        rng = settings.rng(name, what)
        found = of(
            judge,
            human,
            rng=rng,
            n_resamples=settings.n_resamples,
            clusters=clusters,
            level=settings.level,
            **options,
        )
        return figure(found, n)

    found = {
        "alpha": figure(_alpha(evidence, _beside(evidence, human), settings, "alpha"), n),
        "icc": figure(icc(both, form="2,1", level=settings.level), n),
        "pearson": figure(pearson(judge, human, level=settings.level), n)
        if clusters is None
        else drawn("pearson", correlation, kind="pearson"),
    }
    if n <= MOST_ROWS:
        found["spearman"] = drawn("spearman", correlation, kind="spearman")
        found["kendall"] = drawn("kendall", correlation, kind="kendall-b")
        found["pair_accuracy"] = drawn("pair_accuracy", pair_accuracy)
    if clusters is not None:
        within = within_group_correlation(
            judge, human, clusters, kind="pearson", level=settings.level
        )
        found["pearson_within_cluster"] = figure(within.interval, within.n_groups)
    return found


def _of_systems(evidence: Evidence, settings: Settings) -> dict[str, Figure]:
    """Whether the judge ranks systems as people do; of pairs the rankings say that."""
    if evidence.kind == "pairwise" or evidence.clusters is None:
        return {}
    systems = np.array([" / ".join(item.systems) for item in evidence.items])
    n = len(set(systems.tolist()))
    shared: dict[str, Any] = {
        "systems": systems,
        "items": evidence.clusters,
        "n_resamples": settings.n_resamples,
        "level": settings.level,
    }
    rng = settings.rng(evidence.criterion.name, "systems")
    over = system_correlation(evidence.judge, evidence.human, kind="pearson", rng=rng, **shared)
    pairs = system_pair_accuracy(evidence.judge, evidence.human, rng=rng, **shared)
    return {"pearson_of_systems": figure(over, n), "system_pair_accuracy": figure(pairs, n)}


def with_each(evidence: Evidence, settings: Settings) -> dict[str, dict[str, Figure]]:
    """The judge against each person who labelled ten items or more."""
    found = {}
    for j, name in enumerate(evidence.annotators):
        own = evidence.marks[:, j]
        n = int((np.isfinite(own) & evidence.is_judged).sum())
        if n < _FEWEST:
            continue
        truth = own if evidence.scale.size == 0 else evidence.nearest(own)
        classes = _of_classes(evidence, truth, settings)
        wanted = {key: classes[key] for key in ("agreement", "kappa") if key in classes}
        one = figure(pearson(evidence.judge, own, level=settings.level), n)
        found[name] = wanted | {"pearson": one}
    return found


def of_people(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """How far people agree with each other; empty where no item has two labels.

    ``alpha_with_judge`` counts the judge as one more of them.
    """
    is_given = np.isfinite(evidence.marks)
    n = int((is_given.sum(axis=1) >= 2).sum())
    if n == 0:
        return {}
    with_judge = _beside(evidence, evidence.marks)
    found: dict[str, Any] = {
        "alpha": figure(_alpha(evidence, evidence.marks, settings, "people"), n),
        "alpha_with_judge": figure(_alpha(evidence, with_judge, settings, "one more"), n),
    }
    if evidence.scale.size and not evidence.is_graded:
        counted = label_counts(evidence.marks, labels=evidence.scale.tolist())
        clusters, level = evidence.clusters, settings.level
        found["agreement"] = figure(pairwise_agreement(counted, clusters=clusters, level=level), n)
        found["ac1"] = figure(gwet_ac(counted, clusters=clusters, level=level), n)
    elif is_given.all():
        for form in ("2,1", "2,k"):
            single = icc(evidence.marks, form=form, level=settings.level)
            found["icc" if form == "2,1" else "icc_of_mean"] = figure(single, n)
    return found


def ceiling(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """What one person reaches against the others, and the judge against the same; may be empty.

    Pearson's correlation; of people who labelled ten items or more.
    """
    is_given = np.isfinite(evidence.marks) & evidence.is_judged[:, None]
    enough = is_given.sum(axis=0) >= _FEWEST
    marks = evidence.marks[:, enough]
    if marks.shape[1] < 2 or not (np.isfinite(marks).sum(axis=1) >= 2).any():
        return {}
    found = human_ceiling(
        marks,
        evidence.judge,
        kind="pearson",
        rng=settings.rng(evidence.criterion.name, "ceiling"),
        n_resamples=settings.n_resamples,
        clusters=evidence.clusters,
        level=settings.level,
    )
    return {
        name: figure(getattr(found, name), found.n_items) for name in ("ceiling", "judge", "ratio")
    }


def of_constant(evidence: Evidence, settings: Settings) -> Figure | None:
    """The share that a judge would get right which always gives people's commonest label."""
    if evidence.scale.size == 0:
        return None
    truth = np.where(evidence.is_judged, evidence.consensus, math.nan)
    known = truth[np.isfinite(truth)]
    values, n_each = np.unique(known, return_counts=True)
    if known.size == 0:
        return None
    commonest = values[int(np.argmax(n_each))]
    is_it = np.where(np.isfinite(truth), (truth == commonest).astype(np.float64), math.nan)
    return share_of(is_it, evidence, settings) | {"constant": float(commonest)}


def _beside(evidence: Evidence, marks: FloatArray) -> FloatArray:
    """People's ratings with the judge's in one more column: classes, or numbers as they are."""
    judge = evidence.judge if _scale(evidence) == "interval" else evidence.choices
    if _scale(evidence) == "nominal" and marks.ndim == 1:
        marks = evidence.consensus
    return np.column_stack((marks, judge))


def _scale(evidence: Evidence) -> Scale:
    return "interval" if evidence.is_graded or evidence.scale.size == 0 else "nominal"


def _alpha(evidence: Evidence, table: FloatArray, settings: Settings, what: str) -> Interval:
    return krippendorff_alpha(
        table,
        scale=_scale(evidence),
        rng=settings.rng(evidence.criterion.name, "alpha", what),
        n_resamples=settings.n_resamples,
        clusters=evidence.clusters,
        level=settings.level,
    )
