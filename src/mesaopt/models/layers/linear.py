"""Linear self-attention: sum_{t'<=t} v_{t'} (k_{t'}^T q_t), without a scale (paper, section 2)."""

from jaxtyping import Float
from torch import Tensor

from mesaopt.models.attention import linear_attention, linear_weights
from mesaopt.models.kinds import Kind, Parameters

Heads = Float[Tensor, "pack batch heads time d_head"]


def heads(q: Heads, k: Heads, v: Heads, e: Tensor, own: Parameters) -> Heads:
    """Every head's answers."""
    return linear_attention(q, k, v)


def weights(q: Heads, k: Heads, v: Heads, e: Tensor, own: Parameters) -> Float[Tensor, "pack batch heads time time"]:
    """k_{t'}^T q_t (row t, column t')."""
    return linear_weights(q, k)


KIND = Kind(heads, weights)
