"""The command line, run in this process; the fixture ``evalkit`` in conftest.py gives it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from evalkit import cli


@dataclass(frozen=True)
class Result:
    """What a command printed where, and its exit code."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs ``evalkit WORD...``."""

    def run(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["evalkit", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        captured = capsys.readouterr()
        return Result(code=code, out=captured.out, err=captured.err)

    return run
