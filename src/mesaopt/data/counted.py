"""Training batches by counter: every random word is a function of seed, stream, step and its own place, by Philox4x32-10.

So a GPU can draw a batch where it is used (`backends/cuda/draw.h`): of the same words, the same numbers up to rounding.
Runs ask for it by `generator: philox`; the laws are those of `data/tasks`.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Float, UInt32
from torch import Tensor

from mesaopt.data.mlp import Mlp
from mesaopt.data.random import generator
from mesaopt.data.sampler import PLAIN, require_fully_observed, state_noise
from mesaopt.errors import InputError
from mesaopt.spec.run import Run, Task
from mesaopt.spec.words import module

#: eigenvalues of contracting systems lie between these, and one is the second (data/tasks/contracting.py)
FASTEST, SLOWEST = 0.3, 0.9


class Section(IntEnum):
    """What a word is for: the last part of its counter."""

    W = 0
    EIGENVALUES = 1
    C = 2
    START = 3
    NOISE = 4
    OBSERVATION_NOISE = 5


@dataclass(frozen=True)
class Law:
    """How sequences of a kind of task are made: what kind of matrix W is, the standard deviation of the entries of C (0: states
    are seen as they are), where states start and are clipped (None: nowhere), and the MLP that they evolve through, if any.
    Or, of `pairs`, no states that evolve: x_1, W x_1 + noise, x_2, W x_2 + noise, ...
    """

    matrix: str
    c_scale: float
    start: float
    bound: float | None
    mlp: Mlp | None
    pairs: bool


#: of each kind of task, what kind of matrix W is, and what its sequences have besides: a C, an MLP, pairs for states
KINDS = {
    "linear": ("orthogonal", ""),
    "unclipped": ("orthogonal", ""),
    "contracting": ("contracting", ""),
    "fixed_teacher": ("teacher", ""),
    "other_teacher": ("teacher", ""),
    "partial": ("orthogonal", "c"),
    "nonlinear": ("orthogonal", "mlp"),
    "few_shot": ("orthogonal", "pairs"),
}


def law_of(task: Task) -> Law:
    """The law of a task, with the numbers that its kind says (`data/tasks`); raises `InputError` for a kind that is not drawn by
    counter, and for sizes that cannot be.
    """
    if task.kind not in KINDS:
        raise InputError(f"task {task.name}: sequences of kind {task.kind} are not drawn by counter; leave out generator: philox")
    (matrix, besides), kind = KINDS[task.kind], module("task kind", task.kind)
    if besides != "c":
        require_fully_observed(task)
    c_scale, mlp = kind.SCALE if besides == "c" else 0.0, kind.mlp(task.n_state) if besides == "mlp" else None
    return Law(matrix, c_scale, getattr(kind, "START", 1.0), getattr(kind, "BOUND", None), mlp, besides == "pairs")


def obs_noise(task: Task) -> float:
    """Standard deviation of the noise of an observation."""
    default: float = getattr(module("task kind", task.kind), "OBS_NOISE", 0.0)
    return default if task.obs_noise is None else task.obs_noise


@functools.cache
def teacher(task: Task) -> Float[Tensor, "n_state n_state"]:
    """The one matrix of a task with a fixed teacher, or with another one."""
    w: Tensor = module("task kind", task.kind).GENERATOR.draw(task, 1, generator(0, "task"), PLAIN).systems["W"]
    return w[0].contiguous()


def key(seed: int, stream: str) -> UInt32[np.ndarray, " 2"]:
    """The key of one stream of a seed."""
    return generator(seed, stream).bit_generator.seed_seq.generate_state(2, np.uint32)


def philox(counter: UInt32[np.ndarray, "4 *shape"], key: UInt32[np.ndarray, " 2"]) -> UInt32[np.ndarray, "4 *shape"]:
    """Four random words for every counter (Salmon and others, 2011: ten rounds)."""
    c = [part.astype(np.uint64) for part in counter]
    low, keys = np.uint64(2**32 - 1), [int(k) for k in key]
    for _ in range(10):
        product_0, product_2 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        first, second = (np.uint64(k) for k in keys)
        c = [product_2 >> 32 ^ c[1] ^ first, product_2 & low, product_0 >> 32 ^ c[3] ^ second, product_0 & low]
        keys = [(k + step) % 2**32 for k, step in zip(keys, (0x9E3779B9, 0xBB67AE85), strict=True)]
    return np.stack(c).astype(np.uint32)


class Source:
    """The random numbers of `sequences` sequences at one step of one key."""

    def __init__(self, key: UInt32[np.ndarray, " 2"], sequences: int, step: int) -> None:
        self.key, self.sequences, self.step = key, sequences, step

    def words(self, section: Section, count: int) -> UInt32[np.ndarray, "sequences count"]:
        """The first `count` words of a section: word i of a sequence is part i % 4 of block i // 4."""
        blocks = -(-count // 4)
        shape = self.sequences, blocks
        sequence, block = np.indices(shape, dtype=np.uint32)
        rest = (np.full(shape, number, dtype=np.uint32) for number in (self.step, section))
        found = philox(np.stack([block, sequence, *rest]), self.key)
        return np.moveaxis(found, 0, -1).reshape(self.sequences, 4 * blocks)[:, :count]

    def uniform(self, section: Section, *shape: int) -> Float[Tensor, "sequences *shape"]:
        """U(0, 1) on a grid of 2^-24."""
        words = self.words(section, int(np.prod(shape)))
        return torch.from_numpy((words >> 8).astype(np.float32) * np.float32(2**-24)).view(self.sequences, *shape)

    def normal(self, section: Section, *shape: int) -> Float[Tensor, "sequences *shape"]:
        """N(0, 1) by Box and Muller, of pairs of neighbouring words."""
        count = int(np.prod(shape))
        pairs = self.uniform(section, -(-count // 2), 2)
        radius, angle = (-2 * torch.log(1 - pairs[..., 0])).sqrt(), 2 * torch.pi * pairs[..., 1]
        numbers = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).flatten(1)
        return numbers[:, :count].reshape(self.sequences, *shape)


def draw(task: Task, source: Source) -> Float[Tensor, "sequences time_plus_1 n_obs"]:
    """Sequences of `context_length` + 1 elements in float32. Raises `InputError` as `law_of` does."""
    law, size, time = law_of(task), task.n_state, task.context_length
    w = _matrices(task, law, source)
    if law.pairs:
        return _pairs(task, law, w, source)
    first = (2 * source.uniform(Section.START, size) - 1) * law.start
    noise = source.normal(Section.NOISE, time, size).permute(1, 2, 0).contiguous()
    bound = float("inf") if law.bound is None else law.bound
    states = PLAIN.roll_out(w, first.mT.contiguous(), noise, state_noise(task), bound, law.mlp)
    if law.c_scale == 0:
        return states
    c = law.c_scale * source.normal(Section.C, task.n_obs, size)
    return PLAIN.observe(c, states, source.normal(Section.OBSERVATION_NOISE, time + 1, task.n_obs), obs_noise(task))


def _pairs(
    task: Task, law: Law, w: Float[Tensor, "sequences n_state n_state"], source: Source
) -> Float[Tensor, "sequences time_plus_1 n_obs"]:
    elements, size = task.context_length + 1, task.n_state
    x = (2 * source.uniform(Section.START, -(-elements // 2), size) - 1) * law.start
    y = PLAIN.observe(w, x, source.normal(Section.NOISE, *x.shape[1:]), state_noise(task))
    return torch.stack((x, y), dim=2).flatten(1, 2)[:, :elements].contiguous()


def _matrices(task: Task, law: Law, source: Source) -> Float[Tensor, "sequences n_state n_state"]:
    size = task.n_state
    if law.matrix == "teacher":
        return teacher(task).expand(source.sequences, size, size)
    gaussian = source.normal(Section.W, size, size)
    if law.matrix == "orthogonal":
        return PLAIN.orthogonal(gaussian)
    eigenvalues = source.uniform(Section.EIGENVALUES, size).double() * (SLOWEST - FASTEST) + FASTEST
    eigenvalues[:, 0] = SLOWEST
    v = gaussian.double()
    return torch.linalg.solve(v, v * eigenvalues.unsqueeze(-2), left=False).float()


def training_batch(run: Run, seeds: Sequence[int], step: int) -> Float[Tensor, "pack batch time_plus_1 n_obs"]:
    """The sequences of one step of a training, each seed's of its own; a step of a stream never sees those of another."""
    training = run.training
    return torch.stack([draw(run.task, Source(key(seed, training.stream), training.batch, step)) for seed in seeds])
