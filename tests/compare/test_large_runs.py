"""Runs of a hundred thousand examples: read by the column, never by the row."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from paired_runs import record_of

from evalkit.compare import compare, open_side

N = 100_000
LIMIT_S = 5.0  # of processor time; it takes about one


def write_large(folder: Path, *, seed: int) -> Path:
    """A record whose examples are in an order of their own, with the columns of a run."""
    order = np.random.default_rng(seed).permutation(N)
    record_of([1.0, 0.0]).write(folder)
    columns = {
        "task": ["t"] * N,
        "example_id": [str(i) for i in order],
        "example_sha256": [f"{i * 2654435761 % 2**32:064x}" for i in order.tolist()],
        "repeat": np.zeros(N, dtype=np.int32),
        "status": ["ok"] * N,
        "prompt": ["a prompt that is never read " * 20] * N,
        "cluster": pa.nulls(N, pa.string()),
        "score.m": (order % (7 + seed) > 0).astype(np.float64),
    }
    pq.write_table(pa.table(columns), folder / "examples.parquet", compression="zstd")
    return folder


def test_a_hundred_thousand_examples_are_compared_in_seconds(tmp_path: Path) -> None:
    folders = [write_large(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    started = time.process_time()
    found = compare(open_side(folders[0]), [open_side(folders[1])])
    spent = time.process_time() - started
    [one] = found.candidates[0].metrics
    # wrong is a multiple of 7, or of 8, of which 1,786 are both
    n_sevenths, n_eighths, n_both = (len(range(0, N, step)) for step in (7, 8, 56))
    assert one.n_pairs == N
    assert (len(one.gained), len(one.lost)) == (n_sevenths - n_both, n_eighths - n_both)
    assert one.difference.estimate == (n_sevenths - n_eighths) / N
    assert spent < LIMIT_S
