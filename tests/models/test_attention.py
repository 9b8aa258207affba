"""Causal attention against sums written out, its gradients, and what it may see."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from mesaopt.models.attention import linear_attention, softmax_attention, unit_norm


def heads(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, dtype=torch.float64, generator=generator) for _ in range(3)]


def naive_linear(q, k, v):
    out = torch.zeros_like(v)
    for t in range(q.shape[-2]):
        for past in range(t + 1):
            out[..., t, :] += v[..., past, :] * (k[..., past, :] * q[..., t, :]).sum(-1, keepdim=True)
    return out


def naive_softmax(q, k, v):
    out = torch.zeros_like(v)
    for t in range(q.shape[-2]):
        scores = [(k[..., past, :] * q[..., t, :]).sum(-1) / math.sqrt(q.shape[-1]) for past in range(t + 1)]
        weights = [score.exp() for score in scores]
        for past, weight in enumerate(weights):
            out[..., t, :] += v[..., past, :] * (weight / sum(weights))[..., None]
    return out


@pytest.mark.parametrize(("fast", "naive"), [(linear_attention, naive_linear), (softmax_attention, naive_softmax)])
@pytest.mark.parametrize("shape", [(7, 3), (2, 1, 4), (2, 3, 6, 5)])
def test_attention_is_the_written_sum(fast, naive, shape):
    q, k, v = heads(*shape)
    torch.testing.assert_close(fast(q, k, v), naive(q, k, v), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("attention", [linear_attention, softmax_attention])
def test_gradients_and_causality(attention):
    q, k, v = heads(2, 5, 3)
    assert gradcheck(attention, [x.clone().requires_grad_() for x in (q, k, v)])
    before = attention(q, k, v)
    for x in (q, k, v):
        x[:, 3:] += 1.0
    after = attention(q, k, v)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_values_may_be_wider_than_keys_and_heads_do_not_mix():
    q, k, _ = heads(4, 6, 3)
    v = heads(4, 6, 8, seed=1)[0]
    for attention in (linear_attention, softmax_attention):
        together = attention(q, k, v)
        apart = torch.stack([attention(q[i], k[i], v[i]) for i in range(4)])
        torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)


def test_unit_norm_of_zero_is_zero():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(unit_norm(x), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
