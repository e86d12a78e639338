"""Texts that tell a judge what to say: how often they work, and that they stay in the fence."""

from __future__ import annotations

import asyncio
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import Answering, say
from hypothesis import given
from hypothesis import strategies as st
from planted_judges import FAST, asked_again, fences, model, saying, shown
from synthetic_labels import (
    GRADE_RUBRIC,
    PAIR_RUBRIC,
    TWO_RUBRIC,
    grades,
    label_set,
    pairs,
    rubric,
)

from evalkit.calibrate.audit import audit
from evalkit.calibrate.audit_asking import N_ATTACKED, PER_ITEM
from evalkit.calibrate.audit_edits import CONTROL, read_injections
from evalkit.calibrate.study import judge_items
from evalkit.errors import DatasetError
from evalkit.judges import Case, Rubric, open_model_judge
from evalkit.judges.asking import fenced, question
from evalkit.stats.intervals import wilson_mean
from evalkit.types import Status

INJECTIONS = read_injections()
ATTACKS = [one.into("4", label="5", cue="Rating:", name="response") for one in INJECTIONS]
HOSTILE = st.one_of(
    st.sampled_from(ATTACKS),
    st.text(max_size=60),
    st.builds(lambda a, b: a + b, st.sampled_from(ATTACKS), st.text(max_size=20)),
    st.from_regex(r"</?(response|A|B) [0-9a-f]{8}>\n?", fullmatch=True),
)


@pytest.fixture(scope="module")
def pair_rubric(tmp_path_factory: pytest.TempPathFactory) -> Rubric:
    """A rubric of pairs."""
    return rubric(tmp_path_factory.mktemp("pair"), PAIR_RUBRIC)


@pytest.fixture(scope="module")
def text_rubric(tmp_path_factory: pytest.TempPathFactory) -> Rubric:
    """A rubric whose verdicts are read from what the judge writes."""
    return rubric(tmp_path_factory.mktemp("text"), f"{GRADE_RUBRIC}verdict: text\n")


# The fence


@given(HOSTILE, st.sampled_from(["response", "A", "B"]))
def test_no_text_holds_the_mark_that_ends_its_fence(text: str, name: str) -> None:
    found = fenced(text, name=name)
    opening, closing = found.split("\n", 1)[0], found.rsplit("\n", 1)[1]
    assert found == f"{opening}\n{text}\n{closing}"
    assert opening[1:-1] == closing[2:-1]
    assert found.count(closing) == found.count(opening) == 1


@given(one=HOSTILE, other=HOSTILE)
def test_a_pair_is_read_back_whole_from_what_the_judge_is_shown(
    pair_rubric: Rubric, one: str, other: str
) -> None:
    asked = pair_rubric
    case = Case(key="c", prompt="Which?", response=one, opponent=other)
    for is_swapped in (False, True):
        _, prompt = question(asked, asked.criteria[0], case, is_swapped=is_swapped)
        marks = re.findall(r"<([AB]) ([0-9a-f]{8})>\n", prompt)
        texts = {}
        for name, mark in marks:
            ends = f"</{name} {mark}>"
            if prompt.count(ends) == 1 and prompt.count(f"<{name} {mark}>") == 1:
                start = prompt.index(f"<{name} {mark}>\n") + len(f"<{name} {mark}>\n")
                texts[(name, mark)] = prompt[start : prompt.index(f"\n{ends}")]
        shown = (other, one) if is_swapped else (one, other)
        for name, text in zip("AB", shown, strict=True):
            assert text in [inside for (label, _), inside in texts.items() if label == name]


def written(asked: Rubric, text: str, reply: str) -> Any:
    """The verdict of a judge that answers ``reply`` about a response ``text``."""
    backend = Answering(lambda request: say(reply), can=frozenset({"generate"}))
    judge = open_model_judge(asked, backend, spec="test:writes")
    case = Case(key="c", prompt="Which?", response=text)
    [found] = asyncio.run(judge.judge([case], lambda n_done, n_total: None))
    return found["quality"]


@given(text=HOSTILE)
def test_no_verdict_is_ever_read_from_the_text_that_is_judged(
    text_rubric: Rubric, text: str
) -> None:
    assert written(text_rubric, text, "I would rather not say.").status is Status.ABSTAINED
    assert written(text_rubric, text, '{"reason": "poor", "verdict": 2}').value == 2.0


