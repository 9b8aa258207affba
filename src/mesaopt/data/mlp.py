"""A random MLP with one hidden layer, and its normalised output: the nonlinear features that states of a system may evolve by."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import gelu

from mesaopt.data.random import normal


@dataclass(frozen=True)
class Mlp:
    """MLP(h) = gelu(h A) B of row vectors h, gelu being the approximation by tanh. Computes in the dtype of what it is given."""

    a: Float[Tensor, "size hidden"]
    b: Float[Tensor, "hidden size"]

    def __call__(self, states: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        return gelu(states @ self.a.to(states), approximate="tanh") @ self.b.to(states)

    def normalised(self, states: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """MLP(h) / ||MLP(h)||."""
        return unit(self(states))


def unit(vectors: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
    """Vectors over their Euclidean norm; a vector of zeros stays one."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(math.sqrt(torch.finfo(vectors.dtype).tiny))


def random_mlp(rng: np.random.Generator, size: int, hidden: int, scale: float) -> Mlp:
    """Entries of A, then of B, are `scale` N(0, 1)."""
    return Mlp(normal(rng, size, hidden).mul_(scale), normal(rng, hidden, size).mul_(scale))
