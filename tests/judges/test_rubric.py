"""Rubric files: those that ship, and how one that is wrong is explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubric_files import (
    CHECKLIST,
    CLASSIFY,
    PAIRWISE,
    POINTWISE,
    REWARD,
    TWO_CRITERIA,
    write_rubric,
)

from evalkit.errors import EvalkitError, NotFoundError, SpecError, TemplateError
from evalkit.judges import Case, RubricSpec, load_rubric, rubric_paths
from evalkit.judges.asking import question
from evalkit.judges.preview import preview_rubric
from evalkit.judges.rubric_spec import labels_of, problems

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = sorted(p.stem for p in (ROOT / "rubrics").glob("*.yaml"))
ONE_CASE = Case(
    key="x",
    fields={"source": "The sky is blue.", "contexts": ["one passage", "another"]},
    prompt="the prompt",
    target="the target",
    response="the response",
    opponent="the opponent",
)


def test_the_expected_rubrics_ship() -> None:
    wanted = (
        "helpfulness faithfulness summary_quality instruction_following translation "
        "factual_correctness chat_pairwise rag safety creative_writing entailment"
    )
    assert set(wanted.split()) <= set(SHIPPED)
    assert any(load_rubric(name).spec.critique is not None for name in SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_rubric_shows_what_is_judged_and_says_what_its_labels_mean(name: str) -> None:
    rubric = load_rubric(name)
    assert rubric.spec.description.endswith(".")
    for criterion in rubric.criteria:
        if rubric.kind == "pointwise":
            assert list(criterion.labels) == ["1", "2", "3", "4", "5"]
            assert {"1", "3", "5"} <= set(criterion.anchors)
        if rubric.kind == "classify":
            _, asked = question(rubric, criterion, ONE_CASE)
            assert all(label in asked for label in criterion.labels)
        system, asked = question(rubric, criterion, ONE_CASE)
        assert criterion.question in asked
        assert "the response" in asked
        assert "{" not in system + asked


@pytest.mark.parametrize("name", SHIPPED)
def test_what_the_criteria_share_comes_first_and_the_question_last(name: str) -> None:
    rubric = load_rubric(name)
    prompts = [question(rubric, criterion, ONE_CASE)[1] for criterion in rubric.criteria]
    if rubric.kind == "pairwise":
        assert len(prompts) == 1
        assert prompts[0].index(rubric.criteria[0].question) < prompts[0].index("the response")
        return
    for criterion, prompt in zip(rubric.criteria, prompts, strict=True):
        shared = prompt[: prompt.index("</response ")]
        assert all(other.startswith(shared) for other in prompts)
        assert prompt.index(criterion.question) > len(shared)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_rubric_is_short(name: str) -> None:
    # 350 words take some 450 tokens: a context of 2048 leaves most of its room to the texts
    [case] = preview_rubric(load_rubric(name)).cases
    assert len(case.prompt.split()) < 350


def test_the_page_of_the_rubrics_names_each_with_its_kind_and_fields() -> None:
    page = (ROOT / "rubrics" / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[(\w+)\]\(\1\.yaml\) \|(.*)$", page, flags=re.MULTILINE))
    assert sorted(rows) == SHIPPED
    for name, row in rows.items():
        rubric = load_rubric(name)
        own = {"first", "second", "criterion", "question", "scale", "labels"}
        needs = sorted(rubric.prompt.variables - own)
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[0] == rubric.kind
        assert cells[1] == ", ".join(c.name for c in rubric.criteria)
        found = sorted(re.findall(r"`(\w+)`", cells[2]))
        assert found == sorted({*needs, *(["response"] if rubric.kind == "pairwise" else [])})


# --- what is wrong with a file is one line that says where


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (POINTWISE, "cue:", "cu:", r"quality\.yaml:10: unknown key 'cu'; did you mean 'cue'\?"),
        (POINTWISE, "scale: {", "scal: {", r"quality\.yaml:12: unknown key 'scal' in"),
        (POINTWISE, "version: 1\n", "", r"quality\.yaml:1: key 'version' is missing"),
        (POINTWISE, "pointwise", "graded", r"quality\.yaml:3: kind: input should be 'pointwise'"),
        (POINTWISE, "quality\nv", "Quality!\nv", r"rubric: .*'Quality!'"),
        (POINTWISE, "{1: bad, 3: fair, 5: good}", "{bad: 1, good: 5}", "input should be a valid"),
        (
            POINTWISE,
            "{1: bad, 3: fair, 5: good}",
            "{low: bad, high: good}",
            r"quality\.yaml:12: criterion 'quality': the points of a scale are whole numbers, not",
        ),
        (POINTWISE, "{1: bad", "{²: bad", "whole numbers, not '²'"),
        (POINTWISE, "{1: bad", "{--1: bad", "whole numbers, not '--1'"),
        (POINTWISE, "{1: bad", "{01: bad", "whole numbers, not '01'"),
        (POINTWISE, "{1: bad, 3: fair, 5: good}", "{3: fair}", "a scale has 2 to 10 points"),
        (POINTWISE, "5: good}", "99999999: good}", "a scale has 2 to 10 points"),
        (POINTWISE, "5: good}", "10: good}", "label '10' begins with label '1'"),
        (POINTWISE, ", scale: {1: bad, 3: fair, 5: good}", "", "quality.yaml:12: .* needs 'scale'"),
        (
            POINTWISE,
            "scale: {1: bad, 3: fair, 5: good}",
            "labels: {good: 1, bad: 0}",
            "criterion 'quality' of a pointwise rubric needs 'scale'",
        ),
        (
            POINTWISE,
            "{{ response }}",
            "",
            r"quality\.yaml:4: prompt: {{ response }} does not occur",
        ),
        (POINTWISE, "{{ scale }}", "", r"quality\.yaml:4: prompt: {{ scale }} does not occur"),
        (TWO_CRITERIA, "{{ question }}", "", r"{{ question }} does not occur"),
        (PAIRWISE, "{{ second }}", "", r"better\.yaml:4: prompt: {{ second }} does not occur"),
        (
            POINTWISE,
            "cue:",
            "ties: true\ncue:",
            r"quality\.yaml:10: 'ties' is for pairwise rubrics",
        ),
        (POINTWISE, "cue:", "against: x\ncue:", r"quality\.yaml:10: 'against' is for pairwise"),
        (POINTWISE, "5: good}", "5: good}, weight: 0", "all weights of text criteria are 0"),
        (POINTWISE, "5: good}", "5: good}, weight: -1", "weight: input should be greater than or"),
        (
            POINTWISE,
            "5: good}",
            "5: good}, weight: .inf",
            "weight: input should be a finite number",
        ),
        (
            TWO_CRITERIA,
            "weight: 1}",
            "weight: 0, modality: image}",
            "all weights of image criteria are 0",
        ),
        (CLASSIFY, "unknown", "trueish", "label 'trueish' begins with label 'true'"),
        (CLASSIFY, "unknown", "TRUE", "label 'true' begins with label 'true'"),
        (CLASSIFY, "unknown", "' true'", "label ' true' is empty, or has space around it"),
        (CLASSIFY, "unknown", "''", "label '' is empty"),
        (CLASSIFY, "{true: 1, unknown: 0.5, false: 0}", "{true: 1}", "two labels or more are"),
        (CLASSIFY, "{true: 1, unknown: 0.5, false: 0}", "{true: 1, false: 1}", "not all of them"),
        (CLASSIFY, "true: 1", "true: .nan", "input should be a finite number"),
        (CLASSIFY, "classify", "checklist", "has no use for 'labels'"),
        (CHECKLIST, "criteria:\n", "criteria: {}\nsystem: |\n", "criteria: dictionary should have"),
        (
            REWARD,
            "criteria",
            "critique: {}\ncriteria",
            r"reward\.yaml:5: a reward rubric has no use",
        ),
        (REWARD, "criteria", "cue: 'Score:'\ncriteria", "has no use for 'cue'"),
        (REWARD, "criteria", "verdict: text\ncriteria", "has no use for 'verdict'"),
        (REWARD, "criteria", "content_free: true\ncriteria", "has no use for 'content_free'"),
        (REWARD, "{{ prompt }}", "{{ prompt }} {{ response }}", "as the assistant's turn, not in"),
        (REWARD, "criteria:", "criteria:\n  other: {question: x}", "a reward rubric has one crit"),
        (
            POINTWISE,
            "cue:",
            "content_free: true\nverdict: text\ncue:",
            r"quality\.yaml:10: it corrects probabilities, and verdict: text has none",
        ),
        (
            POINTWISE,
            "cue:",
            "critique: {max_tokens: 9}\ncontent_free: true\ncue:",
            r"quality\.yaml:11: it measures what the judge says without reasons",
        ),
        (POINTWISE, "cue:", "critique: {max_token: 9}\ncue:", "did you mean 'max_tokens'"),
        (POINTWISE, "{{ labels }}", "{{ labels", "not a valid template"),
        (POINTWISE, "cue:", "system: '{% if %}'\ncue:", r"quality\.yaml:10: system: not a valid"),
        (PAIRWISE, "{{ baseline }}", "{{ base", "against: not a valid template"),
        (POINTWISE, "kind:", "kind: pointwise\nkind:", "key 'kind' stands here twice"),
    ],
)
def test_a_wrong_file_gets_one_line_that_says_where(
    tmp_path: Path, text: str, old: str, new: str, message: str
) -> None:
    assert old in text
    path = tmp_path / f"{write_rubric(tmp_path, text).name}.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises((SpecError, TemplateError), match=message) as caught:
        load_rubric(str(path))
    assert re.match(rf"\S*{path.name}:\d+: ", str(caught.value))
    assert "\n" not in str(caught.value)


def test_the_file_is_called_as_the_rubric_is(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(POINTWISE, encoding="utf-8")
    with pytest.raises(SpecError, match=r"other\.yaml:1: the rubric is called 'quality', its file"):
        load_rubric(str(tmp_path / "other.yaml"))


def test_a_name_that_no_rubric_has_gets_the_nearest_one() -> None:
    with pytest.raises(NotFoundError, match="no such rubric: 'faithfulnes'; did you mean 'faithf"):
        load_rubric("faithfulnes")
    with pytest.raises(EvalkitError, match=r"gone\.yaml: cannot be read"):
        load_rubric("gone.yaml")


def test_a_rubric_of_the_current_folder_comes_before_the_one_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rubrics").mkdir()
    text = POINTWISE.replace("rubric: quality", "rubric: faithfulness")
    (tmp_path / "rubrics" / "faithfulness.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert rubric_paths()["faithfulness"] == tmp_path.resolve() / "rubrics" / "faithfulness.yaml"
    assert [c.name for c in load_rubric("faithfulness").criteria] == ["quality"]
    assert set(rubric_paths()) == set(SHIPPED)


# --- what a rubric says of itself


def test_a_lone_criterion_goes_by_the_rubrics_name(tmp_path: Path) -> None:
    assert write_rubric(tmp_path, POINTWISE).metric_name("quality") == "quality"
    assert write_rubric(tmp_path, TWO_CRITERIA).metric_name("first") == "pair_of.first"


def test_each_kind_has_its_labels(tmp_path: Path) -> None:
    def labels(text: str) -> dict[str, float]:
        return dict(write_rubric(tmp_path, text).criteria[0].labels)

    assert labels(POINTWISE) == {"1": 1, "2": 2, "3": 3, "4": 4, "5": 5}
    assert labels(PAIRWISE) == {"A": 1, "B": 0}
    assert labels(PAIRWISE.replace("criteria", "ties: true\ncriteria")) == {
        "A": 1,
        "B": 0,
        "C": 0.5,
    }
    assert labels(CLASSIFY) == {"true": 1, "unknown": 0.5, "false": 0}
    assert labels(CHECKLIST) == {"yes": 1, "no": 0}
    assert labels(REWARD) == {}


def test_one_changed_character_is_another_rubric(tmp_path: Path) -> None:
    before = write_rubric(tmp_path, POINTWISE).sha256
    assert write_rubric(tmp_path, POINTWISE).sha256 == before
    for old, new in (
        ("is it?", "is it!"),
        ("fair", "fine"),
        ("Rating:", "Rating"),
        ("n: 1", "n: 2"),
    ):
        assert write_rubric(tmp_path, POINTWISE.replace(old, new, 1)).sha256 != before


@given(st.integers(-30, 30), st.integers(1, 12))
def test_a_scale_has_every_whole_number_between_its_ends_or_is_refused(low: int, more: int) -> None:
    spec = RubricSpec.model_validate(
        {
            "rubric": "x",
            "version": 1,
            "kind": "pointwise",
            "prompt": "{{ response }}",
            "criteria": {"c": {"question": "?", "scale": {str(low): "a", str(low + more): "b"}}},
        }
    )
    points = [str(p) for p in range(low, low + more + 1)]
    is_clear = not any(b.startswith(a) for a in points for b in points if a != b)
    assert (list(problems(spec)) == []) == (is_clear and len(points) <= 10)
    if is_clear and len(points) <= 10:
        assert labels_of(spec, "c") == {p: float(p) for p in points}
