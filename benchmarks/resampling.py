"""The time of a bootstrap: 10,000 resamples of 10,000 examples, for corpus BLEU and for a mean.

    python benchmarks/resampling.py [--repeats 5] [--examples 10000] [--resamples 10000]

BLEU has ten sufficient statistics an example (matches and totals of four orders, two lengths), a
mean two. The time is that of ``bootstrap``, jackknife and bounds included, and beside it that of
the plain way, whose resamples are arrays of indices: ``stats[rng.integers(0, n, n)].sum(axis=0)``,
measured on a hundredth of the resamples and multiplied. Medians of the repeats; "processor" is the
time that all threads spent.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray
from processes import describe_machine

from evalkit.stats.resample import bootstrap

FloatArray = NDArray[np.float64]
PLAIN_SHARE = 100


def main() -> None:
    arguments = parse()
    print(describe_machine(), flush=True)
    n, n_resamples = arguments.examples, arguments.resamples
    print(f"{n:,} examples, {n_resamples:,} resamples, medians of {arguments.repeats}\n")
    print("| statistic | seconds | processor, s | plain way, s |\n|---|---:|---:|---:|")
    rng = np.random.default_rng(0)
    cases = {
        "corpus BLEU, k = 10": (bleu_statistics(n, rng=rng), bleu),
        "mean, k = 2": (np.column_stack((rng.random(n), np.ones(n))), mean),
    }
    for name, (stats, combine) in cases.items():
        times = [timed(stats, combine, n_resamples) for _ in range(arguments.repeats)]
        elapsed, processor = (median(column) for column in zip(*times, strict=True))
        n_plain = max(1, n_resamples // PLAIN_SHARE)
        slow = median(plain(stats, n_plain) for _ in range(arguments.repeats))
        print(
            f"| {name} | {elapsed:.2f} | {processor:.2f} | {slow * n_resamples / n_plain:.1f} |",
            flush=True,
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=10_000)
    return parser.parse_args()


def bleu_statistics(n: int, *, rng: np.random.Generator) -> FloatArray:
    """(n, 10): matches and totals of 1- to 4-grams, lengths of hypothesis and reference."""
    lengths = rng.integers(8, 50, size=n)
    totals = np.stack([lengths - order for order in range(4)], axis=1)
    matches = rng.binomial(totals, [0.6, 0.4, 0.25, 0.15])
    references = lengths + rng.integers(-4, 5, size=n)
    return np.column_stack((matches, totals, lengths, references)).astype(np.float64)


def bleu(sums: FloatArray) -> FloatArray:
    precisions = sums[..., :4] / sums[..., 4:8]
    brevity = np.minimum(0.0, 1 - sums[..., 9] / sums[..., 8])
    return np.asarray(100 * np.exp(np.log(precisions).mean(axis=-1) + brevity))


def mean(sums: FloatArray) -> FloatArray:
    return np.asarray(sums[..., 0] / sums[..., 1])


def timed(
    stats: FloatArray, combine: Callable[[FloatArray], FloatArray], n_resamples: int
) -> tuple[float, float]:
    start = time.perf_counter(), time.process_time()
    bootstrap(stats, combine, rng=np.random.default_rng(0), n_resamples=n_resamples)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def plain(stats: FloatArray, n_resamples: int) -> float:
    rng, n = np.random.default_rng(0), len(stats)
    start = time.perf_counter()
    for _ in range(n_resamples):
        stats[rng.integers(0, n, size=n)].sum(axis=0)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
