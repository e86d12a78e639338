"""Several judges as one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from answering import Answering, fail
from hypothesis import given
from hypothesis import strategies as st
from rubric_files import (
    PAIRWISE,
    POINTWISE,
    always,
    believing,
    cases,
    shown,
    verdicts_of,
    write_rubric,
)

from evalkit.errors import NotFoundError, UsageError
from evalkit.judges import Judge, Panel, Rubric, Vote, load_rubric, open_judge, open_model_judge
from evalkit.types import Backend, Request, Response, Status, Verdict


def saying(rubric: Rubric, label: str, *, at: str = "") -> Judge:
    """A judge that is sure of one label; its requests about ``at`` fail."""

    def answer(request: Request) -> Response:
        return fail() if at and at in shown(request) else believing(request, {label: 1.0})

    return open_model_judge(rubric, Answering(answer), spec=f"test:{label}")


def panel_of(rubric: Rubric, *labels: str, vote: Vote = "mean") -> Panel:
    return Panel(members=tuple(saying(rubric, label) for label in labels), vote=vote)


def one_verdict(panel: Judge, opponent: str | None = None) -> Verdict:
    [found] = verdicts_of(panel, cases("four", opponent=opponent))
    [verdict] = found.values()
    return verdict


@pytest.mark.parametrize(
    ("labels", "mean", "majority"),
    [
        (("1", "5", "5"), 11 / 3, 5.0),
        (("1", "1", "5"), 7 / 3, 1.0),
        (("2", "4"), 3.0, 3.0),  # nobody has more: the mean of those that have most
        (("1", "1", "4", "4", "5"), 3.0, 2.5),
    ],
)
def test_a_panel_says_its_mean_or_what_most_say(
    tmp_path: Path, labels: tuple[str, ...], mean: float, majority: float
) -> None:
    rubric = write_rubric(tmp_path, POINTWISE)
    found = one_verdict(panel_of(rubric, *labels))
    assert found.value == pytest.approx(mean)
    assert found.choice == majority
    voted = one_verdict(panel_of(rubric, *labels, vote="majority"))
    assert (voted.value, voted.choice) == (majority, majority)
    assert [member.value for member in found.members] == [float(label) for label in labels]


@given(st.permutations(["1", "2", "2", "5"]))
def test_the_order_of_the_members_does_not_matter(labels: list[str]) -> None:
    rubric = load_rubric("helpfulness")
    for vote in ("mean", "majority"):
        found = one_verdict(panel_of(rubric, *labels, vote=vote))
        assert (found.value, found.choice) == (2.5 if vote == "mean" else 2.0, 2.0)


def test_a_case_that_a_member_could_not_judge_has_no_verdict(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, POINTWISE)
    panel = Panel(members=(saying(rubric, "5"), saying(rubric, "1", at="r1")))
    found = [one["quality"] for one in verdicts_of(panel, cases("r0", "r1"))]
    assert [v.status for v in found] == ["ok", "error"]
    assert (found[0].value, found[1].problem) == (3.0, "it does not fit")
    assert math.isnan(found[1].value)
    assert [m.status for m in found[1].members] == ["ok", "error"]


def test_a_member_that_abstains_makes_the_panel_abstain(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, POINTWISE)
    silent = open_model_judge(rubric, Answering(always({})), spec="test:silent")
    assert one_verdict(Panel(members=(saying(rubric, "5"), silent))).status is Status.ABSTAINED


def test_a_panel_on_pairs_keeps_both_orders(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, PAIRWISE)

    def reading(request: Request) -> Response:
        is_first = shown(request).index("four") < shown(request).index("five")
        return believing(request, {"A": 1.0} if is_first else {"B": 1.0})

    by_place = saying(rubric, "A")
    by_text = open_model_judge(rubric, Answering(reading), spec="test:reading")
    found = one_verdict(Panel(members=(by_place, by_text)), opponent="five")
    assert found.value == 0.75  # one finds no difference, the other prefers the response
    assert found.orders == (1.0, 0.5)


def test_a_panel_is_opened_by_its_specification(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, POINTWISE)
    offered: dict[str, Backend] = {
        "test:a": Answering(always({"1": 1.0})),
        "test:b": Answering(always({"5": 1.0})),
        "test:c": Answering(always({"5": 1.0})),
    }
    for spec, value in (("[test:a, test:b]", 3.0), ("majority[test:a, test:b, test:c]", 5.0)):
        judge = open_judge(rubric, spec, offered=offered)
        assert judge.info.spec == spec
        assert one_verdict(judge).value == value


def test_panels_that_vote_otherwise_or_sit_otherwise_are_other_judges(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, POINTWISE)
    offered: dict[str, Backend] = {f"test:{x}": Answering(always({})) for x in "ab"}
    texts = {
        spec: json.dumps(dict(open_judge(rubric, spec, offered=offered).info.identity))
        for spec in ("[test:a, test:b]", "majority[test:a, test:b]", "test:a")
    }
    assert len(set(texts.values())) == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("[test:a]", "a panel is a list of two or more"),
        ("[]", "a panel is a list of two or more"),
        ("[test:a, ]", "a panel is a list of two or more"),
        ("majority[test:a]", "a panel is a list of two or more"),
        ("[test:a, test:b, test:a]", "'test:a' stands there twice"),
        ("[test:a, nowhere:b]", "nowhere"),
        ("[test:a, replay:gone.jsonl#x]", "gone.jsonl: cannot be read"),
    ],
)
def test_a_panel_that_cannot_sit_is_one_line(tmp_path: Path, spec: str, message: str) -> None:
    offered: dict[str, Backend] = {"test:a": Answering(always({})), "test:b": Answering(always({}))}
    with pytest.raises((UsageError, NotFoundError), match=message) as caught:
        open_judge(write_rubric(tmp_path, POINTWISE), spec, offered=offered)
    assert "\n" not in str(caught.value)


def test_a_model_is_opened_once_for_many_rubrics(tmp_path: Path) -> None:
    backend = Answering(always({"5": 1.0}))
    offered: dict[str, Backend] = {"test:a": backend}
    judges = [
        open_judge(write_rubric(tmp_path, text), "test:a", offered=offered)
        for text in (POINTWISE, PAIRWISE)
    ]
    assert all(getattr(judge, "backend", None) is backend for judge in judges)
