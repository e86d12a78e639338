"""A judge held against people: labels and verdicts in, a calibration out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, MutableMapping, Sequence
from datetime import date
from typing import Any

import evalkit
from evalkit.calibrate import agreement, figures, fitting, pairs, panels
from evalkit.calibrate.acceptance import ALPHA, accept
from evalkit.calibrate.audit import audit
from evalkit.calibrate.evidence import Evidence, gather
from evalkit.calibrate.figures import Settings
from evalkit.calibrate.items import LONE, LabelledItem, LabelSet
from evalkit.calibrate.standing_in import (
    discrimination_json,
    replacement_json,
    replacements,
    tell_apart,
)
from evalkit.calibrate.trust import reliability
from evalkit.errors import DatasetError, RunError, UsageError
from evalkit.judges import Judge, Panel, Rubric, Verdicts, check_cases, open_judge
from evalkit.judges.calibration import Calibration, CriterionCalibration, LabelledItems
from evalkit.judges.recorded import Recorded
from evalkit.types import Backend, sha256_of

OnProgress = Callable[[int, int], None]  # (answered, asked)
_BESIDE = "replay:#"
_LONGEST_SLUG = 60


def open_judge_of(
    rubric: Rubric,
    spec: str,
    labels: LabelSet,
    *,
    offered: MutableMapping[str, Backend] | None = None,
    offline: bool = False,
    seed: int = 0,
    on_progress: Callable[[str], None] | None = None,
) -> Judge:
    """The judge of a specification; ``replay:#NAME`` is one whose verdicts stand with the labels.

    Raises UsageError, NotFoundError or ModelError.
    """
    if spec.startswith(_BESIDE):
        said = labels.verdicts_of(spec.removeprefix(_BESIDE))
        return Recorded(rubric=rubric, spec=spec, verdicts=said, sha256=sha256_of(said))
    if _BESIDE in spec:
        raise UsageError(
            f"judge {spec!r}: of a panel's recorded verdicts name the file, replay:FILE#NAME"
        )
    return open_judge(
        rubric, spec, offered=offered, offline=offline, seed=seed, on_progress=on_progress
    )


def calibrate(
    rubric: Rubric,
    labels: LabelSet,
    judge: Judge,
    *,
    today: date,
    settings: Settings | None = None,
    is_audited: bool = False,
    on_progress: OnProgress | None = None,
) -> Calibration:
    """Ask the judge about every labelled item, and hold its verdicts against people's.

    ``is_audited``: see also what moves it other than quality, for which it is asked again.
    All but ``created`` follows from the rubric, the labels, the judge and the settings. Raises
    DatasetError for labels that do not fit the rubric, UsageError for a judge that cannot judge
    them and RunError where it gave no verdict on anything.
    """
    settings = settings or Settings()
    check_labels(rubric, labels)
    items = labels.labelled([c.name for c in rubric.criteria])
    verdicts = judge_items(rubric, items, judge, on_progress)
    found = {
        criterion.name: _of_criterion(
            gather(rubric, criterion, items, verdicts), labels, judge, settings
        )
        for criterion in rubric.criteria
    }
    audited: dict[str, Any] = {}
    if is_audited:
        audited = audit(rubric, items, verdicts, judge, settings=settings, on_progress=on_progress)
    return Calibration(
        rubric=rubric.name,
        rubric_version=rubric.spec.version,
        judge=judge.info.spec,
        identity=judge.info.identity,
        labels=_summary(rubric, labels, items),
        created=today.isoformat(),
        evalkit=evalkit.__version__,
        seed=settings.seed,
        criteria=found,
        audit=audited,
    )


def check_labels(rubric: Rubric, labels: LabelSet) -> None:
    """Raises DatasetError, naming what the labels have, where a criterion has none."""
    names = [criterion.name for criterion in rubric.criteria]
    is_lone = len(names) == 1
    known = ", ".join(name or "one without a name" for name in labels.criteria) or "none at all"
    for name in names:
        if name not in labels.criteria and not (is_lone and LONE in labels.criteria):
            raise DatasetError(
                f"{labels.path}: no labels for criterion {name!r} of rubric {rubric.name!r}; "
                f"there are labels for: {known}"
            )
    for item in labels.items if rubric.kind == "pairwise" else ():
        if item.has_texts and item.case.opponent is None:
            raise DatasetError(
                f"{item.where}: rubric {rubric.name!r} compares two answers: give 'opponent'"
            )


def judge_items(
    rubric: Rubric,
    items: Sequence[LabelledItem],
    judge: Judge,
    on_progress: OnProgress | None = None,
) -> list[Verdicts]:
    """The judge's verdicts on items. UsageError where they have no texts, and RunError if none."""
    for item in items if _reads_texts(judge) else ():
        if not item.has_texts:
            raise UsageError(
                f"{item.where}: the labels give no response to be judged: only verdicts "
                f"recorded beside them can be calibrated, {_BESIDE}NAME"
            )
    cases = [item.case for item in items]
    check_cases(judge, cases)
    tell = on_progress or (lambda n_done, n_total: None)
    found = asyncio.run(judge.judge(cases, tell))
    problems = [v.problem for own in found for v in own.values()]
    if problems and all(v.status == "error" for own in found for v in own.values()):
        raise RunError(
            f"judge {judge.info.spec}: no verdict on any of {len(found)} items: {problems[0]}"
        )
    return found


