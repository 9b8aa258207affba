"""Wide heads of linear attention, by the products of their matrices: W_K^T W_Q and W_O W_V (d_model x d_model) for the four.

A score is k^T q = x^T (W_K^T W_Q) x and the head's output is W_O W_V applied to a sum over x, so keys and values can be the
residual stream x itself. Softmax and mesa layers would need d_head as well, and positions enter queries and keys alone.
"""

from jaxtyping import Float
from torch import Tensor

from mesaopt.models.block import Block
from mesaopt.spec.run import Model

Product = Float[Tensor, "1 heads d_model d_model"]


def merges(model: Model, time: int) -> bool:
    """Whether a model has linear layers alone, normalises nothing, and has fewer operations with products than with matrices.

    Per position and head these are 4 d_model d_head multiply-adds of projections and (time + 1) d_head of attention.
    """
    separate = (4 * model.d_model + time + 1) * model.d_head
    merged = (2 * model.d_model + time + 1) * model.d_model
    return set(model.layers) == {"linear"} and model.d_pe == 0 and model.normalise == "none" and merged < separate


def products(layer: Block) -> tuple[Product, Product]:
    """W_K^T W_Q and W_O W_V of every head."""
    return layer.W_K.mT @ layer.W_Q, layer.W_O @ layer.W_V


def set_gradients(layer: Block, d_qk: Product, d_ov: Product) -> None:
    """The gradients of a layer's four matrices from those of its two products, by the product rule, into each `.grad`."""
    for parameter, gradient in (
        (layer.W_Q, layer.W_K @ d_qk),
        (layer.W_K, layer.W_Q @ d_qk.mT),
        (layer.W_O, d_ov @ layer.W_V.mT),
        (layer.W_V, layer.W_O.mT @ d_ov),
    ):
        assert parameter.grad is not None
        parameter.grad.copy_(gradient)
