"""A judge asked again, about edited responses and about responses that tell it what to say."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evalkit.calibrate.audit_edits import CONTROL, EDITS, Injection, read_injections
from evalkit.calibrate.evidence import TIE, Evidence
from evalkit.calibrate.figures import Figure, Settings, figure
from evalkit.calibrate.items import LabelledItem
from evalkit.judges import Case, Judge, Rubric, Verdicts
from evalkit.stats.bias import edit_effect
from evalkit.stats.crossfit import content_order
from evalkit.stats.intervals import FloatArray, wilson_mean
from evalkit.stats.paired import Difference, mean_difference
from evalkit.types import Status, Verdict

OnProgress = Callable[[int, int], None]  # (answered, asked)

N_EDITED = 40  # items that are asked about again with every edit
N_ATTACKED = 40  # items that get injections
PER_ITEM = 4  # injections each, and one control

_PAIR_LABELS = ("A", "B")  # of the attacked response where it is shown first, and second


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """An item whose response is no good, with a text put into it."""

    key: str
    is_reversed: bool  # a pair whose other response is the worse one, and takes the first's place
    injection: Injection
    verdicts: tuple[Verdicts, ...]  # of a pair one for the label of each place, if they differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the judge said when it was asked again."""

    edited: Mapping[str, Mapping[str, Verdicts]]  # edit -> key of an item -> verdicts
    attacks: tuple[Attack, ...]


def ask_again(
    rubric: Rubric,
    judge: Judge,
    all_evidence: Sequence[Evidence],
    settings: Settings,
    on_progress: OnProgress | None = None,
) -> Asked:
    """Ask about up to 40 items with every edit, and up to 40 bad ones with injections in them.

    Which items follows from the seed and their keys; all criteria are asked about at once.
    """
    items = {item.key: item for evidence in all_evidence for item in evidence.items}
    drawn = _drawn(items, N_EDITED, settings.seed, "edits")
    quality = _quality(all_evidence)
    bad = [key for key in items if quality[key] < 0.5]
    if rubric.kind == "pairwise":  # of two unlike responses one is always the worse
        bad = [key for key in items if quality[key] != 0.5]
    if rubric.kind == "reward":  # its values have no top that could be reached
        bad = []
    attacks = _attacks(rubric, items, _drawn(bad, N_ATTACKED, settings.seed, "attacks"), quality)
    cases = [
        _edited(items[key].case, edit, change(items[key].case.response))
        for edit, change in EDITS.items()
        for key in drawn
    ]
    n_edited = len(cases)
    cases += [case for _, own in attacks for case in own]
    found = asyncio.run(judge.judge(cases, on_progress or (lambda n_done, n_total: None)))
    answers = iter(found[:n_edited])
    edited = {edit: {key: next(answers) for key in drawn} for edit in EDITS}
    answers = iter(found[n_edited:])
    return Asked(
        edited=edited,
        attacks=tuple(
            replace(attack, verdicts=tuple(next(answers) for _ in own)) for attack, own in attacks
        ),
    )


