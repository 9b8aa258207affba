"""The mesa-layer: every query is answered by the ridge regression of the values on the keys seen so far.

Phi_t = argmin_Phi 1/2 sum_{t'<=t} m_{t',t} ||v_{t'} - Phi k_{t'}||^2 + m_{0,t} / (2 lam) ||Phi||_F^2 answers q_t with
Phi_t q_t, where m_{t',t} = prod_{j=t'+1..t} forget_j is 1 without forgetting. With R_t = (sum_{t'<=t} m_{t',t} k k^T +
m_{0,t} I / lam)^-1 this is causal linear attention with the queries x_t = R_t q_t (paper, the mesa-layer).

`mesa_ridge` solves each regression anew; `mesa_attention` carries R
along by recursive least squares.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from mesaopt.models.attention import causal_mask

#: positions taken together in the attention products: bounds the memory of their scores
CHUNK = 64
#: lam is a raw parameter under weight decay; below this it would not be a ridge regression any more
LAM_FLOOR = 1e-6


def mesa_ridge(
    q: Float[Tensor, "*heads time d_head"],
    k: Float[Tensor, "*heads time d_head"],
    v: Float[Tensor, "*heads time d_value"],
    lam: Float[Tensor, "..."],
    forget: Float[Tensor, "*heads time"] | None = None,
) -> Float[Tensor, "*heads time d_value"]:
    """The definition: one ridge regression per position. `lam` broadcasts over the heads, `forget` is in (0, 1]."""
    ridge = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device) / _floored(lam)[..., None, None]
    gram, moment = ridge.expand(*q.shape[:-2], -1, -1), torch.zeros_like(v[..., 0, :, None] * k[..., 0, None, :])
    answers = []
    for t in range(q.shape[-2]):
        keep = 1.0 if forget is None else forget[..., t, None, None]
        gram = keep * gram + k[..., t, :, None] * k[..., t, None, :]
        moment = keep * moment + v[..., t, :, None] * k[..., t, None, :]
        answers.append(moment @ torch.linalg.solve(gram, q[..., t, :, None]))
    return torch.stack(answers, dim=-3)[..., 0]


def mesa_attention(
    q: Float[Tensor, "*heads time d_head"],
    k: Float[Tensor, "*heads time d_head"],
    v: Float[Tensor, "*heads time d_value"],
    lam: Float[Tensor, "..."],
    forget: Float[Tensor, "*heads time"] | None = None,
) -> Float[Tensor, "*heads time d_value"]:
    """`mesa_ridge` in sequential form, with its exact gradient by the adjoint equation.

    Between the passes nothing is kept but inputs and outputs; working memory does not grow with time.
    """
    lanes = (q.flatten(0, -3), k.flatten(0, -3), v.flatten(0, -3)) if q.ndim > 2 else (q[None], k[None], v[None])
    per_lane = _floored(lam).expand(q.shape[:-2]).reshape(-1)
    keep = None if forget is None else forget.reshape(-1, forget.shape[-1])
    answers: Tensor = _Mesa.apply(*lanes, per_lane, keep)
    return answers.view(v.shape)


def _floored(lam: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    # the gradient passes through the floor, so that a head that hits it can come back
    return lam + (LAM_FLOOR - lam.detach()).clamp(min=0)


class _Mesa(torch.autograd.Function):
    """q, k, v (lane, time, d), lam (lane), forget (lane, time) or None.

    Adjoint: where u_t is the gradient of x_t = R_t q_t, l_t = R_t u_t is the gradient of q_t, and R_t^-1 receives -l_t x_t^T. So
    the backward is the forward's recursion with one more right-hand side, and attention products from later to earlier.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, lam: Tensor, forget: Tensor | None) -> Tensor:
        answers = torch.empty_like(v)
        inverse, moment = _Inverse(lam, k.shape[-1]), k.new_zeros(len(k), k.shape[-1], v.shape[-1])
        for part, decay in _parts(k, forget):
            (x,) = inverse.solve(k[:, part], decay, q[:, part])
            answers[:, part] = decay.attend(x, k[:, part], v[:, part], moment)
            moment = decay.carry(moment, k[:, part], v[:, part])
        ctx.save_for_backward(q, k, v, lam, forget, answers)
        return answers

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, lam, forget, answers = ctx.saved_tensors
        grad_q, grad_k, grad_lam = _adjoint(q, k, v, lam, forget, grad)
        # grad_k holds x on the way in: no array of the size of the inputs is made besides the gradients themselves
        grad_v = _backwards_in_time(k, v, forget, grad, l=grad_q, x=grad_k)
        if forget is None:
            return grad_q, grad_k, grad_v, grad_lam, None
        # m_{t',t} depends on log forget through a sum from t'+1 to t: what rows receive, less what columns receive
        rows = (grad * answers).sum(-1) - (grad_q * q).sum(-1)
        columns = ((grad_k * k).sum(-1) + (grad_v * v).sum(-1)) / 2
        return grad_q, grad_k, grad_v, grad_lam, (rows - columns).flip(-1).cumsum(-1).flip(-1) / forget


