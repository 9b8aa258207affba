"""LSQ: the exact regularised least-squares predictor at every position."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.algorithms.pairs import covariances, regress
from mesaopt.data.sequences import inputs_targets
from mesaopt.errors import InputError

#: sequences whose matrices (time x n_obs x n_obs each, in float64) are held at once
_CHUNK = 128


def exact_preconditioned_inputs(
    inputs: Float[Tensor, "batch time n_obs"], inverse_lam: float, lag: int = 0
) -> Float[Tensor, "batch time n_obs"]:
    """(S S^T + I/lambda)^-1 s_t, the columns of S being s_1..s_{t-1-lag}. Raises `InputError` unless inverse_lam > 0.

    Solved in float64 whatever the dtype: with few pairs the condition number is about 1/inverse_lam.
    """
    if inverse_lam <= 0:
        raise InputError(f"inverse_lam must be positive, not {inverse_lam}")
    return torch.cat([_solve(chunk.double(), inverse_lam, lag) for chunk in inputs.split(_CHUNK)]).to(inputs.dtype)


def _solve(inputs: Tensor, inverse_lam: float, lag: int) -> Tensor:
    matrices = covariances(inputs, lag)
    matrices.diagonal(dim1=-2, dim2=-1).add_(inverse_lam)
    return torch.cholesky_solve(inputs.unsqueeze(-1), torch.linalg.cholesky(matrices)).squeeze(-1)


@dataclass(frozen=True)
class LeastSquares:
    """Predicts argmin_Phi (L_t(Phi) + inverse_lam/2 ||Phi||_F^2) s_t; `lag` 1 leaves out the newest pair, as published."""

    inverse_lam: float
    lag: int = 0

    def __call__(self, inputs: Float[Tensor, "batch time n_obs"]) -> Float[Tensor, "batch time n_obs"]:
        double = inputs.double()
        return regress(exact_preconditioned_inputs(double, self.inverse_lam, self.lag), double, self.lag).to(inputs.dtype)


def line_search_inverse_lam(observations: Float[Tensor, "batch time_plus_1 n_obs"], lag: int = 0) -> float:
    """The best of 40 values of 1/lambda, evenly spaced in their logarithm from 1e-4 to 10, by the mean loss over positions."""
    inputs, targets = inputs_targets(observations.double())
    values = np.geomspace(1e-4, 10.0, 40).tolist()
    return min(values, key=lambda value: (LeastSquares(value, lag)(inputs) - targets).square().sum().item())
