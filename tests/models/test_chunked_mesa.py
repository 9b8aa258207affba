"""The mesa-layer a run of positions at a time: the same as position by position, and as every regression solved anew."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mesaopt.models.chunked_mesa import Inverse, chunked_mesa
from mesaopt.models.layers.mesa import mesa_attention, mesa_ridge


def drawn(seed, batch, heads, time, d_key, d_value, unit=True, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, batch, heads, time, d_key, generator=rng, dtype=dtype)
    v = torch.randn(batch, heads, time, d_value, generator=rng, dtype=dtype)
    if unit:
        q, k = (x / x.norm(dim=-1, keepdim=True) for x in (q, k))
    lam = 0.2 + 2 * torch.rand(heads, generator=rng, dtype=dtype)
    return [x.requires_grad_() for x in (q, k, v, lam)]


SHAPES = {
    "seed": st.integers(0, 2**16),
    "batch": st.integers(1, 2),
    "heads": st.integers(1, 3),
    "time": st.integers(1, 150),
    "d_key": st.integers(1, 12),
    "d_value": st.integers(1, 6),
    "unit": st.booleans(),
}


@settings(max_examples=25, deadline=None)
@given(**SHAPES)
def test_answers_and_gradients_are_those_of_the_recursion(**shape):
    inputs = drawn(**shape)
    found, expected = chunked_mesa(*inputs), mesa_attention(*inputs)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)
    pulled = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for a, b in zip(*(torch.autograd.grad((of * pulled).sum(), inputs) for of in (found, expected)), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-6)


def test_answers_are_those_of_every_regression_solved_anew():
    inputs = drawn(1, batch=2, heads=2, time=140, d_key=7, d_value=3)
    assert torch.allclose(chunked_mesa(*inputs), mesa_ridge(*inputs), rtol=1e-8, atol=1e-9)


def test_gradients_are_those_of_finite_differences():
    inputs = drawn(2, batch=1, heads=2, time=9, d_key=3, d_value=2)
    assert torch.autograd.gradcheck(chunked_mesa, inputs)


def test_single_precision_is_enough_over_long_contexts():
    """Keys of norm one, lambda about one: the condition number is at most about the length."""
    inputs = [x.detach() for x in drawn(3, batch=1, heads=2, time=1024, d_key=64, d_value=16)]
    exact, single = chunked_mesa(*inputs), chunked_mesa(*(x.float() for x in inputs))
    assert (single - exact).abs().max() < 1e-3 * exact.abs().max()


def test_what_it_carries_is_the_inverse():
    _, k, _, lam = (x.detach() for x in drawn(4, batch=1, heads=1, time=130, d_key=5, d_value=1))
    inverse = Inverse(lam, 5)
    for part in k[0].split(64, dim=1):
        inverse.solve(part, part)
    gram = k[0, 0].T @ k[0, 0] + torch.eye(5, dtype=torch.float64) / lam
    assert torch.allclose(inverse.B[0], torch.linalg.inv(gram), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("times", [(512, 2048)])
def test_memory_grows_with_the_length_and_no_faster(times):
    """Bytes that autograd keeps between the passes: those of the inputs."""
    kept = []
    for time in times:
        sizes = []
        inputs = drawn(5, batch=1, heads=1, time=time, d_key=8, d_value=4)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):  # noqa: B023
            chunked_mesa(*inputs)
        kept.append(sum(sizes))
    assert kept[1] <= kept[0] * times[1] / times[0] * 1.1
