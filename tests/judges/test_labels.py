"""From likelihoods to verdicts: closed forms, and what must not matter."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evalkit.judges.labels import (
    Distribution,
    certain,
    continuations,
    distribution,
    forms,
    mean_of,
    swapped,
    without_bias,
)

LABELS = ["1", "2", "3", "4", "5"]
VALUES = {label: float(label) for label in LABELS}
LOGPROBS = st.lists(st.floats(-60, 0), min_size=10, max_size=10)


def of(probabilities: dict[str, float]) -> Distribution:
    return Distribution(probabilities=probabilities)


def test_the_forms_of_a_label_add_up() -> None:
    # P(yes) = .1 + .2 + .05 + .05 = .4 over its forms, P(no) = .1: .8 and .2, and .5 went elsewhere
    logprobs = [math.log(p) for p in (0.1, 0.2, 0.05, 0.05, 1e-300, 1e-300)]
    logprobs += [math.log(p) for p in (0.04, 0.06, 1e-300, 1e-300, 1e-300, 1e-300)]
    found = distribution(["yes", "no"], logprobs)
    assert found is not None
    assert found.probabilities == pytest.approx({"yes": 0.8, "no": 0.2})
    assert found.missing_mass == pytest.approx(0.5)
    assert found.expectation({"yes": 1.0, "no": 0.0}) == pytest.approx(0.8)
    assert found.choice({"yes": 1.0, "no": 0.0}) == 1.0


def test_log_probabilities_far_below_what_exp_can_hold_still_compare() -> None:
    # softmax(-2000, -2001) = 1 / (1 + e^-1), by form pairs of equal weight
    found = distribution(["A", "B"], [-2000.0, -2000.0, -2001.0, -2001.0])
    assert found is not None
    assert found.probabilities["A"] == pytest.approx(1 / (1 + math.exp(-1)))
    assert found.missing_mass == 1.0


def test_no_probability_at_all_is_no_distribution() -> None:
    assert distribution(["A", "B"], [-math.inf] * 4) is None


def test_log_probabilities_that_do_not_fit_the_labels_are_an_error() -> None:
    with pytest.raises(ValueError, match="3 log-probabilities for 4 forms"):
        distribution(["A", "B"], [-1.0, -1.0, -1.0])


@given(LOGPROBS)
def test_probabilities_add_up_to_one(logprobs: list[float]) -> None:
    found = distribution(LABELS, logprobs)
    assert found is not None
    assert math.fsum(found.probabilities.values()) == pytest.approx(1.0, abs=1e-12)
    assert 1.0 <= found.expectation(VALUES) <= 5.0 + 1e-12


@given(LOGPROBS)
def test_what_no_label_got_is_missing(logprobs: list[float]) -> None:
    found = distribution(LABELS, logprobs)
    assert found is not None
    mass = math.fsum(map(math.exp, logprobs))
    assert found.missing_mass == pytest.approx(max(0.0, 1 - mass), abs=1e-12)


@given(LOGPROBS, st.floats(0.01, 50))
def test_less_mass_for_all_labels_alike_changes_nothing_but_what_is_missing(
    logprobs: list[float], less: float
) -> None:
    one, other = distribution(LABELS, logprobs), distribution(LABELS, [x - less for x in logprobs])
    assert one is not None
    assert other is not None
    assert other.probabilities == pytest.approx(dict(one.probabilities), abs=1e-9)
    assert other.missing_mass >= one.missing_mass


@given(LOGPROBS, st.permutations(range(5)))
def test_the_order_of_the_labels_does_not_matter(logprobs: list[float], order: list[int]) -> None:
    labels = [LABELS[i] for i in order]
    permuted = [logprobs[2 * i + k] for i in order for k in (0, 1)]
    one, other = distribution(LABELS, logprobs), distribution(labels, permuted)
    assert one is not None
    assert other is not None
    assert other.probabilities == pytest.approx(dict(one.probabilities), abs=1e-12)
    assert other.expectation(VALUES) == pytest.approx(one.expectation(VALUES))
    same = Distribution(probabilities={label: one.probabilities[label] for label in labels})
    assert same.choice(VALUES) == one.choice(VALUES)


@given(st.lists(st.from_regex(r"[a-z]{2,6}", fullmatch=True), min_size=2, unique=True))
def test_no_form_begins_another_where_no_label_does(labels: list[str]) -> None:
    assume(not any(b.startswith(a) for a in labels for b in labels if a != b))
    found = continuations(labels)
    assert len(set(found)) == len(found)
    assert not any(b.startswith(a) for a in found for b in found if a != b)


def test_a_letter_has_no_other_spelling() -> None:
    assert forms("A") == ("A", " A")
    assert forms("N/A") == ("N/A", " N/A", "n/a", " n/a", "N/a", " N/a")


def test_labels_that_are_equally_likely_are_a_tie() -> None:
    pair = {"A": 1.0, "B": 0.0}
    assert of({"A": 0.5, "B": 0.5}).choice(pair) == 0.5
    assert of({"B": 0.5, "A": 0.5}).choice(pair) == 0.5
    assert of({"1": 0.4, "2": 0.4, "3": 0.2}).choice(VALUES) == 1.5


def test_a_leaning_is_divided_out() -> None:
    # p = (.6, .4), p_cf = (.75, .25): ratios .8 and 1.6, so 1/3 and 2/3 (Zhao et al. 2021, eq. 1)
    found = without_bias(of({"A": 0.6, "B": 0.4}), of({"A": 0.75, "B": 0.25}))
    assert found.probabilities == pytest.approx({"A": 1 / 3, "B": 2 / 3})


@given(LOGPROBS)
def test_a_judge_that_always_says_the_same_says_nothing_once_corrected(
    logprobs: list[float],
) -> None:
    found = distribution(LABELS, logprobs)
    assert found is not None
    assume(min(found.probabilities.values()) > 1e-9)
    corrected = without_bias(found, found).probabilities
    assert corrected == pytest.approx(dict.fromkeys(LABELS, 0.2))


def test_the_swapped_pair_is_told_under_the_names_of_the_first() -> None:
    names = {"A": "B", "B": "A"}
    found = swapped(of({"A": 0.7, "B": 0.2, "C": 0.1}), names)
    assert found.probabilities == {"B": 0.7, "A": 0.2, "C": 0.1}
    both = mean_of(of({"A": 0.7, "B": 0.2, "C": 0.1}), found)
    assert both.probabilities == pytest.approx({"A": 0.45, "B": 0.45, "C": 0.1})


def test_a_verdict_read_from_a_text_is_certain() -> None:
    found = certain("4", LABELS)
    assert (found.expectation(VALUES), found.choice(VALUES)) == (4.0, 4.0)
    assert math.isnan(found.missing_mass)
