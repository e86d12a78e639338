from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evalkit.stats.intervals import wilson
from evalkit.stats.reliability import Binning, consistency, reliability_table

# ten forecasts, one in each bin of a tenth
EVENTS = [1, 0, 1, 1, 0, 0, 1, 0, 1, 1]
FORECASTS = [0.95, 0.15, 0.85, 0.75, 0.35, 0.45, 0.65, 0.05, 0.55, 0.25]

ROWS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_bin_has_its_mean_forecast_and_wilsons_interval() -> None:
    table = reliability_table([0.2, 0.4, 0.4, 0.9], [0, 1, 0, 1], n_bins=2)
    low, high = table
    assert (low.low, low.high, low.n) == (0.0, 0.5, 3)
    assert low.confidence == pytest.approx(1 / 3)
    assert low.frequency == wilson(1, 3)
    assert (high.n, high.frequency) == (1, wilson(1, 1))


@pytest.mark.parametrize("n_bins", [3, 7, 10, 100])
def test_a_forecast_on_an_edge_is_in_the_bin_above_but_for_the_last(n_bins: int) -> None:
    edges = [k / n_bins for k in range(n_bins + 1)]  # 29 / 100 * 100 falls below 29
    table = reliability_table(edges, [0] * len(edges), n_bins=n_bins)
    assert [b.n for b in table] == [1] * (n_bins - 1) + [2]


def test_empty_bins_are_kept_and_undefined() -> None:
    table = reliability_table([0.05], [1])
    assert len(table) == 10
    assert table[9].n == 0
    assert math.isnan(table[9].confidence)
    assert math.isnan(table[9].frequency.low)


def test_bins_by_mass_do_not_part_equal_forecasts() -> None:
    forecasts = [0.1] * 5 + [0.2, 0.3, 0.4, 0.5, 0.6]
    table = reliability_table(forecasts, [0] * 10, n_bins=5, binning="mass")
    assert [(b.low, b.high, b.n) for b in table] == [
        (0.1, 0.2, 6),
        (0.3, 0.4, 2),
        (0.5, 0.6, 2),
    ]


def test_clusters_widen_the_bars() -> None:
    forecasts, events = np.full(40, 0.5), np.tile([0, 1], 20)
    [alone] = reliability_table(forecasts, events, n_bins=1)
    [together] = reliability_table(forecasts, events, n_bins=1, clusters=np.arange(40) % 10)
    assert together.frequency.high > alone.frequency.high


@pytest.mark.parametrize(
    ("forecasts", "events", "message"),
    [
        ([1.1], [1], "within"),
        ([math.nan], [1], "within"),
        ([0.5], [0.5], "neither"),
        ([0.5], [1, 0], "pair"),
    ],
)
def test_what_is_no_probability_or_no_outcome_is_refused(
    forecasts: list[float], events: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reliability_table(forecasts, events)


def test_the_band_of_one_bin_is_the_binomials() -> None:
    # 40 forecasts of .3: the number of events is binomial
    band = consistency([0.3] * 40, [0] * 40, rng=rng(), n_bins=1, n_resamples=20_000)
    law = stats.binom(40, 0.3)
    assert band.low[0] == pytest.approx(law.ppf(0.025) / 40, abs=0.5 / 40)
    assert band.high[0] == pytest.approx(law.ppf(0.975) / 40, abs=0.5 / 40)
    # E|X/n - p| of a binomial is 2 (1 - p)^(n-m) p^(m+1) (m+1) C(n, m+1) / n, m = floor(np)
    # (De Moivre; Johnson 1957)
    m = 12
    expected = 2 * (m + 1) * math.comb(40, m + 1) * 0.3 ** (m + 1) * 0.7 ** (40 - m) / 40
    assert band.ece_mean == pytest.approx(expected, abs=0.002)
    # no event in 40 is as far off as twelve times .3 can be: nearly never
    assert band.p_value == pytest.approx(2 / 20_001, abs=2 / 20_001)


def test_right_forecasts_lie_within_the_band_as_often_as_it_says() -> None:
    random, n_runs = rng(1), 200
    inside, p_values = [], []
    for _ in range(n_runs):
        forecasts = random.random(60)
        events = random.random(60) < forecasts
        band = consistency(forecasts, events, rng=random, n_bins=5, n_resamples=200)
        frequencies = [b.frequency.estimate for b in reliability_table(forecasts, events, n_bins=5)]
        inside += [
            low <= f <= high for low, f, high in zip(band.low, frequencies, band.high, strict=True)
        ]
        p_values.append(band.p_value)
    # 1000 bins: four standard deviations of .95 are .028; the band is made of steps, so it holds
    # somewhat more
    assert 0.92 <= np.mean(inside) <= 0.985
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(
        0.1, abs=4 * math.sqrt(0.09 / n_runs)
    )


def test_forecasts_that_are_far_off_are_seen() -> None:
    band = consistency([0.9] * 100, [0, 1] * 50, rng=rng(), n_resamples=999)
    assert band.p_value == 1 / 1000
    assert band.ece_high < 0.1 < 0.4


def test_without_forecasts_there_is_nothing_to_expect() -> None:
    band = consistency([], [], rng=rng(), n_bins=3)
    assert np.isnan(band.low).all()
    assert band.low.shape == (3,)
    assert math.isnan(band.p_value)


@given(ROWS, st.integers(1, 12), st.sampled_from(("width", "mass")))
def test_each_forecast_is_in_one_bin_and_within_its_ends(
    rows: list[tuple[float, int]], n_bins: int, binning: Binning
) -> None:
    forecasts, events = zip(*rows, strict=True)
    table = reliability_table(forecasts, events, n_bins=n_bins, binning=binning)
    assert sum(b.n for b in table) == len(rows)
    assert len(table) <= n_bins
    for b in table:
        assert b.n == 0 or b.low - 1e-12 <= b.confidence <= b.high + 1e-12
    total = sum(b.n * b.frequency.estimate for b in table if b.n)
    assert total == pytest.approx(sum(events))
