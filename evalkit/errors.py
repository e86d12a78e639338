"""Every error a caller can do something about.

    EvalkitError
    ├── UsageError            the command line or a call asks for what cannot be   exit 2
    │   ├── NotFoundError     no such task, metric, model or file; suggests names
    │   └── OfflineError      a download is needed and --offline forbids it
    ├── SpecError             a task, group or rubric file is wrong (path:line)      exit 2
    ├── DatasetError          a data file or a row of it is wrong (path:line)        exit 2
    ├── TemplateError         a template cannot be rendered (task, example)          exit 2
    ├── MetricError           a metric cannot be computed on this task               exit 2
    ├── ModelError            a model file is missing, truncated or not what it says exit 2
    ├── RecordError           a run record cannot be read or written                 exit 2
    ├── NotComparableError    two runs do not answer the same question               exit 4
    └── RunError              a run could not finish                                 exit 5

A message says where (``path:line``, task, example id), what, and what to do, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path


class EvalkitError(Exception):
    """The root; ``exit_code`` is what the command line exits with."""

    exit_code = 2


class UsageError(EvalkitError):
    """The command line or a call asks for something that cannot be done."""


class NotFoundError(UsageError):
    """A name that nothing has."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        text = f"no such {kind}: {name!r}{did_you_mean(name, known)}"
        super().__init__(f"{text} ({hint})" if hint else text)


class OfflineError(UsageError):
    """Something must be downloaded first, and downloads are forbidden."""


class SpecError(EvalkitError):
    """A task, group or rubric file is wrong."""

    def __init__(self, path: Path | str, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")


class DatasetError(EvalkitError):
    """A data file, or a row of it, is wrong."""


class TemplateError(EvalkitError):
    """A template cannot be rendered."""


class MetricError(EvalkitError):
    """A metric cannot be computed on what it was given."""


class ModelError(EvalkitError):
    """A model's files are missing, damaged or of a kind that is not supported."""


class RecordError(EvalkitError):
    """A run record cannot be read or written."""


class NotComparableError(EvalkitError):
    """Two runs do not answer the same question; ``differences`` says where, a line each."""

    exit_code = 4

    def __init__(self, differences: Sequence[str], *, runs: str = "") -> None:
        self.differences = tuple(differences)
        self.runs = runs  # which is A and which is B
        where = f" ({runs})" if runs else ""
        super().__init__(f"not comparable{where}: {'; '.join(self.differences)}")


class RunError(EvalkitError):
    """A run could not finish."""

    exit_code = 5


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known name, else an empty string.

    >>> did_you_mean("exact_mach", ["accuracy", "exact_match"])
    "; did you mean 'exact_match'?"
    """
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    if not close:
        return ""
    return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
