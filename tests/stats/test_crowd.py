"""Panels of judges: the anaesthetists of 1979, cases done by hand, and lifts that are none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evalkit.stats.crowd import dawid_skene, majority, panel_lift, panel_mean, vote_counts
from evalkit.stats.intervals import FloatArray

# Dawid and Skene (1979), Table 1: 45 patients, observer 1 three times and four others once
PATIENTS = """
    1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343
    1111111 2223212 1211111 1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222
    1111111 1111111 2322222 1111111 1111111 1121121 1111111 3333233 1111111 2222222 2223232 4334343
    2212232 2323233 3333432 1111111 1111111 1212111 2322222 1211111 2222222
"""
VOTES = np.array([[int(c) - 1 for c in row] for row in PATIENTS.split()])
OBSERVERS = [1, 1, 1, 2, 3, 4, 5]
FEW_VOTES = arrays(float, (12, 3), elements=st.sampled_from([0.0, 1, 2, math.nan]))


def test_the_anaesthetists_are_as_in_the_paper() -> None:
    counts = vote_counts(VOTES, n_classes=4, judges=OBSERVERS)
    found = dawid_skene(counts, smoothing=0.0)
    # Dawid and Skene (1979), Table 2, to its two digits; the algorithm written out in loops gives
    # rates of .399555 .421983 .111795 .066667
    assert found.class_rates == pytest.approx([0.399555, 0.421983, 0.111795, 0.066667], abs=1e-6)
    observer_1 = [[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0], [0, 0.34, 0.66, 0], [0, 0, 0.56, 0.44]]
    observer_5 = [[1, 0, 0, 0], [0.16, 0.73, 0.11, 0], [0, 0.21, 0.79, 0], [0, 0, 0.33, 0.67]]
    assert found.confusion[0] == pytest.approx(np.array(observer_1), abs=0.005)
    assert found.confusion[4] == pytest.approx(np.array(observer_5), abs=0.005)
    assert found.is_converged


def test_judges_who_always_agree_are_always_right() -> None:
    votes = np.repeat([[0.0], [0], [1], [1], [1]], 3, axis=1)
    found = dawid_skene(vote_counts(votes, n_classes=2), smoothing=0.0)
    assert found.labels.tolist() == [0, 0, 1, 1, 1]
    assert found.class_rates == pytest.approx([0.4, 0.6])
    assert found.confusion == pytest.approx(np.tile(np.eye(2), (3, 1, 1)))
    assert found.log_likelihood == pytest.approx(2 * math.log(0.4) + 3 * math.log(0.6))


def test_one_step_is_what_it_is_by_hand() -> None:
    # votes 0 0 / 0 1: the second item starts at a half each, so class rates are 3/4 and 1/4;
    # judge A says 0 always, judge B says 0 with chance 2/3 under class 0 and 0 under class 1
    found = dawid_skene(vote_counts([[0, 0], [0, 1]], n_classes=2), smoothing=0.0, max_steps=1)
    assert found.class_rates == pytest.approx([0.75, 0.25])
    assert found.confusion[1] == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]))
    # the second item: 3/4 * 1/3 against 1/4 * 1: even still, so it has no label
    assert found.posteriors[1] == pytest.approx([0.5, 0.5])
    assert math.isnan(found.labels[1])
    assert found.is_converged  # the step led back to where it began


def simulated(n: int, accuracy: list[float], *, seed: int) -> tuple[FloatArray, FloatArray]:
    """Classes (n,) of three, and votes (n, j) of judges that err evenly; a fifth are missing."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, size=n, p=[0.5, 0.3, 0.2]).astype(float)
    columns = []
    for chance in accuracy:
        wrong = (truth + rng.integers(1, 3, n)) % 3
        said = np.where(rng.random(n) < chance, truth, wrong)
        columns.append(np.where(rng.random(n) < 0.2, math.nan, said))
    return truth, np.column_stack(columns)


def test_planted_error_rates_are_found_and_beat_the_majority() -> None:
    accuracy = [0.95, 0.6, 0.6, 0.6, 0.6]
    truth, votes = simulated(2000, accuracy, seed=0)
    counts = vote_counts(votes, n_classes=3)
    found = dawid_skene(counts)
    assert found.class_rates == pytest.approx([0.5, 0.3, 0.2], abs=0.04)
    for judge, chance in enumerate(accuracy):
        assert np.diag(found.confusion[judge]) == pytest.approx([chance] * 3, abs=0.06)
    right, plain = np.mean(found.labels == truth), np.mean(majority(counts) == truth)
    assert right > plain + 0.05


@settings(max_examples=30, deadline=None)
@given(FEW_VOTES.filter(lambda v: bool(np.isfinite(v).any())), st.permutations(range(12)))
def test_neither_items_nor_judges_nor_classes_have_an_order(
    votes: FloatArray, order: list[int]
) -> None:
    counts = vote_counts(votes, n_classes=3)
    plain = dawid_skene(counts, smoothing=0.5, max_steps=20, tolerance=0.0)
    moved = dawid_skene(counts[order][:, ::-1, ::-1], smoothing=0.5, max_steps=20, tolerance=0.0)
    assert moved.posteriors == pytest.approx(plain.posteriors[order][:, ::-1], abs=1e-7)
    assert moved.log_likelihood == pytest.approx(plain.log_likelihood)


