"""How often the gate is wrong, how often it blocks a real drop, and what stopping early saves.

    python benchmarks/gate.py [--repeats 10000] [--sequential-repeats 1000] [--only NAME]

First table: pairs of runs drawn with a known true change, of as many examples as the plan says for
the margin and the power (an unchanged candidate shall pass with that probability). Each pair goes
through the gate's own decision. Red where nothing has changed is a false alarm, held against alpha;
a drop of the margin must be blocked, which is anything but a pass, held against the power. Second
table: the same gate in five looks that stop once decided, up to a budget; a clear case (a candidate
better by the margin, or worse by two) must save 40 % of it.

Simulation alone: no model, no data. One process; the time grows with the repeats. Exit code 1 where
a share misses its target by more than three standard errors of the simulation.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalkit.compare import Filled, Paired
from evalkit.gate.sequential import Watch, look_sizes
from evalkit.gate.verdict import Check, Verdict, decide
from evalkit.stats.power import non_inferiority_n
from evalkit.stats.variance import design_effect

Floats = NDArray[np.float64]
Scores = tuple[Floats, Floats]  # of the baseline and of the candidate, (k, n) each
BATCH = 250  # pairs of runs drawn at a time
DISCORDANCE = 0.1  # examples that one of two runs alone gets right
CLUSTER = 5  # examples of a cluster
N_GRID = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Where the scores of two runs come from."""

    name: str
    variance: float  # of one example's difference if nothing changed
    icc: float  # of differences in the same cluster; 0: no clusters
    is_binary: bool
    draw: Callable[[np.random.Generator, tuple[int, int], float], Scores]  # (k, n), true change

    def planned_n(self, margin: float, *, alpha: float, power: float) -> int:
        """Examples with which an unchanged candidate passes with probability ``power``."""
        effect = design_effect([CLUSTER], icc=self.icc)
        n = non_inferiority_n(margin, self.variance * effect, alpha=alpha, power=power)
        return math.ceil(n / CLUSTER) * CLUSTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """What the sequential gate says, of many studies of one truth: shares, and examples used."""

    passed: float
    regression: float
    n_used: float  # mean
    n_most: int


def populations() -> list[Population]:
    """Right or wrong and graded, each of independent and of clustered examples."""
    push = 0.06  # by how much a cluster leans to either run, at random
    noise, shared = 0.12, 0.06  # standard deviations of an example's and of a cluster's difference
    return [
        Population(
            name="right or wrong",
            variance=DISCORDANCE,
            icc=0.0,
            is_binary=True,
            draw=lambda rng, shape, change: binary(rng, shape, change, push=0.0),
        ),
        Population(
            name="right or wrong, clusters",
            variance=DISCORDANCE,
            icc=push**2 / DISCORDANCE,
            is_binary=True,
            draw=lambda rng, shape, change: binary(rng, shape, change, push=push),
        ),
        Population(
            name="graded",
            variance=noise**2,
            icc=0.0,
            is_binary=False,
            draw=lambda rng, shape, change: graded(rng, shape, change, noise=noise, shared=0.0),
        ),
        Population(
            name="graded, clusters",
            variance=noise**2 + shared**2,
            icc=shared**2 / (noise**2 + shared**2),
            is_binary=False,
            draw=lambda rng, shape, change: graded(rng, shape, change, noise=noise, shared=shared),
        ),
    ]


def by_cluster(values: Floats) -> Floats:
    return np.repeat(values, CLUSTER, axis=1)


