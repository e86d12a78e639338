"""From the likelihoods of labels to a verdict.

A judge's verdict is not read from a text but from how likely each label is as the next thing that
the model says. A label can be written in several ways (`` 4`` and ``4``, ``yes`` and ``Yes``); its
probability is that of all of them together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How likely a judge finds each label.

    ``probabilities`` add up to 1; ``missing_mass`` is what the model gave to other texts before
    that: where it is near 1, the model did not mean to answer with a label at all.
    """

    probabilities: Mapping[str, float]
    missing_mass: float = field(default=math.nan)

    def expectation(self, values: Mapping[str, float]) -> float:
        """The mean value of a label drawn from it. Source: Liu et al. (2023), arXiv:2303.16634."""
        return math.fsum(p * values[label] for label, p in self.probabilities.items())

    def choice(self, values: Mapping[str, float]) -> float:
        """The value of the likeliest label; of labels that are equally likely their mean.

        So a judge that finds both of a pair equally good calls a tie, whichever is shown first.
        """
        highest = max(self.probabilities.values())
        tied = [values[label] for label, p in self.probabilities.items() if p == highest]
        return math.fsum(tied) / len(tied)


def forms(label: str) -> tuple[str, ...]:
    """The ways in which a model may write a label, of which none begins another.

    >>> forms("4")
    ('4', ' 4')
    >>> forms("yes")
    ('yes', ' yes', 'Yes', ' Yes', 'YES', ' YES')
    """
    spellings = dict.fromkeys((label, label.lower(), label.capitalize(), label.upper()))
    if len(label) == 1:  # the letter B is a label, b a word's beginning
        spellings = dict.fromkeys((label,))
    return tuple(space + spelling for spelling in spellings for space in ("", " "))


def continuations(labels: Sequence[str]) -> tuple[str, ...]:
    """The forms of all labels, one after another: what is to be scored."""
    return tuple(form for label in labels for form in forms(label))


def distribution(labels: Sequence[str], logprobs: Sequence[float]) -> Distribution | None:
    """The labels' probabilities from the log-probabilities of ``continuations(labels)``.

    None where no label has any probability.
    """
    sums: dict[str, float] = {}
    at = 0
    for label in labels:
        n = len(forms(label))
        sums[label] = _log_sum_exp(logprobs[at : at + n])
        at += n
    if at != len(logprobs):
        raise ValueError(f"{len(logprobs)} log-probabilities for {at} forms")
    total = _log_sum_exp(list(sums.values()))
    if total == -math.inf or math.isnan(total):
        return None
    return Distribution(
        probabilities={label: math.exp(one - total) for label, one in sums.items()},
        missing_mass=max(0.0, -math.expm1(total)),
    )


def without_bias(found: Distribution, of_nothing: Distribution) -> Distribution:
    """The probabilities divided by those that the judge gives when there is nothing to judge.

    Source: Zhao et al. (2021), arXiv:2102.09690, equation 1 with W = diag(p_cf)⁻¹.
    """
    ratios = {
        label: p / max(of_nothing.probabilities[label], 1e-12)
        for label, p in found.probabilities.items()
    }
    total = math.fsum(ratios.values())
    return Distribution(
        probabilities={label: ratio / total for label, ratio in ratios.items()},
        missing_mass=found.missing_mass,
    )


def swapped(found: Distribution, names: Mapping[str, str]) -> Distribution:
    """The same with other names for the labels: of a pair shown in the other order."""
    return Distribution(
        probabilities={names.get(label, label): p for label, p in found.probabilities.items()},
        missing_mass=found.missing_mass,
    )


def mean_of(one: Distribution, other: Distribution) -> Distribution:
    """The mean of two distributions over the same labels."""
    return Distribution(
        probabilities={
            label: (p + other.probabilities[label]) / 2 for label, p in one.probabilities.items()
        },
        missing_mass=(one.missing_mass + other.missing_mass) / 2,
    )


def certain(label: str, labels: Sequence[str]) -> Distribution:
    """All on one label: of a verdict that was read from a text."""
    return Distribution(probabilities={one: float(one == label) for one in labels})


def _log_sum_exp(values: Sequence[float]) -> float:
    highest = max(values)
    if highest == -math.inf:
        return -math.inf
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))