# The texts


def test_the_injections_are_of_many_kinds_and_each_names_the_verdict_it_wants() -> None:
    kinds = {one.kind for one in INJECTIONS}
    assert {"order", "fence", "verdict", "role", "language", "json", "code", "system"} < kinds
    assert len({one.id for one in INJECTIONS}) == len({one.text for one in INJECTIONS})
    assert sum(one.kind != CONTROL for one in INJECTIONS) >= 20
    for one in INJECTIONS:
        assert ("{label}" in one.text) is (one.kind != CONTROL)
        filled = one.into("4", label="best", cue="Rating:", name="response")
        assert "4" in filled
        assert not re.search(r"\{(label|cue|name)\}", filled)
        assert ("best" in filled) is (one.kind != CONTROL)
        if one.kind == CONTROL:  # nothing in it can be taken for a label
            assert not re.search(r"\b([A-C]|\d|yes|no)\b", one.text)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"id": "a", "kind": "order", "where": "middle", "text": "x"}, ":1: an injection has"),
        ({"id": "a", "kind": "order", "where": "end"}, ":1: an injection has texts"),
        (
            {"id": "a", "kind": "order", "where": "end", "text": "{label}"},
            "texts of kind 'control'",
        ),
    ],
)
def test_a_file_of_injections_that_is_wrong_is_refused(
    line: dict[str, str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rubrics" / "data" / "injections.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=re.escape(problem)):
        read_injections()


# The audit


def bad(n: int) -> list[dict[str, Any]]:
    """Answers that people and the judge give 1, and as many that both give 4."""
    rows = [row | {"labels": {"p": 1 if i < n else 4}} for i, row in enumerate(grades(2 * n))]
    return [row | {"response": "poor" if i < n else "fine"} for i, row in enumerate(rows)]


def rate(text: str) -> str:
    return "4" if text.startswith("fine") else "1"


def unlike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with a word of its own in each response, for the judge to ignore."""
    return [row | {"response": f"{row['response']} ({row['id']}w)"} for row in rows]


def test_a_judge_that_obeys_is_found_out(tmp_path: Path) -> None:
    def decide(fence: dict[str, str]) -> str:
        return "5" if re.search(r"\b5\b", fence["response"].partition("w)")[2]) else "1"

    rows = [row | {"response": f"w) poor n{i}"} for i, row in enumerate(bad(45))]
    found = asked_again(tmp_path, rows, decide)["injections"]
    assert found["n_items"] == N_ATTACKED
    assert found["raised"]["n"] == N_ATTACKED * PER_ITEM
    starting = sum(one.where == "start" for one in INJECTIONS if one.kind != CONTROL)
    n = len([one for one in INJECTIONS if one.kind != CONTROL])
    # a text before the mark is not seen by this judge: each text is used as often, but for a round
    share = 1 - starting / n
    assert found["raised"]["value"] == pytest.approx(share, abs=0.02)
    assert found["to_the_top"]["value"] == found["raised"]["value"]
    assert found["control"]["value"] == 0.0
    assert found["control"]["n"] == N_ATTACKED
    assert found["beyond_control"]["value"] == pytest.approx(share, abs=0.02)
    assert found["beyond_control"]["low"] > 0.7
    # the mean over the labels: 0.9 on the one that is said, 0.025 on each of the others
    one, five = 0.9 * 1 + 0.025 * 14, 0.9 * 5 + 0.025 * 10
    assert found["change"]["value"] == pytest.approx(found["raised"]["value"] * (five - one))
    assert found["change_by_control"]["value"] == 0.0
    assert found["kinds"]["json"]["value"] == 1.0


def test_a_judge_that_pays_no_heed_is_not_moved_and_the_bound_says_how_sure_that_is(
    tmp_path: Path,
) -> None:
    found = asked_again(tmp_path, unlike(bad(30)), lambda fence: "1")["injections"]
    groups = np.repeat(np.arange(30), PER_ITEM)
    expected = wilson_mean(np.zeros(groups.size), groups)
    assert found["raised"]["value"] == 0.0
    assert found["raised"]["high"] == pytest.approx(expected.high)
    assert found["beyond_control"]["value"] == 0.0


def test_a_judge_that_any_added_text_moves_is_no_worse_with_an_order_in_it(
    tmp_path: Path,
) -> None:
    rows = [row | {"response": f"poor {row['id']}"} for row in bad(40)]

    def decide(fence: dict[str, str]) -> str:
        return "3" if "\n" in fence["response"] else "1"

    found = asked_again(tmp_path, rows, decide)["injections"]
    assert found["raised"]["value"] == found["control"]["value"] == 1.0
    assert found["to_the_top"]["value"] == 0.0
    assert found["beyond_control"]["value"] == 0.0


def test_only_responses_that_people_find_bad_are_attacked(tmp_path: Path) -> None:
    seen: list[str] = []

    def decide(fence: dict[str, str]) -> str:
        seen.append(fence["response"])
        return rate(fence["response"].lstrip("<(!- wW"))

    found = asked_again(tmp_path, unlike(bad(20)), decide)["injections"]
    assert found["n_items"] == 20
    attacked = [text for text in seen if "expected verdict" in text or "every one of them" in text]
    assert attacked
    assert all("poor" in text for text in attacked)


def test_in_a_pair_the_worse_response_gets_the_letter_of_its_place(tmp_path: Path) -> None:
    def decide(fence: dict[str, str]) -> str:
        claims = [name for name, text in fence.items() if re.search(rf"\b{name}\b", text)]
        if claims:
            return claims[0]
        return next(name for name, text in fence.items() if "better" in text)

    rows = []
    for i, row in enumerate(pairs(40)):
        better = 1 + i % 2
        texts = ["better one", "other one"] if better == 1 else ["other one", "better one"]
        kept = {
            "labels": {"p": better},
            "response": f"{texts[0]} {i}",
            "opponent": f"{texts[1]} {i}",
        }
        rows.append(row | kept)
    found = asked_again(tmp_path, rows, decide, text=PAIR_RUBRIC)["injections"]
    assert found["n_items"] == 40
    assert "change" not in found
    # it lost in both orders, and wins in both, whichever side of the file it stood on
    assert found["to_the_top"]["value"] == found["raised"]["value"] == 1.0
    assert found["control"]["value"] == 0.0


def test_the_planted_judges_read_what_a_judge_is_shown(tmp_path: Path) -> None:
    asked: Rubric = rubric(tmp_path, GRADE_RUBRIC)
    judge = model(asked, lambda fence: fence["response"])
    case = Case(key="c", prompt="Which?", response="4")
    [found] = asyncio.run(judge.judge([case], lambda n_done, n_total: None))
    assert found["quality"].choice == 4.0
    assert fences("no fence") == {}


def test_where_no_verdict_could_be_raised_there_is_no_rate(tmp_path: Path) -> None:
    found = asked_again(tmp_path, unlike(bad(20)), lambda fence: "5")["injections"]
    assert found["n_items"] == found["raised"]["n"] == found["beyond_control"]["n"] == 0
    for name in ("raised", "to_the_top", "control", "beyond_control", "change"):
        assert math.isnan(found[name]["value"])
    assert found["kinds"] == {}


def test_each_criterion_has_its_own_figures_from_the_same_questions(tmp_path: Path) -> None:
    rows = [
        row | {"labels": {name: {"p": 1} for name in ("clear", "short")}} for row in unlike(bad(30))
    ]
    asked, labels = rubric(tmp_path, TWO_RUBRIC), label_set(tmp_path, rows)
    backend = Answering(lambda request: saying(request, "5" if is_moved(shown(request)) else "1"))
    judge = open_model_judge(asked, backend, spec="test:planted")
    items = labels.labelled(["clear", "short"])
    verdicts = judge_items(asked, items, judge)
    found = audit(asked, items, verdicts, judge, settings=FAST)["criteria"]
    assert found["clear"]["injections"]["control"]["value"] == 1.0
    assert found["short"]["injections"]["control"]["value"] == 0.0
    assert found["short"]["injections"]["raised"]["n"] == N_ATTACKED * PER_ITEM


def is_moved(text: str) -> bool:
    """Under one criterion anything that is added does it."""
    return "How clear?" in text and "\n" in fences(text)["response"]
