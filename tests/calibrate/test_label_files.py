"""Label files: three ways to write the same labels, and one line for every bad file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_labels import pairs, write_rows

from evalkit.calibrate import read_labels
from evalkit.calibrate.items import LabelSet
from evalkit.errors import EvalkitError

SPECS = Path(__file__).parents[2] / "benchmarks" / "judge_labels"

CSV = """\
id,annotator,criterion,value,prompt,response,opponent,cluster,system,propensity,design,topic
a,ann,preference,1,why?,because,who knows,c1,s1,0.5,stratified,x
a,bob,preference,2,why?,because,who knows,c1,s1,0.5,stratified,x
b,ann,preference,0,how?,so,like this,c1,s2,0.25,stratified,y
c,,,,where?,here,there,c2,s2,0.25,stratified,y
"""
SAME_ROWS: list[dict[str, Any]] = [
    {
        "id": "a",
        "prompt": "why?",
        "response": "because",
        "opponent": "who knows",
        "fields": {"topic": "x"},
        "labels": {"preference": {"ann": "1", "bob": "2"}},
        "cluster": "c1",
        "system": "s1",
        "propensity": 0.5,
        "design": "stratified",
    },
    {
        "id": "b",
        "prompt": "how?",
        "response": "so",
        "opponent": "like this",
        "fields": {"topic": "y"},
        "labels": {"preference": {"ann": "0", "bob": None}},
        "cluster": "c1",
        "system": "s2",
        "propensity": 0.25,
        "design": "stratified",
    },
    {
        "id": "c",
        "prompt": "where?",
        "response": "here",
        "opponent": "there",
        "fields": {"topic": "y"},
        "labels": {},
        "cluster": "c2",
        "system": "s2",
        "propensity": 0.25,
        "design": "stratified",
    },
]
SPEC = """\
labels: same
path: rows.jsonl
id: "{{ id }}"
prompt: "{{ prompt }}"
response: "{{ response }}"
opponent: "{{ opponent }}"
fields: {topic: "{{ fields.topic }}"}
human: {preference: "{{ labels.get('preference', {}) }}"}
cluster: "{{ cluster }}"
system: "{{ system }}"
propensity: "{{ propensity }}"
design: stratified
"""


def test_lines_a_table_and_a_specification_give_the_same_labels(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(CSV, encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    write_rows(tmp_path / "rows.jsonl", SAME_ROWS)
    found = [read_labels(tmp_path / name) for name in ("long.csv", "rows.jsonl", "spec.yaml")]
    assert len({labels.sha256 for labels in found}) == 1
    assert [labels.design for labels in found] == ["stratified"] * 3
    first = found[0].items[0]
    assert first.labels == {"preference": {"ann": "1", "bob": "2"}}
    assert (first.case.opponent, first.case.fields) == ("who knows", {"topic": "x"})
    assert (first.systems, first.propensity, first.cluster) == (("s1",), 0.5, "c1")


def test_labels_that_name_no_criterion_are_those_of_the_only_one(tmp_path: Path) -> None:
    labels = read_labels(write_rows(tmp_path / "flat.jsonl", pairs(2)))
    assert labels.items[0].of("whatever", is_lone=True).keys() == {"p0", "p1", "p2"}
    assert labels.items[0].of("whatever", is_lone=False) == {}


def test_a_label_that_is_null_is_still_to_be_given(tmp_path: Path) -> None:
    rows = [{**SAME_ROWS[0], "labels": {"ann": None, "bob": 1}}]
    labels = read_labels(write_rows(tmp_path / "some.jsonl", rows))
    assert labels.items[0].labels == {"": {"bob": 1}}


BAD_LINES = {
    "not JSON": ("{", "not valid JSON"),
    "no object": ("[1]", "expected an object"),
    "unknown key": ({"id": 1, "labels": {}, "promt": ""}, "unknown key 'promt'; did you mean"),
    "no id": ({"labels": {"a": 1}}, "key 'id' is missing"),
    "no labels": ({"id": 1}, "key 'labels' is missing"),
    "labels a list": ({"id": 1, "labels": [1]}, "labels is no mapping"),
    "label a list": ({"id": 1, "labels": {"a": [1]}}, "the label of 'a' is [1]"),
    "two shapes": ({"id": 1, "labels": {"a": 1, "b": {"c": 1}}}, "and not both"),
    "a number as prompt": ({"id": 1, "labels": {}, "prompt": 3}, "prompt is no text: 3"),
    "propensity 0": ({"id": 1, "labels": {}, "propensity": 0}, "a chance above 0"),
    "propensity a word": ({"id": 1, "labels": {}, "propensity": "x"}, "a chance above 0"),
    "three systems": ({"id": 1, "labels": {}, "system": ["a", "b", "c"]}, "of a pair two"),
    "a design of its own": ({"id": 1, "labels": {}, "design": "best"}, "design is 'best'"),
    "judges a list": ({"id": 1, "labels": {}, "judges": []}, "judges is no mapping"),
}


@pytest.mark.parametrize(("line", "message"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_named_in_one_line(tmp_path: Path, line: Any, message: str) -> None:
    path = tmp_path / "labels.jsonl"
    good = json.dumps(SAME_ROWS[0])
    text = line if isinstance(line, str) else json.dumps(line)
    path.write_text(f"{good}\n{text}\n", encoding="utf-8")
    with pytest.raises(EvalkitError) as error:
        read_labels(path)
    assert f"{path}:2: " in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


BAD_TABLES = {
    "no annotator column": ("id,value\na,1\n", ":1: column 'annotator' is missing"),
    "no id": ("id,annotator,value\n,ann,1\n", ":2: a label needs an id"),
    "no annotator": ("id,annotator,value\na,,1\n", ":2: a label needs an id and an annotator"),
    "twice": ("id,annotator,value\na,ann,1\na,ann,2\n", ":3: 'ann' has labelled this already"),
    "two prompts": (
        "id,annotator,value,prompt\na,ann,1,x\na,bob,2,y\n",
        ":3: prompt of 'a' is not what",
    ),
    "too many cells": ("id,annotator,value\na,ann,1,2\n", ":2: expected 3 columns"),
}


@pytest.mark.parametrize(("text", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_bad_table_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EvalkitError) as error:
        read_labels(path)
    assert f"{path}{message}" in str(error.value)
    assert "\n" not in str(error.value)


BAD_SPECS = {
    "unknown key": (SPEC.replace("prompt:", "promt:"), ":4: unknown key 'promt'"),
    "no human": (SPEC.replace("human:", "humans:"), "unknown key 'humans'; did you mean 'human'"),
    "a template": (SPEC.replace("{{ id }}", "{{ id"), ":3: id: not a valid template"),
    "a design": (SPEC.replace("design: stratified", "design: best"), ":12: design:"),
    "no such criterion": (SPEC + "lower_is_better: [tone]\n", ":13: 'tone' is not under 'human'"),
    "no such field": (SPEC.replace("{{ prompt }}", "{{ question }}"), "no field 'question'"),
    "no list": (SPEC + 'each: "{{ id }}"\n', "rows.jsonl:1: each is no list"),
    "no mapping": (SPEC + 'judges: "{{ id }}"\n', "rows.jsonl:1: judges is no mapping"),
    "no label": (SPEC.replace("labels.get('preference', {})", "[[1]]"), "[1] is no label"),
    "no number": (
        SPEC.replace("labels.get('preference', {})", "'x'") + "lower_is_better: [preference]\n",
        "rows.jsonl:1: human.preference: 'x' is no number",
    ),
    "no row to join": (SPEC + "join: {path: rows.jsonl, on: what}\n", "rows.jsonl:1: what '' is"),
    "no rows": (SPEC.replace("rows.jsonl", "none.jsonl"), "none.jsonl: no such file"),
}


@pytest.mark.parametrize(("text", "message"), BAD_SPECS.values(), ids=BAD_SPECS)
def test_a_bad_specification_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    write_rows(tmp_path / "rows.jsonl", SAME_ROWS)
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(EvalkitError) as error:
        read_labels(tmp_path / "spec.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_label_file_is_said_in_one_line(tmp_path: Path) -> None:
    cases = {"none.jsonl": "no such file of labels", "x.txt": "stand in a file .jsonl, .csv"}
    (tmp_path / "x.txt").write_text("", encoding="utf-8")
    for name, message in cases.items():
        with pytest.raises(EvalkitError, match=message):
            read_labels(tmp_path / name)
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(EvalkitError, match="not one item"):
        read_labels(tmp_path / "empty.jsonl")
    with pytest.raises(EvalkitError, match="no specification that could read it"):
        read_labels(tmp_path / "empty.jsonl", data=tmp_path / "x.txt")


def test_an_id_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "twice.jsonl", [SAME_ROWS[0], SAME_ROWS[1], SAME_ROWS[0]])
    with pytest.raises(EvalkitError, match=r"twice.jsonl:3: id 'a' stands here twice, first in"):
        read_labels(path)


def test_designs_that_differ_are_refused(tmp_path: Path) -> None:
    rows = [SAME_ROWS[0], {**SAME_ROWS[1], "design": "random"}]
    with pytest.raises(EvalkitError, match="'random', and 'stratified' before"):
        read_labels(write_rows(tmp_path / "two.jsonl", rows))


def sha256_of_rows(folder: Path, rows: list[dict[str, Any]]) -> str:
    return read_labels(write_rows(folder / "labels.jsonl", rows)).sha256


@given(order=st.permutations(range(3)))
def test_the_order_of_the_rows_is_no_part_of_the_labels(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    shuffled = sha256_of_rows(folder, [SAME_ROWS[i] for i in order])
    assert shuffled == sha256_of_rows(folder, SAME_ROWS)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"preference": {"ann": "1", "bob": "1"}}},
        {"labels": {"preference": {"ann": "1", "bobb": "2"}}},
        {"response": "because."},
        {"opponent": "who knows?"},
        {"cluster": "c3"},
        {"propensity": 0.51},
        {"fields": {"topic": "z"}},
    ],
)
def test_a_character_more_makes_other_labels(tmp_path: Path, change: dict[str, Any]) -> None:
    before = sha256_of_rows(tmp_path, SAME_ROWS)
    assert sha256_of_rows(tmp_path, [{**SAME_ROWS[0], **change}, *SAME_ROWS[1:]]) != before


TOPICAL = (
    *("naturalness", "coherence", "engagingness"),
    *("groundedness", "understandability", "overall"),
)
# A row in the layout of each public data set, made up.
PUBLIC: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "llmbar": (
        [
            {
                "id": "nat-0",
                "instruction": "Say hello.",
                "output_1": "Hello.",
                "output_2": "No.",
                "label": 1,
                "judges": {"J/Vanilla": {"orig": 1, "swap": 2}},
            }
        ],
        {"preference": {"1": 1}},
    ),
    "pandalm": (
        [
            {
                "id": 7,
                "systems": ["s", "t"],
                "instruction": "Say",
                "input": "it",
                "response_1": "a",
                "response_2": "b",
                "human": [0, 1, 2],
                "judges": {"j": 1},
            }
        ],
        {"preference": {"1": 0, "2": 1, "3": 2}},
    ),
    "topical_chat": (
        [
            {
                "id": "t",
                "system": "s",
                "dialogue": "hi",
                "knowledge": "k",
                "response": "r",
                "human": dict.fromkeys(TOPICAL, 1.5),
                "judges": {"u": {"overall": 1}},
            }
        ],
        {name: {"1": 1.5} for name in TOPICAL},
    ),
    "wmt21": (
        [
            {
                "id": "z",
                "doc": "d",
                "source": "q",
                "reference": "r",
                "outputs": {"A": "a", "B": "b"},
                "mqm": {"A": {"rater1": 5.0}},
            }
        ],
        {"mqm": {"rater1": -5.0}},
    ),
}


def read_public(folder: Path, name: str, rows: list[dict[str, Any]]) -> LabelSet:
    return read_labels(SPECS / f"{name}.yaml", data=write_rows(folder / "rows.jsonl", rows))


@pytest.mark.parametrize("name", PUBLIC)
def test_the_specifications_of_public_labels_read_their_layout(tmp_path: Path, name: str) -> None:
    rows, expected = PUBLIC[name]
    first = read_public(tmp_path, name, rows).items[0]
    assert first.labels == expected
    assert first.has_texts


def test_a_row_can_hold_the_outputs_of_many_systems(tmp_path: Path) -> None:
    items = read_public(tmp_path, "wmt21", PUBLIC["wmt21"][0]).items
    assert [(i.case.key, i.case.response, i.systems) for i in items] == [
        ("z/A", "a", ("A",)),
        ("z/B", "b", ("B",)),
    ]
    assert items[1].labels == {}


def test_summaries_are_joined_with_their_articles(tmp_path: Path) -> None:
    human = dict.fromkeys(("coherence", "consistency", "fluency", "relevance"), 4)
    row = {"id": "s", "doc_id": "d", "system": "M1", "summary": "short", "human": human}
    articles = [{"doc_id": "d", "source": "long", "references": ["ref", "other"]}]
    write_rows(tmp_path / "summeval_docs.jsonl", articles)
    [item] = read_public(tmp_path, "summeval", [row]).items
    assert (item.case.prompt, item.case.response, item.case.target) == ("long", "short", "ref")
    with pytest.raises(EvalkitError, match=r"rows.jsonl:1: .*no row with doc_id 'e'"):
        read_public(tmp_path, "summeval", [{**row, "doc_id": "e"}])


def test_a_table_of_ratings_without_texts_keeps_what_judges_said(tmp_path: Path) -> None:
    scales = ("RE", "CH", "EM", "SU", "EG", "CX")
    judges = ("Beluga-13B", "OrcaPlatypus", "Mistral-7B", "Llama-13B", "ChatGPT")
    cells = {f"h{j}_{scale}": str(j) for j in (1, 2, 3) for scale in scales}
    cells |= {f"{judge}_p1_{scale}": "3.5" for judge in judges for scale in scales}
    head = ["id", "prompt_id", "system", *cells]
    path = tmp_path / "rows.csv"
    path.write_text(
        ",".join(head) + "\n" + ",".join(["h-1", "4", "GPT", *cells.values()]) + "\n",
        encoding="utf-8",
    )
    [item] = read_labels(SPECS / "hanna.yaml", data=path).items
    assert not item.has_texts
    assert item.labels["coherence"] == {"1": "1", "2": "2", "3": "3"}
    assert item.judges["ChatGPT"]["empathy"] == 3.5
    assert item.cluster == "4"


def blocks_of_the_page(language: str) -> list[str]:
    page = (SPECS.parents[1] / "docs" / "calibrate.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_the_examples_of_the_page_are_label_files(tmp_path: Path) -> None:
    [line] = blocks_of_the_page("json")
    [item] = read_labels(write_rows(tmp_path / "labels.jsonl", [json.loads(line)])).items
    assert item.labels == {"": {"ann": 1, "bob": 0}}
    [spec] = blocks_of_the_page("yaml")
    (tmp_path / "spec.yaml").write_text(spec, encoding="utf-8")
    row = {"id": 1, "question": "q", "answer": "a", "ratings": [4, None, 5], "topic": "t"}
    write_rows(tmp_path / "ratings.jsonl", [row])
    [item] = read_labels(tmp_path / "spec.yaml").items
    assert item.labels == {"helpfulness": {"1": 4, "3": 5}}
