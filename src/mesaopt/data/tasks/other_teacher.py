"""Task `other_teacher`: `fixed_teacher` with another teacher, the one of that number. What is found for one system may be an
accident of it; what is found for several is not.
"""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.random import generator
from mesaopt.data.sampler import Generator, Sampler, Sequences, fully_observed, orthogonal
from mesaopt.spec.run import Task

BOUND = 10.0


def teacher(number: int, size: int) -> Float[Tensor, "1 size size"]:
    """The one orthogonal matrix of the task, a constant whatever the seed; number 0 is that of `fixed_teacher`."""
    return orthogonal(generator(number, "task"), 1, size)


def draw(task: Task, n: int, rng: np.random.Generator, sampler: Sampler) -> Sequences:
    """n sequences of the one system."""
    w = teacher(task.teacher, task.n_state)
    return fully_observed(task, w.expand(n, -1, -1), rng, sampler, BOUND)


GENERATOR = Generator(draw, shared=("W",))
