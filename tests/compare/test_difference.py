"""Differences of two runs: against other tools, closed forms, and what must hold of any runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from answering import Answering
from hypothesis import given
from hypothesis import strategies as st
from paired_runs import TASK, Scores, record_of, rows_of, run_words, write_task
from scipy import stats

import evalkit
from evalkit.compare import (
    Comparison,
    MetricDifference,
    baseline_text,
    compare,
    open_side,
    paired,
)
from evalkit.record import RunRecord
from evalkit.types import Continuation, Request, Response


def difference(
    a: RunRecord, b: RunRecord, metric: str = "m", **options: object
) -> MetricDifference:
    """The one number of a metric over all examples."""
    found: Comparison = compare(open_side(a), [open_side(b)], metrics=[metric], **options)  # type: ignore[arg-type]
    [one] = found.candidates[0].metrics
    return one


def test_right_and_wrong_answers_are_compared_by_mcnemar() -> None:
    # 25 only A, 15 only B, 60 both: mid-p .117275 by statsmodels 0.14, as Fagerland (2013) eq. 4
    a, b = [1.0] * 85 + [0.0] * 15, [1.0] * 60 + [0.0] * 25 + [1.0] * 15
    one = difference(record_of(a), record_of(b))
    assert (one.value_a, one.value_b, one.difference.estimate) == pytest.approx((0.85, 0.75, -0.1))
    assert one.difference.p_value == pytest.approx(0.117275, abs=5e-7)
    assert one.difference.low < -0.1 < one.difference.high
    assert one.discordance is not None
    assert (one.discordance.n_only_a, one.discordance.n_only_b) == (25, 15)
    assert one.is_better is False
    assert {flip.id for flip in one.lost} == {str(i) for i in range(60, 85)}
    assert {flip.id for flip in one.gained} == {str(i) for i in range(85, 100)}


def test_graded_scores_are_compared_much_as_by_scipys_paired_t() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(50)
    b = np.clip(a + rng.normal(0.05, 0.1, 50), 0, 1)
    one = difference(record_of(a.tolist(), interval="mean"), record_of(b.tolist(), interval="mean"))
    expected = stats.ttest_rel(b, a)
    low, high = expected.confidence_interval(0.95)
    assert one.difference.method == "paired-likelihood"
    assert one.difference.p_value == pytest.approx(expected.pvalue, rel=0.25)
    # these differences are nearly normal: a tenth of a standard error
    tenth = float(stats.sem(b - a)) / 10
    assert (one.difference.low, one.difference.high) == pytest.approx((low, high), abs=tenth)
    assert (one.discordance, one.gained, one.lost) == (None, (), ())


def test_examples_of_a_cluster_count_together() -> None:
    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(40), 3)
    a, b = rng.random(120), rng.random(120) + np.repeat(rng.normal(0, 0.2, 40), 3)
    names = [f"c{c}" for c in cluster]
    one = difference(
        record_of(a.tolist(), interval="mean", clusters=names),
        record_of(b.tolist(), interval="mean", clusters=names),
    )
    # Miller (2024), arXiv:2411.00640: sums of the deviations of each cluster, with g/(g-1)
    d = b - a
    sums = np.bincount(cluster, d - d.mean())
    stderr = math.sqrt(40 / 39 * float(sums @ sums)) / 120
    assert one.difference.stderr == pytest.approx(stderr)
    p = 2 * stats.t.sf(abs(d.mean() / stderr), 39)
    assert one.difference.p_value == pytest.approx(p, abs=0.02)
    assert (one.difference.n, one.n_pairs) == (40, 120)


def test_repeats_are_averaged_within_their_example() -> None:
    a: list[Scores] = [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]] * 12
    b: list[Scores] = [[1.0, 1.0], [1.0, None], [None, 0.0]] * 12
    one = difference(record_of(a, repeats=2), record_of(b, repeats=2))
    # 12 of 36 examples are better by 1/2, the others equal: the likelihood ratio at 0 is that
    # of 12 wins and no loss, 2 * 12 log 2, in t of 12 + 5 degrees
    assert one.difference.estimate == pytest.approx(1 / 6)
    p = 2 * stats.t.sf(math.sqrt(24 * math.log(2)), 17)
    assert one.difference.p_value == pytest.approx(p)
    assert (one.n_pairs, one.n_error_b) == (36, 0)
    # an example's missing repeat at 0, or at 1: (1 + .5 + 0) / 3 to (1 + 1 + .5) / 3, of A's .5
    assert (one.worst, one.best) == pytest.approx((1.5 / 3 - 0.5, 2.5 / 3 - 0.5))


def test_graded_scores_that_do_not_differ_bound_the_difference_by_their_scale() -> None:
    a = record_of([0.25, 0.5, 0.75, 1.0] * 10, interval="mean")
    one = difference(a, a)
    # 40 zeros have the likelihood (1 - |mean|)^40; t(5) at .025 is 2.570582
    bound = -math.expm1(-(2.570582**2) / 80)
    assert (one.difference.low, one.difference.high) == pytest.approx((-bound, bound), rel=1e-6)
    assert one.difference.p_value == 1.0


def test_the_scale_is_not_believed_where_a_score_lies_beyond_it() -> None:
    a = record_of([0.25, 1.5] * 20, interval="mean", missing=(0.0, 1.0))
    assert math.isnan(difference(a, a).difference.low)


def test_an_example_without_an_answer_is_counted_and_bounds_the_difference() -> None:
    a: Scores = [1.0, 1.0, 0.0, 0.0, None, 1.0, 1.0, 0.0, None, 0.0]
    b: Scores = [1.0, 0.0, 1.0, 1.0, 1.0, None, None, 0.0, None, 0.0]
    one = difference(record_of(a), record_of(b))
    assert (one.n_pairs, one.n_error_a, one.n_error_b) == (6, 2, 3)
    # scored on both sides: A 2 of 6, B 3 of 6
    assert one.difference.estimate == pytest.approx(1 / 6)
    # A's two errors right and B's three wrong: 6 and 4 of 10; the other way round: 4 and 7
    assert (one.worst, one.best) == pytest.approx((-0.2, 0.3))


def test_of_a_metric_where_less_is_better_the_worst_is_the_larger_difference() -> None:
    options = {"interval": "mean", "higher_is_better": False, "missing": (2.0, 0.0)}
    a = record_of([0.5, 0.25, None], **options)  # type: ignore[arg-type]
    b = record_of([0.25, None, 1.0], **options)  # type: ignore[arg-type]
    one = difference(a, b)
    assert (one.difference.estimate, one.is_better) == (-0.25, True)
    # A (.5 + .25 + 0..2) / 3, B (.25 + 0..2 + 1) / 3
    assert (one.worst, one.best) == pytest.approx((3.25 / 3 - 0.75 / 3, 1.25 / 3 - 2.75 / 3))


def test_an_end_that_is_not_known_leaves_its_bound_undefined() -> None:
    likelihood = {"interval": "mean", "missing": (math.nan, 0.0)}
    a, b = record_of([-1.0, None], **likelihood), record_of([-1.0, -2.0], **likelihood)  # type: ignore[arg-type]
    one = difference(a, b)
    # at the worst A was certain: (-1 - 2) / 2 and (-1 + 0) / 2; at the best it has no end
    assert one.worst == pytest.approx(-1.0)
    assert math.isnan(one.best)


def test_p_values_of_all_metrics_and_candidates_are_adjusted_together() -> None:
    right = [1.0] * 30
    one, other = [0.0] * 5 + [1.0] * 25, [0.0] * 8 + [1.0] * 22
    found = compare(
        open_side(record_of(right)), [open_side(record_of(s)) for s in (one, other, right)]
    )
    rows = [candidate.metrics[0] for candidate in found.candidates]
    # mid-p of 5:0 and 8:0 is 2^-5 and 2^-8; Holm (1979): 2·2^-5 and 3·2^-8, and 1 stays 1
    assert [d.difference.p_value for d in rows] == pytest.approx([2**-5, 2**-8, 1.0])
    assert [d.p_adjusted for d in rows] == pytest.approx([2 * 2**-5, 3 * 2**-8, 1.0])


def test_slices_have_a_difference_each_and_a_family_of_their_own(tmp_path: Path) -> None:
    texts = [f"word{i}" for i in range(40)]
    task = write_task(tmp_path, rows_of(texts, kind=["x", "y"] * 20), TASK + "slices: [kind]\n")
    a = run_words(task, lambda text: text)
    b = run_words(task, lambda text: text if int(text[4:]) % 2 else "no")
    found = compare(open_side(a), [open_side(b)], metrics=["exact_match"])
    rows = {d.slice: d for d in found.candidates[0].slices}
    assert {part: d.difference.estimate for part, d in rows.items()} == {
        ("kind", "x"): -1.0,
        ("kind", "y"): 0.0,
    }
    # mid-p of 20:0 is 2^-20; Benjamini and Hochberg (1995) of two: 2·2^-20
    assert rows["kind", "x"].p_adjusted == pytest.approx(2 * 2**-20)
    assert rows["kind", "y"].p_adjusted == 1.0


CORPUS = TASK.replace("[exact_match, token_f1]", "[bleu, {metric: f1, name: labels}]")


def test_corpus_metrics_are_compared_by_what_they_add_up(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "birds", "in", "May"]
    texts = [" ".join(rng.choice(words, 9)) for _ in range(40)]
    task = write_task(tmp_path, rows_of(texts), CORPUS)
    answers = {
        "a": {text: " ".join(text.split()[:-2]) for text in texts},
        "b": {text: text if len(text) % 2 else "a " + text for text in texts},
    }
    a, b = (run_words(task, answers[name].__getitem__) for name in "ab")
    one = difference(a, b, "bleu")
    expected = [
        sacrebleu.corpus_bleu([answers[name][text] for text in texts], [texts]).score
        for name in "ab"
    ]
    assert [one.value_a, one.value_b] == pytest.approx(expected)
    assert one.difference.estimate == pytest.approx(expected[1] - expected[0])
    assert one.difference.low < one.difference.estimate < one.difference.high
    assert one.difference.p_value < 0.05
    assert (one.worst, one.best) == pytest.approx((one.difference.estimate,) * 2)
    labels = difference(a, b, "labels")
    own = [r.tasks["words"].metrics["labels"].estimate.value for r in (a, b)]
    assert [labels.value_a, labels.value_b] == pytest.approx(own)


def test_a_run_without_a_single_answer_leaves_no_pair(tmp_path: Path) -> None:
    task = write_task(tmp_path, rows_of(["one two three four five"] * 4), CORPUS)
    a, b = run_words(task, lambda text: text), run_words(task, lambda text: None)
    one = difference(a, b, "bleu")
    assert (one.n_pairs, one.n_error_b, one.is_better) == (0, 4, None)
    assert math.isnan(one.difference.estimate)
    assert (one.worst, one.best) == pytest.approx((-100.0, 0.0))  # nothing, or the very targets


def test_bounds_of_a_corpus_metric_are_those_that_each_run_found(tmp_path: Path) -> None:
    texts = [f"one two three four {i}" for i in range(20)]
    task = write_task(tmp_path, rows_of(texts), CORPUS)
    a = run_words(task, lambda text: None if text.endswith(" 3") else text)
    b = run_words(task, lambda text: None if text.endswith(" 7") else "one two three four 5")
    one = difference(a, b, "bleu")
    of_a, of_b = (r.tasks["words"].metrics["bleu"].estimate for r in (a, b))
    assert (one.n_error_a, one.n_error_b, one.n_pairs) == (1, 1, 18)
    assert (one.worst, one.best) == (of_b.worst - of_a.best, of_b.best - of_a.worst)
    assert one.worst < one.best


def test_the_difference_to_an_impossible_text_is_infinite_or_not_a_number(tmp_path: Path) -> None:
    spec = TASK.replace("generate", "loglikelihood").replace(
        "[exact_match, token_f1]", "[perplexity]"
    )
    task = write_task(tmp_path, rows_of(["a", "b"]), spec)

    def likely(request: Request) -> Response:
        return Response(continuations=(Continuation(logprob=-1.0, n_tokens=1, is_greedy=False),))

    def impossible(request: Request) -> Response:
        logprob = -math.inf if request.example_id == "w0" else -1.0
        return Response(continuations=(Continuation(logprob=logprob, n_tokens=1, is_greedy=False),))

    record = evalkit.evaluate(str(task), Answering(impossible))
    one = difference(record, record, "perplexity")
    assert (one.value_a, one.value_b, one.n_pairs) == (math.inf, math.inf, 2)
    assert math.isnan(one.difference.estimate)
    finite = difference(evalkit.evaluate(str(task), Answering(likely)), record, "perplexity")
    assert (finite.difference.estimate, finite.is_better) == (math.inf, False)
    assert math.isnan(finite.difference.p_value)
    file = tmp_path / "baseline.json"
    file.write_text(baseline_text(open_side(record)), encoding="utf-8")
    [read] = compare(open_side(file), [open_side(record)]).candidates[0].metrics
    assert str(read) == str(one)


def test_the_arrays_behind_a_number_can_be_had() -> None:
    a: Scores = [1.0, None, 0.0]
    pairs = paired(open_side(record_of(a)), open_side(record_of([0.0, 1.0, 0.0])), "t", "m")
    values = dict(zip(pairs.ids, zip(pairs.a, pairs.b, strict=True), strict=True))
    assert values == {"0": (1.0, 0.0), "2": (0.0, 0.0)}
    assert (pairs.is_binary, pairs.clusters, pairs.n_common) == (True, None, 3)
    assert pairs.filled_worst is not None
    assert (pairs.filled_worst.a.sum(), pairs.filled_worst.b.sum()) == (2.0, 1.0)


OUTCOMES = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, None]), st.sampled_from([0.0, 1.0, None])),
    min_size=1,
    max_size=20,
)


@given(OUTCOMES)
def test_a_run_does_not_differ_from_itself(
    outcomes: list[tuple[float | None, float | None]],
) -> None:
    record = record_of([a for a, _ in outcomes])
    one = difference(record, record)
    assert (one.gained, one.lost, one.is_better) == ((), (), None)
    n = one.n_pairs
    assert n + one.n_error_a == len(outcomes)
    if n:
        assert (one.difference.estimate, one.difference.p_value) == (0, 1)
        assert one.difference.low <= 0 <= one.difference.high


@given(OUTCOMES, st.sampled_from(["proportion", "mean"]))
def test_swapping_the_runs_turns_the_difference_round(
    outcomes: list[tuple[float | None, float | None]], interval: str
) -> None:
    a, b = (record_of(list(side), interval=interval) for side in zip(*outcomes, strict=True))
    one, back = difference(a, b), difference(b, a)
    expected = (-back.difference.estimate, -back.difference.high, -back.difference.low)
    got = (one.difference.estimate, one.difference.low, one.difference.high)
    assert got == pytest.approx(expected, nan_ok=True, abs=1e-9)
    assert one.difference.p_value == pytest.approx(back.difference.p_value, nan_ok=True)
    assert (one.worst, one.best) == pytest.approx((-back.best, -back.worst), nan_ok=True)
    assert (one.gained, one.lost) == (back.lost, back.gained)


@given(OUTCOMES, st.data())
def test_neither_the_order_nor_other_examples_change_a_number(
    outcomes: list[tuple[float | None, float | None]], data: st.DataObject
) -> None:
    a, b = zip(*outcomes, strict=True)
    order = data.draw(st.permutations(range(len(b))))
    kept = order[: data.draw(st.integers(1, len(order)))]
    among_others = difference(
        record_of(a), record_of([b[i] for i in kept], ids=kept), intersection=True
    )
    alone = difference(
        record_of([a[i] for i in sorted(kept)], ids=sorted(kept)),
        record_of([b[i] for i in sorted(kept)], ids=sorted(kept)),
    )
    assert str(among_others) == str(alone)  # nan is nan
