from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from evalkit.stats.human_ceiling import human_ceiling
from evalkit.stats.intervals import FloatArray, Interval
from evalkit.stats.system_agreement import (
    system_correlation,
    system_means,
    system_pair_accuracy,
    within_group_correlation,
)
from evalkit.stats.weighted_correlation import Kind

KINDS: tuple[Kind, ...] = ("pearson", "spearman", "kendall-b", "kendall-c")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@dataclass(frozen=True)
class Study:
    """Rows of one response each."""

    judge: FloatArray
    human: FloatArray
    items: NDArray[np.intp]
    systems: NDArray[np.intp]


def study(n_items: int, n_systems: int, *, seed: int) -> Study:
    """Systems that differ, and a judge who sees what people see with some noise."""
    random = rng(seed)
    quality = np.arange(n_systems, dtype=float)[None, :] * np.ones((n_items, 1))
    human = quality + random.normal(0, 2, (n_items, n_systems))
    judge = human + random.normal(0, 2, (n_items, n_systems))
    items, systems = np.indices((n_items, n_systems))
    return Study(judge.ravel(), human.ravel(), items.ravel(), systems.ravel())


def agreement(data: Study, kind: Kind, *, n_resamples: int) -> Interval:
    return system_correlation(
        data.judge,
        data.human,
        systems=data.systems,
        items=data.items,
        kind=kind,
        rng=rng(),
        n_resamples=n_resamples,
    )


def test_within_group_correlation_is_the_mean_over_groups() -> None:
    data = study(30, 8, seed=0)
    found = within_group_correlation(data.judge, data.human, data.items, kind="spearman")
    each = [
        stats.spearmanr(data.judge[data.items == i], data.human[data.items == i])[0]
        for i in range(30)
    ]
    assert found.interval.estimate == pytest.approx(np.mean(each), abs=1e-12)
    # far from the ends of the scale the bounds are near to those of the normal law
    margin = 1.96 * float(np.std(each, ddof=1)) / math.sqrt(30)
    assert found.interval.low == pytest.approx(np.mean(each) - margin, abs=0.02)
    assert (found.n_groups, found.n_skipped) == (30, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_that_do_not_vary_are_skipped_and_counted(kind: Kind) -> None:
    x = [1, 2, 3, 5, 5, 5, 1, 2, 3, 7, 1, math.nan]
    y = [1, 2, 3, 1, 2, 3, 3, 2, 1, 7, math.nan, 2]
    groups = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 4]
    # 1 and -1; a constant judge, a single row, and two rows of which none is complete
    found = within_group_correlation(x, y, groups, kind=kind)
    assert found.interval.estimate == pytest.approx(0.0, abs=1e-12)
    assert (found.n_groups, found.n_skipped) == (2, 3)


