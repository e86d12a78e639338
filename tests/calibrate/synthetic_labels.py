"""Labels and judges whose faults are known, because they are planted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.calibrate import LabelSet, Settings, calibrate, open_judge_of, read_labels
from evalkit.judges import Rubric, load_rubric
from evalkit.judges.calibration import Calibration, CriterionCalibration

TODAY = date(2026, 1, 31)
FAST = Settings(n_resamples=200)
Rows = list[dict[str, Any]]

PAIR_RUBRIC = """\
rubric: better
version: 1
kind: pairwise
criteria: {preference: {question: Which answer is better?}}
prompt: "{{ prompt }} {{ first }} {{ second }}"
"""
GRADE_RUBRIC = """\
rubric: quality
version: 1
kind: pointwise
criteria: {quality: {question: How good?, scale: {1: bad, 5: good}}}
prompt: "{{ prompt }} {{ scale }} {{ response }}"
"""
TWO_RUBRIC = """\
rubric: two
version: 1
kind: pointwise
criteria:
  clear: {question: How clear?, scale: {1: bad, 5: good}}
  short: {question: How short?, scale: {1: bad, 5: good}}
prompt: "{{ question }} {{ scale }} {{ prompt }} {{ response }}"
"""


def rubric(folder: Path, text: str = PAIR_RUBRIC) -> Rubric:
    """A rubric written into a folder, and read from it."""
    name = text.split()[1]
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return load_rubric(f"{name}.yaml", folder=folder)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A file of JSON lines."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def pairs(n: int, *, seed: int = 0, n_people: int = 3, noise: float = 0.1) -> Rows:
    """Pairs of which 6 in 10 first answers are better; people are wrong with a chance."""
    rng = np.random.default_rng(seed)
    truth = np.where(rng.random(n) < 0.6, 1, 2)
    rows = []
    for i, better in enumerate(truth.tolist()):
        labels = {f"p{j}": better if rng.random() >= noise else 3 - better for j in range(n_people)}
        judges = {
            "perfect": {"orig": better, "swap": better},
            "constant": {"orig": 1, "swap": 1},
            "position": {"orig": 1, "swap": 2},
            "coin": {"orig": int(rng.integers(1, 3)), "swap": int(rng.integers(1, 3))},
            "contrary": {"orig": 3 - better, "swap": 3 - better},
            "silent": {"orig": None, "swap": None}
            if i % 4 == 0
            else {"orig": better, "swap": better},
            "one order": better,
        }
        rows.append(
            {
                "id": f"pair-{i}",
                "prompt": f"question {i}",
                "response": f"first answer {i}",
                "opponent": f"second answer {i}",
                "labels": labels,
                "judges": judges,
            }
        )
    return rows


def grades(n: int, *, seed: int = 0, n_people: int = 3, shift: float = 1.0) -> Rows:
    """Answers of a quality of 1 to 5 with people who are off by less than one point."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        quality = float(rng.uniform(1, 4))
        labels = {
            f"p{j}": int(np.clip(np.round(quality + rng.normal(0, 0.5)), 1, 5))
            for j in range(n_people)
        }
        judges = {
            "good": float(np.clip(quality + rng.normal(0, 0.3), 1, 5)),
            "lenient": float(np.clip(quality + shift + rng.normal(0, 0.3), 1, 5)),
            "constant": 3,
            "random": float(rng.uniform(1, 5)),
        }
        rows.append(
            {
                "id": f"item-{i}",
                "prompt": f"question {i}",
                "response": f"answer {i}",
                "labels": labels,
                "judges": judges,
            }
        )
    return rows


def label_set(folder: Path, rows: Sequence[Mapping[str, Any]]) -> LabelSet:
    """Rows written into a label file, and read from it."""
    return read_labels(write_rows(folder / "labels.jsonl", rows))


def calibrated(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    judge: str,
    *,
    text: str = PAIR_RUBRIC,
    settings: Settings = FAST,
) -> Calibration:
    """The calibration of a recorded judge."""
    asked, labels = rubric(folder, text), label_set(folder, rows)
    by = open_judge_of(asked, f"replay:#{judge}", labels)
    return calibrate(asked, labels, by, today=TODAY, settings=settings)


def only(found: Calibration) -> CriterionCalibration:
    """What was found of the only criterion."""
    [criterion] = found.criteria.values()
    return criterion


def with_fields(rows: Rows, change: Callable[[int, dict[str, Any]], Mapping[str, Any]]) -> Rows:
    """The rows with what ``change`` gives for each in place of, or beside, what it has."""
    return [{**row, **change(i, row)} for i, row in enumerate(rows)]
