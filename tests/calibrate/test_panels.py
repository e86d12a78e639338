"""Panels: better than their best member or not, where the answer is known."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_labels import (
    GRADE_RUBRIC,
    PAIR_RUBRIC,
    TODAY,
    calibrated,
    label_set,
    pairs,
    rubric,
)

from evalkit.calibrate import Evidence, Settings, calibrate, gather, open_judge_of
from evalkit.calibrate.page import evidence_page
from evalkit.calibrate.panels import lift, p_of_lift
from evalkit.judges import Panel
from evalkit.judges.calibration import Calibration

Rows = list[dict[str, Any]]
FAST = Settings(n_resamples=200)


def row(i: int, label: float, judges: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"item-{i}",
        "prompt": f"question {i}",
        "response": f"one {i}",
        "opponent": f"other {i}",
        "labels": {"p": label},
        "judges": judges,
    }


def voters(n: int, rights: list[float], *, seed: int = 0) -> Rows:
    """Pairs with judges that are right with these chances, each by itself, in either order."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        better = int(rng.integers(1, 3))
        said = [better if rng.random() < right else 3 - better for right in rights]
        judges = {f"j{k}": {"orig": one, "swap": one} for k, one in enumerate(said)}
        rows.append(row(i, better, judges))
    return rows


def raters(n: int, shifts: list[float], noise: float, *, seed: int = 0) -> Rows:
    """Answers with judges that are off by a shift and noise of their own."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        quality = float(rng.uniform(2, 4))
        judges = {
            f"j{k}": float(np.clip(quality + shift + rng.normal(0, noise), 1, 5))
            for k, shift in enumerate(shifts)
        }
        rows.append(row(i, quality, judges))
    return rows


def panel_of(
    folder: Path, rows: Rows, n: int, *, text: str = PAIR_RUBRIC
) -> tuple[Evidence, Panel]:
    asked, labels = rubric(folder, text), label_set(folder, rows)
    members = tuple(open_judge_of(asked, f"replay:#j{k}", labels) for k in range(n))
    panel = Panel(members=members)
    verdicts = asyncio.run(
        panel.judge([item.case for item in labels.items], lambda n_done, n_total: None)
    )
    return gather(asked, asked.criteria[0], labels.items, verdicts), panel


def found_of(folder: Path, rows: Rows, n: int, *, text: str = PAIR_RUBRIC) -> dict[str, Any]:
    return lift(*panel_of(folder, rows, n, text=text), FAST)


def test_three_judges_that_err_by_themselves_are_better_than_each(tmp_path: Path) -> None:
    found = found_of(tmp_path, voters(2000, [0.75, 0.75, 0.75]), 3)
    # Condorcet: p^3 + 3 p^2 (1 - p)
    expected = 0.75**3 + 3 * 0.75**2 * 0.25
    assert found["score"]["low"] < expected < found["score"]["high"]
    assert found["lift"]["low"] < expected - 0.75 < found["lift"]["high"]
    assert found["is_better"]
    assert p_of_lift(found) < 1e-6
    assert [one["judge"] for one in found["members"]] == ["replay:#j0", "replay:#j1", "replay:#j2"]


def test_copies_of_a_judge_add_nothing(tmp_path: Path) -> None:
    rows = voters(200, [0.8])
    for one in rows:
        one["judges"] = dict.fromkeys(("j0", "j1", "j2"), one["judges"]["j0"])
    found = found_of(tmp_path, rows, 3)
    assert found["lift"]["value"] == 0.0
    assert not found["is_better"]
    assert p_of_lift(found) >= 0.5


def test_a_good_judge_is_better_alone_than_with_two_that_guess(tmp_path: Path) -> None:
    found = found_of(tmp_path, voters(600, [0.95, 0.5, 0.5]), 3)
    assert found["best"] == "replay:#j0"
    assert found["lift"]["high"] < 0
    assert not found["is_better"]
    assert p_of_lift(found) > 0.99


def test_votes_weighted_by_the_errors_they_show_are_not_drowned(tmp_path: Path) -> None:
    found = found_of(tmp_path, voters(600, [0.95, 0.6, 0.6]), 3)
    assert found["dawid_skene"]["score"]["value"] > found["score"]["value"] + 0.05
    assert "dawid_skene" not in found_of(tmp_path, voters(100, [0.9, 0.6]), 2)


def test_of_grades_a_panel_is_better_where_errors_are_noise(tmp_path: Path) -> None:
    found = found_of(tmp_path, raters(400, [0.0, 0.0, 0.0], 0.5), 3, text=GRADE_RUBRIC)
    assert found["is_better"]
    assert found["score"]["value"] > max(one["score"]["value"] for one in found["members"])
    assert found["lift"]["low"] > 0


def test_biases_that_cancel_are_no_lift_since_a_map_takes_them_away(tmp_path: Path) -> None:
    rows = raters(400, [0.0], 0.2)
    for one in rows:
        same = one["judges"]["j0"]
        one["judges"] = {"j0": min(5, same + 0.6), "j1": max(1, same - 0.6)}
    evidence, panel = panel_of(tmp_path, rows, 2, text=GRADE_RUBRIC)
    alone = [np.array([v.members[k].value for v in evidence.verdicts]) for k in (0, 1)]
    errors = [float(np.abs(said - evidence.human).mean()) for said in (evidence.judge, *alone)]
    assert errors[0] < 0.4 * min(errors[1:])  # as they are, the panel is far better
    found = lift(evidence, panel, FAST)
    assert abs(found["lift"]["value"]) < 0.01
    assert not found["is_better"]


def test_a_member_without_a_verdict_makes_the_panel_wrong_there(tmp_path: Path) -> None:
    rows = voters(100, [1.0, 1.0])
    for one in rows[:30]:
        one["judges"]["j1"] = None
    found = found_of(tmp_path, rows, 2)
    assert found["score"]["value"] == 0.7
    assert [one["score"]["value"] for one in found["members"]] == [1.0, 0.7]
    assert found["score"]["n"] == 100


def test_too_few_items_give_a_reason_and_no_lift(tmp_path: Path) -> None:
    found = found_of(tmp_path, voters(1, [0.8, 0.8]), 2)
    assert found == {"reason": "too few items have labels and verdicts of all members"}
    assert p_of_lift(found) == 1.0


def calibrated_panel(folder: Path, rows: Rows, n: int) -> Calibration:
    asked, labels = rubric(folder, PAIR_RUBRIC), label_set(folder, rows)
    panel = Panel(members=tuple(open_judge_of(asked, f"replay:#j{k}", labels) for k in range(n)))
    return calibrate(asked, labels, panel, today=TODAY, settings=FAST)


def test_a_panel_is_accepted_only_with_a_lift(tmp_path: Path) -> None:
    better = calibrated_panel(tmp_path, voters(500, [0.85, 0.85, 0.85]), 3)
    assert better.is_accepted
    page = evidence_page(better)
    assert "### The panel" in page
    assert "it gains" in page
    none = calibrated_panel(tmp_path, voters(500, [0.97, 0.6, 0.6]), 3)
    assert not none.is_accepted
    [criterion] = none.criteria.values()
    assert any("against its best member, replay:#j0" in reason for reason in criterion.reasons)


def test_a_single_judge_is_not_asked_for_a_lift(tmp_path: Path) -> None:
    found = calibrated(tmp_path, pairs(60), "perfect")
    [criterion] = found.criteria.values()
    assert "panel" not in criterion.figures
    assert "better than its best member" not in [c["check"] for c in criterion.figures["checks"]]
