"""The loss of predictions that are combined linearly as a quadratic form in the coefficients, batch after batch.

The moments of a batch do not depend on the coefficients, so nothing is differentiated through sequences, compiled code can sum
them, and a GPU those of many steps at a time.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from mesaopt.algorithms.reading import PLAIN, Reading
from mesaopt.backends.native.build import BuildError
from mesaopt.backends.native.moments import NativeMoments
from mesaopt.backends.native.sequences import NativeSampler
from mesaopt.data.sampler import PLAIN as PLAIN_SAMPLER
from mesaopt.data.sampler import Sampler
from mesaopt.data.sequences import inputs_targets, training_batch
from mesaopt.spec.algorithm import Theory

#: sequences whose attention scores are held at once, so that they stay in the cache
_CHUNK = 64

#: steps whose batches a GPU works off together
_AT_ONCE = 16

Basis = Callable[[Tensor], Iterable[Tensor]]


@dataclass(frozen=True)
class Moments:
    """The loss of predictions sum_i c_i d_i as a quadratic form in c: half the squared error summed over channels, mean over
    sequences and positions, is (square - 2 linear . c + c . quadratic c) / 2. In float64: powers of A are nearly dependent.
    """

    quadratic: Float[Tensor, "size size"]
    linear: Float[Tensor, " size"]
    square: Float[Tensor, ""]

    @classmethod
    def of(cls, sums: Float[Tensor, "rows rows"], count: int) -> "Moments":
        """From the sums of products of predictions and target (the last row), over `count` positions of all sequences."""
        means = sums / count
        return cls(means[:-1, :-1], means[:-1, -1], means[-1, -1])

    def loss(self, c: Float[Tensor, " size"]) -> Float[Tensor, ""]:
        return 0.5 * (self.square - 2 * self.linear @ c + c @ self.quadratic @ c)


def moments(basis: Basis, observations: Float[Tensor, "batch time_plus_1 n_obs"]) -> Moments:
    """The moments of one batch, `basis(inputs)` being the predictions d_i."""
    sums: Tensor | float = 0.0
    for chunk in observations.split(_CHUNK):
        rows = _rows(basis, chunk).flatten(1)
        sums = sums + rows @ rows.mT
    return Moments.of(torch.as_tensor(sums), _positions(observations))


def _rows(basis: Basis, observations: Float[Tensor, "batch time_plus_1 n_obs"]) -> Float[Tensor, "rows batch time n_obs"]:
    """Predictions and targets, in float64."""
    inputs, targets = inputs_targets(observations)
    return torch.stack([*basis(inputs), targets]).double()


def _positions(observations: Float[Tensor, "batch time_plus_1 n_obs"]) -> int:
    return observations.shape[0] * (observations.shape[1] - 1)


@dataclass(frozen=True)
class PlainBatches:
    """By NumPy and PyTorch, one batch at a time."""

    theory: Theory
    seed: int
    basis: Basis
    name = "torch"

    def __call__(self, step: int) -> Moments:
        return moments(self.basis, _batch(self.theory, self.seed, step, PLAIN_SAMPLER))


class CompiledBatches:
    """By compiled code on a CPU; raises `BuildError` where there is none."""

    name = "native"

    def __init__(self, theory: Theory, seed: int, reading: Reading = PLAIN) -> None:
        self.theory, self.seed, self.reading = theory, seed, reading
        self.sampler = NativeSampler(theory.task.n_state)
        width = theory.task.n_obs if reading.features is None else theory.task.n_state
        self.native = NativeMoments(theory, reading.k * width)

    def observations(self, step: int) -> Float[Tensor, "batch time_plus_1 n_obs"]:
        return _batch(self.theory, self.seed, step, self.sampler)

    def sums(self, observations: Float[Tensor, "batch time_plus_1 n_obs"]) -> Float[Tensor, "rows rows"]:
        seen, _ = inputs_targets(observations)
        if self.reading.features is not None:
            return self.native(observations, self.reading.inputs(seen), self.reading.values(seen))
        return self.native(observations, self.reading.inputs(seen) if self.reading.k > 1 else None)

    def __call__(self, step: int) -> Moments:
        observations = self.observations(step)
        return Moments.of(self.sums(observations), _positions(observations))

    def loss(self, step: int, alpha: Parameter, beta: Parameter) -> float:
        """Of the scalars, whose gradients are set: a tenth of what differentiating `Moments.loss` costs."""
        observations = self.observations(step)
        return self.native.loss(self.sums(observations), _positions(observations), alpha, beta)


class DeviceBatches:
    """By PyTorch on `device`, of several steps at once; always the same ones together, whichever is asked for first."""

    def __init__(self, theory: Theory, seed: int, basis: Basis, device: str) -> None:
        self.theory, self.seed, self.basis, self.device = theory, seed, basis, device
        self.name = f"torch on {device}"
        self.sampler = _compiled_sampler(theory)
        self.first, self.made = -1, torch.empty(0)

    def __call__(self, step: int) -> Moments:
        first = step - step % _AT_ONCE
        if first != self.first:
            drawn = [_batch(self.theory, self.seed, first + i, self.sampler) for i in range(_AT_ONCE)]
            rows = _rows(self.basis, torch.cat(drawn).to(self.device)).unflatten(1, (_AT_ONCE, -1)).transpose(0, 1).flatten(2)
            self.first, self.made, self.positions = first, (rows @ rows.mT).cpu(), _positions(drawn[0])
        return Moments.of(self.made[step - first], self.positions)


#: moments of the batch of a step, equal up to rounding; `name` says who makes them
Batches = PlainBatches | CompiledBatches | DeviceBatches


def batches(theory: Theory, seed: int, basis: Basis, reading: Reading | None, device: str, backend: str) -> Batches:
    """What is fastest here; without a `reading` (a basis that compiled code does not know) or with `backend` torch it is PyTorch.

    Says in one line on standard error where PyTorch takes over because nothing can be compiled.
    """
    if device != "cpu":
        return DeviceBatches(theory, seed, basis, device)
    if reading is None or backend == "torch":
        return PlainBatches(theory, seed, basis)
    try:
        return CompiledBatches(theory, seed, reading)
    except BuildError as error:
        print(f"mesaopt: {theory.name}: PyTorch takes over: {error}", file=sys.stderr, flush=True)
        return PlainBatches(theory, seed, basis)


def _compiled_sampler(theory: Theory) -> Sampler:
    try:
        return NativeSampler(theory.task.n_state)
    except BuildError:
        return PLAIN_SAMPLER


def _batch(theory: Theory, seed: int, step: int, sampler: Sampler) -> Float[Tensor, "batch time_plus_1 n_obs"]:
    return training_batch(theory.task, [seed], theory.batch, "theory", step, sampler=sampler)[0]
