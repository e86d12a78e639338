"""List tasks, metrics, models or rubrics."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class What(StrEnum):
    """What can be listed."""

    tasks = "tasks"
    metrics = "metrics"
    models = "models"
    rubrics = "rubrics"


def list_(
    what: Annotated[What, typer.Argument(help="tasks, metrics, models or rubrics.")] = What.tasks,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    rows = {
        What.tasks: _tasks,
        What.metrics: _metrics,
        What.models: _models,
        What.rubrics: _rubrics,
    }[what]()
    if json:
        from evalkit.cli.terminal import print_json

        print_json(rows)
        return
    if not rows:
        typer.echo(f"no {what} yet", err=True)
        return
    from evalkit.cli.terminal import print_columns

    print_columns(rows)


def _tasks() -> list[dict[str, object]]:
    from evalkit import catalogue

    return [
        {
            "name": entry.name,
            "kind": f"group of {entry.n_tasks}" if entry.kind == "group" else "task",
            "tags": ", ".join(entry.tags),
            "description": entry.description,
        }
        for entry in catalogue.entries()
    ]


def _metrics() -> list[dict[str, object]]:
    from evalkit.metrics import describe_metrics

    return [
        {"name": m.name, "request": ", ".join(sorted(m.kinds)), "description": m.description}
        for m in describe_metrics()
    ]


def _models() -> list[dict[str, object]]:
    from evalkit import models

    return [
        {
            "name": f"local:{m.name}",
            "size": f"{m.size_bytes / 1e6:.0f} MB",
            "license": m.license,
            "description": m.description,
            "path": m.problem or str(m.path or "not fetched"),
        }
        for m in models.describe()
    ]


def _rubrics() -> list[dict[str, object]]:
    from evalkit.judges import read_rubric, rubric_paths

    return [
        {
            "name": rubric.name,
            "kind": rubric.kind,
            "criteria": ", ".join(criterion.name for criterion in rubric.criteria),
            "description": rubric.spec.description,
        }
        for rubric in map(read_rubric, rubric_paths().values())
    ]
