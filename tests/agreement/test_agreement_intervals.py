"""Intervals over training seeds and verdicts on bounds, against tables of Student's t, scipy, and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mesaopt.agreement.intervals import (
    FAILS,
    HOLDS,
    MOST_SEEDS,
    TOO_FEW,
    UNDECIDED,
    Bound,
    holm,
    judge_values,
    seeds_needed,
    student_quantile,
    student_within,
)

#: 0.975 quantiles of Student's t, from printed tables
QUANTILES = {1: 12.706205, 2: 4.302653, 3: 3.182446, 4: 2.776445, 5: 2.570582, 9: 2.262157, 30: 2.042272}


@pytest.mark.parametrize("freedom", QUANTILES)
def test_quantiles_of_student(freedom: int) -> None:
    assert student_quantile(freedom) == pytest.approx(QUANTILES[freedom], rel=1e-6)
    assert student_within(QUANTILES[freedom], freedom) == pytest.approx(0.95, abs=1e-7)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_intervals_cover_the_truth_95_times_in_100(seeds: int, scale: str) -> None:
    rng, truth, count = np.random.default_rng(seeds), 0.3, 4000
    noise = rng.normal(scale=0.2, size=(count, seeds))
    samples = truth * np.exp(noise) if scale == "log" else truth + 0.1 * noise
    found = [judge_values(sample.tolist(), Bound(high=1.0), scale) for sample in samples]
    covered = np.mean([judgement.low < truth < judgement.high for judgement in found])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / count))


@pytest.mark.parametrize("distance", [0.05, 0.3, 2.0])
def test_the_seeds_that_are_needed_are_the_least_whose_interval_ends_before_the_bound(distance: float) -> None:
    by_scipy = next(n for n in range(2, 1001) if stats.t.ppf(0.975, n - 1) * 0.4 / math.sqrt(n) < distance)
    assert seeds_needed(distance, 0.4) == by_scipy
    assert seeds_needed(0.0, 0.4) == MOST_SEEDS and seeds_needed(1.0, 0.0) == 2


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_of_an_undecided_claim_it_is_said_how_many_seeds_would_decide(scale: str) -> None:
    """With as many values of the same mean and spread the claim is decided, with one less it is not."""
    undecided = judge_values([0.8, 1.0, 1.05], Bound(high=1.0), scale)
    assert undecided.verdict(undecided.p) == UNDECIDED and undecided.needed > 3
    assert math.isnan(judge_values([0.8, 0.82, 0.84], Bound(high=1.0), scale).needed)
    back = math.exp if scale == "log" else float
    centre = math.log(undecided.estimate) if scale == "log" else undecided.estimate
    decided = []
    for count in (int(undecided.needed) - 1, int(undecided.needed)):
        z = np.random.default_rng(count).normal(size=count)
        sample = centre + undecided.deviation * (z - z.mean()) / z.std(ddof=1)
        found = judge_values([back(value) for value in sample], Bound(high=1.0), scale)
        decided.append(found.verdict(found.p))
    assert decided == [UNDECIDED, HOLDS]


@pytest.mark.parametrize("seeds", [2, 5])
def test_a_claim_at_its_bound_is_decided_wrongly_5_times_in_100(seeds: int) -> None:
    rng, count = np.random.default_rng(seeds), 4000
    found = [judge_values(rng.normal(1.0, 0.1, seeds).tolist(), Bound(high=1.0), "linear") for _ in range(count)]
    decided = np.mean([judgement.verdict(judgement.p) != UNDECIDED for judgement in found])
    assert decided == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / count))


def test_the_family_of_all_claims_is_wrong_5_times_in_100() -> None:
    """Thirty claims at their bounds that share seeds and so depend on each other: only corrected verdicts err seldom enough."""
    rng, count = np.random.default_rng(0), 400
    plain = corrected = 0
    for _ in range(count):
        common = rng.normal(size=5)
        found = [judge_values((1 + rng.normal(size=5) + common).tolist(), Bound(high=1.0), "linear") for _ in range(30)]
        p_values = [judgement.p for judgement in found]
        plain += min(p_values) < 0.05
        corrected += min(holm(p_values)) < 0.05
    assert plain > 0.3 * count
    assert corrected < 0.05 * count + 4 * math.sqrt(0.05 * 0.95 * count)


@pytest.mark.parametrize(
    ("values", "bound", "verdict"),
    [
        ([0.50, 0.51, 0.49], Bound(high=1.0), HOLDS),
        ([1.50, 1.51, 1.49], Bound(high=1.0), FAILS),
        ([0.80, 1.30, 0.60], Bound(high=1.0), UNDECIDED),
        ([2.10, 2.11, 2.09], Bound(low=2.0), HOLDS),
        ([1.90, 1.91, 1.89], Bound(low=2.0), FAILS),
        ([0.99, 1.00, 1.01], Bound(0.9, 1.1), HOLDS),
        ([1.19, 1.20, 1.21], Bound(0.9, 1.1), FAILS),
        ([0.79, 0.80, 0.81], Bound(0.9, 1.1), FAILS),
        ([0.70, 1.00, 1.30], Bound(0.9, 1.1), UNDECIDED),
        ([4.0, 4.0, 4.0], Bound(3.5, 4.5), HOLDS),
        ([5.0, 5.0, 5.0], Bound(3.5, 4.5), FAILS),
        ([0.5], Bound(high=1.0), TOO_FEW),
    ],
)
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_verdicts(values: list[float], bound: Bound, verdict: str, scale: str) -> None:
    judgement = judge_values(values, bound, scale)
    assert judgement.verdict(judgement.p) == verdict
    if len(values) > 1:  # the same by looking at the interval
        inside = bound.low < judgement.low and judgement.high < bound.high
        outside = judgement.high < bound.low or judgement.low > bound.high
        assert verdict == (HOLDS if inside else FAILS if outside else UNDECIDED)


def test_two_seeds_need_to_agree_closely() -> None:
    assert judge_values([0.5, 0.9], Bound(high=1.0), "linear").verdict(0.2) == UNDECIDED
    assert judge_values([0.50, 0.51], Bound(high=1.0), "linear").p < 0.05


def test_holm_by_hand() -> None:
    assert holm([0.01, math.nan, 0.04, 0.03]) == pytest.approx([0.03, math.nan, 0.06, 0.06], nan_ok=True)
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_ratios_are_averaged_as_ratios() -> None:
    judgement = judge_values([0.5, 2.0], Bound(high=3.0), "log")
    assert judgement.estimate == pytest.approx(1.0)
    assert judgement.low == pytest.approx(1 / judgement.high)
    assert judge_values([-0.5, 2.0], Bound(high=3.0), "log").estimate == pytest.approx(0.75)  # no logarithm of these


# --- scipy as the oracle
SAMPLES = st.lists(st.floats(0.01, 100), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-3 * np.mean(values))


@pytest.mark.parametrize("freedom", [*range(1, 41), 100, 101])
@pytest.mark.parametrize("within", [0.5, 0.9, 0.95, 0.999])
def test_quantiles_and_probabilities_are_those_of_scipy(freedom: int, within: float) -> None:
    oracle = stats.t.ppf((1 + within) / 2, freedom)
    assert student_quantile(freedom, within) == pytest.approx(oracle, rel=1e-9)
    assert student_within(oracle, freedom) == pytest.approx(within, abs=1e-12)


@given(SAMPLES, st.floats(0.02, 50))
def test_intervals_and_p_values_of_values_are_those_of_scipy(values: list[float], edge: float) -> None:
    found = judge_values(values, Bound(high=edge), "linear")
    oracle = stats.ttest_1samp(values, edge)
    interval = oracle.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-9)
    assert found.p == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-12)


@given(SAMPLES, st.floats(0.02, 50))
def test_intervals_and_p_values_of_ratios_are_those_of_scipy(values: list[float], edge: float) -> None:
    found = judge_values(values, Bound(low=edge), "log")
    oracle = stats.ttest_1samp(np.log(values), math.log(edge))
    interval = oracle.confidence_interval(0.95)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-9)
    assert found.p == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("bound", [Bound(0.9, 1.2), Bound(0.99, 5.0)])
def test_inside_two_edges_the_nearer_one_decides(bound: Bound) -> None:
    values = [1.0, 1.05, 1.02, 1.08]
    edges = [stats.ttest_1samp(values, edge).pvalue for edge in (bound.low, bound.high)]
    assert judge_values(values, bound, "linear").p == pytest.approx(max(edges), rel=1e-9)
