"""Task `partial`: linear systems of which few channels are seen, through a random matrix and noise (paper, section on partially
observed systems): s_t = C h_t + o_t with C of entries 0.5 N(0, 1), drawn anew for every sequence like W.
"""

import numpy as np

from mesaopt.data.sampler import Generator, Sampler, Sequences, orthogonal, state_noise
from mesaopt.spec.run import Task

BOUND = 10.0
OBS_NOISE = 0.01
#: standard deviation of the entries of C
SCALE = 0.5


def draw(task: Task, n: int, rng: np.random.Generator, sampler: Sampler) -> Sequences:
    """n sequences, each of a system of its own. An element has one draw of noise, as input and as target."""
    obs_noise = OBS_NOISE if task.obs_noise is None else task.obs_noise
    w = orthogonal(rng, n, task.n_state, sampler)
    c = sampler.normal(rng, n, task.n_obs, task.n_state).mul_(SCALE)
    states = sampler.states(rng, w, task.context_length, state_noise(task), BOUND)
    noise = sampler.normal(rng, n, task.context_length + 1, task.n_obs)
    return Sequences(sampler.observe(c, states, noise, obs_noise), {"W": w, "C": c})


GENERATOR = Generator(draw)
