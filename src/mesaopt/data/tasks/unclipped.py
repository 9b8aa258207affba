"""Task `unclipped`: that of `linear` without a bound on the states (paper, appendix on kernel regression)."""

import math

import numpy as np

from mesaopt.data.sampler import Generator, Sampler, Sequences, fully_observed, orthogonal
from mesaopt.spec.run import Task


def draw(task: Task, n: int, rng: np.random.Generator, sampler: Sampler) -> Sequences:
    """n sequences, each of a system of its own."""
    return fully_observed(task, orthogonal(rng, n, task.n_state, sampler), rng, sampler, math.inf)


GENERATOR = Generator(draw)
