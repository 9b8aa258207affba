"""Causal linear attention over long contexts: weights within a run of positions, and a sum over all earlier runs.

The same numbers as with all weights at once; time and memory grow with the length alone (`recursion.PART` positions a run).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.models.attention import linear_weights
from mesaopt.models.by_hand import ByHand, Tensors
from mesaopt.models.recursion import parts


def chunked_linear(
    q: Float[Tensor, "*heads time d_key"], k: Float[Tensor, "*heads time d_key"], v: Float[Tensor, "*heads time d_value"]
) -> Float[Tensor, "*heads time d_value"]:
    """sum_{t'<=t} v_{t'} (k_{t'}^T q_t), without a scale (paper, section 2)."""
    (answers,) = _CHUNKED(*(x.flatten(0, -3) for x in (q, k, v)))
    return answers.view(*q.shape[:-1], -1)


def _forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
    """q, k, v (lane, time, d)."""
    moment, answers = None, torch.empty_like(v)
    for part in parts(k, None):
        answers[part.at] = part.attend(q[part.at], k[part.at], v[part.at], moment)
        moment = part.carry(moment, k[part.at], v[part.at])
    return (answers,)


def _gradients(needed: Sequence[bool], grads: Tensors, inputs: Tensors, kept: Tensors) -> Tensors:
    """sum_{t'<=t} k_{t'} (v_{t'} . g_t), sum_{t>=t'} q_t (g_t . v_{t'}) and sum_{t>=t'} g_t (q_t . k_{t'})."""
    (grad,), (q, k, v) = grads, inputs
    grad_q, grad_k, grad_v = (torch.empty_like(x) for x in inputs)
    earlier, later = None, None
    for part in parts(k, None):
        grad_q[part.at] = part.attend(grad[part.at], v[part.at], k[part.at], earlier)
        earlier = part.carry(earlier, v[part.at], k[part.at])
    for part in parts(k, None, backwards=True):
        grad_k[part.at] = part.gather(q[part.at], grad[part.at], v[part.at], later)
        grad_v[part.at] = part.gather(grad[part.at], q[part.at], k[part.at], None if later is None else later.mT)
        later = part.carry_back(later, grad[part.at], q[part.at])
    return grad_q, grad_k, grad_v


_CHUNKED = ByHand(_forward, _gradients, lambda q, k, v: (linear_weights(q, k) @ v,))
