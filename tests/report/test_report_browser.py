"""The page in a real browser: its script runs under its own policy, and it is not needed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from judged_records import hostile_judged_record, judged_record
from report_records import hostile_record, small_record, text_row

from evalkit.record import RunRecord
from evalkit.report.html import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NO BROWSER: install chromium to test the page's script and policy"
)

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--enable-logging=stderr",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The page's elements after its script ran, and what the browser complained of."""

    dom: str
    console: list[str]


def rendered(
    run: RunRecord, folder: Path, *, javascript: bool = True, opened: bool = False
) -> Rendered:
    write_report([run], folder / "report.html")
    if opened:
        open_all(folder / "report.html")
    profile = folder / "profile" / "Default"
    profile.mkdir(parents=True)
    settings = {"default_content_setting_values": {"javascript": 1 if javascript else 2}}
    (profile / "Preferences").write_text(json.dumps({"profile": settings}), encoding="utf-8")
    assert CHROMIUM is not None
    page = (folder / "report.html").as_uri()
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page],
        capture_output=True,
        check=True,
        timeout=60,
    )
    messages = done.stderr.decode("utf-8", "replace").splitlines()
    return Rendered(
        dom=re.sub(r"<noscript>.*?</noscript>", "", done.stdout.decode(), flags=re.DOTALL),
        console=[line for line in messages if "CONSOLE" in line],
    )


def open_all(page: Path) -> None:
    """Make the page's own script open every example that it lists."""
    text = page.read_text(encoding="utf-8")
    policy = re.search(r"<meta http-equiv[^>]*>", text)
    assert policy is not None
    click = "for (const s of document.querySelectorAll('.example > summary')) s.click();"
    text = text.replace(policy.group(), "")
    page.write_text(text.replace("</body>", f"<script>{click}</script></body>"), encoding="utf-8")


def test_the_script_lists_every_example_without_a_complaint(tmp_path: Path) -> None:
    page = rendered(small_record(), tmp_path)
    assert page.console == []
    assert page.dom.count('<details class="example ') == 11
    assert "5 shown" in page.dom


def test_a_long_list_opens_with_its_first_fifty(tmp_path: Path) -> None:
    rows = [text_row(i) for i in range(120)]
    page = rendered(replace(small_record(), rows=rows), tmp_path)
    assert page.dom.count('<details class="example ') == 50
    assert "50 of 120 shown" in page.dom


def test_without_javascript_the_script_leaves_no_trace(tmp_path: Path) -> None:
    page = rendered(small_record(), tmp_path, javascript=False)
    assert page.dom.count('<details class="example ') == 0  # those in <noscript> are all there is
    assert len(re.findall(r'<div class="tools"[^>]*hidden', page.dom)) == 2
    assert "43.8 %" in page.dom


def test_hostile_text_runs_nothing_in_a_browser(tmp_path: Path) -> None:
    text = "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'"
    page = rendered(hostile_record(text), tmp_path)
    assert page.console == []
    assert "<img" not in page.dom
    assert "<title>owned" not in page.dom


def test_the_script_shows_what_judges_said(tmp_path: Path) -> None:
    page = rendered(judged_record(), tmp_path, opened=True)
    assert page.console == []
    assert page.dom.count('<section class="opinions">') == 4
    assert page.dom.count('<div class="opinion">') == 8  # two of them members of a panel
    assert "The 2 judges of the panel" in page.dom
    assert "disagree: the order matters" in page.dom
    assert page.dom.count(">likeliest<") == 4  # three grades, and the member that is sure


def test_hostile_reasons_of_a_judge_run_nothing(tmp_path: Path) -> None:
    text = "</pre><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'"
    page = rendered(hostile_judged_record(text), tmp_path, opened=True)
    assert page.console == []
    assert "<img" not in page.dom
    assert "<title>owned" not in page.dom
    assert page.dom.count('<div class="opinion">') == 6
