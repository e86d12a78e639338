"""Judges of pairs as systems under test: the metrics, and the tasks that ask for them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_outcomes import built, chosen, over, total

from evalkit.catalogue import TaskFile, read_task_file
from evalkit.errors import MetricError
from evalkit.estimate import ExampleScores, estimate
from evalkit.overrides import Overrides, replacement
from evalkit.stats.ordering import order_accuracy, order_consistency
from evalkit.task import Task
from evalkit.types import Estimate, Item, Outcome, Status

TASKS = Path(__file__).parents[2] / "tasks"
SHARES = ["pair_accuracy", "both_orders_right", "order_consistency", "first_twice", "second_twice"]
ALL = [*SHARES, "position_bias"]
LIKELY, UNLIKELY = -0.1, -2.5
VERDICTS = st.lists(
    st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 2, st.booleans()), min_size=1, max_size=12
)


def judged(first: float, second: float, *, is_first_right: bool = True) -> Outcome:
    """A pair with what is picked in each order: 1 what is shown first, 0 the other, 0.5 a tie."""
    by_pick = {1.0: (LIKELY, UNLIKELY), 0.0: (UNLIKELY, LIKELY), 0.5: (LIKELY, LIKELY)}
    logprobs = [*by_pick[first], *by_pick[second]]
    return chosen(logprobs, [0, 3] if is_first_right else [1, 2])


def estimated(metric: str, outcomes: Sequence[Outcome]) -> Estimate:
    made = built(metric)
    groups = [ExampleScores(scores=(made.score(o),), outcome=o) for o in outcomes]
    return estimate(made, groups, seed=0)


def pairs(both_right: int, first_twice: int, second_twice: int, both_wrong: int) -> list[Outcome]:
    return [
        *[judged(1, 0)] * both_right,
        *[judged(1, 1)] * first_twice,
        *[judged(0, 0)] * second_twice,
        *[judged(0, 1)] * both_wrong,
    ]


# LLMBar (Zeng et al. 2024, arXiv:2310.07641), Natural, 100 pairs: the verdicts that its authors
# published, counted; agreement with statsmodels' Wilson interval, share of the first as counted
LLMBAR = {
    "GPT-4/Vanilla": ((93, 3, 2, 2), 0.955, 0.95, (0.888, 0.978)),
    "ChatGPT/Vanilla": ((67, 25, 4, 4), 0.815, 0.71, (0.615, 0.790)),
    "LLaMA2/Vanilla": ((70, 12, 9, 9), 0.805, 0.79, (0.700, 0.858)),
    "Falcon/Vanilla": ((50, 48, 0, 2), 0.74, 0.52, (0.423, 0.615)),
    "Falcon/CoT": ((14, 86, 0, 0), 0.57, 0.14, (0.085, 0.221)),
}


@pytest.mark.parametrize("judge", LLMBAR)
def test_figures_are_those_of_the_judges_of_llmbar(judge: str) -> None:
    counts, accuracy, agreement, bounds = LLMBAR[judge]
    outcomes = pairs(*counts)
    assert estimated("pair_accuracy", outcomes).value == pytest.approx(accuracy)
    assert estimated("both_orders_right", outcomes).value == counts[0] / 100
    found = estimated("order_consistency", outcomes)
    assert found.value == pytest.approx(agreement)
    assert (found.low, found.high) == pytest.approx(bounds, abs=5e-4)
    assert estimated("first_twice", outcomes).value == counts[1] / 100
    assert estimated("second_twice", outcomes).value == counts[2] / 100


def test_position_bias_is_how_far_the_share_of_the_first_is_from_half() -> None:
    # ChatGPT-0301/CoT on LLMBar: 0.61 of its picks are of what is shown first; 24 twice, 2 twice
    found = estimated("position_bias", pairs(69, 24, 2, 5))
    assert found.value == pytest.approx(2 * (0.61 - 0.5))
    assert found.low > 0.1
    assert math.isnan(built("position_bias").score(judged(1, 1)).value)


def test_a_coin_has_no_position_bias_in_sum_though_it_follows_the_place_half_the_time() -> None:
    outcomes = pairs(25, 25, 25, 25)
    assert over(built("position_bias"), outcomes) == 0.0
    assert over(built("order_consistency"), outcomes) == 0.5
    assert over(built("pair_accuracy"), outcomes) == 0.5


def test_a_tie_is_neither_right_nor_a_pick() -> None:
    tied = judged(0.5, 0.5)
    assert [over(built(name), [tied]) for name in SHARES] == [0, 0, 1, 0, 0]
    assert math.isnan(over(built("position_bias"), [tied]))
    half = [judged(1, 0.5)]
    assert [over(built(name), half) for name in SHARES] == [0.5, 0, 0, 0, 0]
    assert over(built("position_bias"), half) == 1.0


@given(VERDICTS)
def test_the_formulas_are_those_of_the_statistics_of_orders(
    verdicts: list[tuple[float, float, bool]],
) -> None:
    outcomes = [judged(a, b, is_first_right=right) for a, b, right in verdicts]
    label = [1 if right else 2 for *_, right in verdicts]
    system = {0.5: 0, 1.0: 1, 0.0: 2}  # of a pick, while the first system is shown first
    original = [system[a] for a, _, _ in verdicts]
    swapped = [system[1 - b] for _, b, _ in verdicts]
    right = order_accuracy(label, original, swapped)
    same = order_consistency(original, swapped)
    assert over(built("pair_accuracy"), outcomes) == pytest.approx(right.accuracy.estimate)
    assert over(built("both_orders_right"), outcomes) == pytest.approx(right.both_right.estimate)
    assert over(built("order_consistency"), outcomes) == pytest.approx(same.agreement.estimate)
    n = len(outcomes)
    assert over(built("first_twice"), outcomes) == pytest.approx(same.n_first_twice / n)
    assert over(built("second_twice"), outcomes) == pytest.approx(same.n_second_twice / n)
    share = same.first_share.estimate
    assert over(built("position_bias"), outcomes) == pytest.approx(abs(2 * share - 1), nan_ok=True)


@given(VERDICTS)
def test_which_order_comes_first_in_a_file_changes_nothing(
    verdicts: list[tuple[float, float, bool]],
) -> None:
    one = [judged(a, b, is_first_right=right) for a, b, right in verdicts]
    other = [judged(b, a, is_first_right=not right) for a, b, right in verdicts]
    for name in ALL:
        assert over(built(name), one) == pytest.approx(over(built(name), other), nan_ok=True)


@given(VERDICTS, st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 2))
def test_whatever_a_missing_pair_would_have_been_lies_between_worst_and_best(
    verdicts: list[tuple[float, float, bool]], missing: tuple[float, float]
) -> None:
    known = [judged(a, b, is_first_right=right) for a, b, right in verdicts]
    lost = judged(*missing)
    for name in ALL:
        metric = built(name)
        scores = [metric.score(outcome) for outcome in known]
        ends = [total(metric, [*scores, end]) for end in metric.missing(lost)]
        value = total(metric, [*scores, metric.score(lost)])
        if not math.isnan(value):
            assert min(ends) - 1e-12 <= value <= max(ends) + 1e-12
        worst, best = ends
        assert (best >= worst) is metric.higher_is_better or best == worst


def test_an_order_without_an_answer_is_an_abstention() -> None:
    for bad in ([-1.0, math.nan, -1.0, -2.0], [-1.0, -2.0, -math.inf, -math.inf]):
        for name in ALL:
            assert built(name).score(chosen(bad, [0, 3])).status is Status.ABSTAINED


@pytest.mark.parametrize(
    ("n", "gold"), [(2, [0]), (4, [0]), (4, [0, 1]), (4, [0, 2]), (6, [0, 3]), (4, [1, 3])]
)
@pytest.mark.parametrize("name", ALL)
def test_an_example_that_is_no_pair_in_both_orders_is_refused(
    name: str, n: int, gold: list[int]
) -> None:
    with pytest.raises(MetricError, match=f"{name}: example 'e1' has {n} choices.*A and B in each"):
        built(name).score(chosen([-1.0] * n, gold))


# The tasks


def task_file(name: str) -> TaskFile:
    file = read_task_file(TASKS / f"{name}.yaml")
    assert isinstance(file, TaskFile)
    return file


def bundled_rows() -> list[dict[str, str]]:
    text = (TASKS / "data" / "judge_pairs.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def answers(item: Item, pick: Any) -> Outcome:
    """The item as judged by ``pick``, which gets (answer A, answer B) and gives 1, 0 or 0.5."""
    picks = []
    for prompt in (item.prompts[0], item.prompts[2]):
        shown = re.fullmatch(
            r"Instruction: .*?\n\nAnswer A: (.*?)\n\nAnswer B: (.*?)\n\nWhich answer .*answer:",
            str(prompt),
            re.DOTALL,
        )
        assert shown is not None
        picks.append(pick(*shown.groups()))
    found = judged(*picks)
    return Outcome(
        example=item.example,
        response=found.response,
        choices=item.choices,
        gold=item.gold,
        targets=item.targets,
    )


def over_task(items: Sequence[Item], pick: Any) -> dict[str, float]:
    outcomes = [answers(item, pick) for item in items]
    return {name: over(built(name), outcomes) for name in ALL}


def test_the_bundled_pairs_are_as_many_of_each_kind_and_each_kind_is_what_it_says() -> None:
    rows = bundled_rows()
    kinds = Counter(row["category"] for row in rows)
    assert sum(kinds.values()) >= 40
    assert len(set(kinds.values())) == 1
    assert len({row["instruction"] for row in rows}) == len(rows)
    by_kind = {kind: [r for r in rows if r["category"] == kind] for kind in kinds}
    assert all(len(r["bad"]) > 2 * len(r["good"]) for r in by_kind["longer"])
    markup = re.compile(r"\*\*|^#|^\|", re.MULTILINE)
    for row in rows:
        assert row["good"] != row["bad"]
        assert bool(markup.search(row["bad"])) is (row["category"] == "formatted"), row["id"]
        assert not markup.search(row["good"])
    for row in by_kind["wrong_fact"]:  # nothing but the fact tells them apart
        good, bad = row["good"].split(), row["bad"].split()
        assert 0.7 < len(row["good"]) / len(row["bad"]) < 1.3
        assert sum(a != b for a, b in zip(good, bad, strict=False)) <= 2


def test_each_pair_is_shown_in_both_orders_in_one_example() -> None:
    items = Task(task_file("judge_pairs"), offline=True).items()
    by_id = {row["id"]: row for row in bundled_rows()}
    good = {row["good"] for row in by_id.values()}
    assert [item.continuations for item in items] == [(" A", " B", " A", " B")] * len(items)
    for item in items:
        assert item.prompts[0] == item.prompts[1]
        assert item.prompts[2] == item.prompts[3]
    right = over_task(items, lambda a, b: float(a in good))
    assert right["both_orders_right"] == right["order_consistency"] == 1.0
    assert right["position_bias"] == 0.0
    first = over_task(items, lambda a, b: 1.0)
    assert (first["first_twice"], first["pair_accuracy"], first["position_bias"]) == (1, 0.5, 1)
    longer = over_task(items, lambda a, b: float(len(a) > len(b)))
    assert longer["pair_accuracy"] < 0.35


@pytest.mark.parametrize("field", ["input", "instruction"])  # as published, and as renamed
def test_llmbar_is_read_from_its_own_file(field: str, tmp_path: Path) -> None:
    rows = [
        {field: "Say hello.", "output_1": "Hello!", "output_2": "Bye.", "label": 1},
        {field: "Say bye.", "output_1": "Hello!", "output_2": "Bye.", "label": 2},
    ]
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    file = task_file("judge_llmbar")
    source = replacement(file.spec.dataset, path)
    items = Task(file, overrides=Overrides(dataset=source)).items()
    assert [item.gold for item in items] == [(0, 3), (1, 2)]
    polite = over_task(items, lambda a, b: float(a == "Hello!"))
    assert polite["pair_accuracy"] == 0.5
    assert polite["order_consistency"] == 1.0
    by_instruction = {"Say hello.": "Hello!", "Say bye.": "Bye."}
    for item in items:
        wanted = by_instruction[str(item.example.fields["instruction"])]
        outcome = answers(item, lambda a, b, wanted=wanted: float(a == wanted))
        assert built("both_orders_right").score(outcome).value == 1.0


def test_the_statistics_are_rows_that_can_be_weighted() -> None:
    outcomes = pairs(3, 2, 1, 1)
    for name in ALL:
        metric = built(name)
        scores = [metric.score(outcome) for outcome in outcomes]
        twice = total(metric, [*scores, scores[0]])
        weights = np.ones(len(scores))
        weights[0] = 2
        assert total(metric, scores, weights.tolist()) == pytest.approx(twice)
