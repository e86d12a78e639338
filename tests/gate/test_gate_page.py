"""What the page on the gate shows is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
import yaml

import evalkit
from evalkit.cli import app
from evalkit.gate import Reason, Verdict, read_policy

PAGE = Path(evalkit.__file__).parent.parent / "docs" / "gate.md"
ACTION = PAGE.parent.parent / ".github" / "actions" / "evalkit-gate" / "action.yml"


@pytest.fixture(name="page")
def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def blocks(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)


def test_the_policy_of_the_page_can_be_read(page: str, tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text(blocks(page)[0], encoding="utf-8")
    policy = read_policy(tmp_path / "gate.yaml")
    assert [check.margin for check in policy.checks] == [0.02, 0.05, 0.1]
    assert policy.checks[2].requires == "calibrated"


def test_the_options_of_the_page_are_those_of_the_verbs(page: str) -> None:
    verbs = typer.main.get_command(app)
    known = {
        option
        for verb in ("gate", "export", "run")
        for parameter in verbs.commands[verb].params  # type: ignore[attr-defined]
        for option in parameter.opts
    }
    assert set(re.findall(r"--[a-z][a-z-]*", page)) <= known


def test_the_verdicts_of_the_page_are_those_of_the_gate(page: str) -> None:
    for verdict in Verdict:
        assert f"| {verdict.value.replace('_', ' ').upper()} |" in page
    assert Reason.IDENTICAL.value in page


def test_the_snippets_of_the_page_fit_the_action(page: str) -> None:
    [steps, pipeline] = [yaml.safe_load(block) for block in blocks(page)[-2:]]
    inputs = yaml.safe_load(ACTION.read_text(encoding="utf-8"))["inputs"]
    used = steps[-1]["with"]
    assert set(used) <= set(inputs)
    assert {name for name, entry in inputs.items() if entry["required"]} <= set(used)
    assert pipeline["gate"]["artifacts"]["reports"]["junit"] == "gate.xml"
    assert any("--junit gate.xml" in line for line in pipeline["gate"]["script"])
