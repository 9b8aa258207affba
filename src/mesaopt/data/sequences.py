"""Sequences of a task: what its generator draws, as batches of a training and as inputs and targets."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.random import generator
from mesaopt.data.sampler import PLAIN, Generator, Sampler, Sequences
from mesaopt.spec.run import Task
from mesaopt.spec.words import module


def generator_of(task: Task) -> Generator:
    """How the task's kind draws sequences."""
    found: Generator = module("task kind", task.kind).GENERATOR
    return found


def generate(task: Task, n: int, rng: np.random.Generator, device: str = "cpu", sampler: Sampler = PLAIN) -> Sequences:
    """Draw `n` sequences of `context_length` + 1 elements in float32.

    Drawn on the CPU whatever the device, so that a GPU sees the same bytes; another `sampler` draws the same up to rounding.
    Raises `InputError` where the sizes of the task cannot be.
    """
    drawn = generator_of(task).draw(task, n, rng, sampler)
    return Sequences(drawn.observations.to(device), {name: matrices.to(device) for name, matrices in drawn.systems.items()})


def training_batch(
    task: Task, seeds: Sequence[int], batch: int, stream: str, step: int, device: str = "cpu", sampler: Sampler = PLAIN
) -> Float[Tensor, "pack batch time_plus_1 n_obs"]:
    """The batch of one step for each seed: a pure function of (seed, stream, step), so seeds do not know their pack."""
    drawn = [generate(task, batch, generator(seed, stream, step), sampler=sampler).observations for seed in seeds]
    return (torch.stack(drawn) if len(drawn) > 1 else drawn[0][None]).to(device)


def inputs_targets(
    observations: Float[Tensor, "*batch time_plus_1 n_obs"],
) -> tuple[Float[Tensor, "*batch time n_obs"], Float[Tensor, "*batch time n_obs"]]:
    """Inputs s_1..s_T and targets s_2..s_{T+1}."""
    return observations[..., :-1, :], observations[..., 1:, :]
