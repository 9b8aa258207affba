"""Task `nonlinear`: systems that are linear in nonlinear features of their state (paper, section on nonlinear dynamics).

h_{t+1} = W f(h_t) + e_t with f(h) = MLP(h) / ||MLP(h)|| and a Haar-random orthogonal W per sequence, fully observed and never
clipped. The one MLP of the task is a constant, whatever the seed. From t = 2 on states have norm 1, up to the noise.
"""

import functools
import math

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.mlp import Mlp, random_mlp
from mesaopt.data.random import generator
from mesaopt.data.sampler import Generator, Sampler, Sequences, orthogonal, require_fully_observed, state_noise
from mesaopt.spec.run import Task

#: hidden units of the MLP, and the standard deviation of its entries
HIDDEN, SCALE = 40, 1.1
#: the first state is uniform in (-START, START)
START = 0.25


@functools.cache
def mlp(size: int) -> Mlp:
    """The MLP of the task, for states of this size."""
    return random_mlp(generator(0, "task"), size, HIDDEN, SCALE)


def features(states: Float[Tensor, "*batch size"], normalised: bool = True) -> Float[Tensor, "*batch size"]:
    """What the next state is linear in: MLP(h) / ||MLP(h)||, or MLP(h) itself."""
    task_mlp = mlp(states.shape[-1])
    return task_mlp.normalised(states) if normalised else task_mlp(states)


def draw(task: Task, n: int, rng: np.random.Generator, sampler: Sampler) -> Sequences:
    """n sequences, each of a W of its own."""
    require_fully_observed(task)
    size = task.n_state
    w = orthogonal(rng, n, size, sampler)
    states = sampler.states(rng, w, task.context_length, state_noise(task), math.inf, START, mlp(size))
    systems = {"W": w, "A": mlp(size).a.expand(n, size, HIDDEN), "B": mlp(size).b.expand(n, HIDDEN, size)}
    return Sequences(states, systems)


GENERATOR = Generator(draw, shared=("A", "B"), features=features)
