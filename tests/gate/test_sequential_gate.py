"""The sequential gate: it asks no more than it needs, says what is proven, and loses nothing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import Answering, fail, likelihoods, say
from hypothesis import given
from hypothesis import strategies as st

import evalkit
from evalkit.compare import RunSide
from evalkit.errors import NotComparableError, NotFoundError, UsageError
from evalkit.gate import Policy, Reason, Verdict
from evalkit.gate.sequential import Watch, look_sizes
from evalkit.record import RunRecord
from evalkit.sequential import SequentialReport, SequentialSpec, gate_sequentially
from evalkit.types import Request, Response

N = 400
TODAY = date(2026, 3, 14)
TASK = (
    "task: words\nversion: 1\ndataset: {path: words.jsonl}\nprompt: 'Say {{ id }}'\n"
    "target: '{{ id }}'\nrequest: generate\nmetrics: [exact_match, bleu]\nslices: [half]\n"
)
Answer = Callable[[Request], Response]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one task; the current one."""
    monkeypatch.chdir(tmp_path)
    write_task(TASK)
    return tmp_path


def write_task(text: str, *, n: int = N, **changed: str) -> None:
    """The task and its rows; ``changed`` gives some rows another text."""
    Path("words.yaml").write_text(text, encoding="utf-8")
    rows = [
        {
            "id": f"w{i}",
            "half": "first" if i < n // 2 else "second",
            "pair": f"p{i // 2}",
            "text": changed.get(f"w{i}", f"text {i}"),
        }
        for i in range(n)
    ]
    Path("words.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def number(request: Request) -> int:
    return int(request.example_id[1:])


def right_but(wrong: Sequence[int] = ()) -> Answer:
    """Right, but for the examples with these numbers."""
    return lambda request: say("no" if number(request) in wrong else request.example_id)


def believing(probability: float) -> Answer:
    """That the first of two choices is right."""
    logprobs = math.log(probability), math.log(1 - probability)
    return lambda request: likelihoods(*logprobs)


def baseline(answer: Answer | None = None, **options: Any) -> RunRecord:
    return evalkit.evaluate("words.yaml", Answering(answer or right_but()), **options)


def policy(*, margin: float = 0.05, metric: str = "exact_match", **changes: Any) -> Policy:
    checks = changes.pop("checks", [{"task": "words", "metric": metric, "margin": margin}])
    return Policy(gate="pull-request", checks=checks, **changes)


def gated(
    answer: Answer,
    *,
    against: RunRecord | None = None,
    rules: Policy | None = None,
    budget: int = N,
    out: Path | None = None,
    backend: Answering | None = None,
) -> SequentialReport:
    return gate_sequentially(
        SequentialSpec(task="words.yaml", model="test:function", budget=budget, out=out),
        RunSide(against or baseline()),
        rules or policy(),
        today=TODAY,
        backend=backend or Answering(answer),
    )


# --- looks and bounds


@given(st.integers(1, 10**6), st.integers(1, 12))
def test_looks_double_up_to_the_budget(budget: int, n_looks: int) -> None:
    sizes = look_sizes(budget, n_looks=n_looks)
    assert sizes[-1] == budget
    assert 1 <= len(sizes) <= n_looks
    assert all(a < b <= 2 * a for a, b in pairwise(sizes))


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=60), st.data())
def test_how_examples_are_split_into_looks_does_not_move_the_bounds(
    differences: list[float], data: st.DataObject
) -> None:
    values = np.array(differences)
    cut = data.draw(st.integers(0, values.size))
    whole, parts = (Watch(margin=0.9, alpha=0.05, n_grid=200) for _ in range(2))
    whole.extend(values, values)
    first = parts.extend(values[:cut], values[:cut])
    parts.extend(values[cut:], values[cut:])
    if first.decision == "continue":
        assert parts.standing == whole.standing
    else:
        assert parts.standing == first


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=60))
def test_missing_answers_only_widen_the_bounds(differences: list[float]) -> None:
    values = np.array(differences)
    seen, unseen = (Watch(margin=0.9, alpha=0.05, n_grid=200) for _ in range(2))
    worst, best = values.copy(), values.copy()
    worst[0], best[0] = -1.0, 1.0
    seen.extend(values, values)
    unseen.extend(worst, best)
    assert unseen.standing.low <= seen.standing.low
    assert unseen.standing.high >= seen.standing.high


def test_nothing_seen_bounds_nothing() -> None:
    watch = Watch(margin=0.1, alpha=0.05, score_range=(1.0, 5.0))
    standing = watch.extend(np.zeros(0), np.zeros(0))
    assert (standing.low, standing.high, standing.decision) == (-4.0, 4.0, "continue")


# --- the whole: what it asks, and what it says


def test_a_big_drop_is_found_at_the_first_look() -> None:
    found = gated(right_but(range(0, N, 2)))
    assert (found.report.verdict, found.exit_code) == (Verdict.REGRESSION, 1)
    assert found.n_asked == found.record.tasks["words"].n_examples == N // 16
    assert found.report.checks[0].n == N // 16


