"""Judges that are moved by what is planted in them, and the audits of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from answering import Answering, likelihoods
from synthetic_labels import GRADE_RUBRIC, label_set, rubric

from evalkit.calibrate import LabelledItem, open_judge_of
from evalkit.calibrate.audit import audit
from evalkit.calibrate.figures import Settings
from evalkit.calibrate.study import judge_items
from evalkit.judges import Judge, Rubric, Verdicts, open_model_judge
from evalkit.types import Chat, Request, Response

FAST = Settings(n_resamples=200)
Rows = Sequence[Mapping[str, Any]]

_FENCE = re.compile(r"<(\w+) ([0-9a-f]{8})>\n(.*?)\n</\1 \2>", re.DOTALL)


def fences(text: str) -> dict[str, str]:
    """What stands in the fences of a judge's prompt, by their names."""
    return {name: inside for name, _, inside in _FENCE.findall(text)}


def shown(request: Request) -> str:
    """All that the judge sees."""
    prompt = request.prompts[0]
    if isinstance(prompt, Chat):
        return "\n".join([*(message.content for message in prompt.messages), prompt.prefill])
    return prompt


def saying(request: Request, label: str, chance: float = 0.9) -> Response:
    """A label with a chance, all others with an equal part of what is left."""
    labels = [text.strip().lower() for text in request.continuations]
    n_others = len(set(labels) - {label.lower()})
    shares = [chance if one == label.lower() else (1 - chance) / n_others for one in labels]
    return likelihoods(
        *(math.log(s / labels.count(x)) for s, x in zip(shares, labels, strict=True))
    )


def model(asked: Rubric, decide: Callable[[dict[str, str]], str]) -> Judge:
    """A judge that decides by what stands in the fences."""
    backend = Answering(lambda request: saying(request, decide(fences(shown(request)))))
    return open_model_judge(asked, backend, spec="test:planted")


def recorded(
    folder: Path, rows: Rows, judge: str, *, text: str = GRADE_RUBRIC
) -> tuple[Rubric, list[LabelledItem], list[Verdicts], Judge]:
    """A judge whose verdicts stand beside the labels, and what it says."""
    asked, labels = rubric(folder, text), label_set(folder, rows)
    by = open_judge_of(asked, f"replay:#{judge}", labels)
    items = labels.labelled([criterion.name for criterion in asked.criteria])
    return asked, items, judge_items(asked, items, by), by


def audited(folder: Path, rows: Rows, judge: str, *, text: str = GRADE_RUBRIC) -> dict[str, Any]:
    """The audit of a recorded judge under the rubric's only criterion."""
    asked, items, verdicts, by = recorded(folder, rows, judge, text=text)
    [found] = audit(asked, items, verdicts, by, settings=FAST)["criteria"].values()
    return dict(found)


def asked_again(
    folder: Path, rows: Rows, decide: Callable[[dict[str, str]], str], *, text: str = GRADE_RUBRIC
) -> dict[str, Any]:
    """The audit of a judge that can be asked."""
    asked, labels = rubric(folder, text), label_set(folder, rows)
    judge = model(asked, decide)
    items = labels.labelled([criterion.name for criterion in asked.criteria])
    verdicts = judge_items(asked, items, judge)
    [found] = audit(asked, items, verdicts, judge, settings=FAST)["criteria"].values()
    return dict(found)
