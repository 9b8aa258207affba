"""Intervals over training seeds, and verdicts on bounds: Student's t, and Holm's correction for many claims.

A claim's statistic is one number per training seed. Its estimate is their mean, the interval that of Student's t with n - 1
degrees of freedom; of ratios both are computed on logarithms. A claim holds when the whole interval is on the right side of its
bound, fails when the whole interval is on the wrong side, and is undecided in between. The p-value of a claim is the
smallest error probability at which it would be decided, so that deciding at 0.05 and looking at the 95 % interval is the same.
Holm's correction of these p-values decides at most 5 % of all evaluations with any wrong decision, however claims depend on each
other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

ERROR = 0.05
#: how many seeds are counted up to
MOST_SEEDS = 1000
HOLDS, FAILS, UNDECIDED, TOO_FEW, NOT_RUN = "holds", "fails", "undecided", "undecided: too few seeds", "not run"
#: in the order in which tables and drawings explain them
VERDICTS = (HOLDS, FAILS, UNDECIDED, TOO_FEW, NOT_RUN)


@dataclass(frozen=True)
class Bound:
    """Where a statistic must lie: above `low` and below `high`."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, value: float) -> bool:
        return self.low < value < self.high


@dataclass(frozen=True)
class Judgement:
    """Mean over seeds and its 95 % interval (NaN with less than two seeds), and the p-value of the decision (NaN likewise).

    `distance` is that of the mean from the edge of the bound that must be excluded, `deviation` the spread over seeds (both of
    the logarithm, where the interval is).
    """

    seeds: int
    estimate: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    inside: bool = False
    distance: float = math.nan
    deviation: float = math.nan

    @property
    def needed(self) -> float:
        """How many seeds would decide what is undecided, with this mean and spread; NaN for what is decided."""
        return float(seeds_needed(self.distance, self.deviation)) if self.p >= ERROR else math.nan

    def verdict(self, p: float) -> str:
        """With its own p-value or a corrected one."""
        if self.seeds < 2:
            return TOO_FEW
        if p >= ERROR:
            return UNDECIDED
        return HOLDS if self.inside else FAILS


def judge_values(values: Sequence[float], bound: Bound, scale: Literal["linear", "log"]) -> Judgement:
    """`values`: the statistic, one finite number per training seed. Logarithms only where all values are positive."""
    log = scale == "log" and min(values) > 0
    sample = np.log(values) if log else np.asarray(values, dtype=float)
    count, centre = len(sample), float(sample.mean())
    back = math.exp if log else float
    inside = bound.holds(back(centre))
    if count < 2:
        return Judgement(count, back(centre), inside=inside)
    error = float(sample.std(ddof=1)) / math.sqrt(count)
    half = student_quantile(count - 1) * error
    edges = [_log(edge) if log else edge for edge in (bound.low, bound.high)]
    found = [_p_value(centre - edge, error, count - 1) for edge in edges if math.isfinite(edge)]
    # inside, every edge must be excluded; outside, the violated one, which is the nearest
    p = max(found, default=0.0)
    distance = min((abs(centre - edge) for edge in edges if math.isfinite(edge)), default=math.inf)
    spread = error * math.sqrt(count)
    return Judgement(count, back(centre), back(centre - half), back(centre + half), p, inside, distance, spread)


def seeds_needed(distance: float, deviation: float) -> int:
    """The least number of seeds, up to `MOST_SEEDS`, whose interval does not reach as far as `distance` from the mean."""

    def decide(seeds: int) -> bool:
        return student_quantile(seeds - 1) * deviation / math.sqrt(seeds) < distance

    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decide(middle) else (middle, high)
    return high


def _log(edge: float) -> float:
    return math.log(edge) if 0 < edge < math.inf else math.copysign(math.inf, edge if edge > 0 else -1.0)


def _p_value(distance: float, error: float, freedom: int) -> float:
    if error == 0:
        return float(distance == 0)
    return 1 - student_within(abs(distance) / error, freedom)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected p-values of a family of decisions (Holm, 1979), in the given order; NaN stays NaN and does not count."""
    counted = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(counted):
        largest = max(largest, min(1.0, p * (len(counted) - rank)))
        corrected[place] = largest
    return corrected


def student_within(t: float, freedom: int) -> float:
    """Probability of |T| < t for Student's t with a whole number of degrees of freedom (Abramowitz and Stegun, 26.7.3-4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, squared = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= squared * (k - 1) / k
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def student_quantile(freedom: int, within: float = 1 - ERROR) -> float:
    """The t with `student_within` = `within`: by bisection of its angle."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        t = math.sqrt(freedom) * math.tan(middle)
        low, high = (middle, high) if student_within(t, freedom) < within else (low, middle)
    return math.sqrt(freedom) * math.tan(low)
