from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.stats.ordering import order_accuracy, order_consistency

Counts = dict[tuple[int, int | None, int | None], int]  # label, original, swapped
# how often each judge gave which verdicts on the 100 pairs of LLMBar's Natural subset (Zeng et al.
# 2024, arXiv:2310.07641; github.com/princeton-nlp/LLMBar at 900616b)
JUDGES: dict[str, Counts] = {
    "GPT-4/Vanilla": {
        **{(1, 1, 1): 39, (1, 1, 2): 1, (1, 2, 1): 1, (1, 2, 2): 1},
        **{(2, 1, 1): 1, (2, 1, 2): 2, (2, 2, 1): 1, (2, 2, 2): 54},
    },
    "ChatGPT/Vanilla": {
        **{(1, 1, 1): 25, (1, 1, 2): 12, (1, 2, 1): 3, (1, 2, 2): 2},
        **{(2, 1, 1): 2, (2, 1, 2): 13, (2, 2, 1): 1, (2, 2, 2): 42},
    },
    "ChatGPT/CoT": {
        **{(1, 1, 1): 24, (1, 1, 2): 13, (1, 2, 2): 5, (2, 1, 1): 3, (2, 1, 2): 21},
        **{(2, 2, 1): 1, (2, 2, 2): 32, (2, None, 2): 1},
    },
    "PaLM2/Vanilla": {
        **{(1, 1, 1): 29, (1, 1, 2): 4, (1, 2, 1): 4, (1, 2, 2): 5, (2, 1, 2): 11},
        **{(2, 2, 1): 1, (2, 2, 2): 44, (2, None, None): 2},
    },
}
PAIRS = st.lists(
    st.tuples(st.integers(0, 2), *[st.sampled_from((0, 1, 2, None))] * 2), min_size=1, max_size=30
)


def expanded(counts: Counts) -> tuple[list[int], list[int | None], list[int | None]]:
    rows = [cell for cell, n in counts.items() for _ in range(n)]
    return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]


# computed from the repository's own verdicts with scipy (t, Wilson, exact binomial) and
# scikit-learn (cohen_kappa_score), a missing verdict being a label of its own
@pytest.mark.parametrize(
    ("judge", "accuracy", "low", "high", "both", "kappa"),
    [
        ("GPT-4/Vanilla", 0.955, 0.92018684, 0.98981316, 0.93, 0.89770867),
        ("ChatGPT/Vanilla", 0.815, 0.75920657, 0.87079343, 0.67, 0.60254372),
        ("ChatGPT/CoT", 0.74, 0.67618518, 0.80381482, 0.56, 0.42682461),
        ("PaLM2/Vanilla", 0.83, 0.76980911, 0.89019089, 0.73, 0.56175299),
    ],
)
def test_accuracy_agrees_with_scipy_and_scikit_learn(
    judge: str, accuracy: float, low: float, high: float, both: float, kappa: float
) -> None:
    found = order_accuracy(*expanded(JUDGES[judge]))
    assert found.accuracy.estimate == pytest.approx(accuracy)
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((low, high), abs=1e-8)
    assert found.both_right.estimate == pytest.approx(both)
    assert found.kappa.estimate == pytest.approx(kappa, abs=1e-8)


@pytest.mark.parametrize(
    ("judge", "agreement", "low", "high", "first", "second", "p", "share"),
    [
        ("GPT-4/Vanilla", 0.95, 0.88824953, 0.97845632, 3, 2, 1.0, 0.505),
        ("ChatGPT/Vanilla", 0.71, 0.61461109, 0.78985164, 25, 4, 0.0001037158, 0.605),
        ("ChatGPT/CoT", 0.64, 0.54235402, 0.7272878, 34, 1, 2.0955e-09, 0.66834171),
        ("PaLM2/Vanilla", 0.80, 0.71117083, 0.86663307, 15, 5, 0.0413894653, 0.55102041),
    ],
)
def test_consistency_agrees_with_scipy(
    judge: str,
    agreement: float,
    low: float,
    high: float,
    first: int,
    second: int,
    p: float,
    share: float,
) -> None:
    _, original, swapped = expanded(JUDGES[judge])
    found = order_consistency(original, swapped)
    assert found.agreement.estimate == pytest.approx(agreement)
    assert (found.agreement.low, found.agreement.high) == pytest.approx((low, high), abs=1e-8)
    assert (found.n_first_twice, found.n_second_twice) == (first, second)
    assert found.first_p_value == pytest.approx(p, abs=1e-8)
    assert found.first_share.estimate == pytest.approx(share, abs=1e-8)
    assert found.first_share.low < share < found.first_share.high


