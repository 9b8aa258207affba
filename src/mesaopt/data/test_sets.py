"""Batches of sequences that all training seeds and all hand-written algorithms of a task are tested on.

Bands over seeds show how trainings differ and how test sequences differ; bands over test batches of one model, as in most
published curves, only the latter. On the same batches for every seed, the one can be told from the other.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.random import generator
from mesaopt.data.sequences import generate, training_batch
from mesaopt.spec.run import Run, Task

#: the number of the batch that is each seed's own: its evaluation sequences
OWN = 0


def shared_batches(
    task: Task, own: int, batches: int = 5, size: int = 256
) -> Iterator[tuple[int, Float[Tensor, "size time_plus_1 n_obs"]]]:
    """Number (from 1) and sequences of each of the `batches`: `size` (as published) or, if a seed's own batch has fewer, as many
    as that (`own`).

    They are drawn from a stream that trainings and evaluation files do not use.
    """
    for number in range(1, batches + 1):
        drawn = generate(task, min(own, size), generator(0, "shared_test_batches", number))
        yield number, drawn.observations


def fixed_test_batches(
    run: Run, seeds: Sequence[int], device: str = "cpu"
) -> Float[Tensor, "batches pack batch time_plus_1 n_obs"]:
    """The batches behind every test loss of a seed: the same at every step, in every training of the task."""
    training = run.training
    batches = [training_batch(run.task, seeds, training.test_batch, "test", i, device) for i in range(training.test_batches)]
    return torch.stack(batches)
