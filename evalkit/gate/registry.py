"""A folder of baselines by branch: which one a candidate is held against.

``REGISTRY/BRANCH/<created>-<id>.json`` are baseline files; the last by name is the latest.
"""

from __future__ import annotations

import re
from pathlib import Path

from evalkit.errors import NotFoundError, UsageError

LATEST = "latest:"

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def entry(registry: Path, branch: str, *, created: str, id: str) -> Path:
    """Where the baseline of a run belongs; ``created`` is ISO 8601 in UTC.

    Raises UsageError for a branch that is no plain name, or names with slashes between.
    """
    moment = re.sub(r"[^0-9T]", "", created.partition("+")[0])
    name = re.sub(r"[^A-Za-z0-9._-]", "-", id)
    return _folder(registry, branch) / f"{moment}-{name}.json"


def latest(registry: Path, branch: str) -> Path:
    """The newest baseline of a branch.

    Raises UsageError as ``entry`` does, and NotFoundError where the branch has none.
    """
    found = sorted(_folder(registry, branch).glob("*.json"), key=lambda path: path.name)
    if not found:
        known = sorted(
            {p.parent.relative_to(registry).as_posix() for p in registry.rglob("*.json")}
        )
        raise NotFoundError("branch with a baseline", branch, known, hint=f"in {registry}")
    return found[-1]


def _folder(registry: Path, branch: str) -> Path:
    parts = branch.split("/")
    if not all(_PART.fullmatch(part) for part in parts):
        raise UsageError(f"branch {branch!r}: letters, digits and . _ + - between slashes only")
    return registry.joinpath(*parts)
