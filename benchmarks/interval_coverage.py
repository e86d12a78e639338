"""How often the intervals of evalkit.stats hold the true value: coverage, at a nominal 95 %.

    python benchmarks/interval_coverage.py [--repeats 10000] [--bootstrap-repeats 2000]
                                  [--only proportion graded clustered clusters ratio pairs]

An interval of a proportion takes n + 1 values, so its coverage is a sum over the binomial: exact,
nothing is drawn. The others are simulated; two standard errors of a percentage are 0.4 for 10,000
repeats, and 1.0 for the 2000 of the bootstraps, which cost a hundred times as much. An interval
without bounds (nan) counts as one that misses. ``width`` is the mean of those that have bounds, on
a scale of 0 to 1 (ratios: in the ratio's unit).

- proportion: n independent answers, right with probability p.
- graded: scores of 1 to 5 by two laws. ``top`` is 5 with probability p, else 1 to 4 alike: a rare
  answer may be worth anything. ``spread`` is 1 + Binomial(4, p).
- clustered: answers in clusters of unequal sizes (as 1 : 2 : 3 ...), the chance of each cluster
  from a beta distribution with mean p and an intraclass correlation of 0.2.
- clusters: the same of a mean size of 5, in 5 to 50 clusters with correlations of 0, 0.2 and 0.5.
- ratio: texts of log-normal length, log-probabilities with a level of their own for each text.
- pairs: differences of two runs with mean scores of p, or of p and 0.05 less. Half of the examples
  get the same score but for that change, the others scores that are correlated (0.5, by a normal
  copula). Scores are right or wrong; graded as above; from a beta distribution with a + b = 3; or
  as token F1 is, 0 for 0.6 (1 - p) of the answers, 1 for 0.8 p and beta between. Clustered pairs
  are won, lost or equal, by chances that vary from cluster to cluster as above. ``perfect``: the
  one run has nothing but top scores, so that only the other's vary: the most lopsided of pairs.

A coverage outside of 93.5 to 96.5 % by more than those two standard errors is marked "low" or
"high". What follows from the table stands at the top of evalkit/stats/intervals.py.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evalkit.stats.intervals import (
    Interval,
    clopper_pearson,
    cluster_t_interval,
    jeffreys,
    t_interval,
    wilson,
    wilson_mean,
)
from evalkit.stats.paired import Difference, paired_binary, paired_likelihood, paired_t
from evalkit.stats.ratio import perplexity_interval, ratio_interval
from evalkit.stats.resample import bootstrap

FloatArray = NDArray[np.float64]
Method = Callable[[FloatArray], Interval | Difference]
Quantiles = Callable[[FloatArray], FloatArray]

SIZES = (20, 100, 1000)
CHANCES = (0.5, 0.9, 0.98)
N_CLUSTERS = {20: 10, 100: 20, 1000: 50}
INTRACLASS = 0.2
DROP = 0.05
BAND = (0.935, 0.965)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table."""

    data: str
    method: str
    coverage: float
    width: float
    n_repeats: int | None = None  # None: not simulated

    @property
    def mark(self) -> str:
        noise = 2 * math.sqrt(0.95 * 0.05 / self.n_repeats) if self.n_repeats else 0.0
        if self.coverage < BAND[0] - noise:
            return "low"
        return "high" if self.coverage > BAND[1] + noise else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is simulated."""

    repeats: int
    bootstrap_repeats: int  # at most repeats
    n_resamples: int


def main() -> None:
    arguments = parse()
    rng = np.random.default_rng(arguments.seed)
    plan = Plan(
        repeats=arguments.repeats,
        bootstrap_repeats=min(arguments.bootstrap_repeats, arguments.repeats),
        n_resamples=arguments.n_resamples,
    )
    families: Mapping[str, Iterable[Row]] = {
        "proportion": proportions(),
        "graded": graded(plan, rng=rng),
        "clustered": clustered(plan, rng=rng),
        "clusters": few_clusters(plan, rng=rng),
        "ratio": ratios(plan, rng=rng),
        "pairs": pairs(plan, rng=rng),
    }
    print("| data | method | coverage, % | | width |\n|---|---|---:|---|---:|")
    for name in arguments.only:
        for row in families[name]:
            print(
                f"| {row.data} | {row.method} | {100 * row.coverage:.1f} | {row.mark} "
                f"| {row.width:.4f} |",
                flush=True,
            )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=10_000, help="data sets of each simulation")
    parser.add_argument("--bootstrap-repeats", type=int, default=2000, help="for the bootstraps")
    parser.add_argument("--n-resamples", type=int, default=2000, help="of each bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    names = ["proportion", "graded", "clustered", "clusters", "ratio", "pairs"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    return parser.parse_args()


def proportions() -> Iterator[Row]:
    for n in SIZES:
        for method in (wilson, clopper_pearson, jeffreys):
            found = [method(k, n) for k in range(n + 1)]
            for p in CHANCES:
                chances = stats.binom.pmf(np.arange(n + 1), n, p)
                held = np.array([i.low <= p <= i.high for i in found])
                widths = np.array([i.high - i.low for i in found])
                yield Row(
                    data=f"proportion, n {n}, p {p}",
                    method=found[0].method,
                    coverage=float(chances @ held),
                    width=float(chances @ widths),
                )


def graded(plan: Plan, *, rng: np.random.Generator) -> Iterator[Row]:
    for shape in ("top", "spread"):
        for n in SIZES:
            for p in CHANCES:
                if shape == "top":
                    is_top = rng.random((plan.repeats, n)) < p
                    scores = np.where(is_top, 5, rng.integers(1, 5, size=(plan.repeats, n)))
                    truth = 5 * p + 2.5 * (1 - p)
                else:
                    scores, truth = 1 + rng.binomial(4, p, size=(plan.repeats, n)), 1 + 4 * p
                values = (scores - 1) / 4
                data, truth = f"graded ({shape}), n {n}, p {p}", (truth - 1) / 4
                methods: dict[str, Method] = {"t": t_interval, "wilson-mean": wilson_mean}
                yield from simulated(data, methods, values, truth=truth)
                yield from bootstrapped(data, values, plan, truth=truth, rng=rng)


def clustered(plan: Plan, *, rng: np.random.Generator) -> Iterator[Row]:
    for n in SIZES:
        clusters = unequal_clusters(n, N_CLUSTERS[n])
        sizes = np.bincount(clusters)
        for p in CHANCES:
            values = in_clusters(clusters, p, INTRACLASS, n_repeats=plan.repeats, rng=rng)
            data = f"clustered, n {clusters.size} in {sizes.size}, p {p}"
            yield from simulated(data, cluster_methods(clusters), values, truth=p)
            yield from bootstrapped(data, values, plan, truth=p, rng=rng, clusters=clusters)


def few_clusters(plan: Plan, *, rng: np.random.Generator) -> Iterator[Row]:
    for n_clusters in (5, 10, 20, 50):
        clusters = unequal_clusters(5 * n_clusters, n_clusters)
        methods = {"cluster-wilson": cluster_methods(clusters)["cluster-wilson"]}
        for intraclass in (0.0, 0.2, 0.5):
            for p in CHANCES:
                values = in_clusters(clusters, p, intraclass, n_repeats=plan.repeats, rng=rng)
                data = f"{n_clusters} clusters, correlation {intraclass}, p {p}"
                yield from simulated(data, methods, values, truth=p)


def in_clusters(
    clusters: NDArray[np.int64],
    p: float,
    intraclass: float,
    *,
    n_repeats: int,
    rng: np.random.Generator,
) -> FloatArray:
    """(n_repeats, n) of 0 and 1 with such an intraclass correlation."""
    shape = (n_repeats, int(clusters.max()) + 1)
    levels = np.full(shape, p)
    if intraclass > 0:
        strength = 1 / intraclass - 1
        levels = rng.beta(p * strength, (1 - p) * strength, size=shape)
    return (rng.random((n_repeats, clusters.size)) < levels[:, clusters]).astype(float)


def cluster_methods(clusters: NDArray[np.int64]) -> dict[str, Method]:
    return {
        "t, clusters ignored": t_interval,
        "cluster-t": lambda v: cluster_t_interval(v, clusters),
        "cluster-t-cr2": lambda v: cluster_t_interval(v, clusters, correction="cr2"),
        "cluster-wilson": lambda v: wilson_mean(v, clusters),
    }


def unequal_clusters(n: int, n_clusters: int) -> NDArray[np.int64]:
    """(about n,) labels of clusters with sizes as 1 : 2 : 3 ..., none empty."""
    shares = np.arange(1, n_clusters + 1) / (n_clusters * (n_clusters + 1) / 2)
    return np.repeat(np.arange(n_clusters), np.maximum(1, np.round(n * shares)).astype(np.int64))


def ratios(plan: Plan, *, rng: np.random.Generator) -> Iterator[Row]:
    nats = 2.5  # a token, on average: whatever its length, a text's mean is 2.5 too
    for n in SIZES:
        n_tokens = np.ceil(np.exp(rng.normal(4.0, 0.8, size=(plan.repeats, n))))
        per_token = nats * rng.gamma(8.0, 1 / 8, size=(plan.repeats, n))
        both = np.stack((-per_token * n_tokens, n_tokens), axis=1)
        methods: dict[str, Method] = {"ratio-t": lambda v: ratio_interval(-v[0], v[1])}
        yield from simulated(f"nats per token, n {n}", methods, both, truth=nats)
        methods = {"log-ratio-t": lambda v: perplexity_interval(v[0], v[1])}
        yield from simulated(f"perplexity, n {n}", methods, both, truth=float(np.exp(nats)))


def pairs(plan: Plan, *, rng: np.random.Generator) -> Iterator[Row]:
    laws: dict[str, Callable[[float], Quantiles]] = {
        "top": top,
        "spread": spread,
        "beta": beta,
        "F1": token_f1,
    }
    for name, law in laws.items():
        for drop in (0.0, DROP):
            for n in SIZES:
                for p in CHANCES:
                    first, second = law(p), law(p - drop)
                    samples = differences(first, second, (plan.repeats, n), rng=rng)
                    data = f"pairs ({name}), n {n}, p {p}, change {0 - drop:g}"
                    truth = mean_of(second) - mean_of(first)
                    yield from simulated(data, pair_methods(n), samples, truth=truth)
    for n in SIZES:
        for p in CHANCES:
            of_second = top(p)
            samples = of_second(rng.random((plan.repeats, n))) - 1
            data = f"pairs (perfect, top), n {n}, p {p}"
            yield from simulated(data, pair_methods(n), samples, truth=mean_of(of_second) - 1)
    yield from binary_pairs(plan, rng=rng)
    yield from clustered_pairs(plan, rng=rng)


def pair_methods(n: int, clusters: NDArray[np.int64] | None = None) -> dict[str, Method]:
    zeros = np.zeros(n)
    return {
        "paired t": lambda d: paired_t(zeros, d, clusters=clusters),
        "likelihood": lambda d: paired_likelihood(zeros, d, clusters=clusters, reach=1.0),
    }


def top(p: float) -> Quantiles:
    """Of scores of 1 to 5 with mean p on a scale of 0 to 1: 5, or else 1 to 4 alike."""
    others = (1 - p) / (1 - 0.375)
    return lambda u: np.where(u >= others, 1.0, np.minimum(np.floor(4 * u / others), 3) / 4)


def spread(p: float) -> Quantiles:
    """Of 1 + Binomial(4, p)."""
    below = stats.binom.cdf(np.arange(4), 4, p)
    return lambda u: np.searchsorted(below, u) / 4


def beta(p: float, strength: float = 3.0) -> Quantiles:
    grid = np.linspace(0, 1, 20_001)
    quantiles = stats.beta.ppf(grid, strength * p, strength * (1 - p))
    return lambda u: np.interp(u, grid, quantiles)


def token_f1(p: float) -> Quantiles:
    wrong, right = 0.6 * (1 - p), 0.8 * p
    rest = 1 - wrong - right
    between = beta((p - right) / rest, 4.0)
    return lambda u: np.where(
        u < wrong, 0.0, np.where(u >= 1 - right, 1.0, between((u - wrong) / rest))
    )


def mean_of(law: Quantiles) -> float:
    return float(law((np.arange(1_000_000) + 0.5) / 1_000_000).mean())


def differences(
    first: Quantiles, second: Quantiles, shape: tuple[int, int], *, rng: np.random.Generator
) -> FloatArray:
    shared, is_alike = rng.normal(size=shape), rng.random(shape) < 0.5
    u = stats.norm.cdf((shared + rng.normal(size=shape)) / math.sqrt(2))
    v = stats.norm.cdf((shared + rng.normal(size=shape)) / math.sqrt(2))
    return np.asarray(second(np.where(is_alike, u, v)) - first(u))


def binary_pairs(plan: Plan, *, rng: np.random.Generator) -> Iterator[Row]:
    """Right or wrong: two of half-alike runs disagree on p (1 - p) of the examples."""

    @cache
    def interval(n_lost: int, n_won: int, n: int) -> Difference:
        d = np.repeat([-1.0, 1.0, 0.0], (n_lost, n_won, n - n_lost - n_won))
        return paired_binary(np.maximum(-d, 0), np.maximum(d, 0))

    for drop in (0.0, DROP):
        for n in SIZES:
            for p in CHANCES:
                chance = p * (1 - p) / 2
                chances = [chance + drop, chance, 1 - 2 * chance - drop]
                samples = rng.multinomial(n, chances, size=plan.repeats).astype(float)
                methods: dict[str, Method] = {
                    "tango-score": lambda k: interval(int(k[0]), int(k[1]), int(k.sum()))
                }
                data = f"pairs (right or wrong), n {n}, p {p}, change {0 - drop:g}"
                yield from simulated(data, methods, samples, truth=-drop)


def clustered_pairs(plan: Plan, *, rng: np.random.Generator) -> Iterator[Row]:
    for n in SIZES:
        clusters = unequal_clusters(n, N_CLUSTERS[n])
        strength, methods = 1 / INTRACLASS - 1, pair_methods(clusters.size, clusters)
        for drop in (0.0, DROP):
            for p in CHANCES:
                chance = p * (1 - p) / 2
                shapes = strength * np.array([chance + drop, chance, 1 - 2 * chance - drop])
                drawn = rng.gamma(shapes, size=(plan.repeats, N_CLUSTERS[n], 3))
                levels = (drawn / drawn.sum(axis=2, keepdims=True))[:, clusters]
                u = rng.random((plan.repeats, clusters.size))
                lost = u < levels[..., 0]
                won = u > 1 - levels[..., 1]
                data = (
                    f"pairs (clustered), n {clusters.size} in {N_CLUSTERS[n]}, p {p}, "
                    f"change {0 - drop:g}"
                )
                samples = won.astype(float) - lost
                yield from simulated(data, methods, samples, truth=-drop)


def bootstrapped(
    data: str,
    samples: FloatArray,
    plan: Plan,
    *,
    truth: float,
    rng: np.random.Generator,
    clusters: NDArray[np.int64] | None = None,
) -> Iterator[Row]:
    """Both bootstraps of a mean, on the first of the samples."""

    def interval(values: FloatArray, method: Literal["percentile", "bca"]) -> Interval:
        return bootstrap(
            np.column_stack((values, np.ones_like(values))),
            lambda sums: np.asarray(sums[..., 0] / sums[..., 1]),
            rng=rng,
            n_resamples=plan.n_resamples,
            method=method,
            clusters=clusters,
        )

    methods: dict[str, Method] = {
        "percentile": lambda v: interval(v, "percentile"),
        "bca": lambda v: interval(v, "bca"),
    }
    yield from simulated(data, methods, samples[: plan.bootstrap_repeats], truth=truth)


def simulated(
    data: str, methods: Mapping[str, Method], samples: FloatArray, *, truth: float
) -> Iterator[Row]:
    for name, method in methods.items():
        found = np.array([(i.low, i.high) for i in map(method, samples)])
        held = (found[:, 0] <= truth) & (truth <= found[:, 1])
        widths = found[:, 1] - found[:, 0]
        width = float(np.nanmean(widths)) if not np.isnan(widths).all() else float("nan")
        yield Row(
            data=data,
            method=name,
            coverage=float(held.mean()),
            width=width,
            n_repeats=len(samples),
        )


if __name__ == "__main__":
    main()
