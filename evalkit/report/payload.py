"""The examples as the data that the page's script reads: each text once, within a budget."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from evalkit.record import json_safe
from evalkit.report.escape import visible_data
from evalkit.report.examples import ExampleList, ExampleView
from evalkit.report.judged import JudgedView

# The parts of a few-shot prompt stand between blank lines, and many prompts share them.
_BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What the script of the page reads of one task."""

    data: Mapping[str, Any]  # {"parts": [text], "examples": [{...}]}
    n_unlisted: int  # examples that are not in the page at all
    n_without_transcript: int  # listed, but their texts are left out


def build_payloads(
    lists: Sequence[ExampleList], *, max_bytes: int, max_listed: int
) -> list[Payload]:
    """A payload for each list; transcripts until ``max_bytes`` are used, entries to ``max_listed``.

    Tasks take turns, so that a long one does not use up what the others need. All texts are made
    visible (see ``escape``), and every number that JSON cannot hold is None.
    """
    writers = [_Writer() for _ in lists]
    listed = left = 0
    for turn in zip_longest(*(item.examples for item in lists)):
        for writer, example in zip(writers, turn, strict=True):
            if example is None:
                continue
            if listed == max_listed:
                writer.n_unlisted += 1
                continue
            listed += 1
            left += writer.add(example, max_bytes - left)
    return [writer.payload() for writer in writers]


def script_json(data: Any) -> str:
    r"""JSON text that no HTML parser can see the end of a script, or a comment, in.

    >>> script_json("</script><!--")
    '"\\u003c/script\\u003e\\u003c!--"'
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


class _Writer:
    """Collects the entries of one task and the parts of its prompts, each part once."""

    def __init__(self) -> None:
        self.parts: dict[str, int] = {}
        self.entries: list[dict[str, Any]] = []
        self.n_unlisted = 0
        self.n_without = 0

    def add(self, example: ExampleView, room: int) -> int:
        """Add an entry, with its transcript if that fits into ``room``; return the bytes used."""
        entry: dict[str, Any] = visible_data(_entry(example))
        self.entries.append(entry)
        transcript = visible_data(_transcript(example))
        prompt = transcript.pop("prompt").split(_BETWEEN)
        new = [part for part in dict.fromkeys(prompt) if part not in self.parts]
        size = _size(transcript) + sum(_size(part) for part in new)
        if size > room:
            self.n_without += 1
            return 0
        self.parts |= {part: len(self.parts) + i for i, part in enumerate(new)}
        entry["transcript"] = transcript | {"prompt": [self.parts[part] for part in prompt]}
        return size

    def payload(self) -> Payload:
        return Payload(
            data=json_safe({"parts": list(self.parts), "examples": self.entries}),
            n_unlisted=self.n_unlisted,
            n_without_transcript=self.n_without,
        )


def _entry(example: ExampleView) -> dict[str, Any]:
    return {
        "id": example.id,
        "verdict": example.verdict,
        "score": example.score,
        "value": example.value,
        "words": example.words,
        "latency": example.latency_s,
    }


def _transcript(example: ExampleView) -> dict[str, Any]:
    return {
        "prompt": example.prompt,
        "targets": example.targets,
        "response": example.response,
        "extracted": example.extracted,
        "choices": [
            {
                "text": choice.text,
                "logprob": choice.logprob,
                "share": choice.share,
                "percent": choice.percent,
                "gold": choice.is_gold,
                "picked": choice.is_picked,
            }
            for choice in example.choices
        ],
        "error": example.error,
        "facts": [[fact.name, fact.text] for fact in example.facts],
    } | ({"judged": [_judged(view) for view in example.judged]} if example.judged else {})


def _judged(view: JudgedView) -> dict[str, Any]:
    return {
        "name": view.name,
        "doubt": view.doubt,
        "value": view.value,
        "problem": view.problem,
        "labels": [
            {
                "text": one.label,
                "share": one.share,
                "percent": one.percent,
                "picked": one.is_picked,
            }
            for one in view.labels
        ],
        "facts": [[fact.name, fact.text] for fact in view.facts],
        "reason": view.reason,
        "members": [_judged(member) for member in view.members],
    }


def _size(data: Any) -> int:
    return len(script_json(json_safe(data)).encode())
