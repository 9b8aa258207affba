"""Token probes: which elements s_{t'} can be decoded linearly from the residual stream at position t >= t'.

A first layer that copies binds s_t and s_{t-1} into one token, and lets go of what lies further back (paper, section on creating
the mesa-dataset).
"""

from collections.abc import Iterator, Mapping

import pandas as pd
import torch

from mesaopt.analyses.linear_probes import activations
from mesaopt.analyses.probe_targets import Sample, Target
from mesaopt.analyses.probing import Observations, Probing
from mesaopt.analyses.trained import Trained, first_layers
from mesaopt.models.transformer import Transformer
from mesaopt.spec.analysis import Tokens


def token_table(
    trained: Trained, splits: Mapping[str, Observations], controls: bool, settings: Tokens = Tokens()
) -> pd.DataFrame:
    """Table `token_probes`: squared error, mean over channels and sequences, and r2 of every one of the last elements."""
    settings.check(trained.run)
    position = settings.position_in(trained.run)
    first = position - settings.tokens
    probing = Probing(
        lambda observations: _elements(observations, first, position),
        lambda model, observations: _at(model, observations, position, settings),
        ("token",),
    )
    table, _ = probing.table(trained, splits, controls, settings)
    mse = table["mse"] * 2 / trained.run.task.n_obs  # which is half the sum over channels
    return table.assign(token=table["t"] + first, t=position, layer=settings.layer, mse=mse)


def _elements(observations: Observations, first: int, position: int) -> Sample:
    """The elements after the `first` ones, up to that at `position`: a target each, in the place of positions."""
    values = observations[:, first:position].double()
    everything = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    return Sample(observations, {"token": Target(values, everything)})


def _at(model: Transformer, observations: Observations, position: int, settings: Tokens) -> Iterator[tuple[slice, torch.Tensor]]:
    """The activations of one layer at one position, the same for every element."""
    for part, stream in activations(first_layers(model, max(settings.layer, 1)), observations):
        yield part, stream[settings.layer, None, position - 1, None].expand(1, settings.tokens, -1, -1)
