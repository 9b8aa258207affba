"""The sequential mesa-layer against one ridge regression per position: outputs, gradients, limits, memory."""

import pytest
import torch
from torch.autograd import gradcheck

from mesaopt.models import recursion
from mesaopt.models.attention import linear_attention
from mesaopt.models.layers.mesa import LAM_FLOOR, mesa_attention, mesa_ridge
from mesaopt.models.transformer import initialise
from mesaopt.spec.run import Model

NAMES = ("output", "q", "k", "v", "lam", "forget")


def inputs(batch=3, n_heads=2, time=50, d_head=10, scale=1.0, forget=False, d_value=None):
    """q, k, v (batch, heads, time, d), lam (heads) and forget factors in [0.8, 1] or None, in float64."""
    generator = torch.Generator().manual_seed(1)
    lead = (batch, n_heads, time)
    q, k = (torch.randn(*lead, d_head, dtype=torch.float64, generator=generator) * scale for _ in range(2))
    v = torch.randn(*lead, d_value or d_head, dtype=torch.float64, generator=generator)
    lam = 0.5 + torch.rand(n_heads, dtype=torch.float64, generator=generator)
    keep = 0.8 + 0.2 * torch.rand(*lead, dtype=torch.float64, generator=generator)
    return q, k, v, lam, keep if forget else None


def output_and_gradients(layer, arguments, dtype=torch.float64):
    leaves = [None if x is None else x.to(dtype).clone().requires_grad_() for x in arguments]
    out = layer(*leaves)
    weights = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).to(dtype)
    (out * weights).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf is not None)]


def relative_errors(found, expected):
    pairs = zip(NAMES, found, expected, strict=False)
    return {name: ((a.double() - b).norm() / b.norm()).item() for name, a, b in pairs}


@pytest.mark.parametrize("forget", [False, True])
@pytest.mark.parametrize("part", [64, 7])
@pytest.mark.parametrize("sizes", [{}, {"d_head": 20, "scale": 0.5}, {"batch": 100, "time": 9, "d_head": 3, "d_value": 4}])
def test_sequential_form_is_the_ridge_regression_at_every_position(monkeypatch, forget, part, sizes):
    monkeypatch.setattr(recursion, "PART", part)
    arguments = inputs(forget=forget, **sizes)
    reference = output_and_gradients(mesa_ridge, arguments)
    exact = relative_errors(output_and_gradients(mesa_attention, arguments), reference)
    assert max(exact.values()) < 1e-9, exact
    single = relative_errors(output_and_gradients(mesa_attention, arguments, torch.float32), reference)
    assert max(single.values()) < (1e-4 if forget else 1e-5), single


