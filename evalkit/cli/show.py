"""Show the exact prompts of a task or of a rubric, before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.cli.terminal import split_pair

if TYPE_CHECKING:
    from evalkit.judges.preview import RubricPreview
    from evalkit.judges.rubric import Rubric
    from evalkit.preview import Preview


def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A task or a rubric: a name or a file.")
    ],
    n: Annotated[int, typer.Option("--n", "-n", help="Examples to show.")] = 2,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Lay out chats and count tokens for it.")
    ] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="Shots in the prompt.")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME=FILE", help="Rows: in place of the task's; for a rubric."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the shots; default 0.")] = None,
    offline: Annotated[bool, typer.Option(help="Forbid every download.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    from evalkit import preview
    from evalkit.cli.terminal import print_json
    from evalkit.errors import UsageError

    rubric = _rubric_of(name)
    if rubric is not None:
        if num_fewshot is not None or seed is not None:
            raise UsageError(f"{name} is a rubric: it has no shots, so no --num-fewshot, no --seed")
        _show_rubric(rubric, n=n, model=model, rows=_file(dataset), offline=offline, json=json)
        return
    shown = preview.preview(
        name,
        n=n,
        model=model,
        num_fewshot=num_fewshot,
        dataset=_file(dataset),
        seed=seed or 0,
        offline=offline,
    )
    if json:
        print_json(preview.to_json(shown))
    else:
        _print(shown)


def _rubric_of(name: str) -> Rubric | None:
    """The rubric that a name or a file is; None where it is a task's.

    Raises UsageError for the name of both, NotFoundError for a name of nothing.
    """
    from evalkit import catalogue
    from evalkit.errors import NotFoundError, UsageError
    from evalkit.judges import read_rubric, rubric_paths
    from evalkit.yamlfile import read_yaml, shown

    path = Path(name)
    if name.endswith((".yaml", ".yml")) or "/" in name:
        value = read_yaml(path).value if path.is_file() else None
        return read_rubric(path) if isinstance(value, dict) and "rubric" in value else None
    rubrics, tasks = rubric_paths(), catalogue.task_paths()
    if name in rubrics and name in tasks:
        files = f"{shown(tasks[name])} or {shown(rubrics[name])}"
        raise UsageError(f"{name!r} is a task and a rubric: give the file that you mean, {files}")
    if name in rubrics:
        return read_rubric(rubrics[name])
    try:
        catalogue.select([name])
    except NotFoundError as error:
        hint = "'evalkit list tasks' and 'evalkit list rubrics' show all"
        raise NotFoundError("task or rubric", name, [*tasks, *rubrics], hint=hint) from error
    return None


def _file(pair: str | None) -> Path | None:
    return None if pair is None else Path(split_pair(pair, "--dataset", "NAME=FILE")[1])


def _print(shown: Preview) -> None:
    from evalkit.report.escape import visible

    typer.secho(f"{shown.task}, version {shown.version}: {shown.description}", bold=True)
    typer.echo(f"request: {shown.request}; metrics: {', '.join(shown.metrics)}")
    typer.echo(f"{shown.n_rows} examples; {shown.num_fewshot} shots; rows: {shown.origin}")
    for example in shown.examples:
        tokens = "" if example.n_tokens is None else f", {example.n_tokens} tokens"
        for index, prompt in enumerate(example.prompts):
            of = f", prompt for choice {index + 1}" if len(example.prompts) > 1 else ""
            typer.secho(f"\n── example {example.id}{of}{tokens}", fg="cyan")
            typer.echo(visible(prompt))
        for index, text in enumerate(example.continuations):
            mark = "✓" if index in example.gold else " "
            typer.secho(f"── {mark} scored {visible(repr(text))}", fg="cyan")
        if not example.continuations and example.targets:
            texts = " | ".join(visible(repr(t)) for t in example.targets)
            typer.secho(f"── target {texts}", fg="cyan")


def _show_rubric(
    rubric: Rubric,
    *,
    n: int,
    model: str | None,
    rows: Path | None,
    offline: bool,
    json: bool,
) -> None:
    from dataclasses import asdict

    from evalkit.cli.terminal import print_json
    from evalkit.judges.preview import preview_rubric

    shown = preview_rubric(rubric, n=n, model=model, rows=rows, offline=offline)
    if json:
        print_json(asdict(shown))
    else:
        _print_rubric(shown)


def _print_rubric(shown: RubricPreview) -> None:
    from evalkit.report.escape import visible

    how = {
        "logits": "by the probabilities of the labels",
        "text": "read from a JSON answer",
        "reward": "the model's number",
    }[shown.method]
    after = ", after the judge's own reasons" if shown.has_critique else ""
    typer.secho(f"{shown.rubric}, version {shown.version}: {shown.description}", bold=True)
    typer.echo(f"{shown.kind}; verdict: {how}{after}")
    for name, labels in shown.criteria.items():
        values = ", ".join(
            visible(label) if label == f"{value:g}" else f"{visible(label)} = {value:g}"
            for label, value in labels.items()
        )
        typer.echo(f"  {name}: {values or 'a number without a scale'}")
    first = next(iter(shown.criteria))
    for case in shown.cases:
        tokens = "" if case.n_tokens is None else f", {case.n_tokens} tokens"
        typer.secho(f"\n── {case.id}, criterion {first}{tokens}", fg="cyan")
        typer.echo(visible(case.prompt))
