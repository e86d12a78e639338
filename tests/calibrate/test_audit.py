"""The bias audit: what is planted in a judge is found with its size, and what is not is not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_judges import FAST, asked_again, audited, model, recorded
from synthetic_labels import (
    GRADE_RUBRIC,
    PAIR_RUBRIC,
    TODAY,
    calibrated,
    grades,
    label_set,
    pairs,
    rubric,
)

from evalkit import cli
from evalkit.calibrate import calibrate, gather
from evalkit.calibrate.audit_features import features_of
from evalkit.calibrate.page import evidence_page
from evalkit.calibrate.text import audit_text
from evalkit.judges.calibration import read_calibration, write_calibration
from evalkit.stats.intervals import wilson

Row = dict[str, Any]
LETTERS = "abcdefghij"
OTHERS = str.maketrans(LETTERS.upper(), "KLMNOPQRST")


def answers(
    n: int,
    plant: Callable[[Row, np.random.Generator], float],
    *,
    noise: float = 0.3,
    seed: int = 0,
) -> list[Row]:
    """Answers of unlike lengths and layouts whose judge is people's mean, noise and ``plant``."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for i in range(n):
        quality = float(rng.uniform(1.5, 4.5))
        words = " ".join(["word"] * int(rng.integers(3, 60)))
        is_list, own = bool(rng.random() < 0.4), bool(rng.random() < 0.5)
        row: Row = {
            "id": f"answer-{i}",
            "prompt": f"question {i}",
            "response": f"- {words}\n- {i}" if is_list else f"{words} {i}",
            "fields": {"family": "mine" if own else "other"},
            "system": "mine-2" if own else "other-1",
            "is_list": is_list,
        }
        row["labels"] = {f"p{j}": quality for j in range(3)}
        row["judges"] = {"mine-1": quality + plant(row, rng) + float(rng.normal(0, noise))}
        del row["is_list"]
        rows.append(row)
    return rows


def log_length(row: Row) -> float:
    return math.log1p(len(row["response"]))


def test_a_planted_length_bias_is_found_with_its_size_and_nothing_else_is(tmp_path: Path) -> None:
    lengths = [log_length(row) for row in answers(600, lambda row, rng: 0.0)]
    mean, spread = float(np.mean(lengths)), float(np.std(lengths))
    rows = answers(600, lambda row, rng: 0.25 * (log_length(row) - mean) / spread, noise=0.1)
    found = audited(tmp_path, rows, "mine-1")["features"]
    assert found["length"]["low"] < 0.25 < found["length"]["high"]
    assert found["length"]["p"] < 1e-6
    assert found["length"]["n"] > 550  # but those that fall off the scale
    for other in ("list", "own_family"):
        assert found[other]["low"] < 0 < found[other]["high"]


@pytest.mark.parametrize(
    ("feature", "is_so"),
    [("list", lambda r: r["is_list"]), ("own_family", lambda r: r["fields"]["family"] == "mine")],
)
def test_a_planted_liking_for_lists_or_for_its_own_family_is_found(
    feature: str, is_so: Callable[[Row], bool], tmp_path: Path
) -> None:
    found = audited(tmp_path, answers(600, lambda r, rng: 0.4 * is_so(r)), "mine-1")["features"]
    assert found[feature]["low"] < 0.4 < found[feature]["high"]
    others = set(found) - {feature}
    assert all(found[other]["p"] > 0.01 for other in others)


def test_of_an_unbiased_judge_every_interval_holds_nothing(tmp_path: Path) -> None:
    found = audited(tmp_path, answers(400, lambda row, rng: 0.0), "mine-1")
    for figure in (*found["features"].values(), *found["leniency"].values()):
        assert figure["low"] < 0 < figure["high"]
    [between] = found["differential"]
    assert between["finding"] == "negligible"
    assert (between["baseline"], between["candidate"]) == ("mine-2", "other-1")


def test_nearness_to_the_reference_is_measured_where_every_item_has_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = []
    for row in answers(300, lambda row, rng: 0.0, seed=3):
        shared = int(rng.integers(0, len(LETTERS) + 1))  # of ten words
        response = " ".join([*LETTERS[:shared], *LETTERS[shared:].upper().translate(OTHERS)])
        value = row["judges"]["mine-1"] + 0.8 * shared / len(LETTERS)
        kept = {"response": response, "target": " ".join(LETTERS), "judges": {"mine-1": value}}
        rows.append(row | kept)
    found = audited(tmp_path, rows, "mine-1")["features"]["reference"]
    assert found["low"] < 0.8 < found["high"]
    assert found["low"] > 0.5


