"""The action's shell steps, run by bash as GitHub runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from planted import POLICY, RIGHT, changed, record_of

import evalkit

REPOSITORY = Path(evalkit.__file__).parent.parent
ACTION = REPOSITORY / ".github" / "actions" / "evalkit-gate" / "action.yml"


@pytest.fixture(name="action")
def parsed() -> dict[str, Any]:
    found = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def run_action(action: dict[str, Any], folder: Path, **inputs: str) -> tuple[int, dict[str, str]]:
    """Run its steps in a folder; the exit code, and what they put out."""
    values = {name: str(entry.get("default", "")) for name, entry in action["inputs"].items()}
    values |= inputs
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    code = 0
    for step in action["runs"]["steps"]:
        assert step["shell"] == "bash"
        own = {
            name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: values[m[1]], text)
            for name, text in step["env"].items()
        }
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(shell, cwd=folder, env=environment | own, check=False, timeout=120)
        code = done.returncode
    lines = (folder / "output").read_text(encoding="utf-8").splitlines()
    return code, dict(line.split("=", 1) for line in lines)


def test_the_action_blocks_a_regression(action: dict[str, Any], tmp_path: Path) -> None:
    record_of(RIGHT).write(tmp_path / "a")
    record_of(changed(80, 0)).write(tmp_path / "b c")
    (tmp_path / "gate.yaml").write_text(POLICY, encoding="utf-8")
    code, output = run_action(
        action, tmp_path, baseline="a", candidate="b c", policy="gate.yaml", reports="out put"
    )
    assert (code, output) == (1, {"exit-code": "1", "markdown": "out put/gate.md"})
    assert "REGRESSION" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    data = json.loads((tmp_path / "out put" / "gate.json").read_text(encoding="utf-8"))
    assert data["exit_code"] == 1
    assert (tmp_path / "out put" / "gate.xml").stat().st_size > 0


def test_no_input_of_the_action_is_run_as_a_command(action: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text(POLICY, encoding="utf-8")
    code, output = run_action(
        action,
        tmp_path,
        baseline='$(touch hacked)"; touch hacked; "',
        candidate="`touch hacked`",
        policy="gate.yaml",
    )
    assert (code, output["exit-code"]) == (2, "2")
    assert not (tmp_path / "hacked").exists()
    # GitHub puts these into the text of the script before bash reads it
    assert not any("${{" in step["run"] for step in action["runs"]["steps"])


def test_every_input_of_the_action_is_used(action: dict[str, Any]) -> None:
    steps = json.dumps(action["runs"]["steps"])
    for name in action["inputs"]:
        assert f"inputs.{name} }}}}" in steps
    [step] = action["runs"]["steps"]
    assert all(f"${name}" in step["run"] for name in step["env"])
