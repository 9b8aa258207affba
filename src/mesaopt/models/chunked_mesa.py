"""The mesa-layer over long contexts: a run of positions at a time, by matrix products instead of one update a position.

Before a run of keys K (a row each) let B = R. With the Cholesky factor L of I + K B K^T, the rows u_j of U = L^-1 K B are what
recursive least squares takes away one after the other: R_t = B - sum_{j<=t} u_j u_j^T within the run, because the factor of a
leading block is the leading block of the factor. So R_t q_t for all t of a run is q B less a causal linear attention with keys
and values u, and B goes on as B - U^T U. Exact, and working memory does not grow with time (`recursion.PART` positions a run).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.models.attention import causal_mask
from mesaopt.models.by_hand import ByHand, Tensors
from mesaopt.models.recursion import parts


def chunked_mesa(
    q: Float[Tensor, "*heads time d_key"],
    k: Float[Tensor, "*heads time d_key"],
    v: Float[Tensor, "*heads time d_value"],
    lam: Float[Tensor, "..."],
) -> Float[Tensor, "*heads time d_value"]:
    """Answers of ridge regressions of the values on the keys so far, as `layers/mesa.py` says them, with their exact gradient.

    `lam`, which is positive, broadcasts over the heads. In float32 or better, autocast or not; the answers have the type of v.
    """
    with torch.autocast(q.device.type, enabled=False):
        lanes = [_full(x.flatten(0, -3)) for x in (q, k, v)]
        (answers,) = _CHUNKED(*lanes, _full(lam.expand(q.shape[:-2]).reshape(-1)))
    return answers.view(*q.shape[:-1], -1).to(v.dtype)


def _full(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Inverse:
    """R of every lane (lane, d, d), from one run of positions to the next."""

    def __init__(self, lam: Float[Tensor, " lane"], size: int) -> None:
        self.B = torch.eye(size, dtype=lam.dtype, device=lam.device) * lam[:, None, None]

    def solve(
        self, k: Float[Tensor, "lane run d_key"], *sides: Float[Tensor, "lane run d_key"]
    ) -> list[Float[Tensor, "lane run d_key"]]:
        """R_t times each right-hand side at every position of the next run, whose keys are k."""
        taken = k @ self.B
        gram = torch.baddbmm(torch.eye(k.shape[1], dtype=k.dtype, device=k.device), taken, k.mT)
        u = torch.linalg.solve_triangular(torch.linalg.cholesky(gram), taken, upper=False)
        mask = causal_mask(k.shape[1], k)
        solved = [side @ self.B - (side @ u.mT * mask) @ u for side in sides]
        self.B = self.B - u.mT @ u
        return solved


def _forward(q: Tensor, k: Tensor, v: Tensor, lam: Tensor) -> tuple[Tensor]:
    """q, k, v (lane, time, d), lam (lane)."""
    inverse, moment, answers = Inverse(lam, k.shape[-1]), None, torch.empty_like(v)
    for part in parts(k, None):
        (x,) = inverse.solve(k[part.at], q[part.at])
        answers[part.at] = part.attend(x, k[part.at], v[part.at], moment)
        moment = part.carry(moment, k[part.at], v[part.at])
    return (answers,)


def _gradients(needed: Sequence[bool], grads: Tensors, inputs: Tensors, kept: Tensors) -> Tensors:
    """Where u_t is the gradient of x_t = R_t q_t, l_t = R_t u_t is that of q_t, and R_t^-1 receives -l_t x_t^T."""
    with torch.autocast(inputs[0].device.type, enabled=False):
        l, x, grad_lam = _adjoint(*grads, *inputs)
        grad_k, grad_v = _later_to_earlier(inputs[1], inputs[2], grads[0], l, x)
    return l, grad_k, grad_v, grad_lam


def _adjoint(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, lam: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """l, x and the gradient of lam, from earlier to later."""
    l, x = torch.empty_like(q), torch.empty_like(q)
    inverse, moment = Inverse(lam, k.shape[-1]), None
    for part in parts(k, None):
        u = part.attend(grad[part.at], v[part.at], k[part.at], None if moment is None else moment.mT)
        x[part.at], l[part.at] = inverse.solve(k[part.at], q[part.at], u)
        moment = part.carry(moment, k[part.at], v[part.at])
    return l, x, (x * l).sum((1, 2)) / lam**2


def _later_to_earlier(k: Tensor, v: Tensor, grad: Tensor, l: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of k and v. With h = (grad, -l) and w = (v, k): sum_{t>=t'} h_t (x_t . k_{t'}) and x_t (h_t . w_{t'})."""
    grad_k, grad_v, later = torch.empty_like(k), torch.empty_like(v), None
    for part in parts(k, None, backwards=True):
        h, w = torch.cat([grad[part.at], -l[part.at]], -1), torch.cat([v[part.at], k[part.at]], -1)
        of_v, of_k = part.gather(h, x[part.at], k[part.at], later).split([v.shape[-1], k.shape[-1]], -1)
        grad_v[part.at] = of_v
        grad_k[part.at] = part.gather(x[part.at], h, w, None if later is None else later.mT) + of_k
        later = part.carry_back(later, x[part.at], h)
    return grad_k, grad_v


def _ridge(q: Tensor, k: Tensor, v: Tensor, lam: Tensor) -> tuple[Tensor]:
    """The definition, every regression solved anew."""
    ridge = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device) / lam[:, None, None]
    answers = []
    for t in range(1, k.shape[1] + 1):
        past = k[:, :t]
        x = torch.linalg.solve(past.mT @ past + ridge, q[:, t - 1, :, None])
        answers.append((v[:, :t].mT @ (past @ x))[..., 0])
    return (torch.stack(answers, dim=1),)


_CHUNKED = ByHand(_forward, _gradients, _ridge)
