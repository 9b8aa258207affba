"""The loss that a trained model descends in its forward pass, measured.

The paper's hypothesis: layer by layer, the model minimises L_T(Phi) = sum_{t'<T} 1/2 ||s_{t'+1} - Phi s_{t'}||^2 over its own
context. Phi is never written down, but what it does to any x can be asked: put x as a token at the last position behind the
context s_1 ... s_{T-1}, and read the prediction out of the residual stream with the probe for the next token.
"""

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.sequences import inputs_targets
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer

SEQUENCES = 64


def check_tokens(tokens: str) -> None:
    """Raises `InputError` for raw tokens: there, what stands before the query becomes its past."""
    if tokens == "raw":
        raise InputError("the in-context loss is measured on models with constructed tokens only, not raw ones")


def queries(inputs: Float[Tensor, "batch time n_obs"], tokens: str) -> Float[Tensor, "batch queries time token"]:
    """Token sequences that ask for Phi s_{t'}, t' = 1..T-1, at position T: the context's tokens, then s_{t'} without a past."""
    check_tokens(tokens)
    context = tokenise(inputs, tokens)[:, None].repeat(1, inputs.shape[1] - 1, 1, 1)
    # an element that begins a sequence has no past
    context[:, :, -1] = tokenise(inputs[:, :-1, None], tokens)[:, :, 0]
    return context


def in_context_loss(
    model: Transformer,
    observations: Float[Tensor, "batch time_plus_1 n_obs"],
    readouts: Float[Tensor, "layer d_model n_obs"],
    chunk: int = 2,
) -> Float[Tensor, "layer"]:
    """L_T(Phi) / (T - 1), mean over sequences, of the Phi read out after each layer (0 = the input) by `readouts`."""
    total = torch.zeros(len(readouts), dtype=torch.float64)
    for part in observations.split(chunk):
        inputs = inputs_targets(part)[0]
        with torch.no_grad():
            _, stream = model.activations(queries(inputs, model.model.tokens).flatten(0, 1)[None])
        last = torch.cat([stream[f"layer_{i}"][..., -1, :] for i in range(len(readouts))])
        errors = last.double() @ readouts - inputs[:, 1:].double().flatten(0, 1)
        total += errors.square().sum(dim=(1, 2))
    pairs = len(observations) * (observations.shape[1] - 2)
    return total / (2 * pairs)


def in_context_table(
    model: Transformer, observations: Float[Tensor, "batch time_plus_1 n_obs"], readouts: Float[Tensor, "layer d_model n_obs"]
) -> pd.DataFrame:
    """Table `in_context` from the first 64 sequences; `readouts` are next-token probes at the last position."""
    losses = in_context_loss(model, observations[:SEQUENCES], readouts)
    return pd.DataFrame({"layer": range(len(losses)), "loss": losses.numpy()}).assign(t=observations.shape[1] - 1)
