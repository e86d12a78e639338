"""Judges on the HTML page: marked wherever their number stands, and deaf to what they write."""

from __future__ import annotations

import functools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_records import NOTES, hostile_judged_record, judged_record
from report_pages import HOSTILE, Page, page_of
from report_records import small_record

from evalkit.report.escape import visible
from evalkit.report.html import render_report


@functools.cache
def hostile_page(text: str) -> Page:
    return page_of(hostile_judged_record(text))


@pytest.fixture(scope="module")
def benign() -> Page:
    return hostile_page("harmless")


@pytest.fixture(scope="module")
def text() -> str:
    return render_report([judged_record()])


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_judges_make_no_element_and_no_attribute(words: str, benign: Page) -> None:
    assert hostile_page(words).structure == benign.structure


@given(st.text(st.characters(exclude_categories=()), min_size=1).filter(str.strip))
@settings(max_examples=10, deadline=None)
def test_nothing_that_a_judge_writes_changes_the_elements(benign: Page, words: str) -> None:
    assert page_of(hostile_judged_record(words + "|")).structure == benign.structure


@pytest.mark.parametrize("words", HOSTILE)
def test_what_a_judge_writes_is_shown_as_it_was(words: str) -> None:
    page = hostile_page(words)
    assert page.texts.count("\n" + visible(words)) >= 4  # prompt, response, reason, member's
    [data] = page.data()
    [view] = data["examples"][0]["transcript"]["judged"]
    assert view["reason"] == view["members"][0]["reason"] == visible(words)
    for kind, block in page.blocks:
        if kind == "application/json":
            assert not re.search(r"[<>&\u2028\u2029]", block)


def rows(text: str) -> list[str]:
    return re.findall(r"<tr\b.*?</tr>", text, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("value", "mark"),
    [("0.550", "⚠ uncalibrated"), ("0.910", "⚠ stale"), ("2.600", "⚠ refused")],
)
def test_every_table_marks_the_number_in_a_word(text: str, value: str, mark: str) -> None:
    own = [row for row in rows(text) if f'<td class="number value">{value}' in row]
    assert len(own) >= 2  # the headline and the task's table
    for row in own:
        assert mark in row
        [label] = re.findall(r'aria-label="([^"]*)"', row)
        assert mark.removeprefix("⚠ ") in label


def test_the_slices_say_the_note_to_who_cannot_see_it(text: str) -> None:
    [row] = [row for row in rows(text) if "it could not be applied" in row]
    assert '<span class="unseen">: it could not be applied: 3 labels</span>' in row
    assert "⚠ uncalibrated" in row


@pytest.mark.parametrize("word", NOTES)
def test_the_note_of_each_standing_stands_below_the_numbers(word: str) -> None:
    page = page_of(judged_record())
    assert any(NOTES[word] in item for item in page.texts)


def test_the_command_that_calibrates_stands_where_nobody_was_asked() -> None:
    page = page_of(judged_record())
    commands = [item for item in page.texts if "evalkit calibrate" in item]
    assert commands == [
        "\nevalkit calibrate chat_pairwise --labels FILE --judge '[local:a, local:b]'",
        "\nevalkit calibrate safety --labels FILE --judge local:smollm2-135m",
    ]


def test_every_form_of_a_figure_is_on_the_page() -> None:
    texts = {item.strip() for item in page_of(judged_record()).texts}
    assert {"corrected", "labels only", "judge alone"} <= texts
    assert {"people ↓ judge →", "kappa, quadratic weights", "deep, deeper", "Padding"} <= texts
    assert {"The figures", "What moves this judge other than quality"} <= texts


def test_a_reader_without_javascript_sees_what_the_judge_said() -> None:
    page = page_of(judged_record())
    texts = [item.strip() for item in page.texts]
    assert "The summary keeps to the source and leaves out nothing that matters." in texts
    assert "abstained: no label has any probability" in texts
    assert "disagree: the order matters" in texts
    assert "The 2 judges of the panel" in texts
    assert "likeliest" in texts


def test_the_static_and_the_script_form_have_the_same_words() -> None:
    page = page_of(judged_record())
    texts = {item.strip() for item in page.texts}
    views = [v for d in page.data() for e in d["examples"] for v in e["transcript"]["judged"]]
    while views:
        view = views.pop()
        views += view["members"]
        said = [view["name"], view["value"], view["problem"], view["doubt"], view["reason"]]
        said += [word for label in view["labels"] for word in (label["text"], label["percent"])]
        said += [word for fact in view["facts"] for word in fact]
        assert {word for word in said if word} <= texts


def test_the_ids_and_the_links_of_a_judged_page_are_whole() -> None:
    page = page_of(judged_record())
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for tag, a in page.elements if tag == "a"} <= set(ids)
    assert not any("style" in a for _, a in page.elements)


def test_a_page_without_judges_has_nothing_of_them() -> None:
    texts = render_report([small_record()]).partition("</style>")[2].partition("<script>")[0]
    assert "badge" not in texts
    assert '"judged"' not in texts
