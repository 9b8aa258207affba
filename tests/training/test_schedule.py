"""The learning rate against hand-computed values and its own outline."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesaopt.errors import InputError
from mesaopt.training.schedule import learning_rate


def test_warm_up_is_linear_from_zero_to_the_peak():
    assert learning_rate(0, 1e-3, 1000, None, None) == 0.0
    assert learning_rate(250, 1e-3, 1000, None, None) == pytest.approx(2.5e-4)
    assert learning_rate(1000, 1e-3, 1000, None, None) == 1e-3
    assert learning_rate(10**6, 1e-3, 1000, None, None) == 1e-3


def test_no_warm_up_starts_at_the_peak():
    assert learning_rate(0, 1e-4, 0, None, None) == 1e-4


def test_cosine_reaches_its_end_at_the_horizon_which_includes_the_warm_up():
    peak, last = 8e-4, 1e-5
    assert learning_rate(1000, peak, 1000, 30000, last) == pytest.approx(peak)
    assert learning_rate(15500, peak, 1000, 30000, last) == pytest.approx((peak + last) / 2)
    assert learning_rate(30000, peak, 1000, 30000, last) == pytest.approx(last)
    assert learning_rate(40000, peak, 1000, 30000, last) == pytest.approx(last)
    # a quarter of the way down: (1 + cos(pi/4)) / 2 of the range is left
    assert learning_rate(1000 + 29000 // 4, peak, 1000, 30000, last) == pytest.approx(last + (peak - last) * 0.85355339)


@given(st.integers(0, 200), st.integers(1, 500), st.floats(1e-6, 1e-2))
def test_rises_then_never_rises_again(warmup: int, length: int, final_lr: float):
    rates = [learning_rate(step, 1e-2, warmup, warmup + length, final_lr) for step in range(warmup + length + 3)]
    assert all(a <= b for a, b in pairwise(rates[: warmup + 1]))
    assert all(a >= b - 1e-15 for a, b in pairwise(rates[warmup:]))


def test_a_cosine_without_a_horizon_is_refused():
    with pytest.raises(InputError, match="horizon"):
        learning_rate(5, 1e-3, 2, None, 1e-5)
    with pytest.raises(InputError, match="horizon"):
        learning_rate(5, 1e-3, 2, 2, 1e-5)
