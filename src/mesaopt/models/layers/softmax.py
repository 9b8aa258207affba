"""Softmax self-attention: sum_{t'<=t} v_{t'} softmax_{t'}(k_{t'}^T q_t / sqrt(d_head))."""

from jaxtyping import Float
from torch import Tensor

from mesaopt.models.attention import softmax_attention, softmax_weights
from mesaopt.models.kinds import Kind, Parameters

Heads = Float[Tensor, "pack batch heads time d_head"]


def heads(q: Heads, k: Heads, v: Heads, e: Tensor, own: Parameters) -> Heads:
    """Every head's answers."""
    return softmax_attention(q, k, v)


def weights(q: Heads, k: Heads, v: Heads, e: Tensor, own: Parameters) -> Float[Tensor, "pack batch heads time time"]:
    """What each query (row) gives to each position up to its own (column); rows sum to one."""
    return softmax_weights(q, k)


KIND = Kind(heads, weights)
