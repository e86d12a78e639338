"""A page as a parser sees it, and texts that try to become a part of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from evalkit.record import RunRecord
from evalkit.report.html import render_report

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "--><b>x</b>",
    "]]><b>x</b>",
    "</pre></details></noscript><h1>x</h1>",
    "</title><h1>x</h1>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    '" autofocus onfocus="alert(1)',
    "<svg/onload=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "<iframe src='data:text/html,<script>alert(1)</script>'></iframe>",
    "<meta http-equiv=refresh content='0;url=http://x.test'>",
    "<style>*{display:none}</style>",
    "&lt;b&gt; &#60;b&#62; &amp;amp;",
    "{{ 7 * 7 }}{% raw %}{# x #}",
    "\x1b[31mred\x1b[0m \x00 \x07",
    "\u202eevil\u2066 \u200f",
    "a\ud800b\udfff",
    "line\u2028separator\u2029",
    "\ufeff\x85\x0c",
]


@dataclass
class Page(HTMLParser):
    """What a parser finds on a page: its elements, its text, its inline blocks."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    blocks: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    @classmethod
    def of(cls, text: str) -> Page:
        page = cls()
        page.feed(text)
        page.close()
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag in ("script", "style") and self.cdata_elem == tag:
            self.blocks.append((attributes.get("type") or tag, data))
        else:
            self.texts.append(data)

    @property
    def structure(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]

    def data(self) -> list[Any]:
        return [json.loads(text) for kind, text in self.blocks if kind == "application/json"]


def page_of(run: RunRecord) -> Page:
    return Page.of(render_report([run]))
