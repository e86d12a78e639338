"""How often sequences are ever wrong, and how many examples a gate saves that may stop early.

    python benchmarks/sequential.py [--repeats 10000] [--values 500] [--gate-repeats 1000]

First table: studies in which nothing is wrong, looked at after each value; the share in which the
truth was excluded at any look, beside what alpha allows. The rows of "no sequence" are what people
do instead: a fixed-size test, looked at again and again. The Bernoulli mixture at p = 0.5 is the
e-value of discordant pairs. Second table: a non-inferiority gate on
paired scores of 0 or 1, of fixed size, with five planned looks, and with a look after each example.

Simulation alone: no model, no data. One process; the time grows with the repeats.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evalkit.stats.intervals import wilson
from evalkit.stats.power import discordant_variance, non_inferiority_n
from evalkit.stats.sequential import (
    BettingSequence,
    bernoulli_log_e,
    bernstein_sequence,
    difference_sequence,
)
from evalkit.stats.spending import boundaries, obrien_fleming, pocock

Floats = NDArray[np.float64]
BATCH = 500  # studies drawn at a time
FIRST_Z = 30  # values before the first look of a normal test
N_LOOKS = 5
N_GRID = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Where the values of a study come from."""

    name: str
    mean: float
    draw: Callable[[np.random.Generator, tuple[int, int]], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a gate says, of many studies of one truth: shares, and mean examples used."""

    passed: float
    regression: float
    n_used: float


def main() -> None:
    arguments = parse()
    start = time.perf_counter()
    report_errors(arguments)
    report_gates(arguments)
    print(f"\n{time.perf_counter() - start:.0f} s")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=10_000, help="studies of the first table")
    parser.add_argument("--values", type=int, default=500, help="of a study, a look after each")
    parser.add_argument("--gate-repeats", type=int, default=1000, help="studies of the second")
    parser.add_argument("--budget", type=int, default=2000, help="most examples of a gate")
    parser.add_argument("--margin", type=float, default=0.05, help="of the gate")
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def populations() -> list[Population]:
    def coin(p: float) -> Population:
        return Population(
            name=f"right or wrong, p = {p}",
            mean=p,
            draw=lambda rng, shape: np.asarray(rng.random(shape) < p, dtype=np.float64),
        )

    marks = np.array([0.05, 0.05, 0.1, 0.3, 0.5])
    judged = Population(
        name="marks 1 to 5, mostly 4 and 5",
        mean=float(marks @ np.arange(5)) / 4,
        draw=lambda rng, shape: rng.choice(5, size=shape, p=marks) / 4,
    )
    skewed = Population(
        name="graded, Beta(0.5, 1.5)", mean=0.25, draw=lambda rng, shape: rng.beta(0.5, 1.5, shape)
    )
    return [coin(0.5), coin(0.9), coin(0.98), judged, skewed]


def batches(n_repeats: int) -> Iterator[int]:
    for start in range(0, n_repeats, BATCH):
        yield min(BATCH, n_repeats - start)


# ---- first table


def report_errors(arguments: argparse.Namespace) -> None:
    alpha, n = arguments.alpha, arguments.values
    print(f"Truth excluded at any of {n} looks, {arguments.repeats} studies, alpha {alpha:g}\n")
    print("| sequence | values | ever wrong, % (95 % interval) |")
    print("|---|---|---:|")
    for population in populations():
        wrong: dict[str, int] = {}
        rng = np.random.default_rng(arguments.seed)
        for size in batches(arguments.repeats):
            values = population.draw(rng, (size, n))
            for name, count in errors(values, population.mean, alpha=alpha).items():
                wrong[name] = wrong.get(name, 0) + count
        for name, count in wrong.items():
            print(error_row(name, population.name, count, arguments.repeats), flush=True)


def error_row(name: str, population: str, count: int, n_repeats: int) -> str:
    found = wilson(count, n_repeats)
    return (
        f"| {name} | {population} | {100 * found.estimate:.2f} "
        f"({100 * found.low:.2f} to {100 * found.high:.2f}) |"
    )


def errors(values: Floats, mean: float, *, alpha: float) -> dict[str, int]:
    """How many of the studies (k, n) exclude their true mean at any look, by method."""
    found = {}
    counts = np.arange(1, values.shape[1] + 1)
    if set(np.unique(values)) <= {0.0, 1.0}:
        successes = np.cumsum(values, axis=1)
        for name, alternative in (("two-sided", "two-sided"), ("one-sided, low", "greater")):
            log_e = bernoulli_log_e(successes, counts, mean, alternative=alternative)  # type: ignore[arg-type]
            found[f"Bernoulli mixture, {name}"] = excluded(log_e >= math.log(1 / alpha))
    low, high = zip(*(final_betting(row, alpha=alpha) for row in values), strict=True)
    found["betting, two-sided"] = outside(mean, np.array(low), np.array(high))
    looks = [bernstein_sequence(row, alpha=alpha).last() for row in values]
    found["empirical Bernstein, two-sided"] = outside(
        mean, np.array([look.low for look in looks]), np.array([look.high for look in looks])
    )
    return found | normal_errors(values, mean, alpha=alpha)


def final_betting(values: Floats, *, alpha: float) -> tuple[float, float]:
    look = BettingSequence(alpha=alpha, n_grid=N_GRID).extend(values).last()
    return look.low, look.high


def normal_errors(values: Floats, mean: float, *, alpha: float) -> dict[str, int]:
    """Tests of fixed size: with alpha spent over five looks, and looked at each time."""
    n = values.shape[1]
    counts = np.arange(1, n + 1)
    means = np.cumsum(values, axis=1) / counts
    variances = np.maximum(np.cumsum(values**2, axis=1) / counts - means**2, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.nan_to_num(np.abs(means - mean) / np.sqrt(variances / (counts - 1)), posinf=0)
    looks = np.linspace(n / N_LOOKS, n, N_LOOKS).astype(int)
    found = {}
    for name, spending in (("O'Brien-Fleming", obrien_fleming), ("Pocock", pocock)):
        bounds = boundaries(list(looks / n), alpha=alpha, spending=spending)
        # bounds are for a normal z: compare tails, Student's of the one with that of the other
        p, p_bounds = stats.t.sf(z[:, looks - 1], looks - 1), stats.norm.sf(bounds)
        found[f"{name} spending, {N_LOOKS} looks"] = excluded(p <= p_bounds)
    single = np.asarray(stats.t.isf(alpha / 2, counts[FIRST_Z:] - 1))
    found["(no sequence) t test at the end alone"] = excluded(z[:, -1:] > single[-1])
    found["(no sequence) t test after each value"] = excluded(z[:, FIRST_Z:] > single)
    return found


def excluded(is_excluded: NDArray[np.bool_]) -> int:
    return int(is_excluded.any(axis=1).sum())


def outside(mean: float, low: Floats, high: Floats) -> int:
    return int((~((low <= mean) & (mean <= high))).sum())  # nan, nothing left, counts too


# ---- second table


def report_gates(arguments: argparse.Namespace) -> None:
    alpha, margin = arguments.alpha, arguments.margin
    discordance = 0.1
    n_fixed = non_inferiority_n(margin, discordant_variance(discordance), alpha=alpha, power=0.9)
    print(
        f"\nGate: margin {margin:g}, one-sided alpha {alpha:g}, {arguments.gate_repeats} studies."
    )
    print(f"Fixed size and planned looks: {n_fixed} examples, for a power of 0.9 if nothing has")
    print(
        f"changed and {discordance:.0%} of the examples disagree; else at most {arguments.budget}."
    )
    print("Shares in %: pass / regression; then the mean number of examples used.\n")
    print("| true difference | fixed size | planned looks | a look after each example |")
    print("|---:|---:|---:|---:|")
    for truth in (0.05, 0.0, -margin / 2, -margin, -2 * margin, -4 * margin):
        rng = np.random.default_rng(arguments.seed)
        n_values = max(arguments.budget, n_fixed)
        disagreement = max(discordance, abs(truth) + 0.02)
        chances = [(disagreement - truth) / 2, 1 - disagreement, (disagreement + truth) / 2]
        shape = (arguments.gate_repeats, n_values)
        differences = rng.choice(np.array([-1.0, 0.0, 1.0]), size=shape, p=chances)
        cells = [
            planned_gate(differences, [n_fixed], margin=margin, alpha=alpha),
            planned_gate(differences, five_looks(n_fixed), margin=margin, alpha=alpha),
            stopping_gate(differences[:, : arguments.budget], margin=margin, alpha=alpha),
        ]
        texts = [f"{100 * c.passed:.1f} / {100 * c.regression:.1f}; {c.n_used:.0f}" for c in cells]
        print(f"| {truth:+.3f} | {' | '.join(texts)} |", flush=True)


def five_looks(n: int) -> list[int]:
    return [math.ceil(n * k / N_LOOKS) for k in range(1, N_LOOKS + 1)]


def planned_gate(differences: Floats, looks: list[int], *, margin: float, alpha: float) -> Outcome:
    """The gate at planned looks, by a t test against the margin and one against no change."""
    tails = stats.norm.sf(boundaries([n / looks[-1] for n in looks], alpha=alpha, sided=1))
    passes, regressions = [], []
    for n, tail in zip(looks, tails, strict=True):
        means = differences[:, :n].mean(axis=1)
        half = stats.t.isf(tail, n - 1) * differences[:, :n].std(axis=1, ddof=1) / math.sqrt(n)
        # no spread, no bound: such a study goes on
        is_defined = half > 0
        passes.append(is_defined & (means - half > -margin))
        regressions.append(is_defined & (means + half < 0) & (means - half <= -margin))
    is_passed, is_regression = np.array(passes), np.array(regressions)
    is_decided = is_passed | is_regression
    first = np.where(is_decided.any(axis=0), is_decided.argmax(axis=0), len(looks) - 1)
    used = np.array(looks)[first]
    studies = np.arange(len(differences))
    return Outcome(
        passed=float(is_passed[first, studies].mean()),
        regression=float(is_regression[first, studies].mean()),
        n_used=float(used.mean()),
    )


def stopping_gate(differences: Floats, *, margin: float, alpha: float) -> Outcome:
    """The gate with a look after each example, by betting."""
    n_passed = n_regressions = n_used = 0
    for row in differences:
        sequence = difference_sequence(alpha=alpha, n_grid=N_GRID)
        seen = 0
        while seen < row.size:  # in batches, for speed: a batch has all the looks within it
            looks = sequence.extend(row[seen : seen + 100])
            seen += looks.n.size
            is_passed = looks.low > -margin
            is_regression = (looks.high < 0) & ~is_passed & ~np.isnan(looks.low)
            is_decided = is_passed | is_regression
            if is_decided.any():
                first = int(is_decided.argmax())
                seen = int(looks.n[first])
                n_passed += int(is_passed[first])
                n_regressions += int(is_regression[first])
                break
        n_used += seen
    k = len(differences)
    return Outcome(passed=n_passed / k, regression=n_regressions / k, n_used=n_used / k)


if __name__ == "__main__":
    main()
