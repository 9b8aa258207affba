"""One attention layer with its residual connection, an optional MLP, and clipping: the block a Transformer repeats."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mesaopt.errors import InputError
from mesaopt.models.attention import linear_attention, softmax_attention, unit_norm
from mesaopt.models.layers.mesa import mesa_attention
from mesaopt.spec.run import Model

#: the largest divisor of the batch that also divides this is the number of groups of sequences whose products, one each, make the
#: gradient of a seed's weights on a GPU
GROUPS = 64


class Layer(nn.Module):
    """e + sum_h W_O_h attention_h(e), then an MLP where the model has one, then the clip; all for `pack` stacked seeds.

    The first layer (`first=True`) reads positional encodings beside the residual stream through W_Q and W_K, and is never
    normalised.
    """

    def __init__(self, model: Model, index: int, pack: int) -> None:
        super().__init__()
        self.kind = model.layers[index]
        self.clip = model.clip
        self.normalise = "none" if index == 0 else model.normalise
        d_in = model.d_model + (model.d_pe if index == 0 else 0)
        heads = (pack, model.n_heads)
        self.W_Q = nn.Parameter(torch.zeros(*heads, model.d_head, d_in))
        self.W_K = nn.Parameter(torch.zeros(*heads, model.d_head, d_in))
        self.W_V = nn.Parameter(torch.zeros(*heads, model.d_head, model.d_model))
        self.W_O = nn.Parameter(torch.zeros(*heads, model.d_model, model.d_head))
        if self.kind == "mesa":
            self.lam = nn.Parameter(torch.ones(heads))
        self.has_mlp = model.d_mlp > 0
        if self.has_mlp:
            self.W_1 = nn.Parameter(torch.zeros(pack, model.d_mlp, model.d_model))
            self.W_2 = nn.Parameter(torch.zeros(pack, model.d_model, model.d_mlp))

    def forward(
        self, e: Float[Tensor, "pack batch time d_model"], positions: Float[Tensor, "time d_pe"] | None
    ) -> Float[Tensor, "pack batch time d_model"]:
        """`positions` is given to the first layer of a raw-token model, None elsewhere."""
        e = e + self.attention(e, positions)
        if self.has_mlp:
            hidden = nn.functional.gelu(_map(e, self.W_1), approximate="tanh")
            e = e + _map(hidden, self.W_2)
        return e if self.clip is None else e.clamp(-self.clip, self.clip)

    def attention(
        self, e: Float[Tensor, "pack batch time d_model"], positions: Float[Tensor, "time d_pe"] | None
    ) -> Float[Tensor, "pack batch time d_model"]:
        """The layer's attention output, all heads summed, without the residual."""
        q, k, v = self.project(e, positions)
        if self.kind == "linear":
            heads = linear_attention(q, k, v)
        elif self.kind == "softmax":
            heads = softmax_attention(q, k, v)
        elif self.kind == "mesa":
            heads = mesa_attention(q, k, v, self.lam[:, None])
        else:
            raise InputError(f"no equation for a {self.kind} layer")
        return _map(heads.transpose(2, 3).flatten(3), self.W_O.transpose(1, 2).flatten(2))

    def project(
        self, e: Float[Tensor, "pack batch time d_model"], positions: Float[Tensor, "time d_pe"] | None
    ) -> tuple[Float[Tensor, "pack batch heads time d_head"], ...]:
        """Queries, keys and values of every head, by one matrix product for all of them."""
        d_model = e.shape[-1]
        q, k, v = _Heads.apply(e, self.W_Q[..., :d_model], self.W_K[..., :d_model], self.W_V)
        if positions is not None:
            # the positions' share is the same for every sequence
            q = q + (positions @ self.W_Q[..., d_model:].mT)[:, None]
            k = k + (positions @ self.W_K[..., d_model:].mT)[:, None]
        if self.normalise == "qk":
            return unit_norm(q), unit_norm(k), v
        if self.normalise == "qv":
            return unit_norm(q), k, unit_norm(v)
        return q, k, v


class _Heads(torch.autograd.Function):
    """Queries, keys and values (pack, batch, heads, time, d_head), each contiguous, from e and their weights.

    One matrix product for all; written out because automatic differentiation would copy every head's gradient once more.
    """

    @staticmethod
    def forward(ctx: Any, e: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        fused = torch.stack(weights, dim=1)
        ctx.save_for_backward(e, fused)
        qkv = _product(e, fused.flatten(1, 3)).unflatten(3, fused.shape[1:4])
        return qkv.permute(3, 0, 1, 4, 2, 5).contiguous().unbind()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        e, fused = ctx.saved_tensors
        e = e.to(fused.dtype)  # under autocast it comes in half precision
        grad_qkv = e.new_empty(*e.shape[:3], *fused.shape[1:4])
        for index, grad in enumerate(grads):
            grad_qkv[:, :, :, index] = grad.transpose(2, 3)
        grad_qkv = grad_qkv.flatten(3)
        grad_e = _product(grad_qkv, fused.flatten(1, 3).mT) if ctx.needs_input_grad[0] else None
        return grad_e, *_sum_of_products(grad_qkv, e).view_as(fused).unbind(1)


class _Map(torch.autograd.Function):
    """`_product`; written out for the gradient of W alone."""

    @staticmethod
    def forward(ctx: Any, e: Tensor, W: Tensor) -> Tensor:
        ctx.save_for_backward(e, W)
        return _product(e, W)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        e, W = ctx.saved_tensors
        e, grad = e.to(W.dtype), grad.to(W.dtype)  # under autocast they come in half precision
        return _product(grad, W.mT) if ctx.needs_input_grad[0] else None, _sum_of_products(grad, e)


def _map(e: Float[Tensor, "pack batch time d_in"], W: Float[Tensor, "pack d_out d_in"]) -> Float[Tensor, "pack batch time d_out"]:
    """W e at every position."""
    mapped: Tensor = _Map.apply(e, W)
    return mapped


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
