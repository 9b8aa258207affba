"""Task `few_shot`: supervised regression in context (paper, section on few-shot regression): x_1, y_1, x_2, y_2, ... with
y_i = W x_i + noise, x_i uniform in (-1, 1) and W Haar-random orthogonal, drawn anew for every sequence.

What is put between the pairs, and where tasks change, is said in `data.prompts`.
"""

import numpy as np
import torch

from mesaopt.data.random import uniform
from mesaopt.data.sampler import Generator, Sampler, Sequences, orthogonal, require_fully_observed, state_noise
from mesaopt.spec.run import Task


def draw(task: Task, n: int, rng: np.random.Generator, sampler: Sampler) -> Sequences:
    """n sequences of `context_length` + 1 elements. `state_noise` is that of the labels.

    Raises `InputError` for a partially observed task.
    """
    require_fully_observed(task)
    elements, size = task.context_length + 1, task.n_state
    w = orthogonal(rng, n, size, sampler)
    x = uniform(rng, -1.0, 1.0, n, -(-elements // 2), size)
    y = sampler.observe(w, x, sampler.normal(rng, *x.shape), state_noise(task))
    return Sequences(torch.stack((x, y), dim=2).flatten(1, 2)[:, :elements].contiguous(), {"W": w})


GENERATOR = Generator(draw)