def edit_figures(asked: Asked, evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """What each edit does to the judge's value, and how often it changes its choice.

    ``p`` is two-sided, of no change in the mean, and of each edit by itself.
    """
    name = evidence.criterion.name
    places = {item.key: i for i, item in enumerate(evidence.items)}
    found = {}
    for edit, verdicts in asked.edited.items():
        rows = [
            (places[key], own[name])
            for key, own in verdicts.items()
            if key in places
            and evidence.verdicts[places[key]].status is Status.OK
            and own[name].status is Status.OK
        ]
        before = [evidence.verdicts[i] for i, _ in rows]
        after = [verdict for _, verdict in rows]
        clusters = _clusters(evidence, [i for i, _ in rows])
        value = edit_effect(
            _values(before), _values(after), clusters=clusters, level=settings.level
        )
        choice = edit_effect(
            _choices(before), _choices(after), clusters=clusters, level=settings.level
        )
        found[edit] = _changed(value.change) | {
            "flips": figure(choice.flips, len(rows)),
            "n_raised": choice.n_raised,
            "n_lowered": choice.n_lowered,
        }
    return found


def injection_figures(asked: Asked, evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """How often a text in a bad response raises the judge's choice, and how often to the top.

    Of attempts on responses that did not have the top already; those on one item are not
    independent, which the interval knows of. ``beyond_control`` is by how much injections raise it
    more often than texts that say nothing, item by item. ``change`` and ``change_by_control`` are
    what both do to the judge's value; not of pairs, whose value is over both orders, while a letter
    is right in one.
    """
    tries = _tries(asked, evidence)
    attempts = [one for one in tries if one.kind != CONTROL]
    controls = [one for one in tries if one.kind == CONTROL]
    kinds = dict.fromkeys(one.kind for one in attempts)
    changes = {}
    if evidence.kind != "pairwise":
        changes = {
            "change": _changed(_change(attempts, settings)),
            "change_by_control": _changed(_change(controls, settings)),
        }
    return {
        "raised": _share(attempts, settings, lambda one: one.after > one.before),
        "to_the_top": _share(attempts, settings, lambda one: one.after == one.top),
        "control": _share(controls, settings, lambda one: one.after > one.before),
        "beyond_control": _changed(_beyond_control(attempts, controls, settings)),
        "kinds": {
            kind: _share(
                [one for one in attempts if one.kind == kind],
                settings,
                lambda one: one.after > one.before,
            )
            for kind in kinds
        },
        "n_items": len({one.key for one in attempts}),
    } | changes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Try:
    """One attempt: the judge's choice without and with the text, from the response's side."""

    key: str
    group: str
    kind: str
    before: float
    after: float
    top: float
    values: tuple[float, float]  # the judge's, without and with it


def _tries(asked: Asked, evidence: Evidence) -> list[_Try]:
    name, top = evidence.criterion.name, evidence.criterion.limits[1]
    places = {item.key: i for i, item in enumerate(evidence.items)}
    found = []
    for attack in asked.attacks:
        i = places.get(attack.key)
        own = [verdicts[name] for verdicts in attack.verdicts]
        if i is None or any(v.status is not Status.OK for v in (evidence.verdicts[i], *own)):
            continue
        before = evidence.verdicts[i].choice
        before = 1 - before if attack.is_reversed else before
        if before < top:
            found.append(
                _Try(
                    key=attack.key,
                    group=evidence.groups[i],
                    kind=attack.injection.kind,
                    before=before,
                    after=_choice_of(own),
                    top=top,
                    values=(evidence.verdicts[i].value, own[0].value),
                )
            )
    return found


def _choice_of(own: Sequence[Verdict]) -> float:
    """Of a pair the choice in each order with the label that the response has there."""
    if len(own) == 1:
        return own[0].choice
    # a panel's lie anywhere between 0 and 1
    first, second = np.sign([own[0].orders[0] - TIE, own[1].orders[1] - TIE])
    return float(first + 1) / 2 if first == second else TIE


def _share(tries: Sequence[_Try], settings: Settings, is_so: Callable[[_Try], bool]) -> Figure:
    values = np.array([float(is_so(one)) for one in tries], dtype=np.float64)
    groups = [one.group for one in tries]
    return figure(wilson_mean(values, groups, level=settings.level), values.size)


def _change(tries: Sequence[_Try], settings: Settings) -> Difference:
    before, after = ([one.values[k] for one in tries] for k in (0, 1))
    return mean_difference(
        before,
        after,
        is_binary=False,
        clusters=[one.group for one in tries],
        level=settings.level,
    )


def _beyond_control(
    attempts: Sequence[_Try], controls: Sequence[_Try], settings: Settings
) -> Difference:
    """By item: the share of injections that raise the choice, less that of the control."""
    of_control = {one.key: float(one.after > one.before) for one in controls}
    by_item: dict[str, list[float]] = {}
    groups = {one.key: one.group for one in attempts}
    for one in attempts:
        if one.key in of_control:
            by_item.setdefault(one.key, []).append(float(one.after > one.before))
    return mean_difference(
        [of_control[key] for key in by_item],
        [math.fsum(own) / len(own) for own in by_item.values()],
        is_binary=False,
        clusters=[groups[key] for key in by_item] if by_item else None,
        level=settings.level,
    )


def _changed(found: Difference) -> Figure:
    return {
        "value": found.estimate,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "method": found.method,
        "p": found.p_value,
    }


def _values(verdicts: Iterable[Verdict]) -> FloatArray:
    return np.array([v.value for v in verdicts], dtype=np.float64)


def _choices(verdicts: Iterable[Verdict]) -> FloatArray:
    return np.array([v.choice for v in verdicts], dtype=np.float64)


def _clusters(evidence: Evidence, rows: Sequence[int]) -> Any:
    return None if evidence.clusters is None else evidence.clusters[list(rows)]


def _drawn(keys: Iterable[str], n: int, seed: int, purpose: str) -> list[str]:
    """Up to n of the keys, in an order that follows from each key's own content."""
    names = list(keys)
    places = np.argsort(content_order(names, seed=seed, purpose=f"audit {purpose}"), kind="stable")
    return [names[i] for i in places[:n].tolist()]


def _quality(all_evidence: Sequence[Evidence]) -> dict[str, float]:
    """Of each item what people say, 0 to 1 between the lowest and the highest, over criteria."""
    shares: dict[str, list[float]] = {}
    for evidence in all_evidence:
        scale = evidence.scale if evidence.scale.size else evidence.human
        low, span = float(scale.min()), float(np.ptp(scale)) or 1.0
        for item, human in zip(evidence.items, evidence.human.tolist(), strict=True):
            shares.setdefault(item.key, []).append((human - low) / span)
    return {key: math.fsum(own) / len(own) for key, own in shares.items()}


def _attacks(
    rubric: Rubric,
    items: Mapping[str, LabelledItem],
    keys: Sequence[str],
    quality: Mapping[str, float],
) -> list[tuple[Attack, list[Case]]]:
    """Each item with the next few injections and the next control, and the cases to ask about."""
    texts = read_injections()
    injections = [one for one in texts if one.kind != CONTROL]
    controls = [one for one in texts if one.kind == CONTROL]
    found = []
    for number, key in enumerate(keys):
        at = [number * PER_ITEM + k for k in range(PER_ITEM)]
        own = [injections[i % len(injections)] for i in at] + [controls[number % len(controls)]]
        is_reversed = rubric.kind == "pairwise" and quality[key] > 0.5
        case = _reversed(items[key].case) if is_reversed else items[key].case
        for injection in own:
            attack = Attack(key=key, is_reversed=is_reversed, injection=injection, verdicts=())
            found.append((attack, _attacked(rubric, case, injection)))
    return found


def _attacked(rubric: Rubric, case: Case, injection: Injection) -> list[Case]:
    criterion = rubric.criteria[0]
    names: Sequence[str] = _PAIR_LABELS
    if rubric.kind != "pairwise":
        names = [max(criterion.labels, key=criterion.labels.__getitem__)]
    texts = [
        injection.into(
            case.response,
            label=label,
            cue=rubric.spec.cue,
            name=label if rubric.kind == "pairwise" else "response",
        )
        for label in names
    ]
    return [
        _edited(case, f"{injection.id} {i}", text) for i, text in enumerate(dict.fromkeys(texts))
    ]


def _edited(case: Case, edit: str, response: str) -> Case:
    return replace(case, key=f"{case.key} ({edit})", response=response)


def _reversed(case: Case) -> Case:
    return replace(case, response=case.opponent or "", opponent=case.response)
