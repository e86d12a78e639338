"""What a run was, as names and texts to be read: how it was asked, of what data, by what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evalkit.record import RunRecord, TaskResult
from evalkit.report.numerals import DASH, format_count, format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A name and what it is, both to be read."""

    name: str
    text: str


_PROMPT_KEYS = ("system", "prompt", "messages", "prefill")
_ELSEWHERE = frozenset(
    {*_PROMPT_KEYS, "task", "group", "version", "description", "dataset", "num_fewshot", "repeats"}
)


def prompt_template(spec: Mapping[str, Any]) -> str:
    """The prompt's template: one text, or the turns of a chat with their roles."""
    parts = []
    system, prompt, prefill = spec.get("system"), spec.get("prompt"), spec.get("prefill")
    if system:
        parts.append(f"[system]\n{system}")
    for turn in spec.get("messages") or ():
        parts.append(f"[{turn.get('role', '')}]\n{turn.get('content', '')}")
    if prompt is not None:
        parts.append(str(prompt) if not parts else f"[prompt]\n{prompt}")
    if prefill:
        parts.append(f"[answer opens with]\n{prefill}")
    return "\n\n".join(parts)


def settings_facts(task: TaskResult) -> tuple[Fact, ...]:
    """How a task was asked: what its file says besides the prompt."""
    facts = [
        Fact(name="few-shot examples", text=str(task.num_fewshot)),
        Fact(name="repeats", text=str(task.repeats)),
    ]
    rest = {key: value for key, value in task.spec.items() if key not in _ELSEWHERE}
    facts += flatten(rest)
    facts.append(Fact(name="task file sha256", text=task.spec_sha256))
    return tuple(facts)


def dataset_facts(task: TaskResult) -> tuple[Fact, ...]:
    """Where the rows of a task came from."""
    facts = [Fact(name="examples run", text=format_count(task.n_examples))]
    facts += flatten(task.dataset)
    facts.append(Fact(name="examples sha256", text=task.dataset_sha256))
    return tuple(facts)


def run_facts(record: RunRecord) -> tuple[Fact, ...]:
    """What answered, where, at what cost."""
    model = record.model
    exact = (
        "yes: results do not depend on batch, order or cache"
        if model.exact
        else "no: results may depend on batch, order or cache"
    )
    facts = [
        Fact(name="model", text=model.spec),
        Fact(name="fingerprint", text=model.fingerprint or DASH),
        Fact(name="data type", text=model.dtype or DASH),
        Fact(name="exact", text=exact),
        *flatten(model.settings, "model"),
        Fact(name="seed", text=str(record.seed)),
        Fact(name="evalkit", text=record.evalkit),
        Fact(name="created", text=record.created),
    ]
    for part in (record.environment, record.usage, record.timing):
        facts += [replace(fact, name=_readable(fact.name)) for fact in flatten(part)]
    return tuple(facts)


def _readable(key: str) -> str:
    """A key of the record as words: ``n_prompt_tokens`` is the prompt tokens."""
    return key.removeprefix("n_").removeprefix("packages.").replace("_", " ")


def flatten(data: Mapping[str, Any], prefix: str = "") -> list[Fact]:
    """Nested settings as facts, their keys joined by dots; what is empty is left out."""
    facts: list[Fact] = []
    for key, value in data.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            facts += flatten(value, name)
        elif value is not None and value != "" and value != [] and value != ():
            facts.append(_fact(name, value))
    return facts


def _fact(name: str, value: Any) -> Fact:
    if name.endswith("_s") and isinstance(value, int | float):
        return Fact(name=name.removesuffix("_s"), text=format_seconds(float(value)))
    return Fact(name=name, text=as_text(value))


def as_text(value: Any) -> str:
    """Plain data to be read: counts with their thousands apart, lists with commas."""
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return format_count(value)
        case float():
            return f"{value:.6g}" if math.isfinite(value) else DASH
        case list() | tuple():
            return ", ".join(as_text(item) for item in value)
        case Mapping():
            return ", ".join(f"{key}: {as_text(item)}" for key, item in value.items())
        case str():
            # A stop string such as "\n" would be invisible as it is.
            return repr(value) if value != value.strip() else value
    return str(value)
