"""What a rubric file holds, and what may not stand in it together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from evalkit.schema import GenerateSpec, Name, Strict
from evalkit.yamlfile import Loc

Kind = Literal["pointwise", "pairwise", "classify", "checklist", "reward"]
Modality = Literal["text", "image"]

MAX_POINTS = 10
_YES_NO = {"yes": 1.0, "no": 0.0}
_PAIR = {"A": 1.0, "B": 0.0}
_PAIR_WITH_TIE = {"A": 1.0, "B": 0.0, "C": 0.5}


def _as_number(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


Number = Annotated[float, BeforeValidator(_as_number)]


class CriterionSpec(Strict):
    """One question to the judge."""

    question: str = Field(min_length=1)
    scale: dict[str, str] | None = Field(
        default=None,
        description="pointwise: whole numbers with what they mean; those between may be left out",
    )
    labels: dict[str, Annotated[Number, Field(allow_inf_nan=False)]] | None = Field(
        default=None, description="classify: each label and what it is worth"
    )
    weight: Number = Field(default=1.0, ge=0, allow_inf_nan=False)
    modality: Modality = "text"


class CritiqueSpec(GenerateSpec):
    """The judge first writes down its reasons, drawn like this, and decides after them."""


class RubricSpec(Strict):
    """A rubric file."""

    rubric: Name
    version: int = Field(ge=1)
    description: str = ""
    kind: Kind
    system: str | None = None
    prompt: str = Field(
        description="a template over the row's fields, prompt, response (or first and second), "
        "target, criterion, question, scale and labels"
    )
    cue: str = Field(default="Answer:", min_length=1, description="what the verdict follows")
    criteria: dict[Name, CriterionSpec] = Field(min_length=1)
    against: str | None = Field(
        default=None, description="pairwise: the other answer, a template over the row's fields"
    )
    ties: bool = Field(default=False, description="pairwise: the judge may call it a tie")
    critique: CritiqueSpec | None = None
    verdict: Literal["logits", "text"] | None = Field(
        default=None,
        description="default: by probabilities where the judge gives them, else read from text",
    )
    content_free: bool = Field(
        default=False, description="divide by what the judge says of an empty answer"
    )
    combine: Literal["weighted_mean"] = "weighted_mean"


def labels_of(spec: RubricSpec, criterion: str) -> dict[str, float]:
    """The labels that can answer a criterion, each with its value; none for a reward.

    A scale has all whole numbers from its lowest point to its highest. Of a pair, A is the answer
    that is shown first, and C, where ties are allowed, a tie.
    """
    one = spec.criteria[criterion]
    match spec.kind:
        case "pointwise":
            points = [int(point) for point in one.scale or ()]
            return {str(p): float(p) for p in range(min(points), max(points) + 1)}
        case "classify":
            return dict(one.labels or {})
        case "checklist":
            return dict(_YES_NO)
        case "pairwise":
            return dict(_PAIR_WITH_TIE if spec.ties else _PAIR)
    return {}


def problems(spec: RubricSpec) -> Iterator[tuple[Loc, str]]:
    """Where in the file something does not fit the rest, and what; the first is worth telling."""
    for name in spec.criteria:
        yield from _problems_of_criterion(spec, name)
    for modality in dict.fromkeys(c.modality for c in spec.criteria.values()):
        if not sum(c.weight for c in spec.criteria.values() if c.modality == modality):
            yield ("criteria",), f"all weights of {modality} criteria are 0: nothing would count"
    for key in ("against", "ties"):
        if spec.kind != "pairwise" and key in spec.model_fields_set:
            yield (key,), f"{key!r} is for pairwise rubrics, and this is kind: {spec.kind}"
    if spec.kind == "reward":
        for key in ("critique", "verdict", "content_free", "cue"):
            if key in spec.model_fields_set:
                problem = f"a reward rubric has no use for {key!r}: its model gives a number"
                yield (key,), problem
        if len(spec.criteria) > 1:
            yield ("criteria",), "a reward rubric has one criterion: its model gives one number"
    if spec.content_free and spec.verdict == "text":
        yield ("content_free",), "it corrects probabilities, and verdict: text has none"
    if spec.content_free and spec.critique is not None:
        problem = "it measures what the judge says without reasons: not together with 'critique'"
        yield ("content_free",), problem


def _problems_of_criterion(spec: RubricSpec, name: str) -> Iterator[tuple[Loc, str]]:
    criterion, at = spec.criteria[name], ("criteria", name)
    for key, kind in (("scale", "pointwise"), ("labels", "classify")):
        is_given = getattr(criterion, key) is not None
        if is_given != (spec.kind == kind):
            verb = "has no use for" if is_given else "needs"
            where = (*at, key) if is_given else at
            yield where, f"criterion {name!r} of a {spec.kind} rubric {verb} {key!r}"
            return
    if criterion.scale is not None:
        for point in criterion.scale:
            if not re.fullmatch(r"0|-?[1-9][0-9]{0,8}", point):
                problem = f"the points of a scale are whole numbers, not {point!r}"
                yield (*at, "scale", point), f"criterion {name!r}: {problem}"
                return
        points = sorted(map(int, criterion.scale))
        if not 2 <= points[-1] - points[0] + 1 <= MAX_POINTS:
            yield (*at, "scale"), f"criterion {name!r}: a scale has 2 to {MAX_POINTS} points"
            return
    for problem in _problems_of_labels(labels_of(spec, name)):
        yield (*at, "labels" if criterion.labels else "scale"), f"criterion {name!r}: {problem}"


def _problems_of_labels(labels: dict[str, float]) -> Iterator[str]:
    for label in labels:
        if label != label.strip() or not label:
            yield f"label {label!r} is empty, or has space around it"
    for one, other in pairwise(sorted(label.lower() for label in labels)):
        if other.startswith(one):
            yield (
                f"label {other!r} begins with label {one!r}, and probabilities cannot tell them "
                "apart; use other labels"
            )
    if labels and len(set(labels.values())) < 2:
        yield "two labels or more are needed, not all of them worth the same"