def _adjoint(q: Tensor, k: Tensor, v: Tensor, lam: Tensor, forget: Tensor | None, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """l_t = R_t u_t, x_t = R_t q_t and the gradient of lam."""
    l, x = torch.empty_like(q), torch.empty_like(k)
    inverse, moment = _Inverse(lam, k.shape[-1]), k.new_zeros(len(k), k.shape[-1], v.shape[-1])
    grad_lam, ridge = torch.zeros_like(lam), lam**-2
    for part, decay in _parts(k, forget):
        u = decay.attend(grad[:, part], v[:, part], k[:, part], moment.mT)
        x[:, part], l[:, part] = inverse.solve(k[:, part], decay, q[:, part], u)
        grad_lam += ridge * ((x[:, part] * l[:, part]).sum(-1) * decay.from_start).sum(-1)
        ridge = ridge * decay.total
        moment = decay.carry(moment, k[:, part], v[:, part])
    return l, x, grad_lam


def _backwards_in_time(k: Tensor, v: Tensor, forget: Tensor | None, grad: Tensor, *, l: Tensor, x: Tensor) -> Tensor:
    """The gradient of v; x is replaced by the gradient of k.

    With h = (grad, -l) and w = (v, k), sum_{t>=t'} m_{t',t} h_t (x_t . k_{t'}) and sum_{t>=t'} m_{t',t} x_t (h_t . w_{t'}).
    """
    grad_v, width = torch.empty_like(v), v.shape[-1]
    later = k.new_zeros(len(k), k.shape[-1], width + k.shape[-1])
    for part, decay in reversed(list(_parts(k, forget))):
        past = x[:, part]
        h, w = torch.cat([grad[:, part], -l[:, part]], -1), torch.cat([v[:, part], k[:, part]], -1)
        of_w = decay.gather(h, past, k[:, part], later)
        of_k = decay.gather(past, h, w, later.mT)
        later = decay.carry_back(later, past, h)
        grad_v[:, part] = of_w[..., :width]
        x[:, part] = of_k + of_w[..., width:]
    return grad_v


class _Inverse:
    """R_t of every lane by recursive least squares; lanes last, so that each operation is one pass over contiguous numbers."""

    def __init__(self, lam: Tensor, d_head: int) -> None:
        self.R = torch.eye(d_head, dtype=lam.dtype, device=lam.device)[..., None] * lam
        self.product = torch.empty_like(self.R)

    def solve(self, k: Tensor, decay: "_Decay", *sides: Tensor) -> list[Tensor]:
        """R_t times each right-hand side at every position of a part, each (lane, time, d_head)."""
        keys, sides_last = _lanes_last(k), [_lanes_last(side) for side in sides]
        for t, key in enumerate(keys):
            keep = None if decay.forget is None else decay.forget[:, t]
            self._update(key, keep)
            for side in sides_last:
                side[t] = self._times(side[t])
        return [side.permute(2, 0, 1).contiguous() for side in sides_last]

    def _update(self, key: Tensor, keep: Tensor | None) -> None:
        """R = (keep R^-1 + k k^T)^-1 by Sherman and Morrison; exactly symmetric."""
        if keep is not None:
            self.R /= keep
        gain = self._times(key)
        gain *= (1 + (key * gain).sum(0)).rsqrt()
        self.R.addcmul_(gain[:, None], gain, value=-1)

    def _times(self, side: Tensor) -> Tensor:
        # R is symmetric: the sum over the first index is the faster one
        return torch.mul(self.R, side[:, None], out=self.product).sum(0)


def _lanes_last(x: Tensor) -> Tensor:
    return x.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)


def _parts(k: Tensor, forget: Tensor | None) -> Iterator[tuple[slice, "_Decay"]]:
    for start in range(0, k.shape[1], CHUNK):
        part = slice(start, min(start + CHUNK, k.shape[1]))
        yield part, _Decay(k[:, part], None if forget is None else forget[:, part])


class _Decay:
    """The weights m_{t',t} within one part of the positions, and the attention products that carry them."""

    def __init__(self, k: Tensor, forget: Tensor | None) -> None:
        self.forget, mask = forget, causal_mask(k.shape[1], k)
        if forget is None:
            self.within, self.from_start, self.to_end, self.total = mask.to(k), k.new_ones(()), k.new_ones(()), k.new_ones(())
            return
        log = forget.log().cumsum(-1)
        self.within = (log[:, :, None] - log[:, None, :]).masked_fill_(~mask, -torch.inf).exp_()
        self.from_start, self.to_end, self.total = log.exp(), (log[:, -1:] - log).exp(), log[:, -1].exp()

    def attend(self, a: Tensor, b: Tensor, c: Tensor, before: Tensor) -> Tensor:
        """sum_{t'<=t} m_{t',t} c_{t'} (b_{t'} . a_t), where `before` is the sum of b c^T over earlier parts."""
        return (a @ b.mT).mul_(self.within) @ c + self.from_start[..., None] * (a @ before)

    def gather(self, a: Tensor, b: Tensor, c: Tensor, after: Tensor) -> Tensor:
        """sum_{t>=t'} m_{t',t} a_t (b_t . c_{t'}), where `after` is the sum of b a^T over later parts."""
        return (b @ c.mT).mul_(self.within).mT @ a + self.to_end[..., None] * (c @ after)

    def carry(self, before: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return self.total[..., None, None] * before + (self.to_end[..., None] * b).mT @ c

    def carry_back(self, after: Tensor, b: Tensor, a: Tensor) -> Tensor:
        return self.total[..., None, None] * after + (self.from_start[..., None] * b).mT @ a