def test_a_feature_that_goes_with_another_is_left_out_and_named(tmp_path: Path) -> None:
    rows = [
        row | {"response": f"# {i}\n- {row['response']}" if i % 3 else row["response"]}
        for i, row in enumerate(grades(60))
    ]
    found = audited(tmp_path, rows, "good")
    assert found["features"].keys() == {"length", "list"}
    assert found["features"]["list"]["low"] < 0 < found["features"]["list"]["high"]
    assert "heading: it cannot be told apart from what is measured before" in found["untested"]


def test_leniency_and_its_difference_are_means_of_residuals(tmp_path: Path) -> None:
    residuals = {"a": [0.5, 0.7, 0.3, 0.6, 0.4], "b": [-0.2, 0.1, 0.0, -0.1, -0.3]}
    rows = [
        {
            "id": f"{system}{i}",
            "prompt": f"question {i}",
            "response": f"{system} {i}",
            "cluster": f"question {i}",
            "system": system,
            "labels": {"p": 2 + i % 3},
            "judges": {"j": 2 + i % 3 + residual},
        }
        for system, own in residuals.items()
        for i, residual in enumerate(own)
    ]
    found = audited(tmp_path, rows, "j")
    assert found["leniency"]["a"]["value"] == pytest.approx(0.5)
    assert found["leniency"]["b"]["value"] == pytest.approx(-0.1)
    [between] = found["differential"]
    assert between["value"] == pytest.approx(-0.6)
    # scipy.stats.ttest_rel of b and a: the answers to one question are compared with each other
    assert (between["low"], between["high"]) == pytest.approx((-0.815063, -0.384937), abs=1e-6)
    assert between["p"] == between["p_holm"] == pytest.approx(0.00149648, abs=1e-8)
    assert between["finding"] == "biased"


def test_of_pairs_a_system_is_favoured_by_as_much_as_the_other_is_not(tmp_path: Path) -> None:
    rows = [
        {
            "id": f"pair-{i}",
            "prompt": f"question {i}",
            "response": f"one {i}",
            "opponent": f"other {i}",
            "system": ["x", "y"] if i % 2 else ["y", "x"],
            "labels": {"p": 0},  # people see no difference
            "judges": {"j": (1 if i % 2 else 2) if i < 30 else 0},  # x, in 30 of 40
        }
        for i in range(40)
    ]
    found = audited(tmp_path, rows, "j", text=PAIR_RUBRIC)
    assert found["leniency"]["x"]["value"] == pytest.approx(0.375)
    assert found["leniency"]["y"]["value"] == pytest.approx(-0.375)
    [between] = found["differential"]
    assert between["value"] == pytest.approx(-0.75)  # of win rates: y's less x's
    assert between["finding"] == "biased"
    assert "position: each pair was judged in one order only" in found["untested"]


def test_several_comparisons_are_corrected_together(tmp_path: Path) -> None:
    rows = answers(200, lambda row, rng: 0.0)
    for i, row in enumerate(rows):
        row["system"] = LETTERS[i % 4]
    found = audited(tmp_path, rows, "mine-1")["differential"]
    assert len(found) == 6
    ps = [one["p"] for one in found]
    assert min(one["p_holm"] for one in found) == pytest.approx(min(1, 6 * min(ps)))
    assert all(one["p_holm"] >= one["p"] for one in found)


