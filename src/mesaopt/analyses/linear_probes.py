"""Linear probes: least squares without intercept from the residual stream to a target, after every layer, at every position.

Activations stay in float32 and are made in chunks of sequences; sums over sequences are float64. Errors are half the squared
error summed over channels, mean over kept sequences.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mesaopt.analyses.probe_targets import Sample, Target
from mesaopt.data.sequences import inputs_targets
from mesaopt.data.tokens import tokenise
from mesaopt.models.transformer import Transformer

#: directions whose share of the squared activations is below this are rounding: constructed tokens hold s_t twice
NEGLIGIBLE = 1e-12

Probes = dict[str, Float[Tensor, "layer time d_model _"]]
#: what `activations` gives; the last chunk may be smaller
Streams = Iterable[tuple[slice, Float[Tensor, "layer time _ d_model"]]]


def activations(
    model: Transformer, observations: Float[Tensor, "batch time_plus_1 n_obs"], chunk: int = 64
) -> Iterator[tuple[slice, Float[Tensor, "layer time part d_model"]]]:
    """Chunks of sequences (as slices) with their residual stream, layer 0 the input; of a pack of one."""
    for start in range(0, len(observations), chunk):
        part = slice(start, start + chunk)
        tokens = tokenise(inputs_targets(observations[part])[0], model.model.tokens)
        with torch.no_grad():
            _, stream = model.activations(tokens[None])
        layers = torch.cat([stream[f"layer_{i}"] for i in range(len(model.layers) + 1)])
        # as matrices (sequence, channel) that are multiplied whole, more than once
        yield part, layers.transpose(1, 2).contiguous()


def fit(streams: Streams, sample: Sample) -> Probes:
    """Least-squares maps from the sample's `activations` to every target, in float64, by normal equations summed over chunks."""
    zero = torch.zeros((), dtype=torch.float64)
    gram, moment, excluded = zero, zero, dict.fromkeys(sample.targets, zero)
    for part, stream in streams:
        x = stream.double()
        # one product with all targets side by side; targets leave out few sequences, so the common Gram matrix is corrected
        gram = gram + x.mT @ x
        moment = moment + x.mT @ _side_by_side(sample, part)
        for name, target in sample.targets.items():
            excluded[name] = excluded[name] + _gram_of(x, ~target.kept[part])
    moments = moment.split(_widths(sample), dim=-1)
    return {name: solve(gram - excluded[name], one) for name, one in zip(excluded, moments, strict=True)}


def _widths(sample: Sample) -> list[int]:
    """Channels of every target."""
    return [target.values.shape[-1] for target in sample.targets.values()]


def _side_by_side(sample: Sample, part: slice) -> Float[Tensor, "time part all_channels"]:
    """The values of all targets, zero where a sequence is left out."""
    values = [target.values[part] * target.kept[part][..., None] for target in sample.targets.values()]
    return torch.cat(values, dim=-1).transpose(0, 1)


def _gram_of(
    x: Float[Tensor, "layer time part d_model"], chosen: Bool[Tensor, "part time"]
) -> Float[Tensor, "layer time d_model d_model"]:
    """Sum of outer products over the few chosen sequences of each position."""
    sequence, t = chosen.nonzero(as_tuple=True)
    rows = x[:, t, sequence]
    gram = x.new_zeros(*x.shape[:2], x.shape[-1], x.shape[-1])
    return gram.index_add_(1, t, rows[..., None] * rows[..., None, :])


def solve(gram: Float[Tensor, "*batch d d"], moment: Float[Tensor, "*batch d n"]) -> Float[Tensor, "*batch d n"]:
    """The smallest solution of gram @ X = moment: zero, repeated or negligible channels do no harm."""
    values, vectors = torch.linalg.eigh(gram)
    held = values > NEGLIGIBLE * values[..., -1:]
    inverse = torch.where(held, 1 / torch.where(held, values, 1.0), 0.0)
    return vectors @ (inverse[..., None] * (vectors.mT @ moment))


def score(streams: Streams, sample: Sample, probes: Probes) -> pd.DataFrame:
    """Columns layer, t, target, mse and r2 (mean over channels of 1 - SS_res / SS_tot) of probes on a sample's `activations`."""
    maps = torch.cat([probes[name] for name in sample.targets], dim=-1)
    kept = torch.cat([target.kept[..., None].expand_as(target.values) for target in sample.targets.values()], dim=-1)
    squares = torch.zeros(*maps.shape[:2], maps.shape[-1], dtype=torch.float64, device=maps.device)
    for part, stream in streams:
        errors = (stream.double() @ maps) * kept[part].transpose(0, 1) - _side_by_side(sample, part)
        squares += errors.square_().sum(-2)
    parts = squares.split(_widths(sample), dim=-1)
    rows = [_rows(name, one, sample.targets[name]) for name, one in zip(sample.targets, parts, strict=True)]
    return pd.concat(rows, ignore_index=True)


def _rows(name: str, squares: Float[Tensor, "layer time channel"], target: Target) -> pd.DataFrame:
    kept = target.kept[..., None]
    count = target.kept.sum(0)
    mean = (target.values * kept).sum(0) / count[:, None]
    total = ((target.values - mean) * kept).square().sum(0)
    # a target that does not vary has nothing to explain
    r2 = torch.where(total > 0, 1 - squares / torch.where(total > 0, total, 1.0), 0.0).mean(-1)
    layer, t = (axis.ravel() for axis in np.indices(r2.shape))
    mse = squares.sum(-1) / (2 * count)
    values = {"mse": mse.cpu().numpy().ravel(), "r2": r2.cpu().numpy().ravel()}
    return pd.DataFrame({"layer": layer, "t": t + 1, **values}).assign(target=name)
