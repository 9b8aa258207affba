"""Task `linear`: a Haar-random orthogonal matrix per sequence, fully observed."""

import numpy as np

from mesaopt.data.sampler import Generator, Sampler, Sequences, fully_observed, orthogonal
from mesaopt.spec.run import Task

BOUND = 10.0


def draw(task: Task, n: int, rng: np.random.Generator, sampler: Sampler) -> Sequences:
    """n sequences, each of a system of its own."""
    return fully_observed(task, orthogonal(rng, n, task.n_state, sampler), rng, sampler, BOUND)


GENERATOR = Generator(draw)
