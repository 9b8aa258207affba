"""Causal attention of one head at a time; the diagonal belongs to the past. Any number of leading dimensions.

Rows are positions: `q[..., t, :]` is the query at t. Nothing here divides by sqrt(d_head) but the softmax.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def causal_mask(time: int, like: Tensor) -> Bool[Tensor, "time time"]:
    """True where position t (row) may look at t' (column), that is t' <= t; on the device of `like`."""
    return torch.ones(time, time, dtype=torch.bool, device=like.device).tril_()


def linear_attention(
    q: Float[Tensor, "*heads time d_head"], k: Float[Tensor, "*heads time d_head"], v: Float[Tensor, "*heads time d_value"]
) -> Float[Tensor, "*heads time d_value"]:
    """sum_{t'<=t} v_{t'} (k_{t'}^T q_t), without a scale (paper, section 2)."""
    scores = q @ k.mT
    # in place: a matrix product never needs its own output for the gradient
    scores *= causal_mask(q.shape[-2], q)
    return scores @ v


def softmax_attention(
    q: Float[Tensor, "*heads time d_head"], k: Float[Tensor, "*heads time d_head"], v: Float[Tensor, "*heads time d_value"]
) -> Float[Tensor, "*heads time d_value"]:
    """sum_{t'<=t} v_{t'} softmax_{t'}(k_{t'}^T q_t / sqrt(d_head))."""
    scores = (q / math.sqrt(q.shape[-1])) @ k.mT
    scores.masked_fill_(~causal_mask(q.shape[-2], q), -math.inf)
    return scores.softmax(-1) @ v


def unit_norm(x: Float[Tensor, "*heads time d_head"]) -> Float[Tensor, "*heads time d_head"]:
    """x divided by its L2 norm at each position."""
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-16)
