"""Attention maps: with which weights the heads of a first layer of softmax attention sum the values of earlier positions.

Weights of a query sum to one. "Full attention on the current and the previous token" holds for the sum over both; no head alone
need do it (paper, section on creating the mesa-dataset).
"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.analyses.probing import Observations
from mesaopt.analyses.trained import first_layers
from mesaopt.data.sequences import inputs_targets
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer
from mesaopt.spec.run import Model

#: the last elements that a query's weights are followed over
LAGS = 8


def check_softmax(model: Model) -> None:
    """Raises `InputError` for a first layer whose weights are no shares."""
    if model.layers[0] != "softmax":
        raise InputError(f"attention maps are of models that begin with a layer of softmax attention, not {model.layers[0]}")


def mean_weights(model: Transformer, observations: Observations, chunk: int = 64) -> Float[Tensor, "heads time time"]:
    """The first layer's attention weights (row: query t, column: t' <= t), mean over sequences, in float64; of a pack of one."""
    first, total = first_layers(model, 1), torch.zeros((), dtype=torch.float64)
    for part in observations.split(chunk):
        tokens = tokenise(inputs_targets(part)[0], model.model.tokens)[None]
        with torch.no_grad():
            _, stream = first.activations(tokens, inner=("attention_weights",))
        total = total + stream["layer_1.attention_weights"][0].double().sum(0)
    return (total / len(observations)).cpu()


def attention_table(weights: Float[Tensor, "heads time time"]) -> pd.DataFrame:
    """Columns head (0: mean over heads), t, token (from 1) and weight; what lies ahead of a query has no row."""
    with_mean = _with_mean(weights)
    head, t, token = (axis.ravel() for axis in np.indices(with_mean.shape))
    rows = pd.DataFrame({"head": head, "t": t + 1, "token": token + 1, "weight": with_mean.numpy().ravel()})
    return rows[token <= t].reset_index(drop=True)


def lag_table(weights: Float[Tensor, "heads time time"]) -> pd.DataFrame:
    """Columns head (0: mean over heads), lag and weight: that on the element `lag` steps back, for the last `LAGS` elements, mean
    over the positions that have so many.
    """
    with_mean = _with_mean(weights)
    lags = min(LAGS, weights.shape[-1])
    means = torch.stack([with_mean[:, lags - 1 :].diagonal(lags - 1 - lag, 1, 2).mean(-1) for lag in range(lags)], dim=1)
    head, lag = (axis.ravel() for axis in np.indices(means.shape))
    return pd.DataFrame({"head": head, "lag": lag, "weight": means.numpy().ravel()})


def _with_mean(weights: Float[Tensor, "heads time time"]) -> Float[Tensor, "heads_and_mean time time"]:
    return torch.cat([weights.mean(0, keepdim=True), weights])
