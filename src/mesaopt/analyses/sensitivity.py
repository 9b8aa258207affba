"""Sensitivity: how the first layer's output at the last position T changes with every element of the sequence.

Norm of d f_{T,l} / d s_{t'}, where f is the residual stream that leaves the first layer, clipped where the model clips: mean over
its channels l and over a batch of sequences, after the norm (paper, section on creating the mesa-dataset).
"""

import gc

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev

from mesaopt.analyses.probing import Observations
from mesaopt.analyses.trained import first_layers
from mesaopt.data.sequences import inputs_targets
from mesaopt.data.tokens import tokenise
from mesaopt.models.transformer import Transformer

#: channels whose derivatives are made at once, and sequences: what bounds the memory
CHANNELS, SEQUENCES = 8, 8


def sensitivities(model: Transformer, observations: Observations) -> Float[Tensor, "time"]:
    """Mean norm of the derivative by each of s_1 ... s_T, in float64; of a pack of one."""
    first, inputs = first_layers(model, 1), inputs_targets(observations)[0]

    def last_output(inputs: Float[Tensor, "batch time n_obs"]) -> Float[Tensor, "d_model"]:
        """Summed over sequences: none of them depends on another, so derivatives of the sum are those of each."""
        _, stream = first.activations(tokenise(inputs, first.model.tokens)[None])
        return stream["layer_1"][0, :, -1].sum(0)

    derivatives = jacrev(last_output, chunk_size=CHANNELS)
    total = torch.zeros(inputs.shape[1], dtype=torch.float64, device=inputs.device)
    for part in inputs.split(SEQUENCES):
        with torch.no_grad():  # of the parameters no derivatives are made
            norms = torch.linalg.vector_norm(derivatives(part), dim=-1)
        total += norms.double().mean(0).sum(0)
    gc.collect(0)  # transforms leave cycles that hold what they computed
    return (total / len(inputs)).cpu()


def sensitivity_table(values: Float[Tensor, "time"], tokens: int) -> pd.DataFrame:
    """Columns first, last and sensitivity: each of the last `tokens` elements, then the mean over all the earlier ones."""
    earlier = len(values) - tokens
    rows = [(t + 1, t + 1, values[t].item()) for t in range(earlier, len(values))]
    rows += [(1, earlier, values[:earlier].mean().item())] if earlier else []
    return pd.DataFrame(rows, columns=["first", "last", "sensitivity"])
