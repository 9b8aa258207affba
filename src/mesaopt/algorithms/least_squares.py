"""LSQ: the exact regularised least-squares predictor at every position."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.algorithms.line_search import least_loss
from mesaopt.algorithms.pairs import covariances, regress
from mesaopt.algorithms.reading import PLAIN, Reading
from mesaopt.data.tokens import delayed
from mesaopt.errors import InputError

#: entries of matrices (time x width x width of a sequence, in float64) that are held at once
_ENTRIES = 128 * 50 * 10 * 10


def exact_preconditioned_inputs(
    inputs: Float[Tensor, "batch time width"], inverse_lam: float, lag: int = 0
) -> Float[Tensor, "batch time width"]:
    """(S S^T + I/lambda)^-1 x_t, the columns of S being x_1..x_{t-1-lag}. Raises `InputError` unless inverse_lam > 0.

    Solved in float64 whatever the dtype: with few pairs the condition number is about 1/inverse_lam.
    """
    if inverse_lam <= 0:
        raise InputError(f"inverse_lam must be positive, not {inverse_lam}")
    _, time, width = inputs.shape
    chunks = inputs.split(max(1, _ENTRIES // (time * width**2)))
    solve = _solve_by_pairs if width > time else _solve_by_channels
    return torch.cat([solve(chunk.double(), inverse_lam, lag) for chunk in chunks]).to(inputs.dtype)


def _solve_by_channels(inputs: Tensor, inverse_lam: float, lag: int) -> Tensor:
    """One system, as large as the input is wide, for every position."""
    matrices = covariances(inputs, lag)
    matrices.diagonal(dim1=-2, dim2=-1).add_(inverse_lam)
    return torch.cholesky_solve(inputs.unsqueeze(-1), torch.linalg.cholesky(matrices)).squeeze(-1)


def _solve_by_pairs(inputs: Tensor, inverse_lam: float, lag: int) -> Tensor:
    """For inputs wider than there are pairs: (x - S (S^T S + I/lambda)^-1 S^T x) lambda. The system of a position is the upper
    left part of that of the last one, and so is its Cholesky factor: one factor per sequence serves all.
    """
    keys = delayed(inputs, 1)
    systems = keys @ keys.mT
    systems.diagonal(dim1=-2, dim2=-1).add_(inverse_lam)
    factors = torch.linalg.cholesky(systems)
    products = (keys @ inputs.mT).triu_(lag)  # of pairs (rows) with positions
    half = torch.linalg.solve_triangular(factors, products, upper=False).triu_(lag)
    weights = torch.linalg.solve_triangular(factors.mT, half, upper=True)
    return (inputs - weights.mT @ keys) / inverse_lam


@dataclass(frozen=True)
class LeastSquares:
    """Predicts argmin_Phi (L_t(Phi) + inverse_lam/2 ||Phi||_F^2) x_t; `lag` 1 leaves out the newest pair, as published."""

    inverse_lam: float
    lag: int = 0
    reading: Reading = PLAIN

    def __call__(self, observations: Float[Tensor, "batch time n_obs"]) -> Float[Tensor, "batch time n_obs"]:
        double = observations.double()
        inputs, values = self.reading.inputs(double), self.reading.values(double)
        solved = exact_preconditioned_inputs(inputs, self.inverse_lam, self.lag)
        return regress(solved, inputs, self.lag, values).to(observations.dtype)


def line_search_inverse_lam(observations: Float[Tensor, "batch time_plus_1 n_obs"], lag: int = 0) -> float:
    """The best of 40 values of 1/lambda, evenly spaced in their logarithm from 1e-4 to 10, by the mean loss over positions."""
    return least_loss(np.geomspace(1e-4, 10.0, 40).tolist(), lambda value: LeastSquares(value, lag), observations)
