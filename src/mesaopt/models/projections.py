"""From the residual stream to queries, keys and values of every head, and back: one matrix product per seed."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.models.by_hand import ByHand, Tensors

#: the largest divisor of the batch that also divides this is the number of groups of sequences whose products, one each, make the
#: gradient of a seed's weights on a GPU
GROUPS = 64


def queries_keys_values(
    e: Float[Tensor, "pack batch time d_model"], *weights: Float[Tensor, "pack heads d_head d_model"]
) -> tuple[Float[Tensor, "pack batch heads time d_head"], ...]:
    """e in the channels of every head, by W_Q, W_K and W_V."""
    return _HEADS(e, *weights)


def linear_map(
    e: Float[Tensor, "pack batch time d_in"], W: Float[Tensor, "pack d_out d_in"]
) -> Float[Tensor, "pack batch time d_out"]:
    """W e at every position."""
    return _MAP(e, W)[0]


def _heads(e: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values (pack, batch, heads, time, d_head), each contiguous, and all weights, by one matrix product.

    Its gradients are written out because automatic differentiation would copy every head's gradient once more.
    """
    fused = torch.stack(weights, dim=1)
    qkv = _product(e, fused.flatten(1, 3)).unflatten(3, fused.shape[1:4])
    return *qkv.permute(3, 0, 1, 4, 2, 5).contiguous().unbind(), fused


def _heads_gradients(needed: Sequence[bool], grads: Tensors, inputs: Tensors, kept: Tensors) -> Tensors:
    e, (fused,) = inputs[0], kept
    e = e.to(fused.dtype)  # under autocast it comes in half precision
    grad_qkv = e.new_empty(*e.shape[:3], *fused.shape[1:4])
    for index, grad in enumerate(grads):
        grad_qkv[:, :, :, index] = 0 if grad is None else grad.transpose(2, 3)
    grad_qkv = grad_qkv.flatten(3)
    grad_e = _product(grad_qkv, fused.flatten(1, 3).mT) if needed[0] else None
    if not any(needed[1:]):
        return grad_e, *[None] * len(grads)
    return grad_e, *_sum_of_products(grad_qkv, e).view_as(fused).unbind(1)


def _heads_naive(e: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.einsum("pbti,phci->pbhtc", e, W) for W in weights)


def _map_gradients(needed: Sequence[bool], grads: Tensors, inputs: Tensors, kept: Tensors) -> Tensors:
    """Written out for the gradient of W alone."""
    (grad,), (e, W) = grads, inputs
    e, grad = e.to(W.dtype), grad.to(W.dtype)  # under autocast they come in half precision
    return _product(grad, W.mT) if needed[0] else None, _sum_of_products(grad, e) if needed[1] else None


def _product(
    e: Float[Tensor, "pack batch time d_in"], W: Float[Tensor, "pack d_out d_in"]
) -> Float[Tensor, "pack batch time d_out"]:
    """W e at every position, as one large matrix product per seed."""
    return torch.bmm(e.flatten(1, 2), W.mT).unflatten(1, e.shape[1:3])


def _sum_of_products(
    a: Float[Tensor, "pack batch time d_a"], b: Float[Tensor, "pack batch time d_b"]
) -> Float[Tensor, "pack d_a d_b"]:
    """The sum of a b^T over all positions of all sequences: the gradient of weights.

    It is small and the sum long, which leaves most of a GPU without work: there, groups of sequences are summed side by side.
    """
    groups = math.gcd(a.shape[1], GROUPS) if a.is_cuda else 1
    a, b = (x.flatten(1, 2).unflatten(1, (groups, -1)).flatten(0, 1) for x in (a, b))
    return torch.bmm(a.mT, b).unflatten(0, (-1, groups)).sum(1)


_HEADS = ByHand(_heads, _heads_gradients, _heads_naive, outputs=3, keeps_from=3)
_MAP = ByHand(lambda e, W: (_product(e, W),), _map_gradients, lambda e, W: (torch.einsum("pbti,poi->pbto", e, W),))
