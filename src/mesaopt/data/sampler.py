"""Drawing sequences of freshly drawn dynamical systems: what every task consists of (paper, section on in-context next-token
prediction tasks).

h_{t+1} = W h_t + e_t, s_t = h_t, with a new W for every sequence, so that nothing but the system identified in context helps to
predict. A file in `tasks` says how W is drawn and to which bound states are clipped; a bound only guards against rare large
values, where the task does not say otherwise. The first state of the published runs is uniform: half its squared norm is 1.667
on average, the loss at t = 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.mlp import Mlp
from mesaopt.data.random import normal, uniform
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
        start: float = 1.0,
        mlp: Mlp | None = None,
    ) -> Float[Tensor, "n time_plus_1 size"]:
        """`roll_out` from U(-start, start) with standard normal noise."""
        n, size, _ = w.shape
        first = uniform(rng, -start, start, size, n)
        return self.roll_out(w, first, self.normal(rng, time, size, n), scale, bound, mlp)

    def roll_out(
        self,
        w: Float[Tensor, "n size size"],
        first: Float[Tensor, "size n"],
        noise: Float[Tensor, "time size n"],
        scale: float,
        bound: float,
        mlp: Mlp | None = None,
    ) -> Float[Tensor, "n time_plus_1 size"]:
        """All states of s_{t+1} = W f(s_t) + scale noise_t, clipped to [-bound, bound]; f is the identity, or that of the
        normalised MLP. May overwrite the noise.
        """
        # batch last: one vectorised product per step instead of a tiny one for every sequence
        w_last, steps = w.permute(1, 2, 0).contiguous().numpy(), noise.mul_(scale).numpy()
        states = np.empty((len(steps) + 1, *first.shape), dtype=np.float32)
        states[0] = first.numpy()
        for t, e in enumerate(steps):
            state = states[t + 1]
            features = states[t] if mlp is None else mlp.normalised(torch.from_numpy(states[t].T)).numpy().T
            np.einsum("ijb,jb->ib", w_last, features, out=state)
            state += e
            np.maximum(state, -bound, out=state)
            np.minimum(state, bound, out=state)
        return torch.from_numpy(states).permute(2, 0, 1).contiguous()

    def observe(
        self,
        c: Float[Tensor, "n n_obs size"],
        states: Float[Tensor, "n time_plus_1 size"],
        noise: Float[Tensor, "n time_plus_1 n_obs"],
        scale: float,
    ) -> Float[Tensor, "n time_plus_1 n_obs"]:
        """C s_t + scale noise_t; may overwrite the noise."""
        return (states @ c.mT).add_(noise, alpha=scale)


PLAIN = Sampler()


@dataclass(frozen=True)
class Generator:
    """What a file in `tasks` calls GENERATOR: `draw(task, n, rng, sampler)` gives n sequences of `context_length` + 1 elements.

    `shared`: matrices that all sequences have in common. `bound`: observations at or beyond it were clipped, and are no longer
    what the system makes; probes leave such sequences out. `features(states, normalised)`: what the next state is linear in,
    where that is not the state. Raises `InputError` where the task's sizes cannot be.
    """

    draw: Callable[[Task, int, np.random.Generator, Sampler], Sequences]
    shared: tuple[str, ...] = ()
    bound: float | None = None
    features: Callable[[Tensor, bool], Tensor] | None = None


def state_noise(task: Task) -> float:
    """Standard deviation of the noise of a step."""
    return STATE_NOISE if task.state_noise is None else task.state_noise


def require_fully_observed(task: Task) -> None:
    """Raises `InputError` for a partially observed task."""
    if task.n_obs != task.n_state:
        raise InputError(f"task {task.name} is fully observed: n_obs must be n_state = {task.n_state}, not {task.n_obs}")
    if task.obs_noise:
        raise InputError(f"task {task.name} is fully observed: it has no obs_noise, not {task.obs_noise}")


def fully_observed(
    task: Task, w: Float[Tensor, "n n_state n_state"], rng: np.random.Generator, sampler: Sampler, bound: float
) -> Sequences:
    """Sequences of the systems `w`, of which every state is seen as it is. Raises `InputError` for a partially observed task."""
    require_fully_observed(task)
    return Sequences(sampler.states(rng, w, task.context_length, state_noise(task), bound), {"W": w})


def orthogonal(rng: np.random.Generator, n: int, size: int, sampler: Sampler = PLAIN) -> Float[Tensor, "n size size"]:
    """Haar-random orthogonal matrices."""
    return sampler.orthogonal(sampler.normal(rng, n, size, size))