def test_no_group_that_varies_gives_nan() -> None:
    found = within_group_correlation([1, 1], [1, 2], [0, 0], kind="pearson")
    assert math.isnan(found.interval.estimate)
    assert (found.n_groups, found.n_skipped) == (0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_system_correlation_is_that_of_the_systems_means(kind: Kind) -> None:
    data = study(20, 6, seed=1)
    found = agreement(data, kind, n_resamples=200)
    x, y = (system_means(scores, data.systems) for scores in (data.judge, data.human))
    oracle: dict[Kind, float] = {
        "pearson": float(stats.pearsonr(x, y)[0]),
        "spearman": float(stats.spearmanr(x, y)[0]),
        "kendall-b": float(stats.kendalltau(x, y)[0]),
        "kendall-c": float(stats.kendalltau(x, y, variant="c")[0]),
    }
    assert found.estimate == pytest.approx(oracle[kind], abs=1e-9)


def test_more_items_tell_systems_apart_more_surely() -> None:
    few, many = (agreement(study(n, 8, seed=2), "pearson", n_resamples=500) for n in (10, 200))
    assert many.high - many.low < (few.high - few.low) / 2


def test_means_by_system_leave_missing_scores_out() -> None:
    found = system_means([1, 3, math.nan, 10, math.nan], ["a", "a", "a", "b", "c"])
    assert found[:2].tolist() == [2.0, 10.0]
    assert math.isnan(found[2])


def test_system_pairs_are_right_if_both_series_have_the_same_ahead() -> None:
    # three systems on one item: judge 1 2 3, people 1 3 2: two of the three pairs agree
    found = system_pair_accuracy(
        [1, 2, 3], [1, 3, 2], systems=["a", "b", "c"], items=[0, 0, 0], rng=rng()
    )
    assert found.estimate == pytest.approx(2 / 3)
    assert math.isnan(found.low)  # one item


def test_a_tie_of_systems_is_right_only_in_both() -> None:
    # the judge's means are 0.2 + 0.1 and 0.1 + 0.2 over 2, equal but for rounding
    tied, apart = (
        system_pair_accuracy(
            [0.1, 0.2, 0.2, 0.1],
            people,
            systems=["a", "b", "a", "b"],
            items=[0, 0, 1, 1],
            rng=rng(),
            n_resamples=20,
        )
        for people in ([1, 2, 2, 1], [1, 2, 1, 2])
    )
    assert (tied.estimate, apart.estimate) == (1.0, 0.0)


def test_a_single_system_has_no_pairs() -> None:
    x, systems, items = [1, 2], ["a", "a"], [0, 1]
    pairs = system_pair_accuracy(x, x, systems=systems, items=items, rng=rng())
    assert math.isnan(pairs.estimate)
    found = system_correlation(x, x, systems=systems, items=items, kind="spearman", rng=rng())
    assert math.isnan(found.estimate)


def test_no_rows_give_nan() -> None:
    found = system_correlation([], [], systems=[], items=[], kind="pearson", rng=rng())
    assert math.isnan(found.estimate)


def test_the_ceiling_is_each_person_against_the_mean_of_the_rest() -> None:
    random = rng(3)
    truth = random.normal(size=200)
    humans = truth[:, None] + random.normal(size=(200, 3))
    judge = truth + random.normal(size=200)
    found = human_ceiling(humans, judge, kind="pearson", rng=rng(), n_resamples=300)
    rest = [np.delete(humans, j, axis=1).mean(axis=1) for j in range(3)]
    ceiling = np.mean([stats.pearsonr(humans[:, j], rest[j])[0] for j in range(3)])
    of_judge = np.mean([stats.pearsonr(judge, rest[j])[0] for j in range(3)])
    assert found.ceiling.estimate == pytest.approx(ceiling, abs=1e-12)
    assert found.judge.estimate == pytest.approx(of_judge, abs=1e-12)
    assert found.ratio.estimate == pytest.approx(of_judge / ceiling, abs=1e-12)
    # in truth 1 / sqrt(2 * 1.5) for a person and, as noisy, for the judge: a ratio of 1
    assert found.ceiling.low < 1 / math.sqrt(3) < found.ceiling.high
    assert found.ratio.low < 1.0 < found.ratio.high
    assert found.n_items == 200


def test_items_count_where_two_people_and_the_judge_rated_them() -> None:
    nan = math.nan
    humans = [[1, 2, nan], [2, nan, 2], [nan, 3, 4], [5, 5, 4], [nan, nan, 1], [2, 1, 1]]
    judge = [1, 2, 3, 5, 1, nan]
    found = human_ceiling(np.array(humans), judge, kind="pearson", rng=rng(), n_resamples=20)
    # by hand: person 1 has (1, 2), (2, 2), (5, 4.5) with the mean of the rest, and so on
    pairs = (([1, 2, 5], [2, 2, 4.5]), ([2, 3, 5], [1, 4, 4.5]), ([2, 4, 4], [2, 3, 5]))
    expected = np.mean([stats.pearsonr(*pair)[0] for pair in pairs])
    assert found.ceiling.estimate == pytest.approx(expected, abs=1e-12)
    assert found.n_items == 4


def test_people_who_disagree_leave_no_ratio() -> None:
    found = human_ceiling(
        [[1, 3], [2, 2], [3, 1], [4, 0]], [1, 2, 3, 4], kind="spearman", rng=rng()
    )
    assert found.ceiling.estimate == pytest.approx(-1.0)
    assert math.isnan(found.ratio.estimate)


def test_one_person_has_no_others() -> None:
    with pytest.raises(ValueError, match="two or more people"):
        human_ceiling([[1], [2]], [1, 2], kind="pearson", rng=rng())


def test_copies_in_clusters_do_not_narrow_the_ceilings_bounds() -> None:
    random = rng(4)
    humans = random.integers(1, 6, 40)[:, None] + random.normal(size=(40, 3))
    judge = humans.mean(axis=1) + random.normal(size=40)
    once = human_ceiling(humans, judge, kind="pearson", rng=rng(), n_resamples=1000)
    rows = np.repeat(np.arange(40), 5)
    found = human_ceiling(
        humans[rows], judge[rows], kind="pearson", rng=rng(), n_resamples=1000, clusters=rows
    )
    assert found.ratio.low == pytest.approx(once.ratio.low, abs=1e-9)
    assert found.ceiling.high == pytest.approx(once.ceiling.high, abs=1e-9)
