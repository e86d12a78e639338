"""The layers: a module imports its own layer and those below it, never above, never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import evalkit

PACKAGE = Path(evalkit.__file__).parent

# From the top down. A unit is a module of the package, or one of its subpackages.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"evalkit"},  # __init__: the public names, imported on first use
    {"report", "gate", "plan", "sequential", "calibrate"},
    {"compare", "runner", "preview", "bench"},
    {
        *("task", "judges", "backends", "compat", "scoring", "selection", "overrides"),
        *("judging", "collect", "prepare"),
    },
    {
        *("record", "metrics", "dataset", "prompt", "journal", "models", "sandbox", "plugins"),
        *("estimate", "catalogue", "hub"),
    },
    {"schema", "yamlfile", "types", "errors", "resources"},
    {"stats", "engine"},
)
ISLANDS = {"stats", "engine"}

# Units that see less than all that lies below them.
SEES_ONLY = {
    "report": {"record", "compare", "gate", "stats", "types", "errors", "resources"},
    "gate": {
        *("record", "compare", "stats", "types", "errors", "resources"),
        *("schema", "yamlfile"),
    },
}

# Modules, and libraries that are slow to import or heavy to have: who alone may import them.
ONLY_IN = {
    "evalkit.engine": ("engine", "backends.local", "bench"),
    "torch": ("engine",),
    "triton": ("engine",),
    "httpx": ("backends.openai",),
    "datasets": ("dataset",),
    "huggingface_hub": ("hub",),
    "sacrebleu": ("metrics.bleu",),
    "rouge_score": ("metrics.rouge",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import: ``importer`` is relative to the package, ``imported`` is a full dotted name."""

    importer: str
    line: int
    imported: str


def imports_of(importer: str, text: str, *, is_package: bool = False) -> Iterator[Import]:
    """All imports of a module, also those in functions, under TYPE_CHECKING and by importlib."""
    here = ["evalkit", *importer.split(".")] if importer else ["evalkit"]
    for node in ast.walk(ast.parse(text)):
        found: list[str] = []
        match node:
            case ast.Import(names=names):
                # A plain `import evalkit` gives what is then taken from it: see Attribute.
                found = [a.name for a in names if (a.name, a.asname) != ("evalkit", None)]
            case ast.Attribute(value=ast.Name(id="evalkit"), attr=attribute):
                found = [f"evalkit.{attribute}"]
            case ast.ImportFrom(module=module, names=names, level=level):
                base = here[: len(here) - level + is_package] if level else []
                start = ".".join([*base, *([module] if module else [])])
                # What follows may be a module or an attribute; unit() decides.
                found = [f"{start}.{alias.name}" for alias in names]
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                found = [name]
        for name in found:
            yield Import(importer=importer, line=node.lineno, imported=name)  # type: ignore[attr-defined]


def all_imports() -> list[Import]:
    found: list[Import] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        importer = ".".join(parts[:-1] if is_package else parts)
        found += imports_of(importer, path.read_text(encoding="utf-8"), is_package=is_package)
    return found


def units() -> set[str]:
    """What lies directly in the package, ``evalkit`` being its ``__init__``."""
    modules = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
    packages = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    return modules | packages | {"evalkit"}


