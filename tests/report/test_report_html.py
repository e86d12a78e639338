"""The HTML page: complete, self-contained, and deaf to what a model writes."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_pages import HOSTILE, Page, page_of
from report_records import (
    choice_row,
    error_row,
    hostile_record,
    metric,
    record,
    small_record,
    task,
    text_row,
)

from evalkit.errors import RecordError
from evalkit.record import RunRecord, RunStatus
from evalkit.report.escape import visible
from evalkit.report.html import render_report, write_report


@functools.cache
def hostile_page(text: str) -> Page:
    return page_of(hostile_record(text))


@pytest.fixture(scope="module")
def benign() -> Page:
    return hostile_page("harmless")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_makes_no_element_and_no_attribute(text: str, benign: Page) -> None:
    assert hostile_page(text).structure == benign.structure


@given(st.text(st.characters(exclude_categories=()), min_size=1).filter(str.strip))
@settings(max_examples=15, deadline=None)
def test_no_text_at_all_changes_the_elements_of_a_page(benign: Page, text: str) -> None:
    assert page_of(hostile_record(text + "|")).structure == benign.structure


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_it_was(text: str) -> None:
    page = hostile_page(text)
    assert page.texts.count("\n" + visible(text)) >= 2  # prompt and response, in <pre>
    [data] = page.data()
    assert data["examples"][0]["id"] == visible(text)
    assert data["examples"][0]["transcript"]["response"] == visible(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_block_of_data_can_end_its_script_early(text: str) -> None:
    for kind, block in hostile_page(text).blocks:
        if kind == "application/json":
            assert not re.search(r"[<>&\u2028\u2029]", block)


def test_the_policy_allows_exactly_the_inline_blocks() -> None:
    page = page_of(small_record())
    [policy] = [a["content"] or "" for tag, a in page.elements if "http-equiv" in a]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    hashes = {
        kind: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for kind, text in page.blocks
        if kind != "application/json"
    }
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == hashes["style"]
    assert rules["script-src"] == hashes["script"]
    assert "unsafe" not in policy


def test_the_page_loads_nothing() -> None:
    page = page_of(small_record())
    loading = {"src", "srcset", "data", "action", "poster", "background", "style", "xlink:href"}
    for tag, attributes in page.elements:
        assert tag not in ("link", "base", "iframe", "object", "embed", "img", "form")
        assert not loading & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    [style] = [text for kind, text in page.blocks if kind == "style"]
    assert "url(" not in style
    assert "@import" not in style


def test_every_link_of_the_page_has_its_target() -> None:
    page = Page.of(render_report([small_record(), small_record()]))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = {a["href"] for tag, a in page.elements if tag == "a"}
    assert {(link or "")[1:] for link in links} <= set(ids)


def test_the_body_is_as_reviewed(golden: Callable[[str, str], None]) -> None:
    text = render_report([small_record()])
    text = re.sub(r"<style>.*?</style>", "<style>(report.css)</style>", text, flags=re.DOTALL)
    text = re.sub(r"<script>.*?</script>", "<script>(report.js)</script>", text, flags=re.DOTALL)
    golden("report.html", re.sub(r"&#39;sha256-[^&]*&#39;", "(hash)", text))


@pytest.mark.parametrize("n", [0, 1])
def test_a_run_with_hardly_any_example_has_a_page(n: int) -> None:
    rows = [text_row(i, task="t") for i in range(n)]
    page = page_of(record({"t": task({"exact_match": metric(0.5, 0.4, 0.6)})}, rows))
    assert [len(block["examples"]) for block in page.data()] == [1] * n
    assert ("No example was recorded." in page.texts) == (n == 0)


def test_a_run_without_tasks_has_a_page() -> None:
    assert "This run holds no results." in page_of(record({})).texts


def test_undefined_numbers_are_dashes() -> None:
    nan = math.nan
    row = replace(choice_row(0, task="t"), choice_logprobs=(nan,) * 4, scores={"accuracy": nan})
    run = record({"t": task({"accuracy": metric(nan, nan, nan)})}, [row])
    page = page_of(run)
    assert page.texts.count("–") > 4
    assert not any(re.search(r"\bnan\b", text, re.IGNORECASE) for text in page.texts)
    assert page.data()[0]["examples"][0]["transcript"]["choices"][0]["share"] is None


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_a_run_that_is_not_complete_raises_an_alarm(status: RunStatus) -> None:
    def alarms(run: RunRecord) -> int:
        return sum(a.get("role") == "alert" for _, a in page_of(run).elements)

    assert alarms(small_record()) == 0
    assert alarms(replace(small_record(), status=status)) == 1


def test_errors_are_shown_with_what_they_said() -> None:
    run = record({"arithmetic": task({"exact_match": metric(0.5, 0.4, 0.6)})}, [error_row(4)])
    message = "\ncontext_length: the prompt has 9,100 tokens; the model takes 8,192"
    assert message in page_of(run).texts


def big_record(n: int, prompt: Callable[[int], str]) -> RunRecord:
    rows = [replace(text_row(i, task="t"), prompt=prompt(i)) for i in range(n)]
    return record({"t": task({"exact_match": metric(0.5, 0.4, 0.6)})}, rows)


def test_two_thousand_few_shot_examples_fit_five_megabytes() -> None:
    shots = [f"Question: number {i} {'of many words ' * 30}\nAnswer: {i}" for i in range(2000)]
    run = big_record(2000, lambda i: "\n\n".join(shots[(i * 7 + k) % 2000] for k in range(6)))
    text = render_report([run])
    assert len(text.encode()) <= 5_000_000
    [data] = Page.of(text).data()
    assert all("transcript" in example for example in data["examples"])
    parts = data["parts"]
    for example, row in zip(data["examples"], run.read_rows(), strict=True):
        assert "\n\n".join(parts[i] for i in example["transcript"]["prompt"]) == row.prompt


def test_transcripts_beyond_the_budget_are_left_out_and_counted() -> None:
    run = big_record(60, lambda i: f"{i:06d} " * 15_000)  # 105 kB each
    text = render_report([run])
    assert len(text.encode()) <= 5_000_000
    page = Page.of(text)
    [data] = page.data()
    n_left_out = sum("transcript" not in example for example in data["examples"])
    assert len(data["examples"]) == 60
    assert 0 < n_left_out < 60
    assert any(t.startswith(f"{n_left_out} transcripts left out") for t in page.texts)


def test_tasks_share_the_budget() -> None:
    rows = [
        replace(text_row(i, task=name), prompt=f"{name}{i:06d} " * 10_000)
        for name in ("a", "b")
        for i in range(30)
    ]
    metrics = {"exact_match": metric(0.5, 0.4, 0.6)}
    page = page_of(record({name: task(metrics) for name in ("a", "b")}, rows))
    kept = [sum("transcript" in e for e in block["examples"]) for block in page.data()]
    assert min(kept) > 0
    assert abs(kept[0] - kept[1]) <= 1


def test_a_reader_without_javascript_gets_the_first_fifty() -> None:
    page = page_of(big_record(60, lambda i: f"Question {i}"))
    classes = [(a.get("class") or "").split() for tag, a in page.elements if tag == "details"]
    assert sum("example" in names for names in classes) == 50
    assert "\nQuestion 49" in page.texts
    assert "\nQuestion 50" not in page.texts


def test_several_runs_stand_in_one_page() -> None:
    page = Page.of(render_report([small_record(), small_record()]))
    assert sum(tag == "h1" for tag, _ in page.elements) == 2


def test_the_page_is_written_whole_and_the_same_each_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report([small_record()], path)
    first = path.read_bytes()
    write_report([small_record()], path)
    assert path.read_bytes() == first == render_report([small_record()]).encode()
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RecordError, match="cannot write the report"):
        write_report([small_record()], tmp_path / "file" / "report.html")
