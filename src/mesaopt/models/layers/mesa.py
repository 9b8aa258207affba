"""The mesa-layer: every query is answered by the ridge regression of the values on the keys seen so far.

Phi_t = argmin_Phi 1/2 sum_{t'<=t} m_{t',t} ||v_{t'} - Phi k_{t'}||^2 + m_{0,t} / (2 lam) ||Phi||_F^2 answers q_t with
Phi_t q_t, where m_{t',t} = prod_{j=t'+1..t} forget_j is 1 without forgetting. With R_t = (sum_{t'<=t} m_{t',t} k k^T +
m_{0,t} I / lam)^-1 this is causal linear attention with the queries x_t = R_t q_t (paper, the mesa-layer).

`mesa_ridge` solves each regression anew; `mesa_attention` carries R along by recursive least squares.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.models.by_hand import ByHand, Tensors
from mesaopt.models.kinds import Kind, Own, Parameters
from mesaopt.models.recursion import Inverse, lane_blocks, parts
from mesaopt.spec.run import Model

#: lam is a raw parameter under weight decay; below this it would not be a ridge regression any more
LAM_FLOOR = 1e-6


def heads(q: Tensor, k: Tensor, v: Tensor, e: Tensor, own: Parameters) -> Tensor:
    """Every head's answers."""
    return mesa_attention(q, k, v, own["lam"][:, None])


def weights(q: Tensor, k: Tensor, v: Tensor, e: Tensor, own: Parameters) -> Tensor:
    """k_{t'}^T R_t q_t (row t, column t'): the weights with which the values are summed."""
    return mesa_weights(q, k, own["lam"][:, None])


def mesa_weights(
    q: Float[Tensor, "*heads time d_head"], k: Float[Tensor, "*heads time d_head"], lam: Float[Tensor, "..."]
) -> Float[Tensor, "*heads time time"]:
    """The answer is linear in the values, so its weights are the answers to values that mark their position."""
    marks = torch.eye(k.shape[-2], dtype=k.dtype, device=k.device).expand(*k.shape[:-1], -1)
    return mesa_attention(q, k, marks, lam)


def mesa_ridge(
    q: Float[Tensor, "*heads time d_head"],
    k: Float[Tensor, "*heads time d_head"],
    v: Float[Tensor, "*heads time d_value"],
    lam: Float[Tensor, "..."],
    forget: Float[Tensor, "*heads time"] | None = None,
) -> Float[Tensor, "*heads time d_value"]:
    """The definition: one ridge regression per position. `lam` broadcasts over the heads, `forget` is in (0, 1]."""
    return _ridge(q, k, v, _floored(lam), forget)[0]


def _ridge(q: Tensor, k: Tensor, v: Tensor, lam: Tensor, forget: Tensor | None) -> tuple[Tensor]:
    ridge = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device) / lam[..., None, None]
    gram, moment = ridge.expand(*q.shape[:-2], -1, -1), torch.zeros_like(v[..., 0, :, None] * k[..., 0, None, :])
    answers = []
    for t in range(q.shape[-2]):
        keep = 1.0 if forget is None else forget[..., t, None, None]
        gram = keep * gram + k[..., t, :, None] * k[..., t, None, :]
        moment = keep * moment + v[..., t, :, None] * k[..., t, None, :]
        with _without_autocast(q):
            answers.append(moment @ torch.linalg.solve(gram, q[..., t, :, None]))
    return (torch.stack(answers, dim=-3)[..., 0],)


def mesa_attention(
    q: Float[Tensor, "*heads time d_head"],
    k: Float[Tensor, "*heads time d_head"],
    v: Float[Tensor, "*heads time d_value"],
    lam: Float[Tensor, "..."],
    forget: Float[Tensor, "*heads time"] | None = None,
) -> Float[Tensor, "*heads time d_value"]:
    """`mesa_ridge` in sequential form, with its exact gradient by the adjoint equation.

    Between the passes nothing is kept but inputs and outputs; working memory does not grow with time. The answers have the type
    of v, but everything in between is float32 or better, autocast or not: in half precision R would not stay positive.
    """
    lanes = [_full(x.flatten(0, -3) if x.ndim > 2 else x[None]) for x in (q, k, v)]
    per_lane = _full(_floored(lam).expand(q.shape[:-2]).reshape(-1))
    keep = None if forget is None else _full(forget.reshape(-1, forget.shape[-1]))
    with _without_autocast(q):
        (answers,) = _MESA(*lanes, per_lane, keep)
    return answers.view(v.shape).to(v.dtype)