def _reads_texts(judge: Judge) -> bool:
    if isinstance(judge, Panel):
        return any(_reads_texts(member) for member in judge.members)
    return not isinstance(judge, Recorded)


def slug_of(judge: str) -> str:
    """A judge's specification as a part of a file's name.

    >>> slug_of("replay:#GPT-4/Vanilla")
    'replay-gpt-4-vanilla'
    """
    found = re.sub(r"[^a-z0-9.]+", "-", judge.lower()).strip("-.")
    if len(found) > _LONGEST_SLUG:
        found = f"{found[-_LONGEST_SLUG:].strip('-.')}-{sha256_of(judge)[:8]}"
    return found or "judge"


def _of_criterion(
    evidence: Evidence, labels: LabelSet, judge: Judge, settings: Settings
) -> CriterionCalibration:
    fitted = fitting.fit(evidence)
    discriminated = tell_apart(evidence, alpha=ALPHA)
    replaced = replacements(
        evidence, fitted.predicted, labels.people, alpha=ALPHA, level=settings.level
    )
    found: dict[str, Any] = {
        "level": settings.level,
        "kind": evidence.kind,
        "counts": figures.counts(evidence),
        "abstained": figures.abstentions(evidence, settings),
        "accuracy": pairs.accuracy(evidence, settings),
        "orders": pairs.orders(evidence, settings),
        "agreement": agreement.with_consensus(evidence, settings),
        "annotators": agreement.with_each(evidence, settings),
        "people": agreement.of_people(evidence, settings),
        "ceiling": agreement.ceiling(evidence, settings),
        "constant": agreement.of_constant(evidence, settings),
        "errors": fitting.errors(evidence, fitted, settings),
        "bias": figures.bias(evidence, fitted.predicted, settings),
        "strata": figures.by_stratum(evidence, settings),
        "confusion": figures.confusion(evidence),
        "reliability": reliability(evidence, fitted.predicted, settings),
        "ranking": pairs.ranking(evidence, settings),
        "discrimination": discrimination_json(discriminated),
        "replacement": {name: replacement_json(one, evidence) for name, one in replaced.items()},
    }
    if isinstance(judge, Panel):
        found["panel"] = panels.lift(evidence, judge, settings)
    verdict = accept(evidence, found, discriminated, replaced.get("mapped", replaced["raw"]))
    found |= {"checks": verdict.to_json(), "notes": list(verdict.notes)}
    return CriterionCalibration(
        is_accepted=verdict.is_accepted,
        reasons=verdict.reasons,
        map=fitted.map.to_json(),
        items=_columns(evidence, fitted.predicted.tolist()),
        figures=found,
    )


def _columns(evidence: Evidence, predicted: Sequence[float]) -> LabelledItems:
    """The items that have a verdict: one without says nothing of the judge's scale."""
    rows = [i for i, is_judged in enumerate(evidence.is_judged.tolist()) if is_judged]
    items = [evidence.items[i] for i in rows]
    return LabelledItems(
        key=tuple(item.key for item in items),
        human=tuple(float(evidence.human[i]) for i in rows),
        judge=tuple(float(evidence.judge[i]) for i in rows),
        predicted=tuple(predicted[i] for i in rows),
        cluster=tuple(item.cluster for item in items),
        propensity=tuple(item.propensity for item in items),
        system=tuple(item.systems[0] if item.systems else None for item in items),
    )


def _summary(rubric: Rubric, labels: LabelSet, items: Sequence[LabelledItem]) -> dict[str, Any]:
    is_lone = len(rubric.criteria) == 1
    people = [
        who for item in items for c in rubric.criteria for who in item.of(c.name, is_lone=is_lone)
    ]
    return {
        "name": labels.name,
        "path": str(labels.path),
        "data": None if labels.data is None else str(labels.data),
        "files": dict(labels.files),
        "sha256": labels.sha256,
        "n_items": len(items),
        "n_labels": len(people),
        "n_annotators": len(set(people)),
        "design": labels.design,
        "people": labels.people,
    }
