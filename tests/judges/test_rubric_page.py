"""What the page on rubrics shows is what happens."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import yaml

import evalkit
from evalkit.judges import RubricSpec
from evalkit.judges.recorded import open_recorded
from evalkit.judges.rubric import read_rubric
from evalkit.judges.rubric_spec import CriterionSpec
from evalkit.schema import RubricUse

PAGE = Path(evalkit.__file__).parent.parent / "docs" / "rubrics.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 15
    assert result.failed == 0


def test_the_tables_of_the_page_are_the_file_format() -> None:
    table = TEXT.split("| key | default |")[1].split("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", table, flags=re.MULTILINE))
    assert set(rows) == set(RubricSpec.model_fields)
    for key, default in rows.items():
        found = RubricSpec.model_fields[key].default
        if "`" in default:
            shown = str(found).lower() if isinstance(found, bool) else found
            assert default.strip() == f"`{shown}`"
    kinds = TEXT.split("| kind | the judge says |")[1].split("\n\n")[0]
    named = re.findall(r"^\| `(\w+)` \|", kinds, flags=re.MULTILINE)
    assert sorted(named) == sorted(RubricSpec.model_json_schema()["properties"]["kind"]["enum"])
    assert all(f"`{key}`" in TEXT for key in CriterionSpec.model_fields if key != "modality")
    assert "`modality: image`" in TEXT


def test_a_task_names_rubrics_as_the_page_does() -> None:
    [line] = re.findall(r"^    (rubrics: .*)$", TEXT, flags=re.MULTILINE)
    name, pair = yaml.safe_load(line)["rubrics"]
    assert name == "summary_quality"
    assert RubricUse.model_validate(pair).against == "{{ baseline }}"


def test_the_recorded_verdicts_of_the_page_can_be_read(tmp_path: Path) -> None:
    [lines] = re.findall(r"```json\n(.*?)```", TEXT, flags=re.DOTALL)
    (tmp_path / "verdicts.jsonl").write_text(lines, encoding="utf-8")
    rubric = read_rubric(PAGE.parent.parent / "rubrics" / "chat_pairwise.yaml")
    judge = open_recorded(rubric, f"replay:{tmp_path / 'verdicts.jsonl'}#expert")
    assert set(judge.verdicts) == {"s1", "s2", "s3"}
