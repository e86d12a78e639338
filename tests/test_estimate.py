from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.estimate import ExampleScores, estimate, mean_of_tasks
from evalkit.metrics import build_metric
from evalkit.stats.intervals import wilson
from evalkit.types import (
    Continuation,
    Estimate,
    Example,
    Metric,
    Outcome,
    Response,
    Score,
    abstained,
)


def outcome(answer: str | None = None, target: str = "yes") -> Outcome:
    return Outcome(
        example=Example(id="e", fields={}, sha256=""),
        response=Response(text=answer),
        targets=(target,),
        prediction=answer,
    )


def groups(
    metric: Metric, answers: Sequence[Sequence[str | None]], *, clusters: Sequence[str] = ()
) -> list[ExampleScores]:
    """An example for each list of answers to "say yes"; None is a failed request."""
    return [
        ExampleScores(
            scores=tuple(None if a is None else metric.score(outcome(a)) for a in repeats),
            outcome=outcome(repeats[0] if repeats else None),
            cluster=clusters[index] if clusters else None,
        )
        for index, repeats in enumerate(answers)
    ]


EXACT = build_metric("exact_match", {})
BLEU = build_metric("bleu", {})
F1 = build_metric("f1", {})
PERPLEXITY = build_metric("perplexity", {})
ROUGE = build_metric("rouge1", {})


def test_a_proportion_of_single_answers_has_wilsons_interval() -> None:
    found = estimate(EXACT, groups(EXACT, [["yes"]] * 81 + [["no"]] * 182), seed=0)
    assert (found.value, found.method) == (81 / 263, "wilson")
    # Newcombe (1998), Table I
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def wilson_bounds(p: float, n: float, quantile: float = 1.959964) -> tuple[float, float]:
    """Wilson (1927), for any number of answers."""
    centre = (p + quantile**2 / (2 * n)) / (1 + quantile**2 / n)
    half = quantile / (1 + quantile**2 / n) * math.sqrt(p * (1 - p) / n + (quantile / n / 2) ** 2)
    return centre - half, centre + half


def test_a_mean_of_bounded_scores_has_wilsons_interval_for_what_its_variance_is_worth() -> None:
    answers = [["yes sir"], ["yes"], ["oh yes please"], ["yes sir"]]
    found = estimate(ROUGE, groups(ROUGE, answers), seed=0)
    # F of unigrams: 2/(1+2), 1, 2/(1+3), 2/(1+2); mean 17/24
    assert found.value == pytest.approx(17 / 24)
    assert found.method == "wilson-mean"
    # sd of the four = 0.209718
    assert found.stderr == pytest.approx(0.209718 / 2, abs=1e-6)
    worth = found.value * (1 - found.value) / found.stderr**2
    assert (found.low, found.high) == pytest.approx(wilson_bounds(17 / 24, worth), abs=1e-5)


def test_repeats_are_averaged_within_their_example() -> None:
    answers = [["yes", "no"], ["yes", "yes"], ["no", "no"], ["no", "yes"]]
    found = estimate(EXACT, groups(EXACT, answers), seed=0)
    assert (found.value, found.method, found.n_total) == (0.5, "wilson-mean", 4)
    assert found.stderr == pytest.approx(math.sqrt(1 / 6) / 2)  # sd of .5 1 0 .5 over sqrt 4
    assert 0 <= found.low <= found.high <= 1


def test_a_repeat_that_failed_is_left_out_of_its_examples_mean() -> None:
    found = estimate(EXACT, groups(EXACT, [["yes", None], ["no", "yes"]]), seed=0)
    assert found.value == 0.75
    assert (found.n_scored, found.n_error) == (2, 0)
    assert (found.worst, found.best) == (0.5, 0.75)


def test_clusters_make_the_interval_cluster_robust() -> None:
    answers = [["yes" if right else "no"] for right in (1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1)]
    found = estimate(EXACT, groups(EXACT, answers, clusters="aaabbbcccddd"), seed=0)
    # statsmodels 0.15, OLS with clustered covariance, times the g/(g-1) factor
    assert found.stderr == pytest.approx(0.1360827634879544)
    assert found.method == "cluster-wilson"
    assert 0 < found.low < found.value < found.high < 1


def test_examples_without_a_cluster_stand_alone() -> None:
    scored = groups(EXACT, [["yes"], ["no"], ["no"], ["yes"]], clusters="aabb")
    mixed = [*scored, *groups(EXACT, [["yes"], ["no"]])]
    found = estimate(EXACT, mixed, seed=0)
    assert found.method == "cluster-wilson"
    # residual sums 0 and 0 of two pairs, .5 and -.5 of two alone, of which each is 1/6 of the mean
    assert found.stderr == pytest.approx(math.sqrt((0.5**2 + 0.5**2) / (1 - 1 / 6)) / 6)


