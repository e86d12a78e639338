"""A gate that was never seen to block is decoration: every planted change has its verdict."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from planted import PLANTED, RIGHT, N, policy_of, record_of, sides, with_judge

from evalkit.compare import baseline_text, open_side
from evalkit.gate import GateReport, Reason, Verdict, evaluate
from evalkit.record import RunRecord

TODAY = date(2026, 3, 14)


def gated(a: RunRecord, b: RunRecord, intersection: bool = False) -> GateReport:
    return evaluate(*sides(a, b), policy_of(), today=TODAY, intersection=intersection)


@pytest.mark.parametrize(("candidate", "verdict", "reason", "code"), PLANTED.values(), ids=PLANTED)
def test_a_planted_change_has_its_verdict(
    candidate: RunRecord, verdict: str, reason: str, code: int
) -> None:
    report = gated(record_of(RIGHT), candidate)
    [found] = report.checks
    assert (found.verdict, found.reason, report.exit_code) == (verdict, reason, code)
    assert report.verdict is found.verdict
    assert found.detail


@pytest.mark.parametrize(("candidate", "verdict", "reason", "code"), PLANTED.values(), ids=PLANTED)
def test_a_baseline_file_gives_the_verdict_of_its_run(
    candidate: RunRecord, verdict: str, reason: str, code: int, tmp_path: Path
) -> None:
    files = []
    for name, record in (("a", record_of(RIGHT)), ("b", candidate)):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(baseline_text(open_side(record)), encoding="utf-8")
    first, second = map(open_side, files)
    report = evaluate(first, second, policy_of(), today=TODAY)
    assert [(r.verdict, r.reason) for r in report.checks] == [(verdict, reason)]
    assert report.exit_code == code


def test_runs_that_are_not_comparable_give_no_number() -> None:
    for name in ("one row edited", "another sampling", "another metric by the same name"):
        [found] = gated(record_of(RIGHT), PLANTED[name][0]).checks
        numbers = (found.value_a, found.value_b, found.difference, found.low, found.high, found.mde)
        assert all(number != number for number in numbers)
        assert found.differences


def test_what_differs_is_named() -> None:
    [sampling] = gated(record_of(RIGHT), PLANTED["another sampling"][0]).checks
    assert sampling.differences == ("task t: generate.temperature: 0.0 in A, 0.7 in B",)
    [edited] = gated(record_of(RIGHT), PLANTED["one row edited"][0]).checks
    assert "1 (e7) only in A, 1 (e7) only in B, 499 in both" in edited.detail


def test_another_judge_or_rubric_is_not_comparable(tmp_path: Path) -> None:
    judge = {"model": "sha256:1", "rubric": "sha256:2"}
    a = with_judge(record_of(RIGHT), tmp_path / "a", judge)
    for key in judge:
        other = with_judge(record_of(RIGHT), tmp_path / key, judge | {key: "sha256:3"})
        report = evaluate(open_side(a), open_side(other), policy_of(), today=TODAY)
        assert report.exit_code == 4
        [found] = report.checks
        assert f'judges.m.{key}: "sha256:' in found.detail
    same = evaluate(open_side(a), open_side(a), policy_of(), today=TODAY)
    assert same.exit_code == 0


def test_with_intersection_an_edited_row_counts_as_unanswered() -> None:
    report = gated(record_of(RIGHT), PLANTED["one row edited"][0], intersection=True)
    [found] = report.checks
    assert (found.verdict, found.n, found.n_missing) == (Verdict.PASS, N - 1, 1)
    # its worst end is one lost answer, by Tango's bound wider than that of none
    [whole] = gated(record_of(RIGHT), record_of(RIGHT)).checks
    assert found.low < whole.low


def test_a_candidate_that_leaves_out_what_it_fails_does_not_pass() -> None:
    ids = [f"e{i}" for i in range(N)]
    kept = record_of(RIGHT[:400], ids=ids[:400])  # only what the baseline gets right
    assert gated(record_of(RIGHT), kept).exit_code == 4
    [found] = gated(record_of(RIGHT), kept, intersection=True).checks
    # the 100 it lacks are wrong in the baseline: at worst nothing is lost, at best 20 points gained
    assert (found.verdict, found.n_missing) == (Verdict.PASS, 100)
    hard = record_of(RIGHT[50:], ids=ids[50:])  # without 50 that the baseline gets right
    [found] = gated(record_of(RIGHT), hard, intersection=True).checks
    assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, Reason.MISSING)
    assert found.error_rate == 0


def test_examples_that_the_baseline_lacks_are_left_out() -> None:
    ids = [f"e{i}" for i in range(N)]
    few = record_of(RIGHT[:400], ids=ids[:400])
    [found] = gated(few, record_of(RIGHT), intersection=True).checks
    assert (found.verdict, found.n, found.n_missing) == (Verdict.PASS, 400, 0)


def test_a_candidate_that_did_not_finish_exits_with_5_whatever_it_scored() -> None:
    for status in ("interrupted", "failed"):
        report = gated(record_of(RIGHT), record_of(RIGHT, id="b", status=status))
        assert (report.exit_code, report.verdict) == (5, Verdict.PASS)
        assert f"the candidate b is {status}, not complete" in report.notes
