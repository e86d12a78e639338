"""A/A: how often the gate is red where nothing has changed, and what makes the scores vary."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import Answering, fail, say
from hypothesis import given
from hypothesis import strategies as st

import evalkit
from evalkit.compare import RunSide, open_side
from evalkit.errors import NotComparableError, RunError, UsageError
from evalkit.gate import Policy
from evalkit.gate.again import AgainReport, again, noise_of
from evalkit.record import RunRecord
from evalkit.types import ErrorKind, Request, Response, sha256_of

TODAY = date(2026, 3, 14)
N = 60


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one task; the current one."""
    monkeypatch.chdir(tmp_path)
    write_task(N)
    return tmp_path


def write_task(n: int, *, prompt: str = "Say") -> None:
    Path("words.yaml").write_text(
        f"task: words\nversion: 1\nprompt: '{prompt} {{{{ id }}}}'\n"
        "dataset: {path: words.jsonl}\n"
        "target: '{{ id }}'\nrequest: generate\nmetrics: [exact_match, bleu]\nslices: [half]\n",
        encoding="utf-8",
    )
    rows = [{"id": f"w{i}", "half": "first" if i < n / 2 else "second"} for i in range(n)]
    Path("words.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def runs_of(*rights: Sequence[Sequence[int]], **options: Any) -> list[RunSide]:
    """A run for each of ``rights``: of each example a 0 or 1 for every repeat."""
    sides = []
    for name, right in enumerate(rights):

        def answer(request: Request, right: Sequence[Sequence[int]] = right) -> Response:
            is_right = right[int(request.example_id[1:])][request.repeat]
            return say(request.example_id if is_right else "no")

        record = evalkit.evaluate("words.yaml", Answering(answer), repeats=len(right[0]), **options)
        sides.append(RunSide(replace(record, id=f"run {name}")))
    return sides


def policy(*metrics: str, margin: float = 0.1, **changes: Any) -> Policy:
    checks = changes.pop("checks", None) or [
        {"task": "words", "metric": metric, "margin": margin}
        for metric in metrics or ("exact_match",)
    ]
    return Policy(gate="pull-request", checks=checks, **changes)


def again_of(sides: Sequence[RunSide], rules: Policy | None = None, **options: Any) -> AgainReport:
    return again(sides, rules or policy(), today=TODAY, **options)


def noisy(n_runs: int, *, n_repeats: int = 1, share: float = 0.1) -> list[list[list[int]]]:
    """Answers that are right but for a share of them, each for itself."""
    rng = np.random.default_rng(5)
    drawn: list[list[list[int]]] = (rng.random((n_runs, N, n_repeats)) > share).astype(int).tolist()
    return drawn


# --- the share of pairs that is not a pass


def test_every_ordered_pair_is_gated() -> None:
    found = again_of(runs_of(*noisy(4)))
    (check,) = found.checks
    assert (len(found.runs), check.n_pairs) == (4, 12)
    assert check.n_regression + check.n_inconclusive <= 12


def test_a_drop_between_two_runs_is_one_false_red_of_two_pairs() -> None:
    good, bad = [[1]] * N, [[0]] * N
    (check,) = again_of(runs_of(good, bad)).checks
    assert (check.n_pairs, check.n_regression, check.n_inconclusive) == (2, 1, 0)
    # Wilson 1/2: z = 1.959964, (0.5 -+ z sqrt(1/8 + z^2/16) + z^2/4) / (1 + z^2/2)
    assert (check.false_red.low, check.false_red.high) == pytest.approx((0.0945, 0.9055), abs=1e-4)
    assert check.not_pass == check.false_red


def test_too_few_examples_are_not_a_pass_but_no_false_red_either() -> None:
    (check,) = again_of(runs_of(*noisy(3)), policy(margin=0.01)).checks
    assert check.n_inconclusive == check.n_pairs == 6
    assert (check.not_pass.estimate, check.false_red.estimate) == (1.0, 0.0)


def test_runs_that_agree_in_every_score_are_deterministic() -> None:
    right = noisy(1)[0]
    found = again_of(runs_of(right, right, right), policy("exact_match", "bleu"))
    assert found.is_deterministic
    noise = found.checks[0].noise
    assert noise is not None
    assert (noise.answers.variances["repeat"], noise.gate_stderr) == (0.0, 0.0)
    assert noise.break_even == math.inf
    assert [check.not_pass.estimate for check in found.checks] == [0.0, 0.0]


@pytest.mark.parametrize("metric", ["exact_match", "bleu"])
def test_one_answer_that_differs_is_enough_not_to_be(metric: str) -> None:
    right = noisy(1)[0]
    changed = [[1 - right[0][0]], *right[1:]]
    assert not again_of(runs_of(right, changed), policy(metric)).is_deterministic


# --- where the variance comes from


def test_components_are_those_of_the_analysis_of_variance() -> None:
    # Three examples, two runs: (1, 1), (0, 0), (0, 1). Within: 0.5 / 3. Between, of means 1, 0, .5:
    # 2 (0.25 + 0.25) / 2 = 0.5; so the item's is (1/2 - 1/6) / 2 = 1/6, as is the repeat's.
    noise = noise_of(np.array([[[1.0], [1.0]], [[0.0], [0.0]], [[0.0], [1.0]]]))
    variances = noise.answers.variances
    assert (variances["item"], variances["repeat"]) == pytest.approx((1 / 6, 1 / 6))
    assert noise.stderr == pytest.approx(math.sqrt((1 / 6 + 1 / 6) / 3))
    assert noise.gate_stderr == pytest.approx(math.sqrt(2 / 6 / 3))
    assert noise.runs is None
    assert noise.break_even == pytest.approx(2.0)
    # for 12, at an example's cost of 1: 6 of one answer (variance 1/18) or 4 of two (1/16)
    assert noise.best is not None
    assert (noise.best.n_items, noise.best.n_repeats) == (6, 1)


@given(st.integers(3, 12), st.integers(2, 4), st.floats(0.25, 40))
def test_from_the_break_even_cost_on_a_second_answer_pays(
    n: int, n_runs: int, factor: float
) -> None:
    scores = np.random.default_rng(n).random((n, n_runs, 1))
    noise = noise_of(scores)
    item, repeat = noise.answers.variances["item"], noise.answers.variances["repeat"]
    cost = noise.break_even * factor
    one, two = (item + repeat) * (cost + 1), (item + repeat / 2) * (cost + 2)
    if abs(factor - 1) > 1e-9 and noise.break_even > 0:
        assert (two < one) == (factor > 1)


def test_several_answers_a_run_show_what_a_run_has_in_common() -> None:
    # Run 0 is right everywhere and run 1 wrong everywhere: all of the variance is the run's
    sides = runs_of([[1, 1]] * N, [[0, 0]] * N)
    noise = again_of(sides).checks[0].noise
    assert noise is not None
    assert noise.runs is not None
    assert noise.n_repeats == 2
    found = noise.runs.variances
    # of two values 0 and 1 the unbiased variance is 1/2
    assert found["seed"] == pytest.approx(0.5)
    assert (found["item"], found["item:seed"], found["repeat"]) == (0.0, 0.0, 0.0)


def test_a_metric_that_is_no_mean_has_no_components() -> None:
    (check,) = again_of(runs_of(*noisy(2)), policy("bleu", margin=5.0)).checks
    assert check.noise is None
    assert check.n_pairs == 2


def test_a_missing_answer_is_left_out_of_the_variance() -> None:
    def answer(request: Request) -> Response:
        return fail(ErrorKind.TIMEOUT) if request.example_id == "w0" else say(request.example_id)

    whole = runs_of([[1]] * N, [[1]] * N)[0]
    broken = replace(evalkit.evaluate("words.yaml", Answering(answer), repeats=1), id="broken")
    found = again_of([whole, RunSide(broken)])
    noise = found.checks[0].noise
    assert noise is not None
    assert (noise.n_examples, noise.answers.mean) == (N, 1.0)
    assert not found.is_deterministic


def test_slices_and_quarantine_leave_examples_out() -> None:
    check = {"task": "words", "metric": "exact_match", "margin": 0.3, "slice": "half=first"}
    entry = {"id": "w0", "until": date(2026, 12, 31), "reason": "the answer key is wrong"}
    found = again_of(runs_of(*noisy(2)), policy(checks=[check], quarantine=[entry]))
    noise = found.checks[0].noise
    assert noise is not None
    assert noise.n_examples == N // 2 - 1


@given(st.integers(0, 2**32))
def test_the_order_of_the_runs_changes_no_component(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((6, 3, 2))
    one, other = noise_of(scores), noise_of(scores[:, rng.permutation(3)])
    assert one.answers.variances == pytest.approx(dict(other.answers.variances), abs=1e-12)
    assert one.runs is not None
    assert other.runs is not None
    assert one.runs.variances == pytest.approx(dict(other.runs.variances), abs=1e-12)


# --- what is refused


def test_one_run_or_the_same_one_twice_is_refused() -> None:
    one, two = runs_of(*noisy(2))
    with pytest.raises(UsageError, match="two runs or more"):
        again_of([one])
    with pytest.raises(UsageError, match="run 0 is given twice"):
        again_of([one, two, one])


def test_runs_of_different_models_are_not_the_same_thing() -> None:
    one, two = runs_of(*noisy(2))
    record = evalkit.evaluate("words.yaml", Answering(lambda request: say("no")))
    other = replace(record.model, fingerprint=f"sha256:{sha256_of('other')}")
    with pytest.raises(NotComparableError, match="model: test:function"):
        again_of([one, two, RunSide(replace(record, id="other", model=other))])


def test_another_prompt_is_not_the_same_thing() -> None:
    sides = runs_of(*noisy(1))
    write_task(N, prompt="Tell")
    record = evalkit.evaluate("words.yaml", Answering(lambda request: say("no")))
    with pytest.raises(NotComparableError, match="prompt"):
        again_of([*sides, RunSide(replace(record, id="run 1"))])


def test_a_run_that_did_not_finish_is_refused(project: Path) -> None:
    (one,) = runs_of(*noisy(1))
    backend = Answering(lambda request: say(request.example_id), stop_after=5)
    record: RunRecord = evalkit.evaluate("words.yaml", backend, repeats=1, out=project / "runs")
    with pytest.raises(RunError, match="is interrupted"):
        again_of([one, open_side(str(record.folder))])  # type: ignore[list-item]
