"""The policy file: what it says, and where it is wrong."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from planted import POLICY

from evalkit.errors import SpecError, UsageError
from evalkit.gate import Check, read_policy

WHOLE = """\
gate: pull-request
alpha: 0.01
power: 0.9
checks:
  - {task: gsm8k, metric: exact_match, margin: 0.02, reason: "users notice two points"}
  - {task: gsm8k, metric: exact_match, margin: 0.05, slice: difficulty=very=hard}
  - {task: summaries, metric: faithfulness, margin: 1, requires: calibrated, max_error_rate: 0}
max_error_rate: 0.01
on_inconclusive: warn
adjust: none
quarantine:
  - {id: "17", task: gsm8k, until: 2026-12-31, reason: "the answer is disputed"}
  - {sha256: 0a1b2c3d, until: 2026-06-01, reason: flaky}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "gate.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_policy_says_what_it_is_read_as(tmp_path: Path) -> None:
    policy = read_policy(written(tmp_path, WHOLE))
    assert (policy.alpha, policy.power, policy.adjust, policy.on_inconclusive) == (
        *(0.01, 0.9),
        *("none", "warn"),
    )
    first, sliced, judged = policy.resolved()
    assert first == Check(
        task="gsm8k",
        metric="exact_match",
        margin=0.02,
        reason="users notice two points",
        max_error_rate=0.01,
    )
    assert sliced.slice == ("difficulty", "very=hard")
    assert (judged.is_calibration_required, judged.max_error_rate) == (True, 0.0)
    assert [entry.until for entry in policy.quarantine] == [date(2026, 12, 31), date(2026, 6, 1)]


def test_what_a_policy_leaves_out_has_its_default(tmp_path: Path) -> None:
    policy = read_policy(written(tmp_path, POLICY))
    assert (policy.alpha, policy.power, policy.max_error_rate) == (0.05, 0.8, 0.02)
    assert (policy.adjust, policy.on_inconclusive, policy.quarantine) == ("holm", "fail", [])
    assert policy.resolved()[0].max_error_rate == 0.02


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("power: 0.9", "powr: 0.9", r":3: unknown key 'powr'; did you mean 'power'\?"),
        ("alpha: 0.01", "alpha: 0.5", r":2: alpha: input should be less than 0\.5"),
        ("power: 0.9", "power: 0.005", r"power must be above alpha, 0\.01"),
        ("margin: 0.02", "margin: 0", r":5: checks\.0\.margin: input should be greater than 0"),
        ("margin: 0.02", "margin: .inf", r":5: checks\.0\.margin: input should be a finite"),
        ("margin: 0.02, ", "", r":5: key 'checks\.0\.margin' is missing"),
        ("difficulty=very=hard", "difficulty", r":6: checks\.1\.slice: "),
        ("requires: calibrated", "requires: labels", r":7: checks\.2\.requires: input should be"),
        ("on_inconclusive: warn", "on_inconclusive: retry", r":9: on_inconclusive: input should"),
        ("2026-12-31", "2026-02-30", r":12: quarantine\.0\.until: '2026-02-30' is no date"),
        ("2026-12-31", "soon", r":12: quarantine\.0\.until: 'soon' is no date"),
        ('id: "17", task', 'id: "17", sha256: 0a1b2c3d, task', r":12: .*exactly one of 'id' and"),
        ("reason: flaky", 'reason: ""', r":13: quarantine\.1\.reason: string should have at least"),
        (", slice: difficulty=very=hard", "", r"gsm8k, exact_match is checked twice"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in WHOLE
    with pytest.raises(SpecError, match=rf"gate\.yaml.*{message}") as caught:
        read_policy(written(tmp_path, WHOLE.replace(old, new)))
    assert "\n" not in str(caught.value)


def test_a_policy_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.yaml"):
        read_policy(tmp_path / "gone.yaml")
