"""The written-out stack of linear and softmax layers against automatic differentiation of the Transformer."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mesaopt.backends.torch import TorchBackend
from mesaopt.backends.written_out.stack import stack_loss, supports
from mesaopt.models.transformer import Transformer, initialise
from mesaopt.spec.run import Model

CONSTRUCTED = Model(("linear", "softmax"), "constructed", 12, 2, 5, init_std=0.3, clip=0.7)
RAW = Model(("softmax", "linear", "softmax"), "raw", 7, 2, 4, init_std=0.5, d_pe=5)


def batch(model, pack=1, size=6, time=8, dtype=torch.float64):
    """Tokens and targets of a model with n_obs = 3."""
    draw = torch.Generator().manual_seed(size)
    shape = (pack, size, time, 3 if model.tokens == "raw" else model.d_model)
    targets = torch.randn(pack, size, time, 3, dtype=torch.float64, generator=draw)
    return torch.randn(shape, dtype=torch.float64, generator=draw).to(dtype), targets.to(dtype)


def by_differentiation(transformer, tokens, targets):
    """Losses and gradients, from the formulation that reads as the equations."""
    losses = (transformer(tokens) - targets).square().sum((1, 2, 3)) / (2 * targets.shape[1] * targets.shape[2])
    return losses.detach(), torch.autograd.grad(losses.sum(), list(transformer.parameters()))


def check(transformer, tokens, targets, size, tolerance):
    losses, gradients = by_differentiation(transformer, tokens, targets)
    found = stack_loss(transformer, tokens, targets, size, gradients=True)
    torch.testing.assert_close(found, losses, rtol=tolerance, atol=0)
    for (name, parameter), gradient in zip(transformer.named_parameters(), gradients, strict=True):
        assert (parameter.grad - gradient).norm() <= tolerance * gradient.norm(), name
    assert torch.equal(stack_loss(transformer, tokens, targets, size, gradients=False), found)


@settings(max_examples=30, deadline=None, database=None, derandomize=True)
@given(
    layers=st.lists(st.sampled_from(["linear", "softmax"]), min_size=1, max_size=3),
    raw=st.booleans(),
    clip=st.sampled_from([None, 0.5]),
    pack=st.integers(1, 2),
    size=st.integers(1, 7),
    time=st.integers(1, 9),
)
def test_loss_and_gradients_are_those_of_automatic_differentiation(layers, raw, clip, pack, size, time):
    """Norm-relative 1e-10 in float64; sizes that divide the batch of 6 and that do not."""
    model = replace(RAW if raw else CONSTRUCTED, layers=tuple(layers), clip=clip)
    transformer = initialise(model, 3, list(range(pack))).double()
    check(transformer, *batch(model, pack, time=time), size, 1e-10)


@pytest.mark.parametrize("model", [CONSTRUCTED, RAW])
def test_in_float32(model):
    """Norm-relative 1e-5 between two roundings of the same numbers, with weights at which linear attention amplifies little."""
    check(initialise(replace(model, init_std=0.1), 3, [1, 11]), *batch(model, 2, dtype=torch.float32), 4, 1e-5)


def test_a_channel_at_the_clip_has_a_gradient_as_in_pytorch():
    """Weights of zero leave the stream at its clip; whether it passes there decides the gradient of the first layer's W_O."""
    model = replace(CONSTRUCTED, layers=("linear", "linear"))
    transformer = initialise(model, 3, [1]).double()
    tokens, targets = batch(model)
    tokens = tokens.clamp(-0.7, 0.7)
    for layer in transformer.layers:
        layer.W_O.data.zero_()
    assert (transformer(tokens).abs() == 0.7).any()
    check(transformer, tokens, targets, 4, 1e-10)
    beyond = torch.nextafter(torch.tensor(0.7, dtype=torch.float64), torch.tensor(math.inf, dtype=torch.float64))
    check(transformer, torch.where(tokens.abs() == 0.7, tokens.sign() * beyond, tokens), targets, 4, 1e-10)


def test_gradients_are_replaced_and_repeat_bit_for_bit():
    """Whatever was computed in between: arrays are used again."""
    transformer = initialise(CONSTRUCTED, 3, [1])
    tokens, targets = batch(CONSTRUCTED, dtype=torch.float32)
    first = stack_loss(transformer, tokens, targets, 4, gradients=True)
    gradients = [parameter.grad.clone() for parameter in transformer.parameters()]
    assert stack_loss(transformer, tokens * math.nan, targets, 4, gradients=True).isnan().all()
    assert torch.equal(stack_loss(transformer, tokens, targets, 4, gradients=True), first)
    assert all(torch.equal(old, new.grad) for old, new in zip(gradients, transformer.parameters(), strict=True))


def test_half_precision_around_it_changes_nothing():
    transformer = initialise(RAW, 3, [1])
    data = batch(RAW, dtype=torch.float32)
    expected = stack_loss(transformer, *data, 4, gradients=True)
    gradients = [parameter.grad.clone() for parameter in transformer.parameters()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(stack_loss(transformer, *data, 4, gradients=True), expected)
    assert all(torch.equal(old, new.grad) for old, new in zip(gradients, transformer.parameters(), strict=True))


@pytest.mark.parametrize(
    ("model", "written_out"),
    [
        (CONSTRUCTED, True),
        (RAW, True),
        (replace(RAW, layers=("softmax", "mesa")), False),
        (replace(RAW, normalise="qk"), False),
        (replace(RAW, d_mlp=4), False),
    ],
)
def test_other_models_are_left_to_automatic_differentiation(model, written_out, monkeypatch):
    monkeypatch.setattr(Transformer, "forward", lambda *arguments: pytest.fail("differentiated"))
    transformer = initialise(model, 3, [1])
    assert supports(model) == written_out
    if written_out:
        TorchBackend().loss_and_gradients(transformer, *batch(model, dtype=torch.float32))
    else:
        with pytest.raises(pytest.fail.Exception, match="differentiated"):
            TorchBackend().loss_and_gradients(transformer, *batch(model, dtype=torch.float32))