@pytest.mark.parametrize(("answer", "value"), [("yes", 1.0), ("no", 0.0)])
def test_a_repeated_proportion_without_spread_counts_each_example_once(
    answer: str, value: float
) -> None:
    found = estimate(EXACT, groups(EXACT, [[answer] * 3] * 20), seed=0)
    expected = wilson(20 if value else 0, 20)
    assert found.value == value
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.method == "wilson-mean"
    assert math.isnan(found.stderr)


def test_a_clustered_proportion_without_spread_counts_its_clusters() -> None:
    found = estimate(EXACT, groups(EXACT, [["no"]] * 12, clusters="aaabbbcccddd"), seed=0)
    assert found.high == pytest.approx(wilson(0, 4).high)  # as 0 of 4 answers
    assert found.method == "cluster-wilson"


def test_corpus_metrics_are_bootstrapped() -> None:
    answers = [["the cat sat on the yes"], ["yes"], ["no"], ["yes yes yes"], ["yes no"]] * 4
    found = estimate(BLEU, groups(BLEU, answers), seed=1)
    assert found.method == "bootstrap-bca"
    assert found.low < found.value < found.high
    assert found.stderr > 0


def test_a_clustered_corpus_metric_resamples_clusters() -> None:
    answers = [["yes"], ["yes"], ["no"], ["no"], ["yes no"], ["yes no"], ["yes a b"], ["yes a b"]]
    scored = groups(F1, answers, clusters="aabbccdd")
    found = estimate(F1, scored, seed=1)
    assert found.method == "cluster-bootstrap"


def test_the_percentile_method_stands_in_where_bca_is_undefined() -> None:
    # half the examples are as much too sure as the others are unsure: the error of calibration is
    # 0, and it is 0.5 / 19 whichever is left out, so that there is no acceleration
    ece = build_metric("ece", {"n_bins": 1})
    scores = [Score(value=math.nan, stats=(gap, 1.0, 0.0)) for gap in (0.5, -0.5)] * 10
    scored = [ExampleScores(scores=(score,), outcome=outcome("x")) for score in scores]
    found = estimate(ece, scored, seed=0)
    assert found.value == 0.0
    assert found.method == "bootstrap-percentile"
    assert found.low == 0.0
    assert 0 < found.high < 0.5


def test_the_same_seed_gives_the_same_interval_and_another_does_not() -> None:
    answers = ["a b c d e f", "a b c d x y", "x a b c d e", "f e d c b a", "a b c d e"] * 3
    scored = [
        ExampleScores(scores=(BLEU.score(outcome(a, "a b c d e f")),), outcome=outcome(a))
        for a in answers
    ]
    first, again, other = (estimate(BLEU, scored, seed=seed) for seed in (1, 1, 2))
    assert 0 < first.low < first.value < first.high < 100
    assert first == again
    assert first.low != other.low


