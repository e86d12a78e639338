"""The score test of a difference between two paired proportions, and the interval it gives."""

from __future__ import annotations

import math

from scipy import optimize
from scipy.special import ndtri


def score_z(n_only_a: int, n_only_b: int, n: int, *, difference: float) -> float:
    """Score statistic of ``n`` pairs for p_b - p_a = ``difference`` (-1..1); falls as that rises.

    Standard normal under that hypothesis; its variance comes from the most likely table that
    obeys it, so that it is defined without a discordant pair. At 0 it is McNemar's.
    Source: Tango (1998), Statist. Med. 17:891-908.
    """
    excess = n_only_b - n_only_a - n * difference
    linear = -n_only_b - n_only_a + (2 * n - n_only_b + n_only_a) * difference
    constant = -n_only_a * difference * (1 - difference)
    root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
    # the constrained P(only a right): the larger root, in the form that does not cancel
    share = -2 * constant / (linear + root) if linear > 0 else (root - linear) / (4 * n)
    share = min(max(share, 0.0, -difference), (1 - difference) / 2)
    variance = n * (2 * share + difference * (1 - difference))
    if variance > 0:
        return excess / math.sqrt(variance)
    return math.copysign(math.inf, excess) if excess else 0.0


def score_interval(n_only_a: int, n_only_b: int, n: int, *, level: float) -> tuple[float, float]:
    """The differences p_b - p_a (-1..1) that the score test at 1 - ``level`` does not reject.

    Source: Tango (1998), Statist. Med. 17:891-908.
    """
    z = float(ndtri(0.5 + level / 2))
    found = (n_only_b - n_only_a) / n

    def crossing(height: float, start: float, stop: float) -> float:
        def gap(difference: float) -> float:
            return score_z(n_only_a, n_only_b, n, difference=difference) - height

        return float(optimize.brentq(gap, start, stop, xtol=1e-14))

    # at -1 and 1 themselves the statistic is infinite, or 0 where that is what was found
    low = -1.0 if n_only_a == n else crossing(z, -1 + 1e-12, found)
    high = 1.0 if n_only_b == n else crossing(-z, found, 1 - 1e-12)
    return low, high
