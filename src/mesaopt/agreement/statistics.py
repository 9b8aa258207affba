"""The statistics that claims are measured with: a closed vocabulary, each one number per training seed.

A statistic reads the curves that a claim selects `of` a figure's table and, where it compares, those it is held `against`. A
curve is a series over x of one seed. Statistics of scale `log` are ratios: their intervals are computed on logarithms.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

#: y by x (ascending) of one series and one seed
Curve = pd.Series
Curves = Sequence[Curve]


def mean(of: Curves, against: Curves) -> float:
    """Mean over x, then over series."""
    return float(np.mean([curve.mean() for curve in of]))


def smallest_mean(of: Curves, against: Curves) -> float:
    """The smallest of the series' means over x: above a bound, every one of them is."""
    return float(min(curve.mean() for curve in of))


def largest_mean(of: Curves, against: Curves) -> float:
    """The largest of the series' means over x: below a bound, every one of them is."""
    return float(max(curve.mean() for curve in of))


def total(of: Curves, against: Curves) -> float:
    """Sum over x, then mean over series: of shares of a whole."""
    return float(np.mean([curve.sum() for curve in of]))


def smallest_total(of: Curves, against: Curves) -> float:
    """The smallest of the series' sums over x."""
    return float(min(curve.sum() for curve in of))


def ratio_of_ratios(of: Curves, against: Curves) -> float:
    """The first series' mean by the second's, by the same of the other side."""
    return ratio(of[:1], of[1:]) / ratio(against[:1], against[1:])


def ratio(of: Curves, against: Curves) -> float:
    """`mean` of the one by `mean` of the other."""
    return mean(of, ()) / mean(against, ())


def difference(of: Curves, against: Curves) -> float:
    """`mean` of the one less `mean` of the other: of losses, in nats."""
    return mean(of, ()) - mean(against, ())


def largest_difference(of: Curves, against: Curves) -> float:
    """The largest `difference` of a series and the one that it is held against: below 0, all of them are lower."""
    return max(difference([a], [b]) for a, b in zip(of, against, strict=True))


def largest_gap(of: Curves, against: Curves) -> float:
    """Largest |a/b - 1| over the x that both have: how far one curve is from the other where it is farthest."""
    return float(np.abs(_ratios(of, against) - 1).max())


def largest_ratio(of: Curves, against: Curves) -> float:
    """Largest a/b over the x that both have: below 1, one curve lies under the other everywhere."""
    return float(_ratios(of, against).max())


def largest_step(of: Curves, against: Curves) -> float:
    """Largest ratio of neighbours, of the series' means or, of a single series, along x: below 1, every step is downwards."""
    values = np.array([curve.mean() for curve in of]) if len(of) > 1 else of[0].to_numpy()
    return float((values[1:] / values[:-1]).max())


def place_of_minimum(of: Curves, against: Curves) -> float:
    """Which of the series has the smallest mean, counted from 0."""
    return float(np.argmin([curve.mean() for curve in of]))


def rank_correlation(of: Curves, against: Curves) -> float:
    """Spearman's correlation of the series' means: 1 when both tell the same order."""
    a, b = ([curve.mean() for curve in curves] for curves in (of, against))
    return float(np.corrcoef(pd.Series(a).rank(), pd.Series(b).rank())[0, 1])


def _ratios(of: Curves, against: Curves) -> np.ndarray:
    pairs = [a.align(b, join="inner") for a, b in zip(of, against, strict=True)]
    return np.concatenate([(a / b).to_numpy() for a, b in pairs])


@dataclass(frozen=True)
class Statistic:
    """`compares`: it needs curves `against`; `paired`: as many as there are on the other side; `several`: more than one."""

    function: Callable[[Curves, Curves], float]
    scale: Literal["linear", "log"]
    compares: bool = False
    paired: bool = False
    several: bool = False


STATISTICS = {
    "mean": Statistic(mean, "linear"),
    "smallest_mean": Statistic(smallest_mean, "linear", several=True),
    "largest_mean": Statistic(largest_mean, "linear", several=True),
    "total": Statistic(total, "linear"),
    "smallest_total": Statistic(smallest_total, "linear", several=True),
    "ratio": Statistic(ratio, "log", compares=True),
    "ratio_of_ratios": Statistic(ratio_of_ratios, "log", compares=True, paired=True, several=True),
    "difference": Statistic(difference, "linear", compares=True),
    "largest_difference": Statistic(largest_difference, "linear", compares=True, paired=True),
    "largest_gap": Statistic(largest_gap, "linear", compares=True, paired=True),
    "largest_ratio": Statistic(largest_ratio, "log", compares=True, paired=True),
    "largest_step": Statistic(largest_step, "log"),
    "place_of_minimum": Statistic(place_of_minimum, "linear", several=True),
    "rank_correlation": Statistic(rank_correlation, "linear", compares=True, paired=True, several=True),
}
