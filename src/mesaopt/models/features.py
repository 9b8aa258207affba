"""Features of queries and keys: deterministic parameter-free projections (Schlag et al. 2021; paper, on language models)."""

import torch
from jaxtyping import Float
from torch import Tensor


def dpfp(x: Float[Tensor, "*heads d_head"], nu: int) -> Float[Tensor, "*heads d_key"]:
    """With r = (relu(x), relu(-x)): r times r shifted by j = 1..nu channels, side by side, 2 d_head nu channels; x for nu = 0."""
    if nu == 0:
        return x
    r = torch.cat([x.relu(), (-x).relu()], dim=-1)
    return torch.cat([r * r.roll(j, -1) for j in range(1, nu + 1)], dim=-1)


def divided_by_norm(x: Float[Tensor, "*heads d_key"], guard: float) -> Float[Tensor, "*heads d_key"]:
    """x by its L2 norm at each position, or by `guard` where that is larger: features can all be zero."""
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=guard)
