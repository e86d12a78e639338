"""What every test may use: a clean environment, the bundled model's file, golden files."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import command_line
import hypothesis
import pytest

from evalkit import models

GOLDEN = Path(__file__).parent / "golden"

# They make rich and typer colour or fold their output by where the suite happens to run.
TERMINAL = ("CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "LINES", "PY_COLORS")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files anew; review the diff"
    )


def pytest_configure() -> None:
    # Before any test module is imported: the Hub's client reads it once, at import.
    os.environ["HF_HUB_OFFLINE"] = "1"
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Workers share the processors: two that both compute on all of them wait for each other.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    # The same examples each time: a red suite is red for everybody.
    hypothesis.settings.register_profile("evalkit", derandomize=True, deadline=None)
    hypothesis.settings.load_profile("evalkit")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's reaches a test, but where the fetched model lies."""
    for name in list(os.environ):
        if name.startswith("EVALKIT_") and name != "EVALKIT_CACHE":
            monkeypatch.delenv(name)
    for name in TERMINAL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The bundled model's GGUF file; ``make test`` has fetched it."""
    return models.resolve("smollm2-135m", offline=False)


@pytest.fixture
def evalkit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> command_line.Run:
    """Run the command line in this process."""
    return command_line.runner(monkeypatch, capsys)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with tests/golden/NAME; ``--update-golden`` writes it instead."""
    update: bool = request.config.getoption("--update-golden")

    def check(name: str, text: str) -> None:
        expect_golden(GOLDEN / name, text, update=update)

    return check


def expect_golden(path: Path, text: str, *, update: bool) -> None:
    """Fail with a unified diff unless ``path`` holds ``text``; the text stays beside it."""
    actual = path.with_name(f"{path.stem}.actual{path.suffix}")
    if update:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        actual.unlink(missing_ok=True)
        return
    expected = path.read_bytes().decode("utf-8") if path.exists() else ""
    if path.exists() and text == expected:
        actual.unlink(missing_ok=True)
        return
    actual.parent.mkdir(parents=True, exist_ok=True)
    actual.write_text(text, encoding="utf-8", newline="")
    diff = difflib.unified_diff(
        expected.splitlines(), text.splitlines(), path.name, actual.name, lineterm=""
    )
    pytest.fail(
        "\n".join([f"{path.name} differs (--update-golden accepts):", *diff]), pytrace=False
    )