def binary(
    rng: np.random.Generator, shape: tuple[int, int], change: float, *, push: float
) -> Scores:
    """0 and 1: a tenth of the examples is got right by one run alone, whatever the change."""
    lean = push * by_cluster(rng.choice([-1.0, 1.0], size=(shape[0], shape[1] // CLUSTER)))
    discordance = max(DISCORDANCE, abs(change) + push + 0.01)
    u = rng.random(shape)
    difference = np.where(u < (discordance + change + lean) / 2, 1.0, 0.0)
    difference -= u > 1 - (discordance - change - lean) / 2
    both = (rng.random(shape) < 0.7).astype(np.float64)
    a = np.where(difference == 0, both, (1 - difference) / 2)
    return a, a + difference


def graded(
    rng: np.random.Generator, shape: tuple[int, int], change: float, *, noise: float, shared: float
) -> Scores:
    """Skewed differences: most examples gain a little, a few lose much.

    One less a standard exponential has mean 0 and variance 1.
    """
    own = noise * (1 - rng.exponential(size=shape))
    common = shared * by_cluster(rng.choice([-1.0, 1.0], size=(shape[0], shape[1] // CLUSTER)))
    a = rng.uniform(0.4, 0.6, shape)
    return a, a + change + own + common


def pair_of(a: Floats, b: Floats, *, population: Population) -> Paired:
    """A metric of two runs that answered all of the same examples."""
    clusters = np.arange(a.size) // CLUSTER if population.icc > 0 else None
    filled = Filled(a=a, b=b, clusters=clusters)
    return Paired(
        task="simulated",
        metric="score",
        higher_is_better=True,
        is_binary=population.is_binary,
        a=a,
        b=b,
        stats_a=None,
        stats_b=None,
        combine=None,
        clusters=clusters,
        ids=np.arange(a.size).astype(np.object_),
        sha256=np.arange(a.size).astype(np.bytes_),
        n_common=a.size,
        n_error_a=0,
        n_error_b=0,
        n_abstained_a=0,
        n_abstained_b=0,
        worst=float((b - a).mean()),
        best=float((b - a).mean()),
        filled_worst=filled,
        filled_best=filled,
    )


def verdicts(
    population: Population,
    change: float,
    *,
    n: int,
    margin: float,
    alpha: float,
    power: float,
    n_repeats: int,
    seed: int,
) -> Counter[Verdict]:
    """The verdicts on many pairs of runs of ``n`` examples with a true ``change``."""
    check = Check(task="simulated", metric="score", margin=margin)
    rng = np.random.default_rng(seed)
    found: Counter[Verdict] = Counter()
    for start in range(0, n_repeats, BATCH):
        shape = (min(BATCH, n_repeats - start), n)
        for a, b in zip(*population.draw(rng, shape, change), strict=True):
            pairs = pair_of(a, b, population=population)
            found[decide(pairs, check, alpha=alpha, power=power, rng_seed=0).verdict] += 1
    return found


def stopping(
    differences: Floats, *, margin: float, alpha: float, looks: tuple[int, ...]
) -> Stopping:
    """The sequential gate on differences (k, n) of right or wrong answers, row by row."""
    decisions: Counter[str] = Counter()
    used = []
    for row in differences:
        watch = Watch(margin=margin, alpha=alpha, n_grid=N_GRID)
        seen = 0
        for n in looks:
            watch.extend(row[seen:n], row[seen:n])
            seen = n
            if watch.standing.decision != "continue":
                break
        decisions[watch.standing.decision] += 1
        used.append(seen)
    k = len(differences)
    return Stopping(
        passed=decisions["pass"] / k,
        regression=decisions["regression"] / k,
        n_used=float(np.mean(used)),
        n_most=max(used),
    )


def main() -> None:
    arguments = parse()
    start = time.perf_counter()
    is_met = report_verdicts(arguments)
    is_met &= report_stopping(arguments)
    print(f"\n{time.perf_counter() - start:.0f} s; {'all targets met' if is_met else 'MISSED'}")
    sys.exit(0 if is_met else 1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=10_000, help="pairs of runs of a row")
    parser.add_argument("--sequential-repeats", type=int, default=1000, help="of the second table")
    parser.add_argument("--budget", type=int, default=1000, help="examples of a sequential gate")
    parser.add_argument("--margin", type=float, default=0.05, help="of right or wrong answers")
    parser.add_argument("--graded-margin", type=float, default=0.02)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--power", type=float, default=0.8)
    parser.add_argument("--only", default="", help="populations whose name has this in it")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def report_verdicts(arguments: argparse.Namespace) -> bool:
    alpha, power, k = arguments.alpha, arguments.power, arguments.repeats
    print(f"{k} pairs of runs a row, alpha {alpha:g}, power {power:g}; % of the verdicts\n")
    print("| scores | margin | n | true change | pass | inconclusive | regression | target |")
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    is_met = True
    for population in populations():
        if arguments.only not in population.name:
            continue
        margin = arguments.margin if population.is_binary else arguments.graded_margin
        n = population.planned_n(margin, alpha=alpha, power=power)
        for factor in (0, -1, -2, 1):
            found = verdicts(
                population,
                factor * margin,
                n=n,
                margin=margin,
                alpha=alpha,
                power=power,
                n_repeats=k,
                seed=arguments.seed,
            )
            target, is_hit = held_to(found, factor, alpha=alpha, power=power)
            is_met &= is_hit
            cells = [population.name, f"{margin:g}", str(n), f"{factor * margin:+.2f}"]
            names = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.REGRESSION)
            cells += [f"{100 * found[name] / k:.2f}" for name in names]
            print(f"| {' | '.join([*cells, target])} |", flush=True)
    return is_met


def held_to(
    found: Counter[Verdict], factor: int, *, alpha: float, power: float
) -> tuple[str, bool]:
    """What the verdicts on a true change of ``factor`` margins must be, and whether they are."""
    k = found.total()
    red, blocked = found[Verdict.REGRESSION] / k, 1 - found[Verdict.PASS] / k
    if factor >= 0:
        limit = alpha + 3 * math.sqrt(alpha * (1 - alpha) / k)
        return f"false red {said(red, red <= limit)} <= {100 * limit:.2f}", red <= limit
    limit = power - 3 * math.sqrt(power * (1 - power) / k)
    return f"blocked {said(blocked, blocked >= limit)} >= {100 * limit:.2f}", blocked >= limit


def said(share: float, is_hit: bool) -> str:
    return f"{100 * share:.2f}" + ("" if is_hit else " MISSED:")


def report_stopping(arguments: argparse.Namespace) -> bool:
    alpha, margin, k = arguments.alpha, arguments.margin, arguments.sequential_repeats
    looks = look_sizes(arguments.budget)
    population = populations()[0]
    fixed = population.planned_n(margin, alpha=alpha, power=arguments.power)
    print(f"\nRight or wrong, margin {margin:g}, looks at {', '.join(map(str, looks))} examples;")
    print(f"{k} studies a row. A gate of fixed size and power {arguments.power:g} needs {fixed}.\n")
    print(
        "| true change | pass, % | regression, % | wrong, % | mean examples | saved, % of the",
        end="",
    )
    print(" budget | of the fixed size |\n|---:|---:|---:|---:|---:|---:|---:|")
    is_met = True
    for factor in (2.0, 1.0, 0.0, -0.5, -1.0, -2.0, -3.0, -4.0):
        rng = np.random.default_rng(arguments.seed)
        a, b = population.draw(rng, (k, arguments.budget), factor * margin)
        found = stopping(b - a, margin=margin, alpha=alpha, looks=looks)
        saved = 1 - found.n_used / arguments.budget
        wrong = found.passed if factor <= -1 else found.regression if factor >= 0 else 0.0
        is_met &= wrong <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / k)
        is_met &= found.n_most <= arguments.budget
        is_met &= saved >= 0.4 or -2 < factor < 1  # the others are close calls
        print(
            f"| {factor * margin:+.3f} | {100 * found.passed:.1f} | {100 * found.regression:.1f} "
            f"| {100 * wrong:.1f} | {found.n_used:.0f} | {100 * saved:.0f} "
            f"| {100 * (1 - found.n_used / fixed):.0f} |",
            flush=True,
        )
    return is_met


if __name__ == "__main__":
    main()
