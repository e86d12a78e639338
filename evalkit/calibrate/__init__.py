"""Calibration: a judge held against people's labels, and what its verdicts are worth."""

from __future__ import annotations

from evalkit.calibrate.evidence import Evidence, gather
from evalkit.calibrate.figures import Settings
from evalkit.calibrate.items import LabelledItem, LabelSet
from evalkit.calibrate.label_files import read_labels
from evalkit.calibrate.study import calibrate, open_judge_of, slug_of

__all__ = [
    "Evidence",
    "LabelSet",
    "LabelledItem",
    "Settings",
    "calibrate",
    "gather",
    "open_judge_of",
    "read_labels",
    "slug_of",
]
