"""Print the JSON Schema of a file format, for editors."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class FileKind(StrEnum):
    """The files that people write."""

    task = "task"
    group = "group"
    rubric = "rubric"


def schema(
    kind: Annotated[FileKind, typer.Argument(help="task, group or rubric.")],
) -> None:
    from pydantic import BaseModel

    from evalkit.cli.terminal import print_json
    from evalkit.judges import RubricSpec
    from evalkit.schema import GroupSpec, TaskSpec

    models: dict[FileKind, type[BaseModel]] = {
        FileKind.task: TaskSpec,
        FileKind.group: GroupSpec,
        FileKind.rubric: RubricSpec,
    }
    schema_of_kind = models[kind].model_json_schema()
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema_of_kind)
