"""Causal attention of one head at a time; the diagonal belongs to the past. Any number of leading dimensions.

Rows are positions: `q[..., t, :]` is the query at t. Nothing here divides by sqrt(d_head) but the softmax.
"""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def causal_mask(time: int, like: Tensor) -> Bool[Tensor, "time time"]:
    """True where position t (row) may look at t' (column), that is t' <= t; on the device of `like`."""
    return torch.ones(time, time, dtype=torch.bool, device=like.device).tril_()


def linear_attention(
    q: Float[Tensor, "*heads time d_head"], k: Float[Tensor, "*heads time d_head"], v: Float[Tensor, "*heads time d_value"]
) -> Float[Tensor, "*heads time d_value"]:
    """sum_{t'<=t} v_{t'} (k_{t'}^T q_t), without a scale (paper, section 2)."""
    answers: Tensor = _Attention.apply(q, k, v, None)
    return answers


def softmax_attention(
    q: Float[Tensor, "*heads time d_head"], k: Float[Tensor, "*heads time d_head"], v: Float[Tensor, "*heads time d_value"]
) -> Float[Tensor, "*heads time d_value"]:
    """sum_{t'<=t} v_{t'} softmax_{t'}(k_{t'}^T q_t / sqrt(d_head))."""
    answers: Tensor = _Attention.apply(q, k, v, 1 / math.sqrt(q.shape[-1]))
    return answers


def linear_weights(
    q: Float[Tensor, "*heads time d_head"], k: Float[Tensor, "*heads time d_head"]
) -> Float[Tensor, "*heads time time"]:
    """k_{t'}^T q_t in row t and column t' <= t, zero elsewhere."""
    return (q @ k.mT).tril()


def softmax_weights(
    q: Float[Tensor, "*heads time d_head"], k: Float[Tensor, "*heads time d_head"]
) -> Float[Tensor, "*heads time time"]:
    """softmax_{t'}(k_{t'}^T q_t / sqrt(d_head)) in row t and column t' <= t, zero elsewhere."""
    scores = (q @ k.mT) / math.sqrt(q.shape[-1])
    return scores.masked_fill(~causal_mask(q.shape[-2], q), -math.inf).softmax(-1)


class _Attention(torch.autograd.Function):
    """Softmax attention with this `scale`, or linear attention without one (None).

    Derivatives are written out because automatic differentiation would make two more arrays of scores, and passing over those
    is what limits attention over short contexts.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        weights, mask = q @ k.mT, causal_mask(q.shape[-2], q)
        if scale is None:
            weights *= mask
        else:
            weights.mul_(scale).masked_fill_(~mask, -math.inf)
            torch.softmax(weights, -1, out=weights)
        ctx.scale = scale
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        scores = grad @ v.mT
        if ctx.scale is None:
            scores *= causal_mask(q.shape[-2], q)
        else:
            scores *= weights
            scores.addcmul_(weights, scores.sum(-1, keepdim=True), value=-1).mul_(ctx.scale)
        return scores @ k, scores.mT @ q, weights.mT @ grad, None


def unit_norm(x: Float[Tensor, "*heads time d_head"]) -> Float[Tensor, "*heads time d_head"]:
    """x divided by its L2 norm at each position."""
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-16)
