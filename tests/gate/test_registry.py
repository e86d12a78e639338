"""A folder of baselines by branch."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.errors import NotFoundError, UsageError
from evalkit.gate.registry import entry, latest


def add(registry: Path, branch: str, created: str, id: str) -> Path:
    path = entry(registry, branch, created=created, id=id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}", encoding="utf-8")
    return path


def test_the_latest_of_a_branch_is_the_one_made_last(tmp_path: Path) -> None:
    newest = add(tmp_path, "main", "2026-11-02T00:00:00+00:00", "a")
    add(tmp_path, "main", "2026-03-14T09:26:53+00:00", "z")
    add(tmp_path, "release/2", "2026-12-01T00:00:00+00:00", "b")
    assert latest(tmp_path, "main") == newest
    assert newest.name == "20261102T000000-a.json"
    assert latest(tmp_path, "release/2").parent == tmp_path / "release" / "2"


def test_an_unknown_branch_is_told_with_the_known_ones(tmp_path: Path) -> None:
    add(tmp_path, "main", "2026-11-02T00:00:00+00:00", "a")
    with pytest.raises(NotFoundError, match="'mian'; did you mean 'main'"):
        latest(tmp_path, "mian")


@pytest.mark.parametrize(
    "branch", ["..", "../main", "a/../../b", "/etc", "", "a//b", ".git", "a b"]
)
def test_a_branch_cannot_leave_the_registry(tmp_path: Path, branch: str) -> None:
    with pytest.raises(UsageError, match="branch"):
        entry(tmp_path, branch, created="2026-11-02T00:00:00+00:00", id="a")
    with pytest.raises(UsageError, match="branch"):
        latest(tmp_path, branch)


def test_an_id_is_a_files_name_whatever_it_holds(tmp_path: Path) -> None:
    path = entry(tmp_path, "main", created="2026-11-02T00:00:00+00:00", id="../../x y\n")
    assert path.parent == tmp_path / "main"
    assert path.name == "20261102T000000-..-..-x-y-.json"