def test_ridge_solves_its_least_squares_problem():
    q, k, v, lam, keep = inputs(batch=1, n_heads=1, time=6, d_head=3, forget=True)
    out = mesa_ridge(q, k, v, lam, keep)[0, 0]
    for t in range(6):
        weight = torch.stack([keep[0, 0, past + 1 : t + 1].prod() for past in range(t + 1)])
        ridge = keep[0, 0, : t + 1].prod() / lam[0]
        # weighted rows, and rows for the penalty on Phi
        keys = torch.cat([k[0, 0, : t + 1] * weight.sqrt()[:, None], ridge.sqrt() * torch.eye(3, dtype=torch.float64)])
        values = torch.cat([v[0, 0, : t + 1] * weight.sqrt()[:, None], torch.zeros(3, 3, dtype=torch.float64)])
        phi = torch.linalg.lstsq(keys, values).solution.mT
        torch.testing.assert_close(out[t], phi @ q[0, 0, t], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("forget", [False, True])
@pytest.mark.parametrize("part", [64, 2])
def test_gradcheck(monkeypatch, forget, part):
    monkeypatch.setattr(recursion, "PART", part)
    leaves = [None if x is None else x.requires_grad_() for x in inputs(batch=1, time=4, d_head=3, d_value=2, forget=forget)]
    assert gradcheck(mesa_attention, leaves)


def test_causality():
    q, k, v, lam, _ = inputs(time=8)
    before = mesa_attention(q, k, v, lam)
    for x in (q, k, v):
        x[:, :, 5:] += 1.0
    after = mesa_attention(q, k, v, lam)
    assert torch.equal(before[:, :, :5], after[:, :, :5])
    assert not torch.allclose(before[:, :, 5], after[:, :, 5])


@pytest.mark.parametrize("layer", [mesa_ridge, mesa_attention])
def test_strong_regularisation_is_linear_attention(layer):
    q, k, v, _, _ = inputs(time=20)
    lam = torch.tensor(1e-5, dtype=torch.float64)
    torch.testing.assert_close(layer(q, k, v, lam) / lam, linear_attention(q, k, v), rtol=0, atol=0.05)
    # the distance to the limit is of first order in lam
    distance = [(layer(q, k, v, x * lam) / (x * lam) - linear_attention(q, k, v)).norm() for x in (1.0, 0.5)]
    assert distance[0] / distance[1] == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("layer", [mesa_ridge, mesa_attention])
@pytest.mark.parametrize("lam", [0.0, -3.0])
def test_lam_is_guarded_and_can_come_back(layer, lam):
    q, k, v, _, _ = inputs(time=6)
    given = torch.tensor(lam, dtype=torch.float64, requires_grad=True)
    out = layer(q, k, v, given)
    torch.testing.assert_close(out, layer(q, k, v, torch.tensor(LAM_FLOOR, dtype=torch.float64)))
    out.square().sum().backward()
    assert torch.isfinite(given.grad) and given.grad != 0


def peak_beyond_inputs(layer, time):
    """Bytes that forward and backward hold at most, less the output and the gradients."""
    leaves = [x.float().requires_grad_() for x in inputs(batch=2, time=time, d_head=8)[:4]]
    grad = torch.ones_like(leaves[2])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        torch.autograd.grad(layer(*leaves), leaves, grad)
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    held = torch.tensor([event.nbytes() for event in events if event.name() == "[memory]"]).cumsum(0)
    return held.max().item() - 4 * 4 * leaves[0].numel()


def test_memory_besides_inputs_and_outputs_does_not_grow_with_time():
    short, long = (peak_beyond_inputs(mesa_attention, time) for time in (128, 512))
    one_array = 4 * 2 * 2 * (512 - 128) * 8
    assert long - short < 0.1 * one_array, (short, long)
    # the measure sees what grows
    assert peak_beyond_inputs(mesa_ridge, 256) - peak_beyond_inputs(mesa_ridge, 128) > one_array


def test_nothing_is_saved_but_inputs_and_outputs():
    leaves = [x.requires_grad_() for x in inputs(forget=True)]
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        out = mesa_attention(*leaves)
    assert sum(saved) <= sum(leaf.numel() for leaf in leaves) + out.numel() + 3 * leaves[3].numel()


@pytest.mark.parametrize("forget", [False, True])
def test_autocast_does_not_reach_the_recursion(forget):
    """Outputs and gradients are those without autocast, bit for bit, also where the backward pass runs inside it."""
    arguments = inputs(forget=forget)
    expected = output_and_gradients(mesa_attention, arguments, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = output_and_gradients(mesa_attention, arguments, torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_half_precision_arguments_are_answered_in_full(monkeypatch):
    """Only inputs and outputs are rounded: an error of a few 2^-9, while R itself in bfloat16 would be worthless."""
    precise = inputs(scale=3.0)
    rounded = [None if x is None else x.to(torch.bfloat16) for x in precise]
    seen = []
    update = recursion.Inverse._update
    monkeypatch.setattr(recursion.Inverse, "_update", lambda self, *more: seen.append(self.R.dtype) or update(self, *more))
    found = output_and_gradients(mesa_attention, rounded, torch.bfloat16)
    assert set(seen) == {torch.float32} and all(x.dtype == torch.bfloat16 for x in found)
    reference = output_and_gradients(mesa_ridge, [None if x is None else x.double() for x in rounded])
    errors = relative_errors(found, reference)
    assert max(errors.values()) < 0.02, errors


@pytest.mark.parametrize("outside", [False, True])
def test_a_model_under_autocast_keeps_its_recursion_in_float32(outside, monkeypatch):
    """Whether or not the backward pass is under autocast too."""
    model = Model(("softmax", "mesa"), "raw", 8, 2, 4, init_std=0.3, d_pe=4)
    transformer, tokens = initialise(model, 3, [1]), torch.randn(1, 5, 20, 3, generator=torch.Generator().manual_seed(1))
    seen = []
    update = recursion.Inverse._update
    monkeypatch.setattr(recursion.Inverse, "_update", lambda self, *more: seen.append(self.R.dtype) or update(self, *more))
    expected = transformer(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = transformer(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not outside):
        found.float().square().sum().backward()
    assert found.dtype == torch.bfloat16 and set(seen) == {torch.float32}
    assert (found - expected).norm() < 0.02 * expected.norm()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in transformer.parameters())
