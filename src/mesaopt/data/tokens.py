"""What a Transformer reads at each position. The one place where the previous element s_{t-1} is made."""

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.errors import InputError
from mesaopt.spec.run import TOKENS


def delayed(inputs: Float[Tensor, "*batch time n_obs"], by: int) -> Float[Tensor, "*batch time n_obs"]:
    """s_{t-by} at position t, zero before the sequence begins."""
    out = torch.zeros_like(inputs)
    if by < inputs.shape[-2]:
        out[..., by:, :] = inputs[..., : inputs.shape[-2] - by, :]
    return out


def tokenise(inputs: Float[Tensor, "*batch time n_obs"], kind: str) -> Float[Tensor, "*batch time token"]:
    """Tokens of s_1..s_T: `raw` is s_t, `constructed` (0, s_t, s_t, s_{t-1}), `constructed_bare` (0, 0, s_t, s_{t-1}); s_0 = 0.

    Raises `InputError` for another kind.
    """
    if kind == "raw":
        return inputs
    zero = torch.zeros_like(inputs)
    if kind == "constructed":
        return torch.cat((zero, inputs, inputs, delayed(inputs, 1)), dim=-1)
    if kind == "constructed_bare":
        return torch.cat((zero, zero, inputs, delayed(inputs, 1)), dim=-1)
    raise InputError(f"unknown tokens {kind!r}: one of {', '.join(TOKENS)}")


def concatenated(inputs: Float[Tensor, "*batch time n_obs"], k: int) -> Float[Tensor, "*batch time state"]:
    """z_t = (s_t, s_{t-1}, ..., s_{t-k+1}), zero before the sequence begins: a state estimate under partial observability.

    Raises `InputError` unless 1 <= k <= T.
    """
    if not 1 <= k <= inputs.shape[-2]:
        raise InputError(f"concatenated observations: their number must lie in 1..{inputs.shape[-2]}, the context, not be {k}")
    return torch.cat([delayed(inputs, by) for by in range(k)], dim=-1)