ANSWERS = st.lists(
    st.lists(st.sampled_from(["yes", "no", "yes no", "", None]), min_size=1, max_size=3),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(ANSWERS, st.sampled_from([EXACT, ROUGE, BLEU, F1]), st.randoms(), st.booleans())
def test_the_order_of_the_examples_changes_nothing(
    answers: list[list[str | None]], metric: Metric, rng: random.Random, is_clustered: bool
) -> None:
    scored = groups(metric, answers, clusters="abcabcabcabc" if is_clustered else "")
    shuffled = scored.copy()
    rng.shuffle(shuffled)
    one = estimate(metric, scored, seed=0, n_resamples=100)
    other = estimate(metric, shuffled, seed=0, n_resamples=100)
    assert repr(one) == repr(other)  # bit for bit; repr, since nan is not equal to itself


@settings(max_examples=60, deadline=None)
@given(ANSWERS, st.sampled_from([EXACT, ROUGE]))
def test_the_value_lies_between_worst_and_best(
    answers: list[list[str | None]], metric: Metric
) -> None:
    found = estimate(metric, groups(metric, answers), seed=0)
    assert found.n_total == len(answers)
    assert found.worst <= found.best
    if not any(None in repeats for repeats in answers):
        assert found.worst == found.value == found.best


def test_errors_and_abstentions_are_counted_apart_and_bound_the_value() -> None:
    undecided = ExampleScores(scores=(abstained("tie"),), outcome=outcome("maybe"))
    half_failed = ExampleScores(scores=(None, abstained("tie")), outcome=outcome(None))
    scored = groups(EXACT, [["yes"], ["yes"], ["no"], [None], [None, None]])
    found = estimate(EXACT, [*scored, undecided, half_failed], seed=0)
    assert (found.n_total, found.n_scored, found.n_error, found.n_abstained) == (7, 3, 2, 2)
    assert found.value == pytest.approx(2 / 3)
    assert found.worst == pytest.approx(2 / 7)
    assert found.best == pytest.approx(6 / 7)


def test_nothing_scored_gives_nan_and_the_full_range() -> None:
    found = estimate(EXACT, groups(EXACT, [[None], [None]]), seed=0)
    assert (found.worst, found.best, found.n_error) == (0.0, 1.0, 2)
    assert all(map(math.isnan, (found.value, found.stderr, found.low, found.high)))


@pytest.mark.parametrize("metric", [EXACT, ROUGE, BLEU])
def test_no_examples_give_nan(metric: Metric) -> None:
    found = estimate(metric, [], seed=0)
    assert found.n_total == 0
    assert all(map(math.isnan, (found.value, found.low, found.worst, found.best)))


def test_one_example_of_a_corpus_metric_has_a_value_but_no_interval() -> None:
    found = estimate(BLEU, groups(BLEU, [["yes"]]), seed=0)
    assert math.isfinite(found.value)
    assert math.isnan(found.low)


def test_one_bounded_score_is_worth_one_answer() -> None:
    found = estimate(ROUGE, groups(ROUGE, [["yes"]]), seed=0)
    assert (found.low, found.high) == pytest.approx((wilson(1, 1).low, 1.0))
    assert math.isnan(found.stderr)


def test_a_failed_reading_could_have_been_impossible_or_certain() -> None:
    read = Continuation(logprob=-6.0, n_tokens=2, is_greedy=False)
    text = Outcome(
        example=Example(id="e", fields={}, sha256=""),
        response=Response(continuations=(read,)),
        targets=("four",),
    )
    groups_ = [
        ExampleScores(scores=(PERPLEXITY.score(text),), outcome=text),
        ExampleScores(scores=(None,), outcome=text),
    ]
    found = estimate(PERPLEXITY, groups_, seed=0)
    assert found.value == pytest.approx(math.exp(3))
    assert found.worst == math.inf
    assert found.best == pytest.approx(math.exp(6 / (2 + 4)))  # four bytes, a certain token each


def test_an_impossible_text_leaves_the_perplexity_infinite_and_without_interval() -> None:
    scores = [Score(value=math.inf, stats=(-math.inf, 2.0)), Score(value=2.0, stats=(-1.0, 2.0))]
    scored = [ExampleScores(scores=(score,), outcome=outcome("x")) for score in scores]
    found = estimate(PERPLEXITY, scored, seed=0)
    assert found.value == math.inf
    assert math.isnan(found.low)


def test_the_level_reaches_the_interval() -> None:
    scored = groups(ROUGE, [["yes"], ["no"], ["yes no"], ["yes a"]])
    found = estimate(ROUGE, scored, seed=0, level=0.9)
    worth = found.value * (1 - found.value) / found.stderr**2
    bounds = wilson_bounds(found.value, worth, 1.644854)
    assert (found.low, found.high) == pytest.approx(bounds, abs=1e-6)
    assert found.level == 0.9


def of_task(value: float, stderr: float, n: int) -> Estimate:
    return Estimate(
        value=value,
        stderr=stderr,
        low=value - stderr,
        high=value + stderr,
        method="t",
        n_total=n,
        n_scored=n,
        n_error=0,
        n_abstained=0,
        worst=value,
        best=value,
    )


def test_tasks_count_alike_in_their_mean_whatever_their_size() -> None:
    found = mean_of_tasks([of_task(0.2, 0.03, 10), of_task(0.6, 0.04, 1000)])
    assert found.value == pytest.approx(0.4)
    assert found.stderr == pytest.approx(0.05 / 2)  # sqrt(.03² + .04²) / 2
    assert found.n_total == 1010


def test_the_interval_of_a_mean_stays_where_the_metric_can_be() -> None:
    metric = build_metric("rouge2", {})
    texts = [("a b c d", "a b c d"), ("x y", "a b"), ("x y z", "a b"), ("p q", "r s")]
    groups = []
    for index, (answer, target) in enumerate(texts):
        seen = Outcome(
            example=Example(id=str(index), fields={}, sha256=""),
            response=Response(text=answer),
            targets=(target,),
            prediction=answer,
        )
        groups.append(ExampleScores(scores=(metric.score(seen),), outcome=seen))
    found = estimate(metric, groups, seed=0)
    # values 1, 0, 0, 0: mean .25, s = .5; .1875 / .0625 = 3 answers
    assert (found.value, found.low, found.high) == pytest.approx(
        (0.25, *wilson_bounds(0.25, 3)), abs=1e-6
    )
