"""A gate's report as files that other programs show: JUnit's XML, and Markdown for a comment.

Names come from runs and are hostile text: nothing in them becomes markup, or calls anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from evalkit.compare import Flip, Side
from evalkit.gate import CheckResult, GateReport, Verdict
from evalkit.report.escape import markdown, plain, visible
from evalkit.report.verdicts import (
    COLUMNS,
    check_marks,
    check_name,
    judge_notes,
    level_note,
    number_cells,
    verdict_name,
)

_MAX_FLIPS = 20  # of a check, each way
_NO_XML = re.compile("[\ufffe\uffff]")  # beside the control characters


def to_junit(report: GateReport, *, sides: Sequence[Side] = ()) -> str:
    """JUnit XML with a test case for each check.

    ``sides`` are the baseline and the candidate: with them the case of a judge's metric says how
    far its judges speak for people.
    A regression is a failure, what is not comparable an error, and what is inconclusive a failure,
    skipped or passed as the policy has it. A candidate that did not finish is an error of its own.
    """
    marks = check_marks(report, sides)
    cases = [_case(report, found, mark) for found, mark in zip(report.checks, marks, strict=True)]
    if report.candidate.status != "complete":
        case = ET.Element("testcase", classname=_xml(report.gate), name="the run is complete")
        _add(case, "error", "incomplete", f"the run is {report.candidate.status}")
        cases.append(case)
    suite = ET.Element("testsuite", name=_xml(report.gate), tests=str(len(cases)))
    for plural, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(plural, str(sum(case.find(tag) is not None for case in cases)))
    suite.extend(cases)
    root = ET.Element("testsuites", name="evalkit gate")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def to_markdown(report: GateReport, *, sides: Sequence[Side] = ()) -> str:
    """Markdown for a comment: the verdict, a table of the checks, and which examples flipped.

    ``sides`` as in ``to_junit``.
    """
    return "\n".join(_markdown_lines(report, sides)) + "\n"


def _case(report: GateReport, found: CheckResult, mark: str) -> ET.Element:
    case = ET.Element("testcase", classname=_xml(report.gate), name=_xml(check_name(found)))
    names = ("n", "baseline", "candidate", "difference", "bounds", "margin", "mde")
    numbers = zip(names, number_cells(found), strict=True)
    named = [f"{name}: {cell}" for name, cell in numbers]
    judged = [f"judge: {mark}"] if mark else []
    text = "\n".join(found.differences or [found.detail, *named, *judged])
    tag = {
        Verdict.REGRESSION: "failure",
        Verdict.NOT_COMPARABLE: "error",
        Verdict.INCONCLUSIVE: {"fail": "failure", "warn": "skipped", "pass": ""}[
            report.on_inconclusive
        ],
    }.get(found.verdict, "")
    if tag:
        _add(case, tag, found.reason.value, found.detail)
        case[-1].text = _xml(text)
    else:
        ET.SubElement(case, "system-out").text = _xml(text)
    return case


def _add(case: ET.Element, tag: str, kind: str, message: str) -> None:
    attributes = {"message": _xml(message)} | ({} if tag == "skipped" else {"type": kind})
    ET.SubElement(case, tag, attributes)


def _xml(text: str) -> str:
    """Text without the characters that XML cannot hold; its markup is escaped on writing."""
    return _NO_XML.sub("\ufffd", visible(text))


def _markdown_lines(report: GateReport, sides: Sequence[Side]) -> Iterator[str]:
    yield f"### Gate {markdown(report.gate)}: {verdict_name(report.verdict)}"
    yield ""
    yield f"| Check | {' | '.join(COLUMNS)} | Verdict |"
    yield f"|---|{'---:|' * len(COLUMNS)}---|"
    for found, mark in zip(report.checks, check_marks(report, sides), strict=True):
        name = f"{check_name(found)} {mark}".rstrip()
        verdict = f"**{verdict_name(found.verdict)}**"
        yield f"| {' | '.join([markdown(name), *number_cells(found), verdict])} |"
    yield ""
    for name, side in (("A", report.baseline), ("B", report.candidate)):
        yield f"- {name}: {_code(side.model)}, run {_code(side.id)}"
    yield f"- {level_note(report)}"
    for note in judge_notes(report, sides):
        yield f"- {_code(note)}"
    for found in report.checks:
        # what differs is quoted from the runs; the other sentences are our own
        is_quoted = found.verdict is Verdict.NOT_COMPARABLE
        detail = _code(found.detail) if is_quoted else markdown(found.detail)
        yield f"- {markdown(check_name(found))}: {detail}"
        for line in found.differences[1:]:
            yield f"  - {_code(line)}"
    for one in report.quarantine:
        if one.n_found and not one.is_expired:
            yield f"- left out until {one.until}: {_code(one.name)}: {_code(one.reason)}"
    for note in report.notes:
        yield f"- {_code(note)}"
    for found in report.checks:
        if found.lost or found.gained:
            yield from _flip_lines(found)


def _flip_lines(found: CheckResult) -> Iterator[str]:
    yield ""
    counts = f"{len(found.lost)} lost, {len(found.gained)} gained"
    yield "<details>"
    yield f"<summary>{markdown(check_name(found))}: {counts}</summary>"
    for what, flips in (("Lost", found.lost), ("Gained", found.gained)):
        if flips:
            yield ""
            yield f"{what}:"
            yield ""
            yield from _listed(flips)
    yield ""
    yield "</details>"


def _listed(flips: Sequence[Flip]) -> Iterator[str]:
    for flip in flips[:_MAX_FLIPS]:
        yield f"- {_code(flip.id)}"
    if len(flips) > _MAX_FLIPS:
        yield f"- and {len(flips) - _MAX_FLIPS} more"


def _code(text: str) -> str:
    """Text as code, in which there is neither markup nor a mention of anybody."""
    text = plain(text).strip()
    if not text:
        return "–"
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    edge = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{edge}{text}{edge}{fence}"
