"""Softmax kernel regression: what a full induction head computes, one softmax-attention layer that copies what came next."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.tokens import delayed


@dataclass(frozen=True)
class KernelRegression:
    """Predicts sum_{t'<t} s_{t'+1} softmax_{t'}(beta s_{t'}^T s_t), beta being `inverse_temperature`; 0 where no pair is seen."""

    inverse_temperature: float

    def __call__(self, observations: Float[Tensor, "batch time n_obs"]) -> Float[Tensor, "batch time n_obs"]:
        time = observations.shape[1]
        # pairs by the position of their value: the first position has none
        scores = self.inverse_temperature * observations @ delayed(observations, 1).mT
        seen = torch.ones(time, time, dtype=torch.bool, device=observations.device).tril_()
        seen[:, 0] = False
        weights = scores[:, 1:].masked_fill(~seen[1:], -torch.inf).softmax(-1)
        return torch.cat((torch.zeros_like(observations[:, :1]), weights @ observations), dim=1)