def test_position_is_the_share_of_the_first_among_pairs_that_follow_the_place(
    tmp_path: Path,
) -> None:
    rows = pairs(60)
    always = audited(tmp_path, rows, "position", text=PAIR_RUBRIC)["position"]
    bounds = wilson(60, 60)
    found = always["first_of_inconsistent"]
    assert (found["value"], found["low"], found["n"]) == (1.0, bounds.low, 60)
    assert found["p"] == pytest.approx(2 * 0.5**60)
    never = audited(tmp_path, rows, "perfect", text=PAIR_RUBRIC)["position"]
    assert never["first_of_inconsistent"]["n"] == 0
    assert math.isnan(never["first_of_inconsistent"]["value"])
    assert never["first_share"]["value"] == 0.5


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    found = audited(tmp_path, grades(40), "good")
    assert found["features"].keys() == {"length"}
    said = " ".join(found["untested"])
    for part in ("family", "reference", "two of them", "recorded", "list: only 0 items differ"):
        assert part in said
    bare = [{k: v for k, v in row.items() if k != "response"} for row in grades(40)]
    found = audited(tmp_path, bare, "good")
    assert "length and format: the labels give no responses" in found["untested"]
    off_scale = [row | {"labels": {"p": 90}} for row in grades(40)]
    found = audited(tmp_path, off_scale, "good")
    assert found["features"] == found["leniency"] == {}
    assert any("not on one scale" in one for one in found["untested"])


@pytest.mark.parametrize(
    ("judge", "is_own"),
    [
        ("replay:#mine-1", True),
        ("local:MINE-7b", True),
        ("replay:mine/verdicts.jsonl#else", False),
        ("[replay:mine.jsonl#a, replay:mine.jsonl#b]", False),
        ("[replay:a.jsonl#else, http://host/v1#mine]", True),
    ],
)
def test_a_family_is_the_judges_own_by_the_judges_name_and_not_by_a_files(
    judge: str, is_own: bool, tmp_path: Path
) -> None:
    asked, items, verdicts, _ = recorded(tmp_path, answers(60, lambda r, g: 0.0), "mine-1")
    features, untested = features_of(gather(asked, asked.criteria[0], items, verdicts), judge)
    assert ("own_family" in [feature.name for feature in features]) is is_own
    assert any("no system is of a family" in one for one in untested) is not is_own


def systems_in_pairs(n: int, verdict: Callable[[int], int], systems: list[list[str]]) -> list[Row]:
    """Pairs between which people see no difference."""
    return [
        {
            "id": f"pair-{i}",
            "prompt": f"question {i}",
            "response": f"one {i}",
            "opponent": f"other {i}",
            "system": systems[i % len(systems)],
            "fields": {"family": [name[0] for name in systems[i % len(systems)]]},
            "labels": {"p": 0},
            "judges": {"x": verdict(i)},
        }
        for i in range(n)
    ]


def test_of_a_pair_it_matters_which_of_the_two_is_of_the_own_family(tmp_path: Path) -> None:
    kinds = [["x-1", "y"], ["y", "x-1"], ["x-1", "x-2"], ["y", "z"]]
    # for its own, where one is and the other is not; else for either as often
    said = [1, 2, 1, 1, 1, 2, 2, 2]
    rows = systems_in_pairs(80, lambda i: said[i % 8] if i % 10 else 0, kinds)
    found = audited(tmp_path, rows, "x", text=PAIR_RUBRIC)["features"]["own_family"]
    assert found["value"] == pytest.approx(0.45)  # half of the scale, but for a tie in ten
    assert found["low"] > 0.3


def test_two_systems_are_compared_on_the_pairs_that_both_stand_in(tmp_path: Path) -> None:
    # y beats x whenever they meet, and z is beaten by x and beats y
    kinds = [["x", "y"], ["x", "z"], ["y", "z"]]
    rows = systems_in_pairs(90, lambda i: [2, 1, 2][i % 3] if i % 10 else 0, kinds)
    found = audited(tmp_path, rows, "x", text=PAIR_RUBRIC)["differential"]
    shown = {(one["baseline"], one["candidate"]): (one["value"], one["n"]) for one in found}
    assert shown == {
        ("x", "y"): (pytest.approx(0.9), 60),  # two answers a pair
        ("x", "z"): (pytest.approx(-0.9), 60),
        ("y", "z"): (pytest.approx(0.9), 60),
    }


def test_the_same_audit_twice_is_the_same(tmp_path: Path) -> None:
    def once() -> str:
        return json.dumps(asked_again(tmp_path, grades(60), lambda fence: "3"), sort_keys=True)

    assert once() == once()


# Asked again

CUES = {
    "padding": "As with most things, much depends",
    "list": "- answer",
    "heading": "## Answer",
    "expert": "An expert's answer",
    "flattery": "nobody judges as well as you do",
    "command": "has to be given the best verdict",
}