def unit(dotted: str, known: Iterable[str]) -> str:
    """The unit of a module's full dotted name; ``evalkit`` for a name in ``__init__``."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in known else "evalkit"


def rank(name: str) -> int:
    return next((i for i, layer in enumerate(LAYERS) if name in layer), -1)


def is_within(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def problems(imports: Iterable[Import], known: Iterable[str]) -> list[str]:
    """Each import that breaks a rule, as ``module:line: what``."""
    found = []
    for item in imports:
        where = f"{item.importer or 'evalkit'}:{item.line}: imports {item.imported}"
        for name, allowed in ONLY_IN.items():
            if is_within(item.imported, name) and not any(
                is_within(item.importer, a) for a in allowed
            ):
                found.append(f"{where}, which is for {' and '.join(allowed)} alone")
        if not is_within(item.imported, "evalkit") or item.imported == "evalkit.__version__":
            continue
        source, target = unit(f"evalkit.{item.importer}", known), unit(item.imported, known)
        if source == target:
            continue
        if rank(target) < rank(source):
            found.append(f"{where}, a layer above its own")
        if source in ISLANDS:
            found.append(f"{where} from an island")
        if target not in SEES_ONLY.get(source, {target}):
            found.append(f"{where}, which {source} does not see")
    return found


def circle(imports: Iterable[Import], known: Iterable[str]) -> list[str]:
    """Units that import each other in a circle; empty when there is none."""
    graph: dict[str, set[str]] = {}
    for item in imports:
        if is_within(item.imported, "evalkit") and item.imported != "evalkit.__version__":
            source, target = unit(f"evalkit.{item.importer}", known), unit(item.imported, known)
            if source != target:
                graph.setdefault(source, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as e:
        return list(e.args[1])
    return []


def test_every_module_has_its_layer() -> None:
    placed = [name for layer in LAYERS for name in layer]
    assert len(placed) == len(set(placed))
    assert units() - set(placed) == set(), "give the new module a layer here"


def test_modules_import_only_what_their_layer_may() -> None:
    assert problems(all_imports(), units()) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(all_imports(), units()) == []


# --- the walk itself: each rule catches what breaks it

KNOWN = {name for layer in LAYERS for name in layer}


def check(importer: str, text: str, *, is_package: bool = False) -> list[str]:
    return problems(imports_of(importer, text, is_package=is_package), KNOWN)


BROKEN: Mapping[str, tuple[str, str, str]] = {
    "above": ("schema", "from evalkit.task import Task", "a layer above"),
    "above, by package": ("schema", "from evalkit import task", "a layer above"),
    "above, plainly": ("stats.paired", "import evalkit.types", "from an island"),
    "in a function": ("record", "def f():\n    from evalkit.runner import run", "a layer above"),
    "by importlib": ("record", "import importlib\nimportlib.import_module('evalkit.cli')", "above"),
    "relative": ("metrics.bleu", "from ..runner import run", "a layer above"),
    "relative package": ("stats.paired", "from .. import types", "from an island"),
    "root": ("runner", "from evalkit import evaluate", "a layer above"),
    "root, plainly": ("runner", "import evalkit\nevalkit.evaluate()", "a layer above"),
    "root, renamed": ("runner", "import evalkit as e", "a layer above"),
    "blind": ("report.html", "from evalkit.metrics import build_metric", "does not see"),
    "engine": ("runner", "from evalkit.engine import LLM", "for engine and backends.local"),
    "torch": ("backends.local", "import torch.nn", "for engine alone"),
    "httpx": ("runner", "from httpx import Client", "for backends.openai alone"),
    "sacrebleu": ("metrics.rouge", "from sacrebleu.metrics import BLEU", "for metrics.bleu alone"),
    "datasets": ("task", "def f():\n    import datasets", "for dataset alone"),
}


@pytest.mark.parametrize(("importer", "text", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_found(importer: str, text: str, message: str) -> None:
    assert any(message in problem for problem in check(importer, text))


@pytest.mark.parametrize(
    ("importer", "text"),
    [
        ("cli.run", "from evalkit.runner import run\nfrom evalkit import __version__"),
        ("runner", "import evalkit\nprint(evalkit.__version__)"),
        ("backends.local", "from evalkit.engine import LLM"),
        ("engine.model", "import torch\nfrom evalkit.engine.kv import Pages\nfrom .ops import ref"),
        ("dataset", "from datasets import load_dataset"),
        ("task", "from evalkit import dataset\nimport numpy"),
        ("report.html", "from evalkit.report.view import View\nfrom evalkit import resources"),
        ("__main__", "from evalkit.cli import main"),
    ],
)
def test_what_the_layers_allow_is_not_reported(importer: str, text: str) -> None:
    assert check(importer, text) == []


def test_a_packages_own_relative_import_stays_in_it() -> None:
    assert check("stats", "from .intervals import wilson", is_package=True) == []


def test_a_circle_is_found() -> None:
    there = list(imports_of("record", "from evalkit.metrics import x"))
    back = list(imports_of("metrics.bleu", "from evalkit.record import y"))
    assert circle(there, KNOWN) == []
    assert set(circle(there + back, KNOWN)) == {"record", "metrics"}
