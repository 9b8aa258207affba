"""What a hand-written algorithm reads of a sequence: the inputs and values of the pairs that it learns from in context.

    observations    pairs (s_{t'}, s_{t'+1}); the prediction is made from s_t
    concatenated    z_t = (s_t, ..., s_{t-k+1}), zero before the sequence begins: pairs (z_{t'}, s_{t'+1}), prediction from z_t.
                    Predicting all of z_{t'+1} and taking its first n_obs channels is the same: least squares and gradient descent
                    treat each channel of the values by itself.
    features        f_t, the task's own normalised features of s_t: pairs (f_{t'}, s_{t'+1} / ||s_{t'+1}||), prediction from f_t

The prediction is compared with the raw s_{t+1} (paper, sections on partially observed and on nonlinear systems).
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mesaopt.data.mlp import unit
from mesaopt.data.sequences import generator_of
from mesaopt.data.tokens import concatenated
from mesaopt.errors import InputError
from mesaopt.spec.algorithm import Theory


@dataclass(frozen=True)
class Reading:
    """The latest `k` observations, or `features(states, normalised)` of the latest one."""

    k: int = 1
    features: Callable[[Tensor, bool], Tensor] | None = None

    def inputs(self, observations: Float[Tensor, "*batch time n_obs"]) -> Float[Tensor, "*batch time width"]:
        """What predictions are made from, at every position."""
        if self.features is not None:
            return self.features(observations, True)
        return concatenated(observations, self.k) if self.k > 1 else observations

    def values(self, observations: Float[Tensor, "*batch time n_obs"]) -> Float[Tensor, "*batch time n_obs"]:
        """What the input before is paired with."""
        return observations if self.features is None else unit(observations)


PLAIN = Reading()


def reading_of(theory: Theory) -> Reading:
    """What the algorithm reads; raises `InputError` where it reads features and its task has none."""
    if theory.input != "features":
        return Reading(max(theory.k, 1))
    features = generator_of(theory.task).features
    if features is None:
        raise InputError(f"{theory.name}: input features: task kind {theory.task.kind} has no features")
    return Reading(features=features)