def _full(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _without_autocast(x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, enabled=False)


def _floored(lam: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    # the gradient passes through the floor, so that a head that hits it can come back
    return lam + (LAM_FLOOR - lam.detach()).clamp(min=0)


def _sequential(q: Tensor, k: Tensor, v: Tensor, lam: Tensor, forget: Tensor | None) -> tuple[Tensor]:
    """q, k, v (lane, time, d), lam (lane), forget (lane, time) or None."""
    inverse, moment, answers = Inverse(lam, k.shape[-1]), None, torch.empty_like(v)
    for part in parts(k, forget):
        (x,) = inverse.solve(k[part.at], part.forget, q[part.at])
        answers[part.at] = part.attend(x.contiguous(), k[part.at], v[part.at], moment)
        moment = part.carry(moment, k[part.at], v[part.at])
    return (answers,)


def _gradients(needed: Sequence[bool], grads: Tensors, inputs: Tensors, kept: Tensors) -> Tensors:
    with _without_autocast(inputs[0]):
        return _adjoint_gradients(*grads, *inputs, *kept)


def _adjoint_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, lam: Tensor, forget: Tensor | None, answers: Tensor
) -> tuple[Tensor | None, ...]:
    """Where u_t is the gradient of x_t = R_t q_t, l_t = R_t u_t is the gradient of q_t, and R_t^-1 receives -l_t x_t^T. So the
    backward is the forward's recursion with one more right-hand side, and attention products from later to earlier.
    """
    grad_q, grad_k, grad_lam = _adjoint(q, k, v, lam, forget, grad)
    # grad_k holds x on the way in: no array as long as the inputs is made besides the gradients themselves
    grad_v = torch.empty_like(v)
    for lanes in lane_blocks(k):
        keep = None if forget is None else forget[lanes]
        _later_to_earlier(k[lanes], v[lanes], keep, grad[lanes], (grad_q[lanes], grad_k[lanes], grad_v[lanes]))
    if forget is None:
        return grad_q, grad_k, grad_v, grad_lam, None
    # m_{t',t} = exp(c_t - c_{t'}) with c_t = log(forget_1 .. forget_t): what all t' send to t, less what t sends
    sent = _dots(grad_k, k) + _dots(grad_v, v)
    received = (_dots(grad, answers) - _dots(grad_q, q) - sent / 2).flip(-1).cumsum(-1).flip(-1)
    return grad_q, grad_k, grad_v, grad_lam, received / forget


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """a_t . b_t at every position, without an array as long as a."""
    out = a.new_empty(a.shape[:2])
    for part in parts(a, None):
        out[part.at] = (a[part.at] * b[part.at]).sum(-1)
    return out


def _adjoint(q: Tensor, k: Tensor, v: Tensor, lam: Tensor, forget: Tensor | None, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """l_t = R_t u_t, x_t = R_t q_t and the gradient of lam."""
    l, x, grad_lam, ridge = torch.empty_like(q), torch.empty_like(k), torch.zeros_like(lam), lam**-2
    inverse, moment = Inverse(lam, k.shape[-1]), None
    for part in parts(k, forget):
        u = part.attend(grad[part.at], v[part.at], k[part.at], None if moment is None else moment.mT)
        x[part.at], l[part.at] = inverse.solve(k[part.at], part.forget, q[part.at], u)
        grad_lam += ridge * ((x[part.at] * l[part.at]).sum(-1) * part.from_start).sum(-1)
        ridge = ridge * part.total
        moment = part.carry(moment, k[part.at], v[part.at])
    return l, x, grad_lam


def _later_to_earlier(k: Tensor, v: Tensor, forget: Tensor | None, grad: Tensor, grads: tuple[Tensor, Tensor, Tensor]) -> None:
    """Given l and x in the places of grad_q and grad_k, write grad_k and grad_v.

    With h = (grad, -l) and w = (v, k): sum_{t>=t'} m_{t',t} h_t (x_t . k_{t'}) and sum_{t>=t'} m_{t',t} x_t (h_t . w_{t'}).
    """
    l, x, grad_v = grads
    later = None
    for part in parts(k, forget, backwards=True):
        past = x[part.at].clone()
        h, w = torch.cat([grad[part.at], -l[part.at]], -1), torch.cat([v[part.at], k[part.at]], -1)
        of_v, of_k = part.gather(h, past, k[part.at], later).split([v.shape[-1], k.shape[-1]], -1)
        grad_v[part.at] = of_v
        torch.add(part.gather(past, h, w, None if later is None else later.mT), of_k, out=x[part.at])
        later = part.carry_back(later, past, h)


def own(model: Model) -> dict[str, Own]:
    """lambda of every head, 1 at the start."""
    return {"lam": Own((model.n_heads,), start=1.0, floor=LAM_FLOOR)}


_MESA = ByHand(_sequential, _gradients, _ridge, keeps_from=0)
KIND = Kind(heads, weights, own)
