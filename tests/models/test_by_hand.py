"""Functions with gradients written by hand in ordinary training: the bits and the memory of plain autograd Functions."""

import pytest
import torch
from classic_functions import classic

from mesaopt.backends.torch import TorchBackend
from mesaopt.models.attention import linear_attention, softmax_attention
from mesaopt.models.by_hand import ByHand
from mesaopt.models.layers.mesa import mesa_attention
from mesaopt.models.projections import linear_map, queries_keys_values
from mesaopt.models.transformer import initialise
from mesaopt.spec.run import Model

RAW = {"tokens": "raw", "d_pe": 6, "d_mlp": 11, "normalise": "qk"}
CONSTRUCTED = {"tokens": "constructed", "clip": 1.0, "normalise": "qv"}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(model, micro_batch, autocast):
    """Losses or predictions, and the gradients of all parameters and of the tokens."""
    tokens = drawn(2, 21, 70, 5 if model.model.tokens == "raw" else 20, seed=1).requires_grad_(micro_batch is None)
    for parameter in model.parameters():
        parameter.grad = None
    if autocast:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(tokens)
        found.float().square().mean().backward()
    else:
        found = TorchBackend(micro_batch=micro_batch).loss_and_gradients(model, tokens, drawn(2, 21, 70, 5, seed=2))
    return [x for x in (found.detach(), tokens.grad, *(p.grad for p in model.parameters())) if x is not None]


@pytest.mark.parametrize(("micro_batch", "autocast"), [(None, False), (8, False), (None, True)])
@pytest.mark.parametrize("kind", [RAW, CONSTRUCTED])
@pytest.mark.parametrize("layers", [("mesa",), ("softmax", "mesa"), ("linear", "softmax"), ("mesa", "linear")])
def test_training_has_the_bits_it_always_had(layers, kind, micro_batch, autocast, monkeypatch):
    monkeypatch.setattr(TorchBackend, "_written_out", lambda *_: False)
    model = initialise(Model(layers, d_model=20, n_heads=2, d_head=5, init_std=0.3, **kind), 5, [1, 4])
    found = trained(model, micro_batch, autocast)
    monkeypatch.setattr(ByHand, "__call__", classic)
    expected = trained(model, micro_batch, autocast)
    assert all(x.isfinite().all() for x in expected)
    assert len(found) == len(expected) and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_mesa_layer_with_forgetting_has_the_bits_it_always_had(monkeypatch):
    arguments = [drawn(3, 2, 150, 7, seed=seed) for seed in range(3)] + [
        torch.tensor([0.7, 1.2]),
        0.9 + 0.1 * torch.rand(3, 2, 150),
    ]

    def gradients():
        leaves = [x.clone().requires_grad_() for x in arguments]
        out = mesa_attention(*leaves)
        return [out, *torch.autograd.grad(out.square().sum(), leaves)]

    found = gradients()
    monkeypatch.setattr(ByHand, "__call__", classic)
    assert all(torch.equal(a, b) for a, b in zip(found, gradients(), strict=True))


@pytest.mark.parametrize(
    ("function", "shapes", "beside"),
    [
        (linear_attention, [(2, 9, 3), (2, 9, 3), (2, 9, 4)], 2 * 9 * 9),
        (softmax_attention, [(2, 9, 3), (2, 9, 3), (2, 9, 4)], 2 * 9 * 9),
        (queries_keys_values, [(2, 3, 9, 4), *[(2, 1, 5, 4)] * 3], 3 * 2 * 5 * 4),
        (linear_map, [(2, 3, 9, 4), (2, 5, 4)], 0),
    ],
)
def test_nothing_is_saved_but_inputs_and_weights(function, shapes, beside):
    leaves, saved = [drawn(*shape).requires_grad_() for shape in shapes], []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        function(*leaves)
    assert sum(saved) == sum(leaf.numel() for leaf in leaves) + beside


def test_gradients_that_nobody_needs_are_not_made():
    e, weights = drawn(2, 3, 9, 4).requires_grad_(), [drawn(2, 1, 5, 4) for _ in range(3)]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.autograd.grad(queries_keys_values(e, *weights)[1].sum(), e)
    products = sum(event.count for event in profile.key_averages() if event.key == "aten::bmm")
    assert products == 2  # forward, and the gradient of e
