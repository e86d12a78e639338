"""Whether a judge's probabilities come true."""

from __future__ import annotations

from typing import Any

import numpy as np

from evalkit.calibrate.evidence import Evidence
from evalkit.calibrate.figures import Figure, Settings, figure
from evalkit.stats.calibration_error import brier_score, calibration_errors
from evalkit.stats.intervals import FloatArray
from evalkit.stats.reliability import consistency, reliability_table

_FEWEST = 20  # forecasts
_BINS = 10


def reliability(evidence: Evidence, predicted: FloatArray, settings: Settings) -> dict[str, Any]:
    """How probabilities compare with what people say, raw and out of fold; empty if there are none.

    A verdict is a probability where it is the chance of a yes, or of the response being the better
    one, and is not always a label itself. Items on which people are split, or see a tie, are left
    out.
    """
    known = evidence.is_judged & np.isin(evidence.consensus, (0.0, 1.0))
    raw = evidence.judge[known]
    if not evidence.is_probability or known.sum() < _FEWEST or np.isin(raw, evidence.scale).all():
        return {}
    found = {"n": int(known.sum()), "raw": _of(raw, evidence, known, "raw", settings)}
    mapped = predicted[known]
    if np.isfinite(mapped).all():
        found["mapped"] = _of(np.clip(mapped, 0, 1), evidence, known, "mapped", settings)
    return found


def _of(
    confidences: FloatArray,
    evidence: Evidence,
    known: np.ndarray[Any, np.dtype[np.bool_]],
    what: str,
    settings: Settings,
) -> dict[str, Any]:
    outcomes, n, level = evidence.consensus[known], int(known.sum()), settings.level
    clusters = None if evidence.clusters is None else evidence.clusters[known]
    name = evidence.criterion.name
    errors = calibration_errors(
        confidences,
        outcomes,
        rng=settings.rng(name, "ece", what),
        n_bins=_BINS,
        n_resamples=settings.n_resamples,
        clusters=clusters,
        level=level,
    )
    band = consistency(
        confidences,
        outcomes,
        rng=settings.rng(name, "band", what),
        n_bins=_BINS,
        n_resamples=settings.n_resamples,
        level=level,
    )
    bins = reliability_table(confidences, outcomes, n_bins=_BINS, clusters=clusters, level=level)
    brier: Figure = figure(brier_score(confidences, outcomes, clusters=clusters, level=level), n)
    return {
        "ece": figure(errors.ece, n),
        "debiased_ece": figure(errors.debiased_ece, n),
        "largest": errors.largest,
        "brier": brier,
        "perfect": {"ece_mean": band.ece_mean, "ece_high": band.ece_high, "p": band.p_value},
        "bins": [
            {
                "low": one.low,
                "high": one.high,
                "confidence": one.confidence,
                "frequency": figure(one.frequency, one.n),
                "band": [float(band.low[k]), float(band.high[k])],
            }
            for k, one in enumerate(bins)
            if one.n
        ],
    }
