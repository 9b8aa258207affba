"""Causal attention of one head at a time; the diagonal belongs to the past. Any number of leading dimensions.

Rows are positions: `q[..., t, :]` is the query at t. Nothing here divides by sqrt(d_head) but the softmax.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mesaopt.models.by_hand import ByHand, Tensors


def causal_mask(time: int, like: Tensor) -> Bool[Tensor, "time time"]:
    """True where position t (row) may look at t' (column), that is t' <= t; on the device of `like`."""
    return torch.ones(time, time, dtype=torch.bool, device=like.device).tril_()


def linear_attention(
    q: Float[Tensor, "*heads time d_head"], k: Float[Tensor, "*heads time d_head"], v: Float[Tensor, "*heads time d_value"]
) -> Float[Tensor, "*heads time d_value"]:
    """sum_{t'<=t} v_{t'} (k_{t'}^T q_t), without a scale (paper, section 2)."""
    return _LINEAR(q, k, v)[0] if q.ndim > 2 else linear_attention(q[None], k[None], v[None])[0]


def softmax_attention(
    q: Float[Tensor, "*heads time d_head"], k: Float[Tensor, "*heads time d_head"], v: Float[Tensor, "*heads time d_value"]
) -> Float[Tensor, "*heads time d_value"]:
    """sum_{t'<=t} v_{t'} softmax_{t'}(k_{t'}^T q_t / sqrt(d_head))."""
    return _SOFTMAX(q, k, v)[0] if q.ndim > 2 else softmax_attention(q[None], k[None], v[None])[0]


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


def unit_norm(x: Float[Tensor, "*heads time d_head"]) -> Float[Tensor, "*heads time d_head"]:
    """x divided by its L2 norm at each position."""
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-16)


# Derivatives are written out because automatic differentiation would make two more arrays of scores, and passing over those is
# what limits attention over short contexts.


def _linear(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The answers, and the weights."""
    weights = q @ k.mT
    weights *= causal_mask(q.shape[-2], q)
    return weights @ v, weights


def _linear_gradients(needed: Sequence[bool], grads: Tensors, inputs: Tensors, kept: Tensors) -> Tensors:
    (grad,), (q, k, v), (weights,) = grads, inputs, kept
    scores = grad @ v.mT
    scores *= causal_mask(q.shape[-2], q)
    return scores @ k, scores.mT @ q, weights.mT @ grad


def _softmax(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The answers, and the weights."""
    weights = q @ k.mT
    weights.mul_(_scale(q)).masked_fill_(~causal_mask(q.shape[-2], q), -math.inf)
    torch.softmax(weights, -1, out=weights)
    return weights @ v, weights


def _softmax_gradients(needed: Sequence[bool], grads: Tensors, inputs: Tensors, kept: Tensors) -> Tensors:
    (grad,), (q, k, v), (weights,) = grads, inputs, kept
    scores = grad @ v.mT
    scores *= weights
    scores.addcmul_(weights, scores.sum(-1, keepdim=True), value=-1).mul_(_scale(q))
    return scores @ k, scores.mT @ q, weights.mT @ grad


def _scale(q: Tensor) -> float:
    return 1 / math.sqrt(q.shape[-1])


_LINEAR = ByHand(_linear, _linear_gradients, lambda q, k, v: (linear_weights(q, k) @ v,))
_SOFTMAX = ByHand(_softmax, _softmax_gradients, lambda q, k, v: (softmax_weights(q, k) @ v,))
