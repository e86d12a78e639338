"""What the documents show is what happens."""

from __future__ import annotations

import doctest
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import evalkit

ROOT = Path(evalkit.__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tasks" / "README.md"]

SUMMARY_CRITERIA = ("coherence", "consistency", "fluency", "relevance")

pytestmark = pytest.mark.usefixtures("smollm2_path")


def test_the_python_page_runs() -> None:
    result = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False)
    assert result.attempted > 10
    assert result.failed == 0


def readme_commands() -> list[str]:
    """The lines of the README's indented blocks that start with evalkit."""
    lines = re.findall(r"^    (evalkit .*)$", README, flags=re.MULTILINE)
    return [line.split("#")[0].strip() for line in lines]


def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "gsm8k_test.jsonl").write_text(
        "".join(
            f'{{"question": "What is {i} plus {i}?", "answer": "It is {2 * i}.\\n#### {2 * i}"}}\n'
            for i in range(7)
        ),
        encoding="utf-8",
    )
    record = evalkit.evaluate("facts", "local:smollm2-135m", limit=4)
    for name in "ABC":
        record.write(tmp_path / "runs" / name)
    (tmp_path / "gate.yaml").write_text(
        "gate: readme\non_inconclusive: warn\n"
        "checks: [{task: facts, metric: accuracy, margin: 0.1, reason: an example}]\n",
        encoding="utf-8",
    )
    rows = [
        {
            "id": f"i{i}",
            "fields": {"source": f"It rained for {i} days."},
            "response": "It rained.",
            "labels": {name: {"ann": 1 + i % 5} for name in SUMMARY_CRITERIA},
        }
        for i in range(6)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "labels.jsonl").write_text(lines, encoding="utf-8")
    commands = readme_commands()
    assert len(commands) >= 6
    for command in commands:
        small = command.replace("--limit 40", "--limit 4").replace("--limit 20", "--limit 1")
        small = small.replace("--limit 10", "--limit 1")
        small = small.replace("/some/dir", "some-dir")
        if small.startswith("evalkit run facts --set"):
            small += " --limit 4"
        runnable = small.replace("evalkit", shlex.quote(sys.executable) + " -m evalkit", 1)
        done = subprocess.run(
            ["bash", "-c", runnable], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{small}: {done.stderr[-500:]}"
        assert done.stdout.strip() or "-o" in small.split(), small


def test_the_task_in_the_readme_runs(tmp_path: Path) -> None:
    [task] = re.findall(r"```yaml\n(task: capitals.*?)```", README, flags=re.DOTALL)
    (tmp_path / "capitals.yaml").write_text(task, encoding="utf-8")
    rows = [("France", "Paris"), ("Italy", "Rome"), ("Spain", "Madrid"), ("Japan", "Tokyo")]
    text = "".join(f'{{"country": "{c}", "capital": "{n}"}}\n' for c, n in rows)
    (tmp_path / "capitals.jsonl").write_text(text, encoding="utf-8")
    record = evalkit.evaluate(str(tmp_path / "capitals.yaml"), "local:smollm2-135m")
    # a model that has read the web knows these four
    assert record.tasks["capitals"].metrics["exact_match"].estimate.value >= 0.75


def test_the_python_of_the_readme_runs() -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert "Estimate(value=" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []
