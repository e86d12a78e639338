"""Verdicts as metrics: single criteria, the whole, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from answering import Answering, say
from hypothesis import given
from hypothesis import strategies as st
from rubric_files import POINTWISE, REWARD, TWO_CRITERIA, always, write_rubric

from evalkit.estimate import ExampleScores, estimate
from evalkit.judges import (
    JudgeInfo,
    JudgeMetric,
    Rubric,
    load_rubric,
    metrics_of_rubric,
    open_model_judge,
    with_whole,
)
from evalkit.types import Example, Outcome, Status, Verdict

MIXED = """\
rubric: mixed
version: 1
kind: classify
prompt: "{{ response }} {{ question }}"
criteria:
  a: {question: "Is it safe?", labels: {safe: 1, unsafe: 0}, weight: 1}
  b: {question: "How?", labels: {high: 10, low: -10}, weight: 3}
"""
TWO_MODALITIES = """\
rubric: page
version: 1
kind: checklist
prompt: "{{ response }} {{ question }}"
criteria:
  text_right: {question: "Is the text right?", weight: 1}
  text_short: {question: "Is the text short?", weight: 1}
  picture_fits: {question: "Does it fit?", modality: image, weight: 5}
"""


def info_of(rubric: Rubric) -> JudgeInfo:
    return open_model_judge(rubric, Answering(always({})), spec="test:function").info


def whole(rubric: Rubric, values: Mapping[str, float]) -> dict[str, Verdict]:
    return with_whole(rubric, {name: Verdict(value=v, choice=v) for name, v in values.items()})


def outcome(**verdicts: Verdict) -> Outcome:
    example = Example(id="x", fields={}, sha256="0")
    return Outcome(example=example, response=say("4"), verdicts=verdicts)


def metric_of(rubric: Rubric, name: str) -> JudgeMetric:
    return {m.name: m for m in metrics_of_rubric(rubric, info_of(rubric))}[name]


def test_the_whole_is_the_weighted_mean_on_the_scale_of_its_criteria(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, TWO_CRITERIA)  # weights 1 and 3
    found = whole(rubric, {"first": 5.0, "second": 2.0})
    assert set(found) == {"pair_of.first", "pair_of.second", "pair_of"}
    assert found["pair_of"].value == pytest.approx((5 + 3 * 2) / 4)
    assert found["pair_of"].choice == pytest.approx((5 + 3 * 2) / 4)
    assert metric_of(rubric, "pair_of").limits == (1.0, 5.0)


def test_different_scales_are_put_on_0_to_1_first(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, MIXED)
    found = whole(rubric, {"a": 1.0, "b": -5.0})
    # b: (-5 + 10) / 20 = .25; (1·1 + 3·.25) / 4
    assert found["mixed"].value == pytest.approx(0.4375)
    assert found["mixed.b"].value == -5.0
    assert metric_of(rubric, "mixed").limits == (0.0, 1.0)
    assert metric_of(rubric, "mixed.b").limits == (-10.0, 10.0)


def test_modalities_are_put_together_apart(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, TWO_MODALITIES)
    found = whole(rubric, {"text_right": 1.0, "text_short": 0.0, "picture_fits": 1.0})
    assert found["page.text"].value == 0.5
    assert found["page.image"].value == 1.0
    assert "page" not in found
    names = [m.name for m in metrics_of_rubric(rubric, info_of_recorded(rubric))]
    assert set(names) == set(found)


def info_of_recorded(rubric: Rubric) -> JudgeInfo:
    return JudgeInfo(spec="replay:x", rubric=rubric.name, identity={"rubric_sha256": rubric.sha256})


def test_a_lone_criterion_has_no_whole_beside_it(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, POINTWISE)
    assert [m.name for m in metrics_of_rubric(rubric, info_of(rubric))] == ["quality"]
    assert set(whole(rubric, {"quality": 3.0})) == {"quality"}


@given(st.lists(st.floats(1, 5), min_size=4, max_size=4))
def test_the_whole_lies_between_its_criteria(values: list[float]) -> None:
    rubric = load_rubric("summary_quality")
    names = [c.name for c in rubric.criteria]
    found = whole(rubric, dict(zip(names, values, strict=True)))["summary_quality"].value
    assert min(values) - 1e-9 <= found <= max(values) + 1e-9
    assert found == pytest.approx(sum(values) / 4)  # weights are equal there


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (Status.OK, Status.OK, Status.OK),
        (Status.OK, Status.ABSTAINED, Status.ABSTAINED),
        (Status.ABSTAINED, Status.ERROR, Status.ERROR),
    ],
)
def test_the_whole_is_missing_where_a_criterion_is(
    tmp_path: Path, first: Status, second: Status, status: Status
) -> None:
    def verdict(name: str, own: Status) -> Verdict:
        value = 3.0 if own is Status.OK else math.nan
        return Verdict(value=value, choice=value, status=own, problem=f"{name} is {own}")

    rubric = write_rubric(tmp_path, TWO_CRITERIA)
    parts = {"first": verdict("first", first), "second": verdict("second", second)}
    found = with_whole(rubric, parts)["pair_of"]
    assert found.status is status
    if status is not Status.OK:
        assert math.isnan(found.value)
        assert found.problem.endswith(f"is {status}")


def test_a_verdict_is_a_score_and_a_missing_one_says_why(tmp_path: Path) -> None:
    metric = metric_of(write_rubric(tmp_path, POINTWISE), "quality")
    score = metric.score(outcome(quality=Verdict(value=3.5)))
    assert (score.value, score.stats, score.status) == (3.5, (3.5, 1.0), Status.OK)
    for status in (Status.ABSTAINED, Status.ERROR):
        said = Verdict(value=math.nan, status=status, problem="because")
        score = metric.score(outcome(quality=said))
        assert (score.status, score.reason, score.stats) == (status, "because", ())
    assert metric.score(outcome()).status is Status.ERROR


def test_missing_verdicts_bound_the_estimate_by_the_ends_of_the_scale(tmp_path: Path) -> None:
    metric = metric_of(write_rubric(tmp_path, POINTWISE), "quality")
    verdicts = [
        Verdict(value=4.0),
        Verdict(value=2.0),
        Verdict(value=math.nan, status=Status.ABSTAINED),
        Verdict(value=math.nan, status=Status.ERROR),
    ]
    outcomes = [outcome(quality=v) for v in verdicts]
    groups = [ExampleScores(scores=(metric.score(o),), outcome=o) for o in outcomes]
    found = estimate(metric, groups, seed=0)
    assert (found.n_total, found.n_scored, found.n_error, found.n_abstained) == (4, 2, 1, 1)
    assert found.value == 3.0
    assert (found.worst, found.best) == pytest.approx(((6 + 2 * 1) / 4, (6 + 2 * 5) / 4))
    assert 1.0 <= found.low <= 3.0 <= found.high <= 5.0


def test_a_reward_has_no_ends(tmp_path: Path) -> None:
    metric = metric_of(write_rubric(tmp_path, REWARD), "reward")
    assert all(math.isnan(score.value) for score in metric.missing(outcome()))


def test_statistics_add_up(tmp_path: Path) -> None:
    metric = metric_of(write_rubric(tmp_path, POINTWISE), "quality")
    scores = [metric.score(outcome(quality=Verdict(value=v))) for v in (1.0, 2.0, 5.0)]
    rows = metric.statistics(scores)
    assert metric.combine(rows.sum(axis=0)) == pytest.approx(8 / 3)
    assert np.asarray(metric.combine(rows)) == pytest.approx([1.0, 2.0, 5.0])


def test_the_signature_tells_apart_what_may_not_be_compared(tmp_path: Path) -> None:
    def signature(text: str) -> str:
        rubric = write_rubric(tmp_path, text)
        return metrics_of_rubric(rubric, info_of(rubric))[0].signature

    assert signature(POINTWISE) == signature(POINTWISE)
    others = [
        POINTWISE.replace("version: 1", "version: 2"),
        POINTWISE.replace("How good", "How very good"),
        POINTWISE.replace("cue:", "verdict: text\ncue:"),
    ]
    assert len({signature(text) for text in (POINTWISE, *others)}) == 4
