"""The delta rule: a fast-weight memory that corrects what it answers (Schlag et al. 2021), this project's addition to the paper.

S_t = S_{t-1} + beta_t (v_t - S_{t-1} k_t) k_t^T, S_0 = 0, answers q_t with S_t q_t: one step of gradient descent a token, of rate
beta_t, on the squared error of the newest pair alone. Keys are divided by their norm; beta_t = sigmoid(w . e_t + b) of each head.

What is written at t is u_t k_t^T with u_t = beta_t (v_t - sum_{t'<t} u_{t'} (k_{t'} . k_t)): a triangular system for all u at
once. Then S_t q_t is causal linear attention with the values u.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.models.attention import unit_norm
from mesaopt.models.kinds import Kind, Own, Parameters
from mesaopt.spec.run import Model

Heads = Float[Tensor, "pack batch heads time d_head"]


def heads(q: Heads, k: Heads, v: Heads, e: Tensor, own: Parameters) -> Heads:
    """Every head's answers."""
    return weights(q, k, v, e, own) @ v


def weights(q: Heads, k: Heads, v: Heads, e: Tensor, own: Parameters) -> Float[Tensor, "pack batch heads time time"]:
    """With what weight each answer (row) holds each value (column)."""
    k, beta = unit_norm(k), rates(e, own)
    overlap = (beta * (k @ k.mT)).tril(-1)
    written = torch.linalg.solve_triangular(overlap, torch.diag_embed(beta[..., 0]), upper=False, unitriangular=True)
    return (q @ k.mT).tril() @ written


def rates(e: Float[Tensor, "pack batch time d_model"], own: Parameters) -> Float[Tensor, "pack batch heads time 1"]:
    """beta_t of every head."""
    scores = own["w_beta"][:, None] @ e.mT + own["b_beta"][:, None, :, None]
    return torch.sigmoid(scores)[..., None]


def own(model: Model) -> dict[str, Own]:
    """w and b of beta, per head; b is 0 at the start, so that beta is about a half."""
    return {"w_beta": Own((model.n_heads, model.d_model)), "b_beta": Own((model.n_heads,), start=0.0)}


KIND = Kind(heads, weights, own)