def test_missing_verdicts_are_counted_and_agreement_is_also_given_without_them() -> None:
    _, original, swapped = expanded(JUDGES["PaLM2/Vanilla"])
    found = order_consistency(original, swapped)
    assert (found.n, found.n_without_verdict) == (100, 2)
    assert found.agreement_of_verdicts.estimate == pytest.approx(78 / 98)


def test_a_judge_that_never_answers_agrees_with_itself_but_has_no_verdicts_that_do() -> None:
    nothing = [None, math.nan, None]
    found = order_consistency(nothing, nothing)
    assert found.agreement.estimate == 1.0
    assert math.isnan(found.agreement_of_verdicts.estimate)
    assert math.isnan(found.first_share.estimate)
    right = order_accuracy([1, 2, 1], nothing, nothing)
    assert right.accuracy.estimate == 0.0


def test_a_tie_is_no_preference_for_a_place() -> None:
    # first in the original order, then a tie; a tie, then second-shown; ties twice
    found = order_consistency([1, 0, 0, 0], [0, 1, 0, 0])
    assert (found.n_first_twice, found.n_second_twice, found.first_p_value) == (0, 0, 1.0)
    assert found.agreement.estimate == 0.5
    # of the two verdicts that are none, one is for what was shown first
    assert found.first_share.estimate == 0.5


def test_a_tie_is_right_only_where_the_label_is_one() -> None:
    found = order_accuracy([1, 2, 0], [0, 0, 0], [0, 0, 0])
    assert found.accuracy.estimate == pytest.approx(1 / 3)
    assert found.both_right.estimate == pytest.approx(1 / 3)


def test_half_right_pairs_are_one_observation_each() -> None:
    # every pair right in one order: a mean of one half without spread
    found = order_accuracy([1, 1, 1, 1], [1, 1, 2, 2], [2, 2, 1, 1])
    assert found.accuracy.estimate == 0.5
    assert math.isnan(found.accuracy.low)
    assert found.both_right.estimate == 0.0


def test_no_pairs_give_nan() -> None:
    found = order_consistency([], [])
    assert found.n == 0
    assert math.isnan(found.agreement.estimate)
    assert math.isnan(order_accuracy([], [], []).accuracy.estimate)


def test_a_pair_without_a_label_is_refused() -> None:
    with pytest.raises(ValueError, match="no label"):
        order_accuracy([1, None], [1, 1], [1, 1])


def test_an_unknown_verdict_is_refused() -> None:
    with pytest.raises(ValueError, match="'A'"):
        order_consistency(["A"], [1])


def test_copies_in_clusters_tell_no_more_than_one_of_them() -> None:
    labels, original, swapped = expanded(JUDGES["ChatGPT/Vanilla"])
    pairs = np.arange(100)
    once = order_accuracy(labels, original, swapped, clusters=pairs)
    twice = order_accuracy(labels * 2, original * 2, swapped * 2, clusters=np.tile(pairs, 2))
    assert twice.accuracy.low == pytest.approx(once.accuracy.low)
    same_once = order_consistency(original, swapped, clusters=pairs)
    same_twice = order_consistency(original * 2, swapped * 2, clusters=np.tile(pairs, 2))
    for ours, theirs in (
        (same_twice.agreement, same_once.agreement),
        (same_twice.agreement_of_verdicts, same_once.agreement_of_verdicts),
        (same_twice.first_share, same_once.first_share),
        (twice.kappa, once.kappa),
        (twice.both_right, once.both_right),
    ):
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


@given(PAIRS)
def test_swapping_the_orders_swaps_the_places(
    rows: Sequence[tuple[int, int | None, int | None]],
) -> None:
    labels, original, swapped = (list(column) for column in zip(*rows, strict=True))
    one, other = order_consistency(original, swapped), order_consistency(swapped, original)
    assert (one.n_first_twice, one.n_second_twice) == (other.n_second_twice, other.n_first_twice)
    assert one.agreement == other.agreement
    assert one.first_p_value == pytest.approx(other.first_p_value)
    assert one.first_share.estimate == pytest.approx(1 - other.first_share.estimate, nan_ok=True)
    right, also = (
        order_accuracy(labels, original, swapped),
        order_accuracy(labels, swapped, original),
    )
    assert right.accuracy == also.accuracy


@given(PAIRS)
def test_renaming_the_systems_changes_nothing_but_places(
    rows: Sequence[tuple[int, int | None, int | None]],
) -> None:
    names = {0: 0, 1: 2, 2: 1, None: None}
    renamed = [tuple(names[value] for value in row) for row in rows]
    one = order_accuracy(*(list(c) for c in zip(*rows, strict=True)))
    other = order_accuracy(*(list(c) for c in zip(*renamed, strict=True)))
    assert one.accuracy == other.accuracy
    assert one.kappa.estimate == pytest.approx(other.kappa.estimate, abs=1e-12, nan_ok=True)
