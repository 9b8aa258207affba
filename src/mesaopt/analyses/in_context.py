"""The loss that a trained model descends in its forward pass, measured.

The paper's hypothesis: layer by layer, the model minimises the mesa-objective, the squared error of Phi on the pairs
(s_{t'}, s_{t'+1}) of its own context. Phi is never written down, but what it does to any x can be asked: put x as a token at
the last position T behind the tokens of s_1 ... s_{T-1}, and read the prediction out of the residual stream with the probe for
the next token. Those tokens hold the pairs t' = 1..T-2, so the objective is
L_{T-1}(Phi) = sum_{t'<T-1} 1/2 ||s_{t'+1} - Phi s_{t'}||^2. Any late position serves as T: the sequence is cut there.
"""

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.sequences import inputs_targets
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer


def check_measurable(tokens: str, context_length: int) -> None:
    """Raises `InputError` for raw tokens, where what stands before a query is its past, and for a context without a pair."""
    if tokens == "raw":
        raise InputError("the in-context loss is measured on models with constructed tokens only, not raw ones")
    if context_length < 3:
        raise InputError(f"the in-context loss needs a context length of at least 3, not {context_length}")


def queries(inputs: Float[Tensor, "batch time n_obs"], tokens: str) -> Float[Tensor, "batch queries time token"]:
    """Token sequences that ask for Phi s_{t'}, t' = 1..T-2, at position T: the context's tokens, then s_{t'} without a past."""
    context = tokenise(inputs, tokens)[:, None].repeat(1, inputs.shape[1] - 2, 1, 1)
    # an element that begins a sequence has no past
    context[:, :, -1] = tokenise(inputs[:, :-2, None], tokens)[:, :, 0]
    return context


def in_context_loss(
    model: Transformer,
    observations: Float[Tensor, "batch time_plus_1 n_obs"],
    readouts: Float[Tensor, "layer d_model n_obs"],
    chunk: int = 2,
) -> Float[Tensor, "layer"]:
    """L_{T-1}(Phi) / (T - 2), mean over sequences, of the Phi read out after each layer (0 = the input) by `readouts`."""
    total = torch.zeros(len(readouts), dtype=torch.float64, device=readouts.device)
    for part in observations.split(chunk):
        inputs = inputs_targets(part)[0]
        with torch.no_grad():
            _, stream = model.activations(queries(inputs, model.model.tokens).flatten(0, 1)[None])
        last = torch.cat([stream[f"layer_{i}"][..., -1, :] for i in range(len(readouts))])
        errors = last.double() @ readouts - inputs[:, 1:-1].double().flatten(0, 1)
        total += errors.square().sum(dim=(1, 2))
    pairs = len(observations) * (observations.shape[1] - 3)
    return (total / (2 * pairs)).cpu()


def in_context_table(
    model: Transformer,
    observations: Float[Tensor, "batch time_plus_1 n_obs"],
    readouts: Float[Tensor, "layer time d_model n_obs"],
    positions: int = 1,
) -> pd.DataFrame:
    """Table `in_context` at the last `positions` positions T, as far as a pair stands before them (t = T-1); `readouts` are
    next-token probes at every position.
    """
    last = observations.shape[1] - 1
    late = range(max(last - positions + 1, 3), last + 1)
    return pd.concat([_at(model, observations, readouts, position) for position in late], ignore_index=True)


def _at(model: Transformer, observations: Tensor, readouts: Tensor, position: int) -> pd.DataFrame:
    """The sequences end one element after the position, as if they had never been longer."""
    losses = in_context_loss(model, observations[:, : position + 1], readouts[:, position - 1])
    return pd.DataFrame({"layer": range(len(losses)), "loss": losses.numpy()}).assign(t=position - 1)