def test_an_unchanged_candidate_passes_before_the_budget_is_spent() -> None:
    found = gated(right_but())
    assert (found.report.verdict, found.exit_code) == (Verdict.PASS, 0)
    assert found.n_asked == N // 2
    check = found.report.checks[0]
    assert check.low > -0.05
    assert check.method == "betting-sequence"
    assert not check.is_blind


def test_a_budget_too_small_is_spent_and_inconclusive() -> None:
    found = gated(right_but(), budget=10)
    assert (found.report.verdict, found.exit_code) == (Verdict.INCONCLUSIVE, 3)
    assert found.n_asked == found.budget == found.record.usage["n_requests"] == 10
    assert found.report.checks[0].reason is Reason.TOO_FEW


def test_the_policy_may_let_an_inconclusive_candidate_through() -> None:
    assert gated(right_but(), budget=10, rules=policy(on_inconclusive="warn")).exit_code == 0


def test_no_question_is_asked_twice_and_none_beyond_the_budget() -> None:
    asked: Counter[str] = Counter()

    def count(request: Request) -> Response:
        asked[request.example_id] += 1
        return say(request.example_id if number(request) % 20 else "no")

    found = gated(count, budget=150)
    assert set(asked.values()) == {1}
    assert len(asked) == found.n_asked <= 150
    assert len(found.looks) > 2


