"""Attention, projections and the mesa-layer as plain autograd Functions, with which the recorded trainings were made.

Kept as they were, operation for operation: what replaces them must give the same bits.
"""

import math

import torch
from torch.autograd.function import once_differentiable

from mesaopt.models import attention, projections
from mesaopt.models.attention import causal_mask
from mesaopt.models.layers import mesa
from mesaopt.models.projections import _product, _sum_of_products
from mesaopt.models.recursion import Inverse, parts


def classic(rule, *inputs):
    """In place of `ByHand.__call__`."""
    if rule is attention._LINEAR or rule is attention._SOFTMAX:
        scale = None if rule is attention._LINEAR else 1 / math.sqrt(inputs[0].shape[-1])
        return (_Attention.apply(*inputs, scale),)
    if rule is projections._HEADS:
        return _Heads.apply(*inputs)
    return ({projections._MAP: _Map, mesa._MESA: _Mesa}[rule].apply(*inputs),)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, scale):
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
    def backward(ctx, grad):
        q, k, v, weights = ctx.saved_tensors
        scores = grad @ v.mT
        if ctx.scale is None:
            scores *= causal_mask(q.shape[-2], q)
        else:
            scores *= weights
            scores.addcmul_(weights, scores.sum(-1, keepdim=True), value=-1).mul_(ctx.scale)
        return scores @ k, scores.mT @ q, weights.mT @ grad, None


class _Heads(torch.autograd.Function):
    @staticmethod
    def forward(ctx, e, *weights):
        fused = torch.stack(weights, dim=1)
        ctx.save_for_backward(e, fused)
        qkv = _product(e, fused.flatten(1, 3)).unflatten(3, fused.shape[1:4])
        return qkv.permute(3, 0, 1, 4, 2, 5).contiguous().unbind()

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        e, fused = ctx.saved_tensors
        e = e.to(fused.dtype)
        grad_qkv = e.new_empty(*e.shape[:3], *fused.shape[1:4])
        for index, grad in enumerate(grads):
            grad_qkv[:, :, :, index] = grad.transpose(2, 3)
        grad_qkv = grad_qkv.flatten(3)
        grad_e = _product(grad_qkv, fused.flatten(1, 3).mT) if ctx.needs_input_grad[0] else None
        return grad_e, *_sum_of_products(grad_qkv, e).view_as(fused).unbind(1)


class _Map(torch.autograd.Function):
    @staticmethod
    def forward(ctx, e, W):
        ctx.save_for_backward(e, W)
        return _product(e, W)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        e, W = ctx.saved_tensors
        e, grad = e.to(W.dtype), grad.to(W.dtype)
        return _product(grad, W.mT) if ctx.needs_input_grad[0] else None, _sum_of_products(grad, e)


class _Mesa(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, lam, forget):
        inverse, moment, answers = Inverse(lam, k.shape[-1]), None, torch.empty_like(v)
        for part in parts(k, forget):
            (x,) = inverse.solve(k[part.at], part.forget, q[part.at])
            answers[part.at] = part.attend(x.contiguous(), k[part.at], v[part.at], moment)
            moment = part.carry(moment, k[part.at], v[part.at])
        ctx.save_for_backward(q, k, v, lam, forget, answers)
        return answers

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        with mesa._without_autocast(grad):
            return mesa._adjoint_gradients(grad, *ctx.saved_tensors)
