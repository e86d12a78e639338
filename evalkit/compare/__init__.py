"""Runs beside each other: paired differences on the same examples, and the small baseline file.

``open_side`` gives a run or a baseline file as a ``Side``; ``compare`` takes sides, ``paired``
gives the arrays behind one number, and ``refuse_unless_comparable`` is what it asks before.
"""

from evalkit.compare.baseline import baseline_text
from evalkit.compare.difference import (
    CandidateComparison,
    Comparison,
    Flip,
    MetricDifference,
    Pairing,
    compare,
)
from evalkit.compare.identity import refuse_unless_comparable
from evalkit.compare.pairing import Filled, Match, Paired, match, paired
from evalkit.compare.side import (
    Answers,
    Examples,
    MetricInfo,
    RunSide,
    Side,
    SideInfo,
    TaskInfo,
    first_lines,
    open_side,
)

__all__ = [
    "Answers",
    "CandidateComparison",
    "Comparison",
    "Examples",
    "Filled",
    "Flip",
    "Match",
    "MetricDifference",
    "MetricInfo",
    "Paired",
    "Pairing",
    "RunSide",
    "Side",
    "SideInfo",
    "TaskInfo",
    "baseline_text",
    "compare",
    "first_lines",
    "match",
    "open_side",
    "paired",
    "refuse_unless_comparable",
]
