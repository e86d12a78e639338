"""What a planned run can see: by assumption, and by what a baseline shows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import Answering, say
from hypothesis import given
from hypothesis import strategies as st

import evalkit
from evalkit.compare import Side, open_side
from evalkit.errors import NotFoundError, SpecError
from evalkit.plan import Question, RunPlan, Sensitivity, plan
from evalkit.plan.sensitivity import Findings, examine
from evalkit.plan.spread import assumed
from evalkit.prepare import RunSpec, prepare
from evalkit.record import RunRecord
from evalkit.types import Request, Response

TASK = (
    "task: sums\nversion: 1\ndataset: {path: sums.jsonl}\nprompt: '{{ q }}'\ntarget: '{{ a }}'\n"
    "request: generate\nmetrics: [exact_match, token_f1, bleu]\nslices: [half]\n"
)
N = 40
Z05, Z20, Z025 = 1.644854, 0.841621, 1.959964  # upper quantiles of the normal distribution
Q05 = Z05 + Z20  # one-sided at 5 %, power 80 %


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tasks").mkdir()
    write(tmp_path, n=N)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(project: Path, *, n: int, spec: str = TASK) -> None:
    rows = [
        {
            "id": f"s{i}",
            "q": f"{i}?",
            "a": f"it is no less than {i}",
            "half": str(2 * i // N),
            "of": str(i // 4),
        }
        for i in range(n)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (project / "tasks" / "sums.jsonl").write_text(text, encoding="utf-8")
    (project / "tasks" / "sums.yaml").write_text(spec, encoding="utf-8")


def run_sums(right: Callable[[int, int], bool], **options: Any) -> RunRecord:
    """A run that has right what a function of (example, repeat) says, and a word wrong else."""

    def respond(request: Request) -> Response:
        number = int(request.example_id[1:])
        said = number if right(number, request.repeat) else f"{number} too"
        return say(f"it is no less than {said}")

    return evalkit.evaluate("sums", Answering(respond), **options)


def examined(
    *questions: Question, baseline: RunRecord | None = None, **options: Any
) -> tuple[Sequence[Sensitivity], Sequence[str]]:
    spec = RunSpec(tasks=("sums",), model="openai:x", **options)
    side: Side | None = None if baseline is None else open_side(baseline)
    found: Findings = examine(prepare(spec).works, questions, baseline=side, seed=spec.seed)
    return found.sensitivities, found.warnings


def check(margin: float | None = 0.1, metric: str = "exact_match", **fields: Any) -> Question:
    return Question(task="sums", metric=metric, margin=margin, **fields)


def test_right_or_wrong_is_assumed_to_differ_in_a_fifth_of_the_examples() -> None:
    [found], warnings = examined(check(0.02))
    assert (found.n, found.basis, found.variance, found.design_effect) == (
        40,
        "discordance",
        0.2,
        1,
    )
    assert found.detectable == pytest.approx(Q05 * math.sqrt(0.2 / 40), rel=1e-5)
    assert math.isnan(found.detectable_low)
    # Q05² · 0.2 / 0.02² = 3091.3
    assert found.n_needed == 3092
    assert found.is_blind
    assert warnings == (
        "task sums: exact_match: cannot see a drop of 0.02 with 40 examples; needs 3,092 "
        "(there are 40 rows)",
    )


def test_enough_examples_are_no_cause_for_a_warning() -> None:
    # 40 examples see from Q05 · sqrt(0.2 / 40) = 0.1758 on
    [near, far], warnings = examined(check(0.1758), check(0.1759, slice=None))
    assert (near.is_blind, far.is_blind) == (True, False)
    assert len(warnings) == 1


def test_miller_s_thousand_examples_see_three_points(project: Path) -> None:
    # Miller (2024), section 5: omega² = 1/9, and 1,000 examples: 0.0295 by his equation
    write(project, n=1000)
    [found], _ = examined(check(None, "token_f1"))
    assert found.basis == "omega"
    assert found.detectable == pytest.approx(0.029531, abs=5e-7)
    assert found.n_needed is None


def test_a_wider_scale_is_assumed_to_spread_as_its_square() -> None:
    assert assumed(is_binary=False, ends=(1, 5)).variance == pytest.approx(16 / 9)
    assert assumed(is_binary=False, ends=(2, 0)).variance == pytest.approx(4 / 9)
    for ends in ((0.0, math.inf), (math.nan, math.nan), (1.0, 1.0)):
        assert assumed(is_binary=False, ends=ends).basis == "unknown"


def test_of_a_metric_that_is_no_mean_nothing_is_assumed() -> None:
    [found], warnings = examined(check(1.0, "bleu"))
    assert found.basis == "unknown"
    assert math.isnan(found.detectable)
    assert found.n_needed is None
    assert not found.is_blind
    assert warnings == (
        "task sums: bleu: nothing is known of its spread; a baseline would show it",
    )


def test_a_baseline_shows_its_own_variance() -> None:
    baseline = run_sums(lambda i, _: i >= 10)
    [found], warnings = examined(check(0.1), baseline=baseline)
    # 30 of 40 are right: s² = 40/39 · 3/4 · 1/4; twice that, times 1 - r of 0.5, 0.7 and 0.3
    variance = 40 / 39 * 3 / 16
    assert (found.n, found.basis) == (40, "baseline")
    assert found.variance == pytest.approx(variance)
    shown = (found.detectable, found.detectable_low, found.detectable_high)
    expected = [Q05 * math.sqrt(2 * variance * (1 - r) / 40) for r in (0.5, 0.7, 0.3)]
    assert shown == pytest.approx(expected, rel=1e-5)
    assert found.n_needed == math.ceil(Q05**2 * variance / 0.01)
    assert [w.partition(";")[0] for w in warnings] == [
        "task sums: exact_match: cannot see a drop of 0.1 with 40 examples"
    ]


def test_two_sides_without_a_margin() -> None:
    baseline = run_sums(lambda i, _: i >= 20)
    [found], warnings = examined(check(None), baseline=baseline)
    expected = (Z025 + Z20) * math.sqrt(40 / 39 / 4 / 40)
    assert found.detectable == pytest.approx(expected, rel=1e-5)
    assert warnings == ()


def test_a_baseline_that_never_varies_shows_nothing() -> None:
    [found], _ = examined(check(), baseline=run_sums(lambda i, _: True))
    assert (found.basis, found.variance) == ("discordance", 0.2)


def test_more_repeats_leave_less_to_chance() -> None:
    # each example is right in one of two answers: all of the variance is that of answering again
    baseline = run_sums(lambda i, repeat: repeat % 2 == 0, repeats=2)
    [twice], _ = examined(check(), baseline=baseline, repeats=2)
    [often], _ = examined(check(), baseline=baseline, repeats=8)
    # within an example 1/2, over two answers of the baseline and so many of the candidate
    assert twice.variance == pytest.approx(0.5 / 2 + 0.5 / 2)
    assert often.variance == pytest.approx(0.5 / 2 + 0.5 / 8)


def test_examples_of_one_cluster_count_as_few(project: Path) -> None:
    write(project, n=N, spec=TASK + "cluster: of\n")
    # all four of a cluster are right, or all wrong
    baseline = run_sums(lambda i, _: i // 4 % 2 == 0)
    [found], warnings = examined(check(0.9), baseline=baseline)
    # 10 clusters of 4 alike, half of each kind: the variance of the mean is that of 10 values,
    # s² = 10/9 / 4, beside that of 40, s² = 40/39 / 4
    effect = (10 / 9 / 10) / (40 / 39 / 40)
    assert found.design_effect == pytest.approx(effect)
    expected = Q05 * math.sqrt(40 / 39 / 4 * effect / 40)
    assert found.detectable == pytest.approx(expected, rel=1e-5)
    assert warnings == ()
    _, warnings = examined(check(0.9))
    assert warnings == (
        "task sums: 40 examples in 10 clusters are counted as if they were independent: it sees "
        "less than this says",
    )


def test_the_jackknife_agrees_with_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    wrong = rng.random(N) < 0.4
    baseline = run_sums(lambda i, _: not wrong[i])
    [found], _ = examined(check(5.0, "bleu"), baseline=baseline)
    bootstrap = baseline.tasks["sums"].metrics["bleu"].estimate.stderr
    assert found.basis == "baseline"
    # with a correlation of 1/2 the variance of a difference is that of a single score
    assert math.sqrt(found.variance / N) == pytest.approx(bootstrap, rel=0.1)


def test_a_slice_has_its_own_examples() -> None:
    baseline = run_sums(lambda i, _: i >= 30)
    [low, high], _ = examined(
        check(slice=("half", "0")), check(slice=("half", "1")), baseline=baseline
    )
    assert (low.n, low.basis) == (20, "discordance")  # all wrong: nothing varies
    assert (high.n, high.basis) == (20, "baseline")
    assert high.variance == pytest.approx(20 / 19 / 4)
    [gone], warnings = examined(check(slice=("half", "7")), baseline=baseline)
    assert (gone.n, math.isnan(gone.detectable)) == (0, True)
    assert warnings == ("task sums: exact_match, half: 7: no example to compare",)


def test_only_examples_that_the_baseline_has_count() -> None:
    baseline = run_sums(lambda i, _: i >= 10, first=25)
    [found], warnings = examined(check(0.9), baseline=baseline)
    assert found.n == 25
    assert warnings == (
        "task sums: 15 of 40 examples are not in the baseline; only --intersection compares the "
        "others",
    )


def test_what_the_gate_will_refuse_is_known_before(project: Path) -> None:
    baseline = run_sums(lambda i, _: i >= 10)
    settings = {"generate.temperature": "0.7"}
    _, warnings = examined(check(0.9), baseline=baseline, settings=settings)
    assert warnings == (
        "not comparable with the baseline A: task sums: generate.temperature: 0.0 in A, 0.7 in B",
    )
    other = TASK.replace("sums", "other").replace("exact_match, ", "")
    (project / "tasks" / "other.yaml").write_text(other.replace("other.jsonl", "sums.jsonl"))
    elsewhere = evalkit.evaluate("other", Answering(lambda request: say("")))
    [found], warnings = examined(check(0.9), baseline=elsewhere)
    assert (found.n, found.basis) == (40, "discordance")
    assert warnings == ("task sums: the baseline does not have it: nothing to compare with",)


def test_a_metric_that_the_baseline_lacks_is_named(project: Path) -> None:
    baseline = run_sums(lambda i, _: i >= 10)
    write(project, n=N, spec=TASK.replace("bleu]", "bleu, contains]"))
    [found], warnings = examined(check(0.9, "contains"), baseline=baseline)
    assert found.basis == "discordance"
    assert warnings == ("task sums: the baseline does not have metric contains",)


def test_an_unknown_metric_is_found_before_anything_else() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'exact_match'"):
        examined(check(metric="exact_mach"))


POLICY = """gate: pull-request
checks:
  - {task: sums, metric: exact_match, margin: 0.05, reason: noticed}
  - {task: sums, metric: token_f1, margin: 0.05, slice: half=1}
  - {task: prose, metric: perplexity, margin: 1}
