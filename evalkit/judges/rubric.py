"""Rubric files: what a judge is asked, on which scale, and how criteria add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from evalkit import resources
from evalkit.errors import SpecError
from evalkit.prompt import Template
from evalkit.schema import GenerateSpec, Name, Strict, parse
from evalkit.types import sha256_of
from evalkit.yamlfile import Document, read_yaml, shown

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
    labels: dict[str, Number] | None = Field(
        default=None, description="classify: each label and what it is worth"
    )
    weight: Number = Field(default=1.0, ge=0)
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
        "target, question, scale and labels"
    )
    cue: str = Field(default="Answer:", description="what the judge's verdict follows")
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

    @model_validator(mode="after")
    def _consistent(self) -> RubricSpec:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> list[str]:
        kind, found = self.kind, []
        for name, criterion in self.criteria.items():
            for key, kinds in (("scale", ("pointwise",)), ("labels", ("classify",))):
                is_given = getattr(criterion, key) is not None
                if is_given != (kind in kinds):
                    verb = "needs" if not is_given else "has no use for"
                    found.append(f"criterion {name!r} of a {kind} rubric {verb} {key!r}")
            found += _scale_problems(name, criterion)
        if self.kind != "pairwise" and (self.against is not None or self.ties):
            found.append("'against' and 'ties' are for pairwise rubrics")
        if not sum(c.weight for c in self.criteria.values()):
            found.append("all weights are 0")
        if kind == "reward":
            for key in ("critique", "verdict", "content_free"):
                if key in self.model_fields_set:
                    found.append(
                        f"a reward rubric has no use for {key!r}: its model gives a number"
                    )
            if len(self.criteria) > 1:
                found.append("a reward rubric has one criterion: its model gives one number")
        if self.content_free and self.verdict == "text":
            found.append("'content_free' corrects probabilities, and verdict: text has none")
        return found


def _scale_problems(name: str, criterion: CriterionSpec) -> list[str]:
    if criterion.scale is not None:
        if not all(point.lstrip("-").isdigit() for point in criterion.scale):
            return [f"criterion {name!r}: the points of a scale are whole numbers"]
        points = sorted(map(int, criterion.scale))
        if len(points) < 2 or points[-1] - points[0] >= MAX_POINTS:
            return [f"criterion {name!r}: a scale has 2 to {MAX_POINTS} points"]
    labels = sorted(label.lower() for label in _labels_of(criterion))
    for one, other in pairwise(labels):
        if other.startswith(one):
            return [
                f"criterion {name!r}: label {other!r} begins with label {one!r}, and probabilities "
                "cannot tell them apart; use other labels"
            ]
    if criterion.labels is not None and len(labels) < 2:
        return [f"criterion {name!r}: give two labels or more"]
    return []


def _labels_of(criterion: CriterionSpec) -> dict[str, float]:
    if criterion.scale is not None:
        points = [int(point) for point in criterion.scale]
        return {str(p): float(p) for p in range(min(points), max(points) + 1)}
    return dict(criterion.labels or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A question with the labels that can answer it, each with its value."""

    name: str
    question: str
    labels: Mapping[str, float]  # empty for a reward
    anchors: Mapping[str, str]  # what some labels mean
    weight: float
    modality: Modality

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the largest value; infinite for a reward."""
        if not self.labels:
            return float("-inf"), float("inf")
        return min(self.labels.values()), max(self.labels.values())


@dataclass(frozen=True, slots=False, kw_only=True)
class Rubric:
    """A rubric as its file defines it, templates compiled."""

    spec: RubricSpec
    document: Document

    @property
    def name(self) -> str:
        """The rubric's name."""
        return self.spec.rubric

    @property
    def kind(self) -> Kind:
        """How it asks."""
        return self.spec.kind

    @cached_property
    def sha256(self) -> str:
        """Of everything in the file."""
        return sha256_of(self.spec.model_dump(mode="json", exclude_defaults=True))

    @cached_property
    def criteria(self) -> tuple[Criterion, ...]:
        """Its questions, in the order of the file."""
        return tuple(self._criterion(name) for name in self.spec.criteria)

    def _criterion(self, name: str) -> Criterion:
        spec = self.spec.criteria[name]
        labels: Mapping[str, float] = _labels_of(spec)
        if self.kind == "checklist":
            labels = _YES_NO
        elif self.kind == "pairwise":
            labels = _PAIR_WITH_TIE if self.spec.ties else _PAIR
        return Criterion(
            name=name,
            question=spec.question,
            labels=labels,
            anchors=spec.scale or {},
            weight=spec.weight,
            modality=spec.modality,
        )

    def where(self, key: str) -> str:
        """``path:line: key``, for messages."""
        return f"{shown(self.document.path)}:{self.document.line((key,))}: {key}"

    @cached_property
    def prompt(self) -> Template:
        """The judge's prompt."""
        return Template(self.spec.prompt, where=self.where("prompt"))

    @cached_property
    def system(self) -> Template | None:
        """The judge's system prompt."""
        text = self.spec.system
        return None if text is None else Template(text, where=self.where("system"))

    @cached_property
    def against(self) -> Template | None:
        """The answer that a pairwise rubric compares with."""
        text = self.spec.against
        return None if text is None else Template(text, where=self.where("against"))

    def metric_name(self, criterion: str) -> str:
        """How a record calls a criterion: ``rubric.criterion``; a lone one goes by the rubric."""
        return self.name if len(self.criteria) == 1 else f"{self.name}.{criterion}"


def load_rubric(name: str, *, folder: Path | None = None) -> Rubric:
    """A rubric by its name, or by a path (relative to ``folder``) that ends in ``.yaml``.

    Raises NotFoundError with suggestions, or SpecError (path:line) for a file that is wrong.
    """
    is_path = name.endswith((".yaml", ".yml")) or "/" in name
    path = (folder or Path.cwd()) / name if is_path else resources.find("rubrics", name)
    document = read_yaml(path)
    rubric = Rubric(spec=parse(document, RubricSpec), document=document)
    if path.stem != rubric.name:
        problem = f"the rubric is called {rubric.name!r}, its file {path.stem!r}: make them equal"
        raise document.error(("rubric",), problem)
    _check_prompt(rubric)
    return rubric


def _check_prompt(rubric: Rubric) -> None:
    """The prompt shows what is to be judged, and asks for it."""
    used = rubric.prompt.variables
    shown_texts = ("first", "second") if rubric.kind == "pairwise" else ("response",)
    missing = [name for name in shown_texts if name not in used]
    if rubric.kind != "reward" and len(rubric.criteria) > 1 and "question" not in used:
        missing.append("question")
    if missing:
        raise SpecError(
            shown(rubric.document.path),
            rubric.document.line(("prompt",)),
            f"prompt: {{{{ {missing[0]} }}}} does not occur in it",
        )
