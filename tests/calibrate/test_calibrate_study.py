"""A judge with a known fault is found out, and one without is accepted."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import Answering, fail, likelihoods, say
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_labels import (
    FAST,
    GRADE_RUBRIC,
    PAIR_RUBRIC,
    TODAY,
    TWO_RUBRIC,
    Rows,
    calibrated,
    grades,
    label_set,
    only,
    pairs,
    rubric,
    with_fields,
    write_rows,
)

from evalkit.calibrate import Settings, calibrate, open_judge_of, read_labels
from evalkit.calibrate.evidence import label_value
from evalkit.errors import DatasetError, NotFoundError, RunError, UsageError
from evalkit.judges import open_model_judge
from evalkit.judges.calibration import read_calibration, write_calibration
from evalkit.judges.correction import labels_problems, standing_of
from evalkit.types import Request, Response


def test_a_judge_that_says_what_people_say_is_accepted(tmp_path: Path) -> None:
    found = only(calibrated(tmp_path, pairs(60), "perfect"))
    assert found.is_accepted
    assert len(found.reasons) == 5
    assert found.reasons[0] == "60 items were labelled and judged"


def test_complete_agreement_has_the_p_of_as_many_right_answers_in_a_row(tmp_path: Path) -> None:
    found = only(calibrated(tmp_path, pairs(40, noise=0.0), "perfect"))
    assert found.is_accepted
    assert found.figures["discrimination"]["value"] == 1.0
    commonest = found.figures["constant"]["value"]
    [p] = [c["p"] for c in found.figures["checks"] if c["check"] == "tells good from bad"]
    assert p == pytest.approx((commonest + 0.2 * (1 - commonest)) ** 40)


REFUSED = {
    "constant": "no better than chance|does not tell good from bad: the judge gave one",
    "position": "no better than chance: right in 50.0 % of 60 pairs",
    "coin": "no better than chance: right in",
    "contrary": "no better than chance: right in",
    "silent": "gave no verdict on 15 of 60 items: more than 10 %",
}


@pytest.mark.parametrize("judge", REFUSED)
def test_a_judge_with_a_fault_is_refused_with_its_name(tmp_path: Path, judge: str) -> None:
    found = only(calibrated(tmp_path, pairs(60), judge))
    assert not found.is_accepted
    assert any(re.search(REFUSED[judge], reason) for reason in found.reasons), found.reasons


def test_a_judge_that_goes_by_position_is_told_what_it_did(tmp_path: Path) -> None:
    found = only(calibrated(tmp_path, pairs(60), "position"))
    orders = found.figures["orders"]
    assert (orders["n_first_twice"], orders["n_second_twice"]) == (60, 0)
    assert orders["first_share"]["value"] == 1.0
    assert any("the same in both orders of 0 in 60 pairs" in reason for reason in found.reasons)


def test_a_judge_of_one_order_is_not_tested_for_the_order_and_the_page_says_so(
    tmp_path: Path,
) -> None:
    found = only(calibrated(tmp_path, pairs(60), "one order"))
    assert found.is_accepted
    assert found.figures["orders"] == {}
    assert any("each was judged in one order only" in note for note in found.figures["notes"])


def test_too_few_items_are_not_enough_for_any_judge(tmp_path: Path) -> None:
    found = only(calibrated(tmp_path, pairs(20), "perfect"))
    assert not found.is_accepted
    assert found.reasons[0] == "only 20 items were labelled and judged: 30 are needed"


def test_a_lenient_judge_is_accepted_and_its_leniency_mapped_away(tmp_path: Path) -> None:
    found = only(calibrated(tmp_path, grades(150, shift=1.0), "lenient", text=GRADE_RUBRIC))
    bias = found.figures["bias"]
    assert found.is_accepted
    assert bias["raw"]["low"] < 0.95 < bias["raw"]["high"]  # 1, less what the ends of 1..5 take
    assert bias["mapped"]["low"] < 0 < bias["mapped"]["high"]
    errors = found.figures["errors"]
    assert errors["mapped"]["mae"]["value"] < errors["constant"]["mae"]["value"]
    assert errors["constant"]["mae"]["value"] < errors["raw"]["mae"]["value"]


@pytest.mark.parametrize("judge", ["constant", "random"])
def test_a_judge_that_does_not_tell_grades_apart_is_refused(tmp_path: Path, judge: str) -> None:
    found = only(calibrated(tmp_path, grades(150), judge, text=GRADE_RUBRIC))
    assert not found.is_accepted
    assert not found.figures["discrimination"]["is_passed"]


def test_a_constant_may_pass_for_a_person_on_a_skewed_scale_and_is_refused_all_the_same(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(5)

    def mostly_five(i: int, row: dict[str, Any]) -> dict[str, Any]:
        marks = [5 if rng.random() < 0.85 else 4 for _ in range(3)]
        return {"labels": {f"p{j}": m for j, m in enumerate(marks)}, "judges": {"five": 5}}

    rows = with_fields(grades(120), mostly_five)
    found = only(calibrated(tmp_path, rows, "five", text=GRADE_RUBRIC))
    assert found.figures["replacement"]["mapped"]["is_passed"]
    assert not found.is_accepted
    assert "the judge gave one and the same score" in found.reasons[0]


# Two raters of 50 items: 20 twice yes, 15 twice no, 5 yes/no, 10 no/yes. Kappa .4 (.1511, .6489):
# en.wikipedia.org/wiki/Cohen's_kappa, interval by statsmodels 0.14 (cohens_kappa).
def two_raters() -> Rows:
    cells = [("yes", "yes", 20), ("yes", "no", 5), ("no", "yes", 10), ("no", "no", 15)]
    sides = [(a, b) for a, b, n in cells for _ in range(n)]
    as_number = {"yes": 1, "no": 2}
    return [
        {
            "id": str(i),
            "prompt": f"q{i}",
            "response": "a",
            "opponent": "b",
            "labels": {"ann": as_number[people]},
            "judges": {"j": as_number[judge]},
        }
        for i, (people, judge) in enumerate(sides)
    ]


def test_kappa_and_confusion_are_those_of_the_textbook(tmp_path: Path) -> None:
    figures = only(calibrated(tmp_path, two_raters(), "j")).figures
    kappa = figures["agreement"]["kappa"]
    assert [kappa[k] for k in ("value", "low", "high")] == pytest.approx(
        [0.4, 0.1511, 0.6489], abs=5e-5
    )
    assert figures["confusion"] == {
        "values": [0.0, 0.5, 1.0],
        "rows": [[15, 0, 10], [0, 0, 0], [5, 0, 20]],
    }
    assert figures["accuracy"]["value"] == 0.7


def test_no_abstention_among_twenty_has_newcombes_interval(tmp_path: Path) -> None:
    # Newcombe (1998), Statist. Med. 17:857-872, Table I, method 3: 0/20
    shown = only(calibrated(tmp_path, pairs(20), "perfect")).figures["abstained"]
    assert (shown["low"], shown["high"], shown["n"]) == (0.0, pytest.approx(0.1611, abs=5e-5), 20)


def test_p_of_no_abstention_is_the_chance_of_as_many_answers(tmp_path: Path) -> None:
    checks = only(calibrated(tmp_path, pairs(40), "perfect")).figures["checks"]
    [p] = [check["p"] for check in checks if check["check"] == "gives verdicts"]
    assert p == pytest.approx(0.9**40)


def test_p_of_the_same_in_both_orders_is_the_binomials(tmp_path: Path) -> None:
    rows = with_fields(
        pairs(50),
        lambda i, row: {"judges": {"j": {"orig": 1, "swap": 1 if i < 35 else 2}}},
    )
    checks = only(calibrated(tmp_path, rows, "j")).figures["checks"]
    [p] = [check["p"] for check in checks if check["check"] == "same in both orders"]
    tail = sum(math.comb(50, k) * 0.6**k * 0.4 ** (50 - k) for k in range(35, 51))
    assert p == pytest.approx(tail)


def test_items_without_a_verdict_are_counted_and_kept_from_the_map(tmp_path: Path) -> None:
    found = only(calibrated(tmp_path, pairs(60), "silent"))
    assert found.figures["counts"]["n_abstained"] == 15
    assert len(found.items.key) == 45
    assert np.isfinite(found.items.judge).all()


def test_a_share_of_the_people_agree_with_the_judge_one_by_one(tmp_path: Path) -> None:
    rows = with_fields(
        pairs(40),
        lambda i, row: {
            "labels": {"same": 1, "half": 1 if i % 2 else 2, "rare": 1} if i < 5 else
            {"same": 1, "half": 1 if i % 2 else 2},
            "judges": {"j": 1},
        },
    )  # fmt: skip
    annotators = only(calibrated(tmp_path, rows, "j")).figures["annotators"]
    assert set(annotators) == {"same", "half"}  # five items say nothing of a person
    assert annotators["same"]["agreement"]["value"] == 1.0
    assert annotators["half"]["agreement"]["value"] == 0.5


def test_clusters_widen_the_interval_and_are_never_parted_by_folds(tmp_path: Path) -> None:
    four = [row for row in grades(40) for _ in range(4)]
    apart = with_fields(four, lambda i, row: {"id": f"i{i}", "prompt": f"q{i}"})
    together = with_fields(apart, lambda i, row: {"cluster": f"c{i // 4}"})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    as_items = only(calibrated(tmp_path / "a", apart, "good", text=GRADE_RUBRIC))
    as_clusters = only(calibrated(tmp_path / "b", together, "good", text=GRADE_RUBRIC))
    widths = [
        one.figures["bias"]["raw"]["high"] - one.figures["bias"]["raw"]["low"]
        for one in (as_items, as_clusters)
    ]
    # four copies of an item are one: the interval is that of a fourth of them
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.05)
    assert as_clusters.figures["counts"]["n_units"] == 40
    predicted = np.array(as_clusters.items.predicted).reshape(40, 4)
    assert np.ptp(predicted, axis=1).max() == 0


def test_judges_rank_systems_beside_people(tmp_path: Path) -> None:
    rows = with_fields(
        pairs(40),
        lambda i, row: {
            "system": ["x", "y"] if i % 2 else ["y", "x"],
            "labels": {"ann": 1 if (i < 30) == bool(i % 2) else 2},
            "judges": {"j": 1 if (i < 24) == bool(i % 2) else 2},
        },
    )
    ranking = only(calibrated(tmp_path, rows, "j")).figures["ranking"]
    assert (ranking["systems"], ranking["n"]) == (["x", "y"], 40)
    # of two systems the strength is the log of the odds: x wins 30 of 40, by the judge 24
    for who, wins in (("people", 30), ("judge", 24)):
        strengths = [s["value"] for s in ranking[who]["strengths"]]
        assert strengths == pytest.approx([0, math.log((40 - wins) / wins)])
        assert [s["n"] for s in ranking[who]["strengths"]] == [40, 40]
    assert ranking["people"]["ranks"] == [[1, 1], [2, 2]]


def test_a_system_that_never_loses_has_no_strength_but_a_reason(tmp_path: Path) -> None:
    rows = with_fields(pairs(40), lambda i, row: {"system": ["x", "y"], "judges": {"j": 1}})
    ranking = only(calibrated(tmp_path, rows, "j")).figures["ranking"]
    assert "no finite estimate" in ranking["judge"]["reason"]
    assert "reason" not in ranking["people"]


def test_strata_are_shown_apart(tmp_path: Path) -> None:
    rows = with_fields(
        grades(60), lambda i, row: {"stratum": "hard" if i % 3 else "easy", "judges": {"j": 3}}
    )
    strata = only(calibrated(tmp_path, rows, "j", text=GRADE_RUBRIC)).figures["strata"]
    assert {name: one["mae"]["n"] for name, one in strata.items()} == {"easy": 20, "hard": 40}


def test_grades_beyond_the_rubrics_scale_are_numbers_and_no_classes(tmp_path: Path) -> None:
    rows = with_fields(grades(60), lambda i, row: {"labels": {"a": -float(i)}})
    found = only(calibrated(tmp_path, rows, "good", text=GRADE_RUBRIC)).figures
    assert found["confusion"] is None
    assert "kappa" not in found["agreement"]
    assert "pearson" in found["agreement"]


# --- models as judges


def by_length(request: Request) -> Response:
    """Sure of A where the prompt speaks of an even question, less sure of B else."""
    text = str(request.prompts[0])
    n = int(text.rsplit("question ", 1)[-1].split()[0].strip("\"'"))
    is_swapped = text.index("second answer") < text.index("first answer")
    p = 0.9 if n % 2 == 0 else 0.3
    p = 1 - p if is_swapped else p
    return likelihoods(math.log(p), -50.0, math.log(1 - p), -50.0)


def test_probabilities_are_held_against_what_came_true(tmp_path: Path) -> None:
    labels = label_set(tmp_path, pairs(80))
    asked = rubric(tmp_path)
    judge = open_model_judge(asked, Answering(by_length), spec="test")
    figures = only(calibrate(asked, labels, judge, today=TODAY, settings=FAST)).figures
    raw = figures["reliability"]["raw"]
    assert [one["confidence"] for one in raw["bins"]] == pytest.approx([0.3, 0.9])
    assert [one["frequency"]["n"] for one in raw["bins"]] == [40, 40]
    assert raw["ece"]["low"] <= raw["ece"]["value"] <= raw["ece"]["high"]
    assert raw["debiased_ece"]["value"] <= raw["ece"]["value"]


def test_a_judge_that_answers_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    labels, asked = label_set(tmp_path, pairs(5)), rubric(tmp_path)
    judge = open_model_judge(asked, Answering(lambda request: fail()), spec="test")
    with pytest.raises(RunError, match="no verdict on any of 5 items: it does not fit"):
        calibrate(asked, labels, judge, today=TODAY, settings=FAST)


def test_items_without_texts_are_not_for_a_model(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "response"} for row in grades(40)]
    labels, asked = label_set(tmp_path, rows), rubric(tmp_path, GRADE_RUBRIC)
    judge = open_model_judge(asked, Answering(lambda request: say("")), spec="test")
    with pytest.raises(UsageError, match=r"labels.jsonl:1: the labels give no response"):
        calibrate(asked, labels, judge, today=TODAY, settings=FAST)
    recorded = open_judge_of(asked, "replay:#good", labels)
    found = only(calibrate(asked, labels, recorded, today=TODAY, settings=FAST))
    assert len(set(found.items.key)) == 40


# --- labels that do not fit


def test_a_criterion_without_labels_is_named_with_those_there_are(tmp_path: Path) -> None:
    rows = with_fields(grades(5), lambda i, row: {"labels": {"clear": {"a": 1}, "kind": {"a": 2}}})
    with pytest.raises(DatasetError) as error:
        calibrated(tmp_path, rows, "good", text=TWO_RUBRIC)
    assert "no labels for criterion 'short' of rubric 'two'" in str(error.value)
    assert "there are labels for: clear, kind" in str(error.value)


def test_pairs_without_the_other_answer_are_refused(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "opponent"} for row in pairs(3)]
    with pytest.raises(DatasetError, match=r"labels.jsonl:1: .*compares two answers"):
        calibrated(tmp_path, rows, "perfect")


@pytest.mark.parametrize(
    ("label", "text", "wanted"),
    [
        (3, PAIR_RUBRIC, "1 (the response is better), 2 (the other one) or 0 (a tie)"),
        ("first", PAIR_RUBRIC, "1 (the response is better)"),
        ("good", GRADE_RUBRIC, "a number"),
    ],
)
def test_a_label_that_the_rubric_does_not_have_is_named(
    tmp_path: Path, label: object, text: str, wanted: str
) -> None:
    rows = pairs(3) if text == PAIR_RUBRIC else grades(3)
    rows[1]["labels"] = {"ann": label}
    judge = "perfect" if text == PAIR_RUBRIC else "good"
    with pytest.raises(DatasetError) as error:
        calibrated(tmp_path, rows, judge, text=text)
    assert "labels.jsonl:2: label" in str(error.value)
    assert wanted in str(error.value)


def test_words_are_labels_where_the_rubric_has_words(tmp_path: Path) -> None:
    text = (
        "rubric: nli\nversion: 1\nkind: classify\ncriteria: {follows: {question: Does it?, "
        "labels: {entailed: 1, neutral: 0.5, contradicted: 0}}}\nprompt: '{{ response }}'\n"
    )
    [criterion] = rubric(tmp_path, text).criteria
    values = [
        label_value(w, criterion, "classify", "x:1") for w in ("Entailed", " neutral", 0, "1")
    ]
    assert values == [1.0, 0.5, 0.0, 1.0]
    with pytest.raises(DatasetError, match="'entailed' or 'neutral' or 'contradicted'"):
        label_value("maybe", criterion, "classify", "x:1")
    with pytest.raises(DatasetError, match=r"x:1: label 0.7"):
        label_value(0.7, criterion, "classify", "x:1")


def test_a_judge_that_the_labels_do_not_have_is_named_with_those_they_have(tmp_path: Path) -> None:
    labels, asked = label_set(tmp_path, pairs(3)), rubric(tmp_path)
    with pytest.raises(NotFoundError, match="no such judge beside the labels: 'perfct'; did you"):
        open_judge_of(asked, "replay:#perfct", labels)
    with pytest.raises(UsageError, match="of a panel's recorded verdicts name the file"):
        open_judge_of(asked, "[replay:#perfect, replay:#coin]", labels)


# --- the file


def test_the_same_again_is_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name in ("a.json", "b.json"):
        found = calibrated(tmp_path, grades(60), "good", text=GRADE_RUBRIC, settings=Settings())
        write_calibration(found, tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    found = calibrated(tmp_path, pairs(60), "silent")
    write_calibration(found, tmp_path / "c.json")
    assert read_calibration(tmp_path / "c.json").sha256() == found.sha256()


@settings(max_examples=8)
@given(seed=st.integers(0, 1000))
def test_what_is_found_does_not_depend_on_the_order_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    rows = grades(40)
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(40)]
    first, second = (
        only(calibrated(folder, some, "lenient", text=GRADE_RUBRIC)) for some in (rows, shuffled)
    )
    assert first.map == pytest.approx(second.map)
    assert first.reasons == second.reasons
    paired = [dict(zip(one.items.key, one.items.predicted, strict=True)) for one in (first, second)]
    assert paired[0] == pytest.approx(paired[1])


@pytest.mark.parametrize("part", ["the rubric", "the judge's sampling", "the labels"])
def test_one_changed_character_makes_a_calibration_stale_and_says_where(
    tmp_path: Path, part: str
) -> None:
    text = PAIR_RUBRIC + "critique: {max_tokens: 20}\n"
    labels, asked = label_set(tmp_path, pairs(40)), rubric(tmp_path, text)
    backend = Answering(
        lambda r: say("because") if r.kind == "generate" else likelihoods(-0.1, -9.0, -3.0, -9.0)
    )
    judge = open_model_judge(asked, backend, spec="test")
    path = tmp_path / "better--test.json"
    write_calibration(calibrate(asked, labels, judge, today=TODAY, settings=FAST), path)
    assert standing_of(asked, judge.info, [path]).status == "refused"  # but it holds
    if part == "the labels":
        content = labels.path.read_text(encoding="utf-8")
        labels.path.write_text(content.replace("answer 7", "answer 8", 1), encoding="utf-8")
        assert labels_problems(read_calibration(path)) == ["the labels have changed (labels.jsonl)"]
    else:
        old, new = ("question", "questions") if part == "the rubric" else ("20}", "21}")
        old, new = ("better?", "best?") if part == "the rubric" else (old, new)
        asked = rubric(tmp_path, text.replace(old, new))
        judge = open_model_judge(asked, backend, spec="test")
    standing = standing_of(asked, judge.info, [path])
    assert standing.status == "stale"
    assert f"{part} ha" in standing.note


def test_labels_know_their_files_and_their_own_hash(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", pairs(40))
    found = calibrated(tmp_path, pairs(40), "perfect").labels
    assert found["n_items"] == 40
    assert found["n_labels"] == 120
    assert found["n_annotators"] == 3
    assert list(found["files"]) == [str(tmp_path / "labels.jsonl")]
    assert found["sha256"] == read_labels(rows).sha256
