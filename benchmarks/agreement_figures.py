"""Agreement on recorded human and judge labels, held against figures of other tools.

    python benchmarks/agreement_figures.py --data DIR

DIR has ``expected_public.json``, figures computed with scikit-learn, scipy, statsmodels and
krippendorff, and the label sets they are of: PandaLM (three annotators and two judges on pairwise
preferences), Topical-Chat (UniEval's scores against people's), HANNA (three annotators, five
judges) and the MQM scores of WMT 2020 and 2021. Prints a line for each group of figures: how many
were compared and the largest difference. Exits 1 if one is above 1e-6.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evalkit.stats.agreement import (
    cohen_kappa,
    confusion_matrix,
    label_codes,
    percent_agreement,
)
from evalkit.stats.icc import Form, icc
from evalkit.stats.intervals import FloatArray, cluster_t_interval, t_interval
from evalkit.stats.krippendorff import Scale, krippendorff_alpha
from evalkit.stats.panel_agreement import fleiss_kappa, label_counts
from evalkit.stats.rank_agreement import correlation, count_pairs, pearson
from evalkit.stats.system_agreement import system_means
from evalkit.stats.weighted_correlation import Kind

TOLERANCE = 1e-6
Figure = tuple[str, float, float]  # name, ours, theirs
CORRELATIONS: Mapping[str, Kind] = {
    "pearson": "pearson",
    "spearman": "spearman",
    "kendall_b": "kendall-b",
    "kendall_c": "kendall-c",
}
FORMS: Mapping[str, Form] = {
    **{"ICC1": "1,1", "ICC2": "2,1", "ICC3": "3,1"},
    **{"ICC1k": "1,k", "ICC2k": "2,k", "ICC3k": "3,k"},
}
SCALES: Sequence[Scale] = ("nominal", "ordinal", "interval")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    folder: Path = parser.parse_args().data
    expected = json.loads((folder / "expected_public.json").read_text("utf-8"))
    groups = {
        "pandalm": pandalm(folder, expected["pandalm"]),
        "topical_chat": topical_chat(folder, expected["topical_chat"]),
        "hanna_public": hanna(folder, expected["hanna_public"]),
        "wmt20_ende": wmt20(folder / "wmt20_mqm_ende.csv", expected["wmt20_ende"]),
        "wmt20_zhen": wmt20(folder / "wmt20_mqm_zhen.csv", expected["wmt20_zhen"]),
        "wmt21_ted_zhen": wmt21(folder, expected["wmt21_ted_zhen"]["systems"]),
    }
    is_right = True
    print("| set | figures | largest difference | where |\n|---|---:|---:|---|")
    for group, figures in groups.items():
        found = [(abs(ours - theirs), name) for name, ours, theirs in figures]
        largest, where = max(found)
        print(f"| {group} | {len(found)} | {largest:.1e} | {where} |", flush=True)
        is_right &= all(difference <= TOLERANCE for difference, _ in found)
    sys.exit(0 if is_right else 1)


def pandalm(folder: Path, expected: Mapping[str, Any]) -> Iterator[Figure]:
    rows = read_lines(folder / "pandalm_pairs.jsonl")
    humans = np.array([row["human"] for row in rows])
    labels = (0, 1, 2)
    for pair, theirs in expected["cohen"].items():
        a, b = (humans[:, int(person) - 1] for person in pair.split("-"))
        yield f"cohen {pair}", cohen_kappa(a, b, labels=labels).estimate, theirs
    fleiss = fleiss_kappa(label_counts(humans, labels=labels))
    yield "fleiss", fleiss.estimate, expected["fleiss"]
    yield "alpha_nominal", alpha(humans.astype(np.float64), "nominal"), expected["alpha_nominal"]
    majority = label_counts(humans, labels=labels).argmax(axis=1)  # three never give three labels
    for judge, known in expected["judges"].items():
        # no verdict is an answer of its own: a disagreement, and a label of kappa's
        verdicts = [-1 if row["judges"][judge] is None else row["judges"][judge] for row in rows]
        own = (-1, *labels)
        same = percent_agreement(majority, verdicts, labels=own)
        yield f"{judge} accuracy", same.estimate, known["accuracy"]
        yield f"{judge} wilson low", same.low, known["wilson"][0]
        yield f"{judge} wilson high", same.high, known["wilson"][1]
        kappa = cohen_kappa(majority, verdicts, labels=own).estimate
        yield f"{judge} kappa", kappa, known["kappa"]
        each = [percent_agreement(h, verdicts, labels=own).estimate for h in humans.T]
        mean = known["mean_agreement_with_individual_humans"]
        yield f"{judge} mean agreement", float(np.mean(each)), mean
        table = confusion_matrix(majority, verdicts, labels=own)
        for cell, count in known["confusion_human_by_judge"].items():
            row, column = (int(label_codes([int(x)], labels=own)[0]) for x in cell.split("->"))
            yield f"{judge} {cell}", float(table[row, column]), count


def topical_chat(folder: Path, expected: Mapping[str, Any]) -> Iterator[Figure]:
    rows = read_lines(folder / "topical_chat.jsonl")
    systems = [row["system"] for row in rows]
    for dimension, known in expected.items():
        human = np.array([row["human"][dimension] for row in rows])
        judge = np.array([row["judges"]["unieval"][dimension] for row in rows])
        yield from correlations(dimension, judge, human, known)
        yield f"{dimension} acc_eq_eps0", accuracy(judge, human), known["acc_eq_eps0"]
        means = system_means(judge, systems), system_means(human, systems)
        yield from correlations(f"{dimension} systems", *means, known["system_level"])


def hanna(folder: Path, expected: Mapping[str, Any]) -> Iterator[Figure]:
    table = pd.read_csv(folder / "hanna_public.csv")
    for dimension, known in expected.items():
        humans = table[[f"h{i}_{dimension}" for i in (1, 2, 3)]].to_numpy(dtype=np.float64)
        for scale in SCALES:
            yield f"{dimension} {scale}", alpha(humans, scale), known[f"alpha_{scale}"]
        for name, form in FORMS.items():
            yield f"{dimension} {name}", icc(humans, form=form).estimate, known[name]
        for judge, theirs in known["judges"].items():
            scores = table[f"{judge.replace('/', '_')}_{dimension}"].to_numpy(dtype=np.float64)
            yield from correlations(f"{dimension} {judge}", scores, humans.mean(axis=1), theirs)


def wmt20(file: Path, expected: Mapping[str, Any]) -> Iterator[Figure]:
    table = pd.read_csv(file)
    means = dict(
        zip(
            sorted(table["system"].unique()),
            system_means(table["mqm"].to_numpy(), table["system"].to_numpy()),
            strict=True,
        )
    )
    for system, known in expected.items():
        found = t_interval(table.loc[table["system"] == system, "mqm"].to_numpy(np.float64))
        yield f"{system} mean", float(means[system]), known["mean"]
        yield f"{system} se", found.stderr, known["se"]


def wmt21(folder: Path, expected: Mapping[str, Any]) -> Iterator[Figure]:
    rows = read_lines(folder / "wmt21_ted_zhen.jsonl")
    for system, figures in expected.items():
        known = figures["mqm_penalty"]
        scored = [row for row in rows if system in row["mqm"]]
        values = np.array([np.mean(list(row["mqm"][system].values())) for row in scored])
        found = cluster_t_interval(values, [row["doc"] for row in scored])
        yield f"{system} mean", found.estimate, known["mean"]
        yield f"{system} se_cluster_cr1", found.stderr, known["se_cluster_cr1"]
        yield f"{system} se_naive", t_interval(values).stderr, known["se_naive"]


def correlations(
    name: str, judge: FloatArray, human: FloatArray, known: Mapping[str, Any]
) -> Iterator[Figure]:
    for key, kind in CORRELATIONS.items():
        # the estimate alone is compared: it does not depend on the resamples
        rng = np.random.default_rng(0)
        found = correlation(judge, human, kind=kind, rng=rng, n_resamples=2)
        yield f"{name} {key}", found.estimate, known[key]
    fisher = pearson(judge, human)
    yield f"{name} fisher low", fisher.low, known["pearson_ci_fisher"][0]
    yield f"{name} fisher high", fisher.high, known["pearson_ci_fisher"][1]


def accuracy(judge: FloatArray, human: FloatArray) -> float:
    pairs = count_pairs(judge, human)
    n = len(judge) * (len(judge) - 1) // 2
    return (pairs.n_concordant + pairs.n_tied_both) / n


def alpha(ratings: FloatArray, scale: Scale) -> float:
    rng = np.random.default_rng(0)
    return krippendorff_alpha(ratings, scale=scale, rng=rng, n_resamples=2).estimate


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


if __name__ == "__main__":
    main()
