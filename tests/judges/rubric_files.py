"""Rubrics, cases and judges that the tests of this folder share."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from answering import likelihoods

from evalkit.judges import Case, Judge, Rubric, Verdicts, read_rubric
from evalkit.types import Chat, Prompt, Request, Response

POINTWISE = """\
rubric: quality
version: 1
kind: pointwise
prompt: |-
  {{ prompt }}
  {{ response }}
  {{ question }}
  {{ scale }}
  Which number, {{ labels }}?
cue: "Rating:"
criteria:
  quality: {question: "How good is it?", scale: {1: bad, 3: fair, 5: good}}
"""
TWO_CRITERIA = """\
rubric: pair_of
version: 1
kind: pointwise
prompt: "{{ response }} {{ question }} {{ scale }}"
criteria:
  first: {question: "Is it true?", scale: {1: "no", 5: "yes"}, weight: 1}
  second: {question: "Is it new?", scale: {1: "no", 5: "yes"}, weight: 3}
"""
PAIRWISE = """\
rubric: better
version: 1
kind: pairwise
prompt: |-
  {{ question }}
  {{ prompt }}
  {{ first }}
  {{ second }}
  A or B?
against: "{{ baseline }}"
criteria:
  better: {question: "Which answer is better?"}
"""
CLASSIFY = """\
rubric: kind_of
version: 1
kind: classify
prompt: "{{ response }} {{ question }} {{ labels }}"
criteria:
  kind: {question: "What is it?", labels: {true: 1, unknown: 0.5, false: 0}}
"""
CHECKLIST = """\
rubric: checks
version: 1
kind: checklist
prompt: "{{ response }} {{ question }}"
criteria:
  polite: {question: "Is it polite?"}
  short: {question: "Is it short?"}
"""
REWARD = """\
rubric: reward
version: 1
kind: reward
prompt: "{{ prompt }}"
criteria:
  reward: {question: "The model's own idea of a good answer."}
"""


def write_rubric(folder: Path, text: str) -> Rubric:
    """A rubric file called as the rubric is, read."""
    name = text.split("\n", 1)[0].removeprefix("rubric: ")
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return read_rubric(path)


def cases(*responses: str, opponent: str | None = None) -> list[Case]:
    """A case for each response, called c0, c1, …"""
    return [
        Case(key=f"c{i}", prompt="What is 2 + 2?", response=text, opponent=opponent)
        for i, text in enumerate(responses)
    ]


def verdicts_of(judge: Judge, some: Sequence[Case]) -> list[Verdicts]:
    """What a judge says of each case."""
    return asyncio.run(judge.judge(some, lambda n_done, n_total: None))


def text_of(prompt: Prompt) -> str:
    """All that a judge is shown, turns and prefill one after another."""
    if isinstance(prompt, Chat):
        return "\n".join([*(m.content for m in prompt.messages), prompt.prefill])
    return prompt


def shown(request: Request) -> str:
    return text_of(request.prompts[0])


def believing(request: Request, probabilities: Mapping[str, float]) -> Response:
    """Log-probabilities of the labels' forms: each label's in equal parts on its forms.

    What the probabilities lack to 1 is what the judge gives to other texts.
    """
    by_spelling = {label.lower(): label for label in probabilities}
    labels = [by_spelling.get(text.strip().lower(), "") for text in request.continuations]
    shares = [probabilities.get(label, 0.0) / max(1, labels.count(label)) for label in labels]
    return likelihoods(*(math.log(p) if p > 0 else -math.inf for p in shares))


def always(probabilities: Mapping[str, float]) -> Callable[[Request], Response]:
    """A judge that says the same whatever it is shown."""
    return lambda request: believing(request, probabilities)
