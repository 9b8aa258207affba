"""Sequences of freshly drawn dynamical systems (paper, section on in-context next-token prediction tasks).

h_{t+1} = W h_t + e_t, s_t = h_t, with a new W for every sequence (but one W for all of `fixed_teacher`), so that nothing but
the system identified in context helps to predict. h_1 ~ U(-1, 1) and e_t ~ N(0, 0.01^2); the state is clipped to a bound
that only guards against rare large values. The first state of the published runs is uniform: half its squared norm is 1.667
on average, the loss at t = 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.random import generator, normal, uniform
from mesaopt.errors import InputError
from mesaopt.spec.run import Task

STATE_NOISE = 0.01


@dataclass(frozen=True)
class Sequences:
    """Sequences and the systems that produced them: `systems["W"]` has shape (batch, n_state, n_state)."""

    observations: Float[Tensor, "batch time_plus_1 n_obs"]
    systems: dict[str, Tensor]


class Sampler:
    """What drawing sequences consists of, by NumPy and PyTorch; samplers derived from it make the same numbers up to rounding."""

    name = "plain"

    def normal(self, rng: np.random.Generator, *shape: int) -> Float[Tensor, "..."]:
        """Draws from N(0, 1) in float32."""
        return normal(rng, *shape)

    def orthogonal(self, gaussian: Float[Tensor, "n size size"]) -> Float[Tensor, "n size size"]:
        """Q of each matrix = Q R where R has a positive diagonal: Haar-random for Gaussian matrices, which it may overwrite."""
        q, r = torch.linalg.qr(gaussian)
        # Q is Haar only if R has a positive diagonal, which LAPACK does not promise
        return q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)

    def states(
        self,
        rng: np.random.Generator,
        w: Float[Tensor, "n size size"],
        time: int,
        scale: float,
        bound: float,
    ) -> Float[Tensor, "n time_plus_1 size"]:
        """`roll_out` from U(-1, 1) with standard normal noise."""
        n, size, _ = w.shape
        first = uniform(rng, -1.0, 1.0, size, n)
        return self.roll_out(w, first, self.normal(rng, time, size, n), scale, bound)

    def roll_out(
        self,
        w: Float[Tensor, "n size size"],
        first: Float[Tensor, "size n"],
        noise: Float[Tensor, "time size n"],
        scale: float,
        bound: float,
    ) -> Float[Tensor, "n time_plus_1 size"]:
        """All states of s_{t+1} = W s_t + scale noise_t, clipped to [-bound, bound]; may overwrite the noise."""
        # batch last: one vectorised product per step instead of a tiny one for every sequence
        w_last, steps = w.permute(1, 2, 0).contiguous().numpy(), noise.mul_(scale).numpy()
        states = np.empty((len(steps) + 1, *first.shape), dtype=np.float32)
        states[0] = first.numpy()
        for t, e in enumerate(steps):
            state = states[t + 1]
            np.einsum("ijb,jb->ib", w_last, states[t], out=state)
            state += e
            np.maximum(state, -bound, out=state)
            np.minimum(state, bound, out=state)
        return torch.from_numpy(states).permute(2, 0, 1).contiguous()


PLAIN = Sampler()


def orthogonal(rng: np.random.Generator, n: int, size: int, sampler: Sampler = PLAIN) -> Float[Tensor, "n size size"]:
    """Haar-random orthogonal matrices."""
    return sampler.orthogonal(sampler.normal(rng, n, size, size))


def contraction(rng: np.random.Generator, n: int, size: int, sampler: Sampler = PLAIN) -> Float[Tensor, "n size size"]:
    """V diag(l) V^-1 with Gaussian V, one eigenvalue 0.9 and the others U(0.3, 0.9)."""
    eigenvalues = uniform(rng, 0.3, 0.9, n, size).double()
    # V's columns are exchangeable, so the place of the largest eigenvalue does not matter
    eigenvalues[:, 0] = 0.9
    v = sampler.normal(rng, n, size, size).double()
    return torch.linalg.solve(v, v * eigenvalues.unsqueeze(-2), left=False).float()


def teacher(rng: np.random.Generator, n: int, size: int, sampler: Sampler = PLAIN) -> Float[Tensor, "n size size"]:
    """The one orthogonal matrix of the task: a constant, whatever the seed and the sampler."""
    return orthogonal(generator(0, "task"), 1, size).expand(n, size, size)


@dataclass(frozen=True)
class _Dynamics:
    draw: Callable[[np.random.Generator, int, int, Sampler], Tensor]
    bound: float  # the state is clipped to [-bound, bound] after every step


_DYNAMICS = {
    "linear": _Dynamics(orthogonal, 10.0),
    "contracting": _Dynamics(contraction, 2.0),
    "fixed_teacher": _Dynamics(teacher, 10.0),
}


def generate(task: Task, n: int, rng: np.random.Generator, device: str = "cpu", sampler: Sampler = PLAIN) -> Sequences:
    """Draw `n` sequences of `context_length` + 1 elements in float32.

    Drawn on the CPU whatever the device, so that a GPU sees the same bytes; another `sampler` draws the same up to rounding.
    Raises `InputError` for a partially observed task.
    """
    if task.n_obs != task.n_state:
        raise InputError(f"task {task.name} is fully observed: n_obs must be n_state = {task.n_state}, not {task.n_obs}")
    dynamics = _DYNAMICS[task.kind]
    w = dynamics.draw(rng, n, task.n_state, sampler)
    scale = STATE_NOISE if task.state_noise is None else task.state_noise
    observations = sampler.states(rng, w, task.context_length, scale, dynamics.bound)
    return Sequences(observations.to(device), {"W": w.to(device)})


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