def test_rows_that_are_sorted_by_difficulty_mislead_no_look() -> None:
    # all of the first half is lost and all of the second half is won: nothing has changed in sum
    rules = policy(margin=0.3)
    old, new = right_but(range(N // 2, N)), right_but(range(N // 2))
    found = gated(new, against=baseline(old), rules=rules)
    assert found.report.verdict is not Verdict.REGRESSION
    drawn = {row.example_id for row in gated(new, rules=rules, budget=50).record.read_rows()}
    first_half = {f"w{i}" for i in range(N // 2)}
    # hypergeometric, 50 of 200 + 200: 25 expected, standard deviation 3.3
    assert 12 <= len(drawn & first_half) <= 38


def test_the_same_gate_gives_the_same_looks() -> None:
    noisy = right_but(range(0, N, 15))
    assert gated(noisy).looks == gated(noisy).looks


def test_the_record_is_that_of_the_run_with_the_limit(project: Path) -> None:
    found = gated(right_but(range(0, N, 4)), out=project / "runs")
    assert found.record.folder is not None
    (folder,) = (project / "runs").iterdir()
    written = RunRecord.load(folder)
    plain = baseline(right_but(range(0, N, 4)), limit=found.n_asked)
    assert written.tasks["words"].dataset_sha256 == plain.tasks["words"].dataset_sha256
    assert written.tasks["words"].metrics == plain.tasks["words"].metrics
    assert f"--limit {found.n_asked}" in written.command
    assert len(written.read_rows()) == found.n_asked


def test_later_looks_are_written_in_the_place_of_the_first(project: Path) -> None:
    found = gated(right_but(), out=project / "runs")
    (folder,) = (project / "runs").iterdir()
    assert len(found.looks) > 1
    assert RunRecord.load(folder).usage["n_requests"] == found.n_asked
    assert found.record.id == folder.name


def test_an_interrupted_gate_exits_5_and_keeps_what_was_answered(project: Path) -> None:
    backend = Answering(right_but(), stop_after=7)
    found = gated(right_but(), backend=backend, out=project / "runs")
    assert (found.exit_code, found.looks) == (5, ())
    (folder,) = (project / "runs").iterdir()
    written = RunRecord.load(folder)
    assert written.status == "interrupted"
    assert sum(row.status == "ok" for row in written.read_rows()) == 7


def test_the_candidate_is_asked_as_the_baseline_was() -> None:
    old = baseline(seed=3, limit=100, num_fewshot=2)
    found = gated(right_but(), against=old)
    assert (found.record.seed, found.record.tasks["words"].num_fewshot) == (3, 2)
    assert found.budget == 100  # the baseline has no more
    prompts = {row.example_id: row.prompt for row in old.read_rows()}
    assert all(prompts[row.example_id] == row.prompt for row in found.record.read_rows())


# --- several checks, parts of the examples, errors


def test_it_goes_on_until_every_check_is_decided_and_each_has_its_part_of_alpha() -> None:
    margins = (0.5, 0.05)
    checks = [
        {"task": "words", "metric": "exact_match", "margin": m, "slice": f"half={half}"}
        for m, half in zip(margins, ("first", "second"), strict=True)
    ]
    found = gated(right_but(range(0, N, 20)), rules=policy(checks=checks))
    assert [check.alpha for check in found.report.checks] == [0.025, 0.025]
    assert found.report.checks[0].verdict is Verdict.PASS
    assert found.n_asked == N  # the second one is a close call
    decided = [look.n_asked for look in found.looks if look.standings[0].decision == "pass"]
    assert min(decided) < N
    assert found.looks[-1].standings[0].n < found.report.checks[0].n  # as it was when decided
    assert gated(right_but(), rules=policy(adjust="none")).report.checks[0].alpha == 0.05


def test_quarantined_examples_are_in_no_look() -> None:
    wrong = range(0, N, 2)
    entries = [
        {"id": f"w{i}", "until": date(2026, 12, 31), "reason": "wrong answer key"} for i in wrong
    ]
    found = gated(right_but(wrong), rules=policy(quarantine=entries, margin=0.1))
    assert found.report.verdict is Verdict.PASS
    assert found.looks[-1].standings[0].n < found.n_asked


def test_a_candidate_that_mostly_fails_is_stopped_at_once_for_its_errors() -> None:
    found = gated(lambda request: fail())
    assert (found.report.verdict, found.report.checks[0].reason) == (
        Verdict.REGRESSION,
        Reason.ERRORS,
    )
    assert found.n_asked == N // 16


def test_early_errors_are_waited_out_if_the_budget_can_make_them_few() -> None:
    first = [row.example_id for row in baseline(limit=N // 16).read_rows()]

    def answer(request: Request) -> Response:
        return fail() if request.example_id in first[:2] else say(request.example_id)

    # 2 of the first 25 are 8 % errors, and at most 0.5 % of 400
    found = gated(answer, rules=policy(margin=0.2))
    check = found.report.checks[0]
    assert check.verdict is Verdict.PASS
    assert check.error_rate <= 0.02
    assert found.looks[-2].standings[0].decision == "pass"  # but not with so many errors


def test_where_less_is_better_a_rise_is_a_regression() -> None:
    Path("words.yaml").write_text(
        "task: words\nversion: 1\ndataset: {path: words.jsonl}\nprompt: '{{ id }}'\n"
        "choices: [yes, no]\ntarget: 'yes'\nrequest: choice\nmetrics: [brier]\n",
        encoding="utf-8",
    )
    sure, unsure = believing(0.9), believing(0.2)
    rules = policy(metric="brier", margin=0.1)
    worse = gated(unsure, against=baseline(sure), rules=rules)
    better = gated(sure, against=baseline(unsure), rules=rules)
    assert (worse.report.verdict, better.report.verdict) == (Verdict.REGRESSION, Verdict.PASS)
    # Brier of two choices: 2 * 0.8^2 - 2 * 0.1^2
    assert worse.report.checks[0].difference == pytest.approx(-1.26)


# --- what is refused before a question is asked


def never(request: Request) -> Response:
    raise AssertionError("asked")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("'Say {{ id }}'", "'Tell {{ id }}'", "prompt"),
        ("version: 1", "version: 2", "version"),
        ("[exact_match, bleu]", "[{metric: exact_match, ignore_case: true}]", "metric exact_match"),
    ],
)
def test_another_question_is_not_comparable(old: str, new: str, named: str) -> None:
    run = baseline()
    assert old in TASK
    write_task(TASK.replace(old, new))
    with pytest.raises(NotComparableError, match=named) as raised:
        gated(never, against=run)
    assert raised.value.exit_code == 4


def test_an_edited_row_is_not_comparable() -> None:
    run = baseline()
    write_task(TASK, w7="another text")
    with pytest.raises(NotComparableError, match="the baseline lacks 1 \\(w7\\)"):
        gated(never, against=run)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (policy(metric="bleu", margin=1.0), "bleu is no mean"),
        (
            policy(
                checks=[
                    {"task": name, "metric": "exact_match", "margin": 0.1}
                    for name in ("words", "others")
                ]
            ),
            "a sequential gate is of one task",
        ),
    ],
)
def test_what_no_look_can_decide_is_refused(rules: Policy, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gated(never, rules=rules)


def test_clusters_are_refused() -> None:
    write_task(TASK + "cluster: pair\n")
    with pytest.raises(UsageError, match="clusters"):
        gated(never)


def test_a_metric_without_a_known_range_is_refused() -> None:
    run = baseline()
    task = run.tasks["words"]
    metric = replace(task.metrics["exact_match"], missing=(float("nan"), float("nan")))
    changed = replace(task, metrics=dict(task.metrics) | {"exact_match": metric})
    with pytest.raises(UsageError, match="no known range"):
        gated(never, against=replace(run, tasks={"words": changed}))


def test_unknown_names_and_no_budget_are_refused() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'exact_match'"):
        gated(never, rules=policy(metric="exact_mach"))
    checks = [{"task": "word", "metric": "exact_match", "margin": 0.1}]
    with pytest.raises(NotFoundError, match="task in the baseline"):
        gated(never, rules=policy(checks=checks))
    with pytest.raises(UsageError, match="--budget 0"):
        gated(never, budget=0)
