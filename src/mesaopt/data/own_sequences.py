"""As many sequences of a seed as a stated precision takes: those of its file first, then more, drawn where they are used."""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from mesaopt.data.random import generator
from mesaopt.data.sequences import generate
from mesaopt.spec.run import Task


def own_sequences(
    task: Task, seed: int, first: Float[Tensor, "batch time_plus_1 n_obs"], sequences: int, chunk: int = 1024
) -> Iterator[Float[Tensor, "_ time_plus_1 n_obs"]]:
    """A seed's `first` sequences and, until there are `sequences`, chunks of more from a stream of their own.

    All that is evaluated with the seed sees the same ones, so that predictors are compared on them sequence by sequence; a larger
    number leaves those of a smaller one as they are.
    """
    yield first
    for number, begin in enumerate(range(len(first), sequences, chunk)):
        drawn = generate(task, chunk, generator(seed, "evaluation_more", number)).observations
        yield drawn[: sequences - begin]
