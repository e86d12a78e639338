"""What the page on comparing shows is what happens."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import typer.main

import evalkit
from evalkit.cli import app

PAGE = Path(evalkit.__file__).parent.parent / "docs" / "compare.md"


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 8
    assert result.failed == 0


def test_the_options_of_the_page_are_those_of_the_verbs() -> None:
    shown = set(re.findall(r"--[a-z]+", PAGE.read_text(encoding="utf-8"))) - {"--limit"}
    verbs = typer.main.get_command(app)
    known = {
        option
        for verb in ("compare", "export")
        for parameter in verbs.commands[verb].params  # type: ignore[attr-defined]
        for option in parameter.opts
    }
    assert shown <= known
