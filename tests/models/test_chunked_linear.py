"""Linear attention a run of positions at a time, against the sum that it stands for."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mesaopt.models.chunked_linear import chunked_linear


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 3), st.integers(1, 150), st.integers(1, 9), st.integers(1, 5))
def test_answers_and_gradients_are_those_of_the_sum(seed, heads, time, d_key, d_value):
    rng = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 2, heads, time, d_key, generator=rng, dtype=torch.float64)
    v = torch.randn(2, heads, time, d_value, generator=rng, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    found, naive = chunked_linear(*inputs), (q @ k.mT).tril() @ v
    assert torch.allclose(found, naive, rtol=1e-9, atol=1e-9)
    pulled = torch.randn(found.shape, generator=rng, dtype=torch.float64)
    for a, b in zip(*(torch.autograd.grad((of * pulled).sum(), inputs) for of in (found, naive)), strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-8)


def test_gradients_are_those_of_finite_differences():
    rng = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 1, 2, 70, 2, generator=rng, dtype=torch.float64)
    v = torch.randn(1, 2, 70, 1, generator=rng, dtype=torch.float64)
    assert torch.autograd.gradcheck(chunked_linear, [x.requires_grad_() for x in (q, k, v)])
