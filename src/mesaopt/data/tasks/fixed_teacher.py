"""Task `fixed_teacher`: one orthogonal matrix for all sequences, which can simply be memorised."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.random import generator
from mesaopt.data.sampler import PLAIN, Generator, Sampler, Sequences, fully_observed, orthogonal
from mesaopt.spec.run import Task

BOUND = 10.0


def teacher(rng: np.random.Generator, n: int, size: int, sampler: Sampler = PLAIN) -> Float[Tensor, "n size size"]:
    """The one orthogonal matrix of the task: a constant, whatever the seed and the sampler."""
    return orthogonal(generator(0, "task"), 1, size).expand(n, size, size)


def draw(task: Task, n: int, rng: np.random.Generator, sampler: Sampler) -> Sequences:
    """n sequences of the one system."""
    return fully_observed(task, teacher(rng, n, task.n_state, sampler), rng, sampler, BOUND)


GENERATOR = Generator(draw, shared=("W",))
