"""What a person reads: the page of evidence and the table, held against golden files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_labels import (
    FAST,
    GRADE_RUBRIC,
    calibrated,
    grades,
    only,
    pairs,
    with_fields,
)

from evalkit.calibrate.page import evidence_page, verdict_line
from evalkit.calibrate.tables import essentials, tables_of
from evalkit.calibrate.text import calibration_table
from evalkit.judges.calibration import Calibration, read_calibration, write_calibration

Golden = Callable[[str, str], None]


def text_of(found: Calibration) -> str:
    console = Console(width=10_000)
    with console.capture() as captured:
        console.print(calibration_table(found))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def anywhere(found: Calibration) -> Calibration:
    """As if it had been made in the folder, by one version for ever."""
    files = {Path(n).name: sha for n, sha in found.labels["files"].items()}
    identity = {"rubric_sha256": "0" * 64, "model": "sha256:" + "1" * 64, "method": "replay"}
    return replace(
        found, identity=identity, labels={**found.labels, "files": files}, evalkit="1.0.0"
    )


def rated(folder: Path) -> Calibration:
    rows = with_fields(
        grades(60),
        lambda i, row: {
            "cluster": f"topic {i // 2}",
            "system": "one|two"[i % 2 * 4 :][:3],
            "stratum": "easy" if i % 3 else "hard",
            "design": "random",
        },
    )
    return anywhere(calibrated(folder, rows, "lenient", text=GRADE_RUBRIC))


def paired(folder: Path) -> Calibration:
    rows = with_fields(pairs(60), lambda i, row: {"system": [["x", "y"], ["y", "x"]][i % 2]})
    return anywhere(calibrated(folder, rows, "coin"))


@pytest.mark.parametrize(("name", "make"), [("grades", rated), ("pairs", paired)])
def test_the_page_of_evidence(
    tmp_path: Path, golden: Golden, name: str, make: Callable[[Path], Calibration]
) -> None:
    golden(f"calibration_{name}.md", evidence_page(make(tmp_path)))


def test_the_table_of_the_terminal(tmp_path: Path, golden: Golden) -> None:
    golden("calibration_table.txt", text_of(rated(tmp_path)))


def test_the_page_is_the_same_from_the_file(tmp_path: Path) -> None:
    found = paired(tmp_path)
    write_calibration(found, tmp_path / "c.json")
    assert evidence_page(read_calibration(tmp_path / "c.json")) == evidence_page(found)


def test_every_table_has_as_many_cells_as_columns(tmp_path: Path) -> None:
    for found in (rated(tmp_path), paired(tmp_path)):
        for table in tables_of(only(found).figures):
            assert {len(row) for row in table.rows} == {len(table.columns)}, table.title


def test_every_figure_of_the_table_has_its_interval_and_n(tmp_path: Path) -> None:
    for row in essentials(only(rated(tmp_path)).figures):
        assert re.fullmatch(r"[−0-9.]+( %)?", row[1]), row
        assert re.fullmatch(r"[−0-9.]+ – [−0-9.]+", row[2]), row
        assert int(row[3]) > 0


def test_names_out_of_files_cannot_break_a_table(tmp_path: Path) -> None:
    rows = with_fields(
        pairs(40), lambda i, row: {"labels": {"a|b\n<script>": 1 + i % 2}, "judges": {"j|k": 1}}
    )
    page = evidence_page(calibrated(tmp_path, rows, "j|k", settings=FAST))
    assert "a\\|b \\<script\\>" in page
    assert "<script>" not in page


def test_a_verdict_is_one_line_with_its_reasons(tmp_path: Path) -> None:
    line = verdict_line("preference", only(paired(tmp_path)))
    assert line.startswith("preference: refused: ")
    assert "\n" not in line
