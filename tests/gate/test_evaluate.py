"""A whole policy: several checks, slices, quarantine, calibration, metrics that are no means."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import Answering, fail, say
from planted import RIGHT, changed, judged, policy_of, record_of, sides
from scipy import stats

import evalkit
from evalkit.compare import baseline_text, open_side
from evalkit.errors import NotFoundError, UsageError
from evalkit.gate import CheckResult, GateReport, Policy, Reason, Verdict, evaluate
from evalkit.gate.plain import to_json
from evalkit.record import RunRecord
from evalkit.types import Request, Response

TODAY = date(2026, 3, 14)


def report_of(a: RunRecord, b: RunRecord, policy: Policy, **options: Any) -> GateReport:
    return evaluate(*sides(a, b), policy, today=TODAY, **options)


def one_of(a: RunRecord, b: RunRecord, policy: Policy, **options: Any) -> CheckResult:
    [found] = report_of(a, b, policy, **options).checks
    return found


def three_metrics(**options: Any) -> tuple[RunRecord, RunRecord]:
    """Graded scores of three metrics: p-values of a drop of .05 small, middling and large."""
    rng = np.random.default_rng(5)
    a = {name: rng.random(60) for name in ("sure", "near", "worse")}
    shifts = {"sure": 0.0, "near": -0.025, "worse": -0.2}
    b = {name: a[name] + shifts[name] + rng.normal(0, 0.08, 60) for name in a}
    made = [
        record_of({k: v.tolist() for k, v in side.items()}, interval="mean", **options)
        for side in (a, b)
    ]
    return made[0], made[1]


def checks_of(*names: str, **changes: Any) -> Policy:
    entries = [{"task": "t", "metric": name, "margin": 0.05} for name in names]
    return Policy.model_validate({"gate": "several", "checks": entries} | changes)


def test_several_checks_share_alpha_by_holm() -> None:
    a, b = three_metrics()
    report = report_of(a, b, checks_of("near", "sure", "worse"))
    by_name = {r.check.metric: r for r in report.checks}
    differences = {
        name: np.array([row.scores[name] for row in b.read_rows()])
        - np.array([row.scores[name] for row in a.read_rows()])
        for name in by_name
    }
    p = {n: r.p_value for n, r in by_name.items()}
    assert p["sure"] < p["near"] < p["worse"]
    for name, d in differences.items():
        t = stats.ttest_1samp(d, -0.05, alternative="greater").pvalue
        assert p[name] == pytest.approx(t, rel=0.5, abs=1e-5)  # nearly normal differences
    # the surest at .05 / 3, the next at .05 / 2 if that passed, the last at .05 if that did too
    levels = {"sure": 0.05 / 3, "near": 0.025, "worse": 0.05 if p["near"] < 0.025 else 0.025}
    assert {n: r.alpha for n, r in by_name.items()} == pytest.approx(levels)
    for name, found in by_name.items():
        level = 1 - 2 * levels[name]
        low = stats.ttest_1samp(differences[name], 0).confidence_interval(level).low
        assert found.low == pytest.approx(low, abs=0.3 * float(stats.sem(differences[name])))
        assert (found.verdict is Verdict.PASS) == (p[name] < levels[name])
    assert report.verdict is Verdict.REGRESSION


def test_without_adjustment_each_check_has_all_of_alpha() -> None:
    a, b = three_metrics()
    report = report_of(a, b, checks_of("near", "sure", "worse", adjust="none"))
    assert [r.alpha for r in report.checks] == [0.05] * 3


def test_a_check_of_an_identical_metric_takes_nothing_from_the_others() -> None:
    a, b = three_metrics()
    rows = [
        replace(row, scores={**row.scores, "sure": other.scores["sure"]})
        for row, other in zip(b.read_rows(), a.read_rows(), strict=True)
    ]
    report = report_of(a, replace(b, rows=rows), checks_of("sure", "worse"))
    assert [r.reason for r in report.checks] == [Reason.IDENTICAL, Reason.DROP]
    assert report.checks[1].alpha == 0.05


def test_the_worst_check_is_the_verdict_of_the_whole() -> None:
    order = ["pass", "inconclusive", "regression", "not_comparable"]
    codes = {"pass": 0, "inconclusive": 3, "regression": 1, "not_comparable": 4}
    a, b = three_metrics()
    [first] = report_of(a, b, checks_of("sure")).checks
    report = report_of(a, b, checks_of("sure"))
    for i, worse in enumerate(order):
        for better in order[: i + 1]:
            both = [replace(first, verdict=Verdict(v)) for v in (worse, better)]
            for checks in (both, both[::-1]):
                found = replace(report, checks=tuple(checks))
                assert (found.verdict, found.exit_code) == (worse, codes[worse])


@pytest.mark.parametrize(("policy", "code"), [("fail", 3), ("warn", 0), ("pass", 0)])
def test_inconclusive_blocks_unless_the_policy_lets_it_through(policy: str, code: int) -> None:
    a, b = record_of(RIGHT), record_of(changed(60, 45))
    report = report_of(a, b, policy_of(on_inconclusive=policy))
    assert (report.verdict, report.exit_code) == (Verdict.INCONCLUSIVE, code)
    bad = report_of(a, record_of(changed(80, 0)), policy_of(on_inconclusive=policy))
    assert bad.exit_code == 1


def test_a_slice_is_judged_by_its_own_examples() -> None:
    kinds = ["easy", "hard"] * 250
    lost = [0.0 if kinds[i] == "hard" and i < 200 else x for i, x in enumerate(RIGHT)]
    slices = {"kind": kinds}
    a, b = record_of(RIGHT, slices=slices), record_of(lost, slices=slices)
    easy = one_of(a, b, policy_of(check={"slice": "kind=easy"}))
    hard = one_of(a, b, policy_of(check={"slice": "kind=hard"}))
    assert (easy.verdict, easy.n, easy.difference) == (Verdict.PASS, 250, 0.0)
    assert (hard.verdict, hard.n, hard.difference) == (Verdict.REGRESSION, 250, -0.4)
    with pytest.raises(NotFoundError, match="no such value of slice kind of task t: 'hart'"):
        one_of(a, b, policy_of(check={"slice": "kind=hart"}))
    with pytest.raises(NotFoundError, match="no such slice of task t: 'kinds'"):
        one_of(a, b, policy_of(check={"slice": "kinds=hard"}))


@pytest.mark.parametrize("name", ["id", "sha256"])
def test_a_quarantined_example_is_left_out_until_its_day_is_over(name: str) -> None:
    a, b = record_of(RIGHT), record_of(changed(2, 0))
    rows = a.read_rows()
    named = [rows[i].example_id if name == "id" else rows[i].example_sha256[:12] for i in (0, 1)]

    def found(last_day: date) -> GateReport:
        entries = [{name: n, "until": last_day.isoformat(), "reason": "disputed"} for n in named]
        return report_of(a, b, policy_of(quarantine=entries))

    report = found(TODAY)
    [check] = report.checks
    assert (check.n, check.difference, report.notes) == (498, 0.0, ())
    assert [(one.n_found, one.is_expired) for one in report.quarantine] == [(1, False)] * 2
    report = found(TODAY - timedelta(days=1))
    [check] = report.checks
    assert (check.n, check.difference) == (500, -2 / 500)
    assert [one.is_expired for one in report.quarantine] == [True, True]
    assert all(f"{name} {n}" in " ".join(report.notes) for n in named)


def test_a_quarantine_that_names_nothing_is_told() -> None:
    entry = {"id": "e0", "task": "other", "until": "2027-01-01", "reason": "x"}
    report = report_of(record_of(RIGHT), record_of(RIGHT), policy_of(quarantine=[entry]))
    assert report.notes == ("quarantine: no example has id e0 of task other",)
    assert report.checks[0].n == 500


def test_errors_among_the_quarantined_do_not_count() -> None:
    a, b = record_of(RIGHT), record_of(changed(0, 0, n_error=15))
    assert one_of(a, b, policy_of()).reason is Reason.ERRORS
    entries = [{"id": f"e{i}", "until": "2027-01-01", "reason": "x"} for i in range(485, 500)]
    assert one_of(a, b, policy_of(quarantine=entries)).verdict is Verdict.PASS


def test_errors_are_counted_by_answer() -> None:
    a: list[Any] = [[1.0] * 4] * 100
    b: list[Any] = [[1.0, 1.0, 1.0, None]] * 20 + [[1.0] * 4] * 80
    found = one_of(record_of(a, repeats=4), record_of(b, repeats=4), policy_of())
    assert (found.error_rate, found.reason) == (0.05, Reason.ERRORS)


def test_a_judge_without_calibration_decides_nothing() -> None:
    policy = policy_of(check={"requires": "calibrated"})
    for scores in (RIGHT, changed(100, 0)):
        found = one_of(record_of(RIGHT), record_of(scores), policy)
        assert (found.verdict, found.reason) == ("inconclusive", "no_calibration")
    for status in ("uncalibrated", "refused"):
        known = judged(status, "no better than chance")
        found = one_of(record_of(RIGHT, judged=known), record_of(RIGHT, judged=known), policy)
        assert (found.reason, found.detail) == (Reason.NO_CALIBRATION, "no better than chance")


def test_a_calibrated_judge_decides_like_any_metric() -> None:
    policy, known = policy_of(check={"requires": "calibrated"}), judged("calibrated")
    for scores, verdict in ((RIGHT, Verdict.PASS), (changed(100, 0), Verdict.REGRESSION)):
        found = one_of(record_of(RIGHT, judged=known), record_of(scores, judged=known), policy)
        assert found.verdict is verdict


def test_a_stale_calibration_is_not_comparable() -> None:
    policy = policy_of(check={"requires": "calibrated"})
    stale = judged("stale", "calibration x.json is stale: the rubric has changed")
    pair = record_of(RIGHT, judged=judged("calibrated")), record_of(RIGHT, judged=stale)
    found = report_of(*pair, policy)
    assert found.exit_code == 4
    assert found.checks[0].differences == (stale.note,)


def test_what_neither_run_has_is_a_mistake_in_the_policy() -> None:
    a, b = record_of(RIGHT), record_of(RIGHT)
    with pytest.raises(NotFoundError, match="no such task: 'tt'; did you mean 't'"):
        report_of(a, b, policy_of(check={"task": "tt"}))
    with pytest.raises(NotFoundError, match="no such metric of task t: 'mm'"):
        report_of(a, b, policy_of(check={"metric": "mm"}))


def test_a_margin_that_nothing_could_miss_is_refused() -> None:
    repeated: list[Any] = [[1.0, 0.0]] * 50
    runs = record_of(repeated, repeats=2), record_of(repeated, repeats=2)
    for margin in (1.0, 2.0):
        with pytest.raises(UsageError, match=rf"margin {margin:g}: nothing can drop so far"):
            report_of(*runs, policy_of(margin))
    assert one_of(*runs, policy_of(0.99)).verdict is Verdict.PASS


def test_what_one_run_lacks_cannot_be_compared() -> None:
    a, b = record_of({"m": RIGHT, "n": RIGHT}), record_of({"m": RIGHT})
    report = report_of(a, b, checks_of("m", "n"))
    assert [r.verdict for r in report.checks] == [Verdict.PASS, Verdict.NOT_COMPARABLE]
    assert report.checks[1].detail == "metric of task t: n is not in the candidate"
    assert report.exit_code == 4


def test_flips_are_those_of_the_better_direction() -> None:
    found = one_of(record_of(RIGHT), record_of(changed(2, 1)), policy_of())
    assert {flip.id for flip in found.lost} == {"e0", "e1"}
    assert [flip.id for flip in found.gained] == ["e400"]
    turned: dict[str, Any] = {"higher_is_better": False, "missing": (1.0, 0.0)}
    found = one_of(record_of(RIGHT, **turned), record_of(changed(2, 1), **turned), policy_of())
    assert {flip.id for flip in found.gained} == {"e0", "e1"}


def test_the_report_as_json_has_null_for_what_is_undefined() -> None:
    report = report_of(record_of(RIGHT), record_of(RIGHT, version=2), policy_of())
    data = to_json(report)
    assert (data["verdict"], data["exit_code"]) == ("not_comparable", 4)
    [check] = data["checks"]
    assert (check["difference"], check["reason"], check["task"]) == (None, "different", "t")
    assert check["differences"] == ["task t: version: 1 in A, 2 in B"]


# --- a metric that is no mean

BLEU = (
    "task: words\nversion: 1\ndataset: {path: words.jsonl}\nprompt: 'Say {{ text }}'\n"
    "target: '{{ text }}'\nrequest: generate\nmetrics: [bleu, ter]\n"
)


def spoken(folder: Path, *, worse: int = 0, failed: int = 0) -> RunRecord:
    """A run of 60 sentences of which every seventh is not quite right, some worse, some failed."""
    text = "".join(
        f'{{"id": "w{i}", "text": "a sentence of seven words number {i}"}}\n' for i in range(60)
    )
    (folder / "words.jsonl").write_text(text, encoding="utf-8")
    (folder / "words.yaml").write_text(BLEU, encoding="utf-8")

    def respond(request: Request) -> Response:
        number = int(request.example_id[1:])
        said = str(request.prompts[0]).removeprefix("Say ")
        if number >= 60 - failed:
            return fail()
        if number < worse:
            return say("a sentence")
        return say(said.replace("seven", "some") if number % 7 == 0 else said)

    return evalkit.evaluate(str(folder / "words.yaml"), Answering(respond))


def bleu_policy(margin: float, **changes: Any) -> Policy:
    check = {"task": "words", "metric": "bleu", "margin": margin}
    return Policy.model_validate({"gate": "bleu", "checks": [check]} | changes)


def test_a_corpus_metric_is_gated_by_the_bootstrap(tmp_path: Path) -> None:
    a = spoken(tmp_path)
    same = one_of(a, spoken(tmp_path), bleu_policy(1.0))
    assert (same.verdict, same.reason, same.difference) == ("pass", "identical", 0.0)
    worse = one_of(a, spoken(tmp_path, worse=20), bleu_policy(1.0))
    assert (worse.verdict, worse.method) == (Verdict.REGRESSION, "paired-bootstrap")
    values = [
        r.tasks["words"].metrics["bleu"].estimate.value for r in (a, spoken(tmp_path, worse=20))
    ]
    assert worse.difference == pytest.approx(values[1] - values[0])
    assert worse.low < worse.difference < worse.high < 0
    slightly = one_of(a, spoken(tmp_path, worse=1), bleu_policy(10.0))
    assert slightly.verdict is Verdict.PASS
    assert slightly == one_of(a, spoken(tmp_path, worse=1), bleu_policy(10.0))


def test_a_corpus_metric_of_which_less_is_better_is_turned_round(tmp_path: Path) -> None:
    a, b = spoken(tmp_path), spoken(tmp_path, worse=20)
    policy = Policy.model_validate(
        {"gate": "ter", "checks": [{"task": "words", "metric": "ter", "margin": 1.0}]}
    )
    worse, better = one_of(a, b, policy), one_of(b, a, policy)
    assert (worse.verdict, better.verdict) == (Verdict.REGRESSION, Verdict.PASS)
    assert worse.value_b > worse.value_a
    assert worse.difference == pytest.approx(worse.value_a - worse.value_b)


def test_what_a_corpus_metric_misses_moves_its_bounds(tmp_path: Path) -> None:
    a, b = spoken(tmp_path), spoken(tmp_path, failed=1)
    found = one_of(a, b, bleu_policy(10.0))
    estimates = [r.tasks["words"].metrics["bleu"].estimate for r in (a, b)]
    assert found.n_missing == 1
    assert (found.verdict, found.difference) == (Verdict.PASS, 0.0)
    # the ends that the candidate's own run has found, and Student's t with 58 degrees of freedom:
    # nothing else differs, so the spread is that of the one answer
    moved = estimates[1].worst - estimates[0].value
    assert found.low == pytest.approx(moved + stats.t.isf(0.05, 58) * moved)
    assert found.high == pytest.approx(moved - stats.t.isf(0.05, 58) * moved)
    assert estimates[1].best == estimates[0].value  # the other end is no difference at all
    assert one_of(a, b, bleu_policy(4.0)).verdict is Verdict.INCONCLUSIVE
    entry = {"id": "w3", "until": "2027-01-01", "reason": "x"}
    part = one_of(a, b, bleu_policy(10.0, quarantine=[entry]))
    assert (part.verdict, part.reason) == ("inconclusive", "missing")
    assert math.isnan(part.low)


def test_a_lacking_example_of_a_corpus_metric_leaves_no_verdict(tmp_path: Path) -> None:
    a = spoken(tmp_path)
    b = evalkit.evaluate(
        str(tmp_path / "words.yaml"), Answering(lambda r: say(str(r.prompts[0])[4:])), limit=50
    )
    path = tmp_path / "b.json"
    path.write_text(baseline_text(open_side(b)), encoding="utf-8")
    for candidate in (open_side(b), open_side(path)):
        [found] = evaluate(
            open_side(a), candidate, bleu_policy(10.0), today=TODAY, intersection=True
        ).checks
        assert (found.reason, found.n, found.n_missing) == (Reason.MISSING, 50, 10)


def test_a_judge_that_favours_the_candidate_does_not_let_it_pass() -> None:
    # People see a drop of half a point, which the judge does not.
    rng = np.random.default_rng(4)
    a = [float(x) for x in rng.normal(3, 0.3, 200)]
    b = [x + float(e) for x, e in zip(a, rng.normal(0, 0.1, 200), strict=True)]
    policy = policy_of(check={"requires": "calibrated", "margin": 0.1})
    known: dict[str, Any] = {
        "judged": judged("calibrated"),
        "interval": "mean",
        "missing": (1.0, 5.0),
    }
    blind = record_of(a, **known), record_of(b, **known)
    assert one_of(*blind, policy).verdict is Verdict.PASS
    labels_a = {i: a[i] for i in range(60)}
    labels_b = {i: b[i] - 0.5 + 0.01 * (i % 3) for i in range(60)}
    seen = record_of(a, labels=labels_a, **known), record_of(b, labels=labels_b, **known)
    found = one_of(*seen, policy)
    assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, Reason.NO_CALIBRATION)
    assert found.detail.startswith("the judge favours the candidate by 0.49 over what people see")
    assert found.difference == pytest.approx(-0.49, abs=0.05)
