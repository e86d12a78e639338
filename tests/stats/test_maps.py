"""Calibration maps: against other tools, to files and back, chosen on labels they have not seen."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalkit.stats.crossfit import choose_map, crossfit, fidelity, fold_of
from evalkit.stats.intervals import FloatArray
from evalkit.stats.maps import (
    AffineMap,
    BetaMap,
    IdentityMap,
    MapKind,
    TemperatureMap,
    fit_affine,
    fit_beta,
    fit_isotonic,
    fit_map,
    fit_ordinal,
    fit_temperature,
    log_losses,
    map_from_json,
)

GRADES = np.array([1, 1, 2, 2, 3, 2, 3, 4, 4, 5, 2, 1, 3, 4, 5, 3, 2, 5, 1, 4.0])
SCORES = np.array([1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 1, 2, 3, 4, 5, 2.5, 3.5, 4.5, 1.5, 3.2])
VERDICTS = np.array([0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1, 1.0])
CHANCES = np.array(
    [0.05, 0.2, 0.3, 0.35, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.15, 0.45, 0.65, 0.85, 0.97]
)


def test_isotonic_agrees_with_scikit_learn() -> None:
    # sklearn 1.9 IsotonicRegression().fit_transform
    found = fit_isotonic(np.array([1, 3, 2, 4, 3.5, 5]), np.arange(1.0, 7))
    assert found.predict(np.arange(1.0, 7)) == pytest.approx([1, 2.5, 2.5, 3.75, 3.75, 5])


def test_isotonic_with_ties_and_beyond_the_ends_agrees_with_scikit_learn() -> None:
    judge, human = np.array([3, 1, 2, 2, 5, 4, 4, 6.0]), np.array([2, 1, 3, 2, 4, 5, 3, 4.5])
    asked = np.array([0, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5.5, 6, 9])
    # sklearn 1.9, IsotonicRegression(out_of_bounds="clip")
    expected = [1, 1, 5 / 3, *[7 / 3] * 3, 19 / 6, 4, 4, 4.25, 4.5, 4.5]
    assert fit_isotonic(human, judge).predict(asked) == pytest.approx(expected)


def test_affine_agrees_with_polyfit() -> None:
    found = fit_affine(GRADES, SCORES)
    # numpy.polyfit(SCORES, GRADES, 1)
    assert (found.intercept, found.slope) == pytest.approx((-0.08146633, 0.94259367))


def test_a_constant_judge_maps_to_the_mean_label() -> None:
    found = fit_affine(GRADES, np.full(20, 0.1))
    assert (found.intercept, found.slope) == pytest.approx((2.85, 0))


def test_ordinal_agrees_with_statsmodels() -> None:
    found = fit_ordinal(GRADES, SCORES)
    # statsmodels 0.15 OrderedModel(distr="logit"), gtol 1e-10
    assert found.slope == pytest.approx(2.53057034, abs=1e-5)
    assert found.cuts == pytest.approx((4.55293982, 7.35963118, 9.29880525, 11.93044744), abs=1e-5)
    rows = found.probabilities(np.array([2.7]))
    expected = [0.09282662, 0.53597782, 0.29293836, 0.07218479, 0.00607242]
    assert rows[0] == pytest.approx(expected, abs=1e-6)
    assert found.predict(np.array([2.7])) == pytest.approx([2.36269856], abs=1e-6)


def test_ordinal_stays_finite_where_the_judge_separates_the_levels() -> None:
    found = fit_ordinal(np.repeat([1.0, 2, 3], 5), np.repeat([1.0, 2, 3], 5))
    assert np.isfinite(found.cuts).all()
    assert found.predict(np.array([1.0, 2, 3])) == pytest.approx([1, 2, 3], abs=1e-3)


@pytest.mark.parametrize("human", [np.ones(5), np.arange(30.0)])
def test_an_ordinal_map_needs_a_scale(human: FloatArray) -> None:
    with pytest.raises(ValueError, match="levels among the labels"):
        fit_ordinal(human, np.arange(float(human.size)))


def test_beta_and_temperature_agree_with_logistic_regressions() -> None:
    beta = fit_beta(VERDICTS, CHANCES)
    # statsmodels 0.15 Logit on (log p, -log(1 - p), 1), and on logit(p) alone
    expected = (0.68057881, 1.12621284, -0.7137265)
    assert (beta.a, beta.b, beta.c) == pytest.approx(expected, abs=1e-5)
    assert fit_temperature(VERDICTS, CHANCES).temperature == pytest.approx(1.14051393, abs=1e-6)


def test_beta_does_not_fall_though_the_labels_do() -> None:
    found = fit_beta(1 - np.round(CHANCES), CHANCES)
    values = found.predict(np.linspace(0, 1, 50))
    assert (np.diff(values) >= 0).all()
    # all that is left is the share of ones
    assert values == pytest.approx(np.full(50, np.mean(1 - np.round(CHANCES))), abs=1e-3)


def test_an_over_sure_judge_gets_a_temperature_above_one() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=4000)
    human = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(float)
    found = fit_temperature(human, 1 / (1 + np.exp(-3 * logits)))
    assert found.temperature == pytest.approx(3, rel=0.1)
    assert found.predict(np.array([0.5])) == pytest.approx([0.5])


@settings(deadline=None, max_examples=60)
@given(arrays(float, 12, elements=st.floats(0, 5)), arrays(float, 12, elements=st.floats(0, 5)))
def test_isotonic_never_falls_and_keeps_the_mean(human: FloatArray, judge: FloatArray) -> None:
    found = fit_isotonic(human, judge)
    values = found.predict(np.linspace(-1, 6, 60))
    assert (np.diff(values) >= -1e-12).all()
    assert values.min() >= human.min() - 1e-9
    assert values.max() <= human.max() + 1e-9
    assert found.predict(judge).mean() == pytest.approx(human.mean(), abs=1e-9)


@pytest.mark.parametrize("kind", ["identity", "affine", "ordinal", "isotonic"])
def test_a_map_of_grades_reads_back_from_its_file(kind: MapKind) -> None:
    found = fit_map(GRADES, SCORES, kind=kind)
    back = map_from_json(json.loads(json.dumps(found.to_json())))
    assert back == found
    assert back.predict(SCORES).tolist() == found.predict(SCORES).tolist()


@pytest.mark.parametrize("kind", ["temperature", "beta"])
def test_a_map_of_probabilities_reads_back_from_its_file(kind: MapKind) -> None:
    found = fit_map(VERDICTS, CHANCES, kind=kind)
    assert map_from_json(json.loads(json.dumps(found.to_json()))) == found


def test_an_unknown_map_is_an_error() -> None:
    with pytest.raises(ValueError, match="no map of kind 'cubic'"):
        map_from_json({"kind": "cubic"})


@pytest.mark.parametrize("kind", ["identity", "affine", "ordinal", "isotonic", "beta"])
def test_every_fit_checks_its_labels(kind: MapKind) -> None:
    with pytest.raises(ValueError, match="not finite"):
        fit_map(np.array([1, math.nan]), np.ones(2), kind=kind)
    with pytest.raises(ValueError, match="2 labels and 3 scores"):
        fit_map(np.ones(2), np.ones(3), kind=kind)


def test_probabilities_must_lie_within_0_and_1() -> None:
    with pytest.raises(ValueError, match="within 0 and 1"):
        fit_beta(np.array([0, 1.0]), np.array([0.5, 1.5]))


def test_known_maps_give_known_values() -> None:
    assert AffineMap(intercept=1, slope=2).predict(np.array([3.0])) == pytest.approx([7])
    assert IdentityMap().predict(np.array([3.0])) == pytest.approx([3])
    # logit .8 = log 4, halved: 2 / 3; a = b = 1, c = log 2: odds of 4 doubled: 8 / 9
    assert TemperatureMap(temperature=2).predict(np.array([0.8])) == pytest.approx([2 / 3])
    assert BetaMap(a=1, b=1, c=math.log(2)).predict(np.array([0.8])) == pytest.approx([8 / 9])


def test_log_loss_is_the_negative_log_of_what_was_given_to_the_truth() -> None:
    found = log_losses(np.array([1.0, 0, 0]), np.array([0.8, 0.75, 1.0]))
    assert found == pytest.approx([-math.log(0.8), -math.log(0.25), 6 * math.log(10)])


def biased(n: int, *, seed: int, bend: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """A judge 1.7 too low, with noise; bent by a square where asked."""
    rng = np.random.default_rng(seed)
    human = rng.normal(3, 0.75, size=n)
    judge = human - 1.7 + bend * (human - 3) ** 3 + rng.normal(scale=0.8, size=n)
    return human, judge


def test_a_map_takes_away_bias_but_not_noise() -> None:
    human, judge = biased(400, seed=1)
    found = choose_map(human, judge, groups=np.arange(400))
    assert found.losses[0].kind == "identity"
    assert isinstance(found.map, AffineMap)
    assert found.raw.bias == pytest.approx(-1.7, abs=0.1)
    assert abs(found.mapped.bias) < 0.05
    assert found.mapped.mae < 0.3 * found.raw.mae
    assert found.mapped.mae < found.constant.mae
    assert found.mapped.pearson == pytest.approx(found.raw.pearson, abs=0.02)
    assert math.isnan(found.constant.pearson)


def test_a_judge_that_needs_no_map_gets_none() -> None:
    rng = np.random.default_rng(2)
    judge = rng.normal(3, 1, size=300)
    human = judge + rng.normal(scale=0.4, size=300)
    assert isinstance(choose_map(human, judge, groups=np.arange(300)).map, IdentityMap)


def test_a_step_gets_an_isotonic_map() -> None:
    rng = np.random.default_rng(3)
    judge = rng.uniform(1, 5, size=400)
    human = np.where(judge > 3, 4.5, 1.5) + rng.normal(scale=0.3, size=400)
    found = choose_map(human, judge, groups=np.arange(400))
    assert found.crossfit.kind == "isotonic"


def test_isotonic_is_not_chosen_below_fifty_labels() -> None:
    rng = np.random.default_rng(4)
    judge = rng.uniform(1, 5, size=49)
    human = np.where(judge > 3, 4.5, 1.5)
    found = choose_map(human, judge, groups=np.arange(49))
    assert [row.kind for row in found.losses] == ["identity", "affine"]
    with pytest.raises(ValueError, match="no map can be chosen"):
        choose_map(human, judge, groups=np.arange(49), candidates=("isotonic",))


def test_an_over_sure_judge_of_probabilities_is_cooled() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=600)
    human = (rng.random(600) < 1 / (1 + np.exp(-logits))).astype(float)
    sure = 1 / (1 + np.exp(-4 * logits))
    found = choose_map(
        human,
        sure,
        groups=np.arange(600),
        candidates=("identity", "temperature", "beta"),
        loss="log",
    )
    assert isinstance(found.map, TemperatureMap)


def test_folds_keep_groups_together_and_do_not_see_the_order() -> None:
    human, judge = biased(90, seed=6)
    groups = np.array([f"doc {i // 3}" for i in range(90)])
    plain = crossfit(human, judge, groups=groups, kind="affine")
    for name in np.unique(groups):
        assert np.unique(plain.folds[groups == name]).size == 1
    order = np.random.default_rng(7).permutation(90)
    moved = crossfit(human[order], judge[order], groups=groups[order], kind="affine")
    assert moved.predicted == pytest.approx(plain.predicted[order])


def test_a_fold_follows_from_the_name_alone() -> None:
    names = [f"item {i}" for i in range(1000)]
    folds = fold_of(names, n_folds=5)
    assert fold_of(names[300:400], n_folds=5).tolist() == folds[300:400].tolist()
    assert fold_of(names, n_folds=5, seed=1).tolist() != folds.tolist()
    # chi-squared of 5 cells of 200, 99.9 % limit of 4 degrees
    counts = np.bincount(folds)
    assert float(((counts - 200) ** 2 / 200).sum()) < 18.47


def test_predictions_come_from_maps_that_have_not_seen_the_label() -> None:
    human, judge = biased(60, seed=8)
    plain = crossfit(human, judge, groups=np.arange(60), kind="affine")
    changed = human.copy()
    changed[17] += 100
    other = crossfit(changed, judge, groups=np.arange(60), kind="affine")
    fold = plain.folds == plain.folds[17]
    assert other.predicted[fold].tolist() == plain.predicted[fold].tolist()
    assert not np.isclose(other.predicted[~fold], plain.predicted[~fold]).any()


def test_new_scores_get_the_mean_of_the_folds_maps() -> None:
    human, judge = biased(60, seed=9)
    found = crossfit(human, judge, groups=np.arange(60), kind="affine")
    asked = np.array([0.0, 2, 4])
    sizes = np.bincount(found.folds)
    expected = sum(s * m.predict(asked) for s, m in zip(sizes, found.maps, strict=True)) / 60
    assert found.predict(asked) == pytest.approx(expected)


def test_fidelity_by_hand() -> None:
    found = fidelity(np.array([1.0, 2, 3]), np.array([2.0, 2, 5]))
    # gaps 1, 0, 2; deviations (-1, 0, 1) and (-1, -1, 2)
    assert (found.mae, found.rmse, found.bias) == pytest.approx((1, math.sqrt(5 / 3), 1))
    assert found.pearson == pytest.approx(3 / math.sqrt(12))
    assert math.isnan(fidelity(np.empty(0), np.empty(0)).mae)
