"""Task `contracting`: systems that come to rest (paper, appendix on contracting dynamics); states are clipped to [-2, 2]."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.random import uniform
from mesaopt.data.sampler import PLAIN, Generator, Sampler, Sequences, fully_observed
from mesaopt.spec.run import Task

BOUND = 2.0


def contraction(rng: np.random.Generator, n: int, size: int, sampler: Sampler = PLAIN) -> Float[Tensor, "n size size"]:
    """V diag(l) V^-1 with Gaussian V, one eigenvalue 0.9 and the others U(0.3, 0.9)."""
    eigenvalues = uniform(rng, 0.3, 0.9, n, size).double()
    # V's columns are exchangeable, so the place of the largest eigenvalue does not matter
    eigenvalues[:, 0] = 0.9
    v = sampler.normal(rng, n, size, size).double()
    return torch.linalg.solve(v, v * eigenvalues.unsqueeze(-2), left=False).float()


def draw(task: Task, n: int, rng: np.random.Generator, sampler: Sampler) -> Sequences:
    """n sequences, each of a system of its own."""
    return fully_observed(task, contraction(rng, n, task.n_state, sampler), rng, sampler, BOUND)


GENERATOR = Generator(draw, bound=BOUND)
