"""The command line: one verb a file; stdout carries the result, stderr the story.

Exit codes: 0 yes; 1 the gate found a regression; 2 usage or configuration; 3 inconclusive; 4 the
runs are not comparable; 5 the run could not finish, or had errors.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback

import typer

from evalkit.cli import (
    bench,
    calibrate,
    compare,
    export,
    gate,
    models,
    plan,
    report,
    run,
    schema,
    show,
)
from evalkit.cli import list as list_verb
from evalkit.cli.terminal import complain, tell
from evalkit.errors import EvalkitError, NotComparableError

app = typer.Typer(
    name="evalkit",
    help="Trustworthy verdicts about language models.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", help=run.__doc__)(run.run)
app.command("plan", help=plan.__doc__)(plan.plan)
app.command("report", help=report.__doc__)(report.report)
app.command("compare", help=compare.__doc__)(compare.compare)
app.command("export", help=export.__doc__)(export.export)
app.command("gate", help=gate.__doc__)(gate.gate)
app.command("calibrate", help=calibrate.__doc__)(calibrate.calibrate)
app.command("list", help=list_verb.__doc__)(list_verb.list_)
app.command("show", help=show.__doc__)(show.show)
app.command("schema", help=schema.__doc__)(schema.schema)
app.command("bench", help=bench.__doc__)(bench.bench)
app.add_typer(models.app, name="models", help=models.__doc__)


def _print_version(wanted: bool) -> None:
    if wanted:
        from evalkit import __version__

        typer.echo(f"evalkit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    del version  # its callback has done everything


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    try:
        app()
    except NotComparableError as error:
        complain(f"not comparable: {error.runs}" if error.runs else "not comparable")
        for line in error.differences:
            tell(f"  {line}")
        sys.exit(error.exit_code)
    except EvalkitError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output went away: `evalkit list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("EVALKIT_DEBUG"):
            traceback.print_exc()
        complain(
            f"internal error: {type(error).__name__}: {error}; "
            "this is a defect of evalkit: run again with EVALKIT_DEBUG=1 and report what it prints"
        )
        sys.exit(5)