"""


def planned(policy: str | None = None, baseline: Path | None = None, **options: Any) -> RunPlan:
    file = None
    if policy is not None:
        file = Path("policy.yaml")
        file.write_text(policy, encoding="utf-8")
    spec = RunSpec(tasks=("sums",), model="openai:x", **options)
    return plan(spec, policy=file, baseline=baseline)


def test_each_check_of_a_policy_is_planned_at_its_strictest_level() -> None:
    found = planned(POLICY)
    first, second = found.sensitivities
    # Holm over three checks may ask 5 % / 3 of any of them; z(0.05 / 3) = 2.128045
    assert first.question.alpha == pytest.approx(0.05 / 3)
    assert first.detectable == pytest.approx((2.128045 + Z20) * math.sqrt(0.2 / 40), rel=1e-5)
    assert (second.question.slice, second.n, second.basis) == (("half", "1"), 20, "omega")
    assert "task prose is checked by the policy, and not in this run" in found.warnings
    [single] = planned(POLICY[: POLICY.index("  - {task: sums, metric: token")]).sensitivities
    assert single.question.alpha == 0.05
    alone = planned("adjust: none\nalpha: 0.1\npower: 0.9\n" + POLICY).sensitivities[0]
    # z(0.1) = z(1 - 0.9) = 1.281552
    assert alone.detectable == pytest.approx(2 * 1.281552 * math.sqrt(0.2 / 40), rel=1e-5)


def test_a_wrong_policy_is_found_first() -> None:
    with pytest.raises(SpecError, match=r"policy.yaml:1: .*unknown key 'gates'"):
        planned("gates: x\n" + POLICY)


def test_with_a_baseline_alone_every_metric_is_planned() -> None:
    folder = run_sums(lambda i, _: i >= 10).write(Path("runs", "monday")).folder
    found = planned(baseline=folder)
    shown = [(s.question.metric, s.question.margin, s.basis) for s in found.sensitivities]
    assert shown == [(m, None, "baseline") for m in ("exact_match", "token_f1", "bleu")]
    assert planned().sensitivities == ()


@given(st.integers(1, N), st.integers(1, N), st.floats(0.01, 0.5), st.floats(0.01, 0.5))
def test_more_examples_see_more_and_smaller_margins_need_more(
    few: int, many: int, small: float, large: float
) -> None:
    few, many = sorted((few, many))
    small, large = sorted((small, large))
    work = prepare(RunSpec(tasks=("sums",), model="openai:x", first=few)).works
    more = prepare(RunSpec(tasks=("sums",), model="openai:x", first=many)).works
    one, two = (examine(w, [check(small)], baseline=None, seed=0) for w in (work, more))
    three = examine(work, [check(large)], baseline=None, seed=0)
    [a], [b], [c] = one.sensitivities, two.sensitivities, three.sensitivities
    assert b.detectable <= a.detectable
    assert a.n_needed is not None
    assert c.n_needed is not None
    assert c.n_needed <= a.n_needed
    # what is needed is enough, and one example fewer is not
    assert (a.detectable <= small) == (not a.is_blind)
