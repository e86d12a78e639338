"""Strengths of systems from pairwise verdicts: Bradley and Terry's model, with Davidson's ties.

P(i beats j) = e^s_i / (e^s_i + e^s_j + v e^((s_i + s_j)/2)), a tie having the last term, v >= 0.
Item 0 is the reference: its strength is 0 by definition, and so is its standard error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csgraph
from scipy.special import ndtri

from evalkit.stats.intervals import FloatArray, Interval
from evalkit.stats.resample import percentile_bounds, resampled_sums

_MAX_STEPS = 100
_TOLERANCE = 1e-10  # of a Newton step, in log odds
_UNDEFINED_SHARE = 0.05  # of the resamples; beyond it they would describe another statistic


@dataclass(frozen=True, slots=True, kw_only=True)
class BradleyTerry:
    """Maximum-likelihood strengths in log odds, from the observed information."""

    strengths: FloatArray  # (m,)
    stderrs: FloatArray  # (m,), of the difference from item 0
    covariance: FloatArray  # (m, m), its row and column 0 being 0
    tie: float  # v: 0 without ties; two equals tie with probability v / (2 + v)


def fit(wins: ArrayLike, *, ties: ArrayLike | None = None, prior: float = 0.0) -> BradleyTerry:
    """Fit to ``wins`` (m, m), row i column j being how often i beat j, and ``ties`` (m, m).

    Ties are symmetric, each counted at both places; counts may be fractions. Where the data allow
    any strength to grow without limit there is no fit: ValueError, unless ``prior`` > 0, which
    adds that many wins of each item over each other (Davidson and Solomon's conjugate prior) and
    pulls all strengths towards equality. ValueError also for counts that are not what they should
    be. Standard errors take comparisons as independent: see `bootstrap_strengths`.
    Source: Bradley and Terry (1952), Biometrika 39:324; Davidson (1970), J. Am. Stat. Assoc.
    65:317-328; Davidson and Solomon (1973), Biometrika 60:477-487.

    >>> fit([[0, 30], [10, 0]]).strengths.round(4).tolist()  # log(10 / 30)
    [0.0, -1.0986]
    """
    counts, tied, parameters, information = _fitted(wins, ties, prior)
    m = len(counts)
    covariance = np.asarray(np.linalg.inv(information), dtype=np.float64)
    return _model(parameters, covariance, m=m, has_ties=bool(tied.any()))


def robust_fit(
    wins: FloatArray, *, ties: FloatArray | None = None, prior: float = 0.0
) -> BradleyTerry:
    """`fit` with errors that hold where comparisons of one prompt (or one judge) are alike.

    ``wins`` and ``ties`` are (n, m, m): the counts of each of n independent units. Strengths are
    those of `fit` to the sums; their covariance is the sandwich of the units' scores, times
    n / (n - 1). It also holds where the model is wrong, for the strengths that fit best. nan for
    one unit; with fewer than 30 the normal quantiles that `contrast` and `rank_ranges` take are
    too short. ValueError as in `fit`.
    Source: White (1982), Econometrica 50:1-25; Liang and Zeger (1986), Biometrika 73:13-22.
    """
    if wins.ndim != 3:
        raise ValueError(f"wins must be (n, m, m): got {wins.shape}")
    tied = np.zeros_like(wins) if ties is None else ties
    _, total_ties, parameters, information = _fitted(wins.sum(axis=0), tied.sum(axis=0), prior)
    n, m = len(wins), wins.shape[1]
    scores = _unit_scores(wins, tied, parameters)
    scores = scores - scores.mean(axis=0)  # with a prior they do not add up to 0
    bread = np.linalg.inv(information)
    meat = scores.T @ scores * (n / (n - 1) if n > 1 else math.nan)
    return _model(parameters, bread @ meat @ bread, m=m, has_ties=bool(total_ties.any()))


def contrast(model: BradleyTerry, item: int, other: int = 0, *, level: float = 0.95) -> Interval:
    """How far ``item`` lies above ``other``, with its Wald interval: a log odds ratio."""
    cov = model.covariance
    variance = float(cov[item, item] + cov[other, other] - 2 * cov[item, other])
    estimate = float(model.strengths[item] - model.strengths[other])
    stderr = math.sqrt(max(0.0, variance))
    margin = float(ndtri(0.5 + level / 2)) * stderr
    return Interval(
        estimate=estimate,
        stderr=stderr,
        low=estimate - margin,
        high=estimate + margin,
        level=level,
        method="wald",
    )


def rank_ranges(model: BradleyTerry, *, level: float = 0.95) -> NDArray[np.intp]:
    """Best and worst rank (m, 2) of each item, 1 being the strongest.

    All ranges hold together with probability ``level`` or more: an item is ranked below another
    only where their difference's interval, widened for all m (m - 1) / 2 pairs, excludes 0.
    Source: Sidak (1967), J. Am. Stat. Assoc. 62:626-633; Klein, Wright and Wieczorek (2020),
    Appl. Statist. 69:589-606.
    """
    m = model.strengths.size
    z = float(ndtri(0.5 + level ** (2 / (m * (m - 1))) / 2))
    gaps = model.strengths[:, None] - model.strengths[None, :]
    variances = np.diag(model.covariance)
    spread = np.sqrt(
        np.maximum(0.0, variances[:, None] + variances[None, :] - 2 * model.covariance)
    )
    is_above = gaps > z * spread
    return np.column_stack((1 + is_above.sum(axis=0), m - is_above.sum(axis=1)))


def bootstrap_strengths(
    wins: FloatArray,
    *,
    ties: FloatArray | None = None,
    prior: float = 0.0,
    rng: np.random.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[Interval, ...]:
    """Percentile intervals of the m strengths, resampling what holds comparisons together.

    ``wins`` and ``ties`` are (n, m, m): the counts of each of n prompts (or single comparisons).
    Bounds are nan when n < 2 or one in twenty resamples has no fit; fewer of them are left out.
    ValueError as in `fit`, of the total.
    Source: Efron and Tibshirani (1993), eq. 13.3.
    """
    n, m, _ = wins.shape
    tied = np.zeros_like(wins) if ties is None else ties
    whole = fit(wins.sum(axis=0), ties=tied.sum(axis=0), prior=prior)
    rows = np.concatenate((wins.reshape(n, -1), tied.reshape(n, -1)), axis=1)
    drawn = []
    for sums in resampled_sums(rows, n_resamples, rng=rng) if n > 1 else ():
        counts = _with_prior(sums[: m * m].reshape(m, m), prior)
        moved = sums[m * m :].reshape(m, m)
        if not _why_unbounded(counts, moved):
            drawn.append(_maximum(counts, moved)[0][: m - 1])
    is_enough = len(drawn) >= max(2.0, (1 - _UNDEFINED_SHARE) * n_resamples)
    found = np.zeros((len(drawn), m)) if is_enough else np.full((2, m), math.nan)
    if is_enough:
        found[:, 1:] = drawn
    bounds = [percentile_bounds(column, level=level) for column in found.T]
    return tuple(
        Interval(
            estimate=float(whole.strengths[item]),
            stderr=float(found[:, item].std(ddof=1)),
            low=low,
            high=high,
            level=level,
            method="percentile",
        )
        for item, (low, high) in enumerate(bounds)
    )


def _fitted(
    wins: ArrayLike, ties: ArrayLike | None, prior: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Counts with the prior, ties, and the maximum's parameters and information."""
    counts, tied = _counts(wins), _counts(ties) if ties is not None else None
    if tied is None:
        tied = np.zeros_like(counts)
    if tied.shape != counts.shape or not np.array_equal(tied, tied.T):
        raise ValueError("ties must be symmetric and of the shape of wins")
    counts = _with_prior(counts, prior)
    problem = _why_unbounded(counts, tied)
    if problem:
        raise ValueError(problem)
    return counts, tied, *_maximum(counts, tied)


def _model(
    parameters: FloatArray, parameter_covariance: FloatArray, *, m: int, has_ties: bool
) -> BradleyTerry:
    covariance = np.zeros((m, m))
    covariance[1:, 1:] = parameter_covariance[: m - 1, : m - 1]
    return BradleyTerry(
        strengths=np.concatenate(([0.0], parameters[: m - 1])),
        stderrs=np.sqrt(np.diag(covariance)),
        covariance=covariance,
        tie=math.exp(parameters[-1]) if has_ties else 0.0,
    )


def _unit_scores(wins: FloatArray, ties: FloatArray, parameters: FloatArray) -> FloatArray:
    """(n, p): each unit's gradient of the log-likelihood, as in `_derivatives`."""
    m = wins.shape[1]
    strengths = np.concatenate(([0.0], parameters[: m - 1]))
    half = (strengths[:, None] - strengths[None, :]) / 2
    log_tie = float(parameters[-1]) if parameters.size == m else -math.inf
    log_total = np.logaddexp(np.logaddexp(half, -half), log_tie)
    win, tie = np.exp(half - log_total), np.exp(log_tie - log_total)
    played = wins + np.swapaxes(wins, 1, 2) + ties
    scores = (wins - np.swapaxes(wins, 1, 2) - played * (win - win.T)).sum(axis=2)[:, 1:] / 2
    if parameters.size < m:
        return np.asarray(scores)
    shared = (ties - played * tie).sum(axis=(1, 2))[:, None] / 2
    return np.concatenate((scores, shared), axis=1)


def _counts(table: ArrayLike) -> FloatArray:
    counts = np.asarray(table, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or len(counts) < 2:
        raise ValueError(f"counts must be (m, m) with m of 2 or more: got {counts.shape}")
    if not np.isfinite(counts).all() or (counts < 0).any() or np.diag(counts).any():
        raise ValueError("counts must be finite, not negative, and 0 of an item with itself")
    return counts


def _with_prior(counts: FloatArray, prior: float) -> FloatArray:
    if not 0 <= prior < math.inf:
        raise ValueError(f"prior must be 0 or a positive number of wins: got {prior}")
    return counts + prior * (1 - np.eye(len(counts)))


def _why_unbounded(wins: FloatArray, ties: FloatArray) -> str:
    """Why the likelihood has no maximum, in a line; empty when it has one."""
    is_edge = (wins > 0) | (ties > 0)
    n_groups, groups = csgraph.connected_components(
        is_edge.astype(float), directed=True, connection="strong"
    )
    for group in range(n_groups if n_groups > 1 else 0):
        members = np.flatnonzero(groups == group)
        rest = np.flatnonzero(groups != group)
        if not is_edge[np.ix_(members, rest)].any():
            names = ("item " if members.size == 1 else "items ") + ", ".join(map(str, members))
            return (
                f"{names} won nothing against the rest, so strengths have no finite"
                " estimate: add comparisons, leave items out, or set prior"
            )
    if not ties.any():
        return ""
    # A tie parameter that grows while strengths spread twice as fast is a system of difference
    # constraints: it has a solution, and the likelihood no maximum, unless a cycle is negative.
    lengths = np.where(wins > 0, -1.0, np.where(ties > 0, 1.0, 0.0))
    try:
        csgraph.bellman_ford(lengths, directed=True, indices=[0])
    except csgraph.NegativeCycleError:
        return ""
    return "ties have no finite estimate, as no wins contradict them: add comparisons or set prior"


def _maximum(wins: FloatArray, ties: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Parameters (strengths 1..m-1, then log v where there are ties) and their information."""
    m, has_ties = len(wins), bool(ties.any())
    parameters = np.zeros(m - 1 + has_ties)
    if has_ties:
        parameters[-1] = math.log(ties.sum() / wins.sum())  # as if all strengths were equal
    likelihood, gradient, information = _derivatives(wins, ties, parameters)
    for _ in range(_MAX_STEPS):
        step = np.linalg.solve(information, gradient)
        if float(np.abs(step).max()) < _TOLERANCE:
            return parameters, information
        for _ in range(_MAX_STEPS):
            moved = _derivatives(wins, ties, parameters + step)
            if moved[0] >= likelihood - 1e-9 * abs(likelihood):
                break
            step = step / 2
        parameters = parameters + step
        likelihood, gradient, information = moved
    raise ValueError("strengths did not converge: comparisons are too one-sided, set prior")


def _derivatives(
    wins: FloatArray, ties: FloatArray, parameters: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """Log-likelihood, its gradient and the observed information."""
    m, has_ties = len(wins), bool(ties.any())
    strengths = np.concatenate(([0.0], parameters[: m - 1]))
    half = (strengths[:, None] - strengths[None, :]) / 2
    log_tie = float(parameters[-1]) if has_ties else -math.inf
    log_total = np.logaddexp(np.logaddexp(half, -half), log_tie)
    win, tie = np.exp(half - log_total), np.exp(log_tie - log_total)
    played = wins + wins.T + ties
    likelihood = float(np.sum(wins * (half - log_total)))
    gradient = (wins - wins.T).sum(axis=1) / 2 - (played * (win - win.T)).sum(axis=1) / 2
    weights = played * (win + win.T - (win - win.T) ** 2) / 4
    information = np.diag(weights.sum(axis=1)) - weights
    if not has_ties:
        return likelihood, gradient[1:], information[1:, 1:]
    likelihood += float(np.sum(ties * (log_tie - log_total))) / 2
    shared = -(played * (win - win.T) * tie).sum(axis=1) / 2
    twice = np.array([np.sum(ties - played * tie), np.sum(played * tie * (1 - tie))])
    tie_gradient, tie_information = twice / 2
    full = np.zeros((m, m))
    full[:-1, :-1] = information[1:, 1:]
    full[:-1, -1] = full[-1, :-1] = shared[1:]
    full[-1, -1] = tie_information
    return likelihood, np.append(gradient[1:], tie_gradient), full