@pytest.mark.parametrize("edit", CUES)
def test_an_edit_that_moves_the_judge_is_found_and_the_others_are_not(
    edit: str, tmp_path: Path
) -> None:
    rows = [
        row | {"response": f"{row['response']}. {'So it is. ' * 20}".strip()} for row in grades(50)
    ]
    cue = CUES[edit]
    found = asked_again(tmp_path, rows, lambda fence: "5" if cue in fence["response"] else "3")
    # the mean over the labels, 1 to 5: 0.9 on the one that is said, 0.025 on each of the others
    change = (0.9 * 5 + 0.025 * 10) - (0.9 * 3 + 0.025 * 12)
    for name, one in found["edits"].items():
        moved = name == edit
        assert one["value"] == pytest.approx(change if moved else 0.0)
        assert one["flips"]["value"] == float(moved)
        assert (one["n_raised"], one["n_lowered"]) == (40 if moved else 0, 0)
        assert one["n"] == one["flips"]["n"] == 40


def test_an_edit_that_lowers_the_judge_has_a_minus(tmp_path: Path) -> None:
    found = asked_again(
        tmp_path, grades(30), lambda fence: "2" if "expert" in fence["response"] else "4"
    )["edits"]["expert"]
    assert found["value"] < 0
    assert found["n_lowered"] == found["n"] == 30


def test_a_pair_is_edited_on_one_side_only(tmp_path: Path) -> None:
    def prefers_headings(fence: dict[str, str]) -> str:
        marked = [name for name, text in fence.items() if text.startswith("## ")]
        return marked[0] if marked else "A"

    found = asked_again(tmp_path, pairs(30), prefers_headings, text=PAIR_RUBRIC)["edits"]
    # from a tie, A in both orders, to the response in both
    assert found["heading"]["value"] == pytest.approx(0.4)
    assert found["heading"]["n_raised"] == 30
    assert found["command"]["value"] == pytest.approx(0.0)


# In a calibration


def test_a_calibration_holds_the_audit_and_its_page_shows_every_figure_of_it(
    tmp_path: Path,
) -> None:
    rows = answers(60, lambda row, rng: 0.0)
    asked, labels = rubric(tmp_path, GRADE_RUBRIC), label_set(tmp_path, rows)
    judge = model(asked, lambda fence: "4" if "best verdict" in fence["response"] else "3")
    made = calibrate(asked, labels, judge, today=TODAY, settings=FAST, is_audited=True)
    write_calibration(made, tmp_path / "made.json")
    found = read_calibration(tmp_path / "made.json")
    assert found.sha256() == made.sha256()
    page = evidence_page(found)
    change = found.audit["criteria"]["quality"]["edits"]["command"]["value"]
    assert change == pytest.approx(0.875)  # of the mean over the labels: 3 to 3.875
    assert "| with a demand for the best verdict | 0.875 |" in page
    for part in ("leniency to each system", "texts in a bad response", "not measured"):
        assert f"### Audit: {part}" in page
    shown = [table for table in audit_text(found) if table.row_count]
    assert len(shown) == page.count("### Audit: ")


def test_without_being_asked_for_there_is_no_audit(tmp_path: Path) -> None:
    found = calibrated(tmp_path, pairs(40), "perfect")
    assert found.audit == {}
    assert "Audit" not in evidence_page(found)


@pytest.mark.parametrize("beside", [["--check", "a.json"], ["--run", "runs/x", "--suggest", "3"]])
def test_the_audit_belongs_to_making_a_calibration(
    beside: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rubric(tmp_path, PAIR_RUBRIC)
    monkeypatch.chdir(tmp_path)
    judge = ["--judge", "replay:#x"] if "--check" in beside else []
    line = ["evalkit", "calibrate", "better.yaml", "--audit", *judge, *beside]
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_prints_the_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rubric(tmp_path, PAIR_RUBRIC)
    label_set(tmp_path, pairs(40))
    monkeypatch.chdir(tmp_path)
    judge = ["--judge", "replay:#position", "--out", "found.json"]
    line = ["calibrate", "better.yaml", "--labels", "labels.jsonl", *judge, "--audit"]
    monkeypatch.setattr("sys.argv", ["evalkit", *line])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code in (0, None)
    printed = capsys.readouterr().out
    assert "Audit: the order of a pair" in printed
    assert re.search(r"those for the first +100\.0 %", printed)
