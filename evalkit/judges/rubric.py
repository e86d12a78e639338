"""Rubrics: what a judge is asked, on which scale, and what its criteria are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from evalkit import resources
from evalkit.judges.rubric_spec import Kind, Modality, RubricSpec, labels_of, problems
from evalkit.prompt import Template
from evalkit.schema import parse
from evalkit.types import sha256_of
from evalkit.yamlfile import Document, read_yaml, shown


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
    prompt: Template  # the judge's
    system: Template | None  # the judge's system prompt
    against: Template | None  # the answer that a pairwise rubric compares with

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
        return tuple(
            Criterion(
                name=name,
                question=one.question,
                labels=labels_of(self.spec, name),
                anchors=one.scale or {},
                weight=one.weight,
                modality=one.modality,
            )
            for name, one in self.spec.criteria.items()
        )

    def metric_name(self, criterion: str) -> str:
        """How a record calls a criterion: ``rubric.criterion``; a lone one goes by the rubric."""
        return self.name if len(self.criteria) == 1 else f"{self.name}.{criterion}"


def load_rubric(name: str, *, folder: Path | None = None) -> Rubric:
    """A rubric by its name, or by a path (relative to ``folder``) that ends in ``.yaml``.

    Raises NotFoundError with suggestions, or SpecError (path:line) for a file that is wrong.
    """
    is_path = name.endswith((".yaml", ".yml")) or "/" in name
    path = (folder or Path.cwd()) / name if is_path else resources.find("rubrics", name)
    return read_rubric(path)


def read_rubric(path: Path) -> Rubric:
    """The rubric of a file. Raises UsageError, or SpecError (path:line) for one that is wrong."""
    document = read_yaml(path)
    spec = parse(document, RubricSpec)
    if path.stem != spec.rubric:
        problem = f"the rubric is called {spec.rubric!r}, its file {path.stem!r}: make them equal"
        raise document.error(("rubric",), problem)
    for at, problem in problems(spec):
        raise document.error(at, problem)
    rubric = Rubric(
        spec=spec,
        document=document,
        prompt=_template(document, "prompt", spec.prompt),
        system=None if spec.system is None else _template(document, "system", spec.system),
        against=None if spec.against is None else _template(document, "against", spec.against),
    )
    _check_prompt(rubric)
    return rubric


def _template(document: Document, key: str, text: str) -> Template:
    return Template(text, where=f"{shown(document.path)}:{document.line((key,))}: {key}")


def rubric_paths() -> dict[str, Path]:
    """Name -> file of every rubric on the search path; the first of a name wins."""
    paths: dict[str, Path] = {}
    for folder in resources.search_path("rubrics"):
        for path in sorted(folder.glob("*.yaml")):
            paths.setdefault(path.stem, path)
    return {name: paths[name] for name in sorted(paths)}


def _check_prompt(rubric: Rubric) -> None:
    """The prompt shows what is to be judged and on which scale, and asks for it."""
    used = rubric.prompt.variables
    if rubric.kind == "reward":
        if "response" in used:
            problem = "a reward model has the response as the assistant's turn, not in the prompt"
            raise rubric.document.error(("prompt",), f"prompt: {problem}")
        return
    needed = ["first", "second"] if rubric.kind == "pairwise" else ["response"]
    if rubric.kind == "pointwise":
        needed.append("scale")
    if len(rubric.criteria) > 1:
        needed.append("question")
    for name in needed:
        if name not in used:
            problem = f"prompt: {{{{ {name} }}}} does not occur in it"
            raise rubric.document.error(("prompt",), problem)