@settings(max_examples=30, deadline=None)
@given(FEW_VOTES.filter(lambda v: bool(np.isfinite(v).any())), st.integers(1, 10))
def test_each_step_is_at_least_as_likely(votes: FloatArray, n_steps: int) -> None:
    counts = vote_counts(votes, n_classes=3)
    one, next_one = (
        dawid_skene(counts, smoothing=0.0, max_steps=k, tolerance=0.0).log_likelihood
        for k in (n_steps, n_steps + 1)
    )
    assert next_one >= one - 1e-9


def test_an_item_without_votes_has_the_class_rates() -> None:
    votes = np.vstack((np.repeat([[0.0], [0], [0], [1]], 3, axis=1), np.full((1, 3), math.nan)))
    found = dawid_skene(vote_counts(votes, n_classes=2), smoothing=0.0)
    assert found.posteriors[4] == pytest.approx(found.class_rates, abs=1e-6)


def test_votes_are_counted_by_judge() -> None:
    counts = vote_counts([[0.0, 2, 2], [1, math.nan, 0]], n_classes=3, judges=["b", "a", "a"])
    assert counts.tolist() == [[[0, 0, 2], [1, 0, 0]], [[1, 0, 0], [0, 1, 0]]]


def test_a_split_vote_is_no_vote() -> None:
    counts = vote_counts([[0.0, 0, 1], [0, 1, math.nan], [math.nan] * 3], n_classes=2)
    assert majority(counts).tolist() == pytest.approx([0, math.nan, math.nan], nan_ok=True)
    scores = [[1.0, math.nan, 4], [math.nan] * 3]
    assert panel_mean(scores).tolist() == pytest.approx([2.5, math.nan], nan_ok=True)


def test_a_panel_that_errs_apart_from_its_members_is_accepted() -> None:
    rng = np.random.default_rng(1)
    members = (rng.random((400, 5)) < 0.75).astype(float)
    panel = (members.mean(axis=1) > 0.5).astype(float)  # right when most are: .90 to their .75
    found = panel_lift(panel, members, folds=np.arange(400) % 5, is_binary=True)
    expected = stats.binom.sf(2, 5, 0.75) - 0.75
    assert found.lift.low < expected < found.lift.high
    assert found.is_accepted
    assert (found.n, len(found.chosen), len(found.against)) == (400, 5, 5)


def test_a_panel_that_one_strong_member_would_beat_is_not() -> None:
    rng = np.random.default_rng(2)
    weak = (rng.random((400, 4)) < 0.6).astype(float)
    strong = (rng.random((400, 1)) < 0.95).astype(float)
    members = np.hstack((weak, strong))
    panel = (members.mean(axis=1) > 0.5).astype(float)
    found = panel_lift(panel, members, folds=np.arange(400) % 5, is_binary=True)
    assert set(found.chosen) == {4}
    assert found.lift.high < 0
    assert found.low == pytest.approx(found.against[4].low)
    assert not found.is_accepted


def test_a_panel_as_good_as_its_best_member_is_seldom_accepted() -> None:
    # among nearly equal members the one chosen is not always the best, which flatters the lift:
    # the lift alone would accept 8 % here
    rng = np.random.default_rng(3)
    n_accepted = 0
    for _ in range(150):
        members = (rng.random((200, 5)) < [0.82, 0.8, 0.8, 0.8, 0.8]).astype(float)
        panel = (rng.random(200) < 0.82).astype(float)
        found = panel_lift(panel, members, folds=np.arange(200) % 5, is_binary=True)
        n_accepted += found.is_accepted
    assert n_accepted <= stats.binom.ppf(0.999, 150, 0.025)


@given(arrays(float, (20, 3), elements=st.integers(-4, 0).map(float)), st.permutations(range(20)))
def test_items_of_a_lift_have_no_order(members: FloatArray, order: list[int]) -> None:
    folds, panel = np.arange(20) % 4, members.mean(axis=1)
    plain = panel_lift(panel, members, folds=folds, is_binary=False)
    moved = panel_lift(panel[order], members[order], folds=folds[order], is_binary=False)
    assert moved.lift.estimate == pytest.approx(plain.lift.estimate, abs=1e-12)
    assert moved.low == pytest.approx(plain.low, abs=1e-9, nan_ok=True)


def test_copies_of_items_in_a_cluster_add_no_certainty_to_a_lift() -> None:
    rng = np.random.default_rng(4)
    members = -rng.integers(0, 9, (60, 3)) / 8
    panel = np.median(members, axis=1) + 0.0625
    units = np.arange(60)
    one = panel_lift(panel, members, folds=units % 5, is_binary=False, clusters=units)
    two = panel_lift(
        np.tile(panel, 2),
        np.tile(members, (2, 1)),
        folds=np.tile(units % 5, 2),
        is_binary=False,
        clusters=np.tile(units, 2),
    )
    assert (two.lift.low, two.low) == pytest.approx((one.lift.low, one.low))


def test_what_does_not_fit_is_refused() -> None:
    members = np.ones((6, 2))
    with pytest.raises(ValueError, match="panel must be"):
        panel_lift(np.ones(5), members, folds=np.arange(6), is_binary=True)
    with pytest.raises(ValueError, match="two or more"):
        panel_lift(np.ones(6), members, folds=np.zeros(6), is_binary=True)
    with pytest.raises(ValueError, match="several folds"):
        panel_lift(
            np.ones(6), members, folds=np.arange(6) % 2, is_binary=True, clusters=np.zeros(6)
        )
    with pytest.raises(ValueError, match="whole numbers"):
        vote_counts([[0, 3]], n_classes=3)
    with pytest.raises(ValueError, match="no votes"):
        dawid_skene(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="counts must be"):
        dawid_skene(-np.ones((2, 2, 2)))
