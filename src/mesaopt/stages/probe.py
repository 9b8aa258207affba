"""Linear probes: least squares without intercept from the residual stream to a target, after every layer, at every position.

Activations stay in float32 and are made in chunks of sequences; sums over sequences are float64. Errors are half the squared
error summed over channels, mean over kept sequences. Split `in_sample` is the published way (fitted and scored on the
first 256 `evaluation` sequences), `held_out` is fitted on `probe_fit` and scored on `probe_score`.

Controls: the same of the untrained model, for targets of other sequences, and in sample on test batches that all seeds share.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mesaopt.algorithms.preconditioning import Preconditioned
from mesaopt.analyses.in_context import check_measurable, in_context_table
from mesaopt.analyses.probe_targets import Sample, Target, make_targets
from mesaopt.data.sequences import inputs_targets
from mesaopt.data.test_sets import OWN, shared_batches
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer, initialise
from mesaopt.models.weights import load_model
from mesaopt.spec.run import Run, Theory
from mesaopt.stages.evaluate import read_observations, read_run
from mesaopt.store.tables import read_table
from mesaopt.training.learning import from_parameters

#: directions whose share of the squared activations is below this are rounding: constructed tokens hold s_t twice
NEGLIGIBLE = 1e-12
#: in-sample errors are low by the share of fitted features in the sequences, so their number is part of the published way
IN_SAMPLE = 256
SEQUENCES = ("evaluation", "probe_fit", "probe_score")

File = str | os.PathLike[str]
Probes = dict[str, Float[Tensor, "layer time d_model n_obs"]]
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
    moments = moment.tensor_split(len(excluded), dim=-1)
    return {name: solve(gram - excluded[name], one) for name, one in zip(excluded, moments, strict=True)}


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
    kept = torch.stack([target.kept for target in sample.targets.values()], dim=-1)
    squares = torch.zeros(*maps.shape[:2], maps.shape[-1], dtype=torch.float64)
    for part, stream in streams:
        counted = kept[part].transpose(0, 1).repeat_interleave(maps.shape[-1] // kept.shape[-1], dim=-1)
        errors = (stream.double() @ maps) * counted - _side_by_side(sample, part)
        squares += errors.square_().sum(-2)
    parts = squares.tensor_split(len(sample.targets), dim=-1)
    rows = [_rows(name, one, sample.targets[name]) for name, one in zip(sample.targets, parts, strict=True)]
    return pd.concat(rows, ignore_index=True)


def _rows(name: str, squares: Float[Tensor, "layer time n_obs"], target: Target) -> pd.DataFrame:
    kept = target.kept[..., None]
    count = target.kept.sum(0)
    mean = (target.values * kept).sum(0) / count[:, None]
    total = ((target.values - mean) * kept).square().sum(0)
    # a target that does not vary has nothing to explain
    r2 = torch.where(total > 0, 1 - squares / torch.where(total > 0, total, 1.0), 0.0).mean(-1)
    layer, t = (axis.ravel() for axis in np.indices(r2.shape))
    mse = squares.sum(-1) / (2 * count)
    return pd.DataFrame({"layer": layer, "t": t + 1, "mse": mse.numpy().ravel(), "r2": r2.numpy().ravel()}).assign(target=name)


def read_preconditioner(theory: Theory, parameters: File) -> Preconditioned:
    """The iteration behind target `preconditioned_input`; raises `InputError` when the parameters are of another algorithm."""
    if theory.algorithm != "chebyshev":
        raise InputError(f"{theory.name}: probes need the parameters of a chebyshev algorithm, not of {theory.algorithm}")
    learned = from_parameters(theory, read_table(parameters, "parameters"))
    assert isinstance(learned, Preconditioned)
    # targets use all t - 1 pairs, whatever the curves do
    return dataclasses.replace(learned, lag=0)


def probe_run(
    weights: File, sequences: File, preconditioner: Preconditioned, controls: bool = False, in_context: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Table `probes` of a trained model, and table `in_context` if asked for; its spec.json lies beside the weights.

    `controls` adds targets of other sequences, the untrained model, and the shared test batches. Raises `InputError` when files
    are missing or do not fit.
    """
    run, seed = read_run(weights)
    if in_context:
        check_measurable(run.model.tokens, run.task.context_length)
    model = load_model(run, weights)
    samples = {split: _sample(run, _read(run, sequences, split), preconditioner) for split in SEQUENCES}
    probed = {split: sample.with_shuffled() for split, sample in samples.items()} if controls else samples
    table, held_out = _both_splits(model, probed)
    frames = [table.assign(model="trained", batch=OWN)]
    if controls:
        untrained = initialise(run.model, run.task.n_obs, [seed])
        table, _ = _both_splits(untrained, {split: sample.controlled() for split, sample in samples.items()})
        frames.append(table.assign(model="untrained", batch=OWN))
        frames += _on_shared_batches(model, run, len(samples["evaluation"].observations), preconditioner)
    readouts = held_out["next_token"][:, -1]
    measured = in_context_table(model, samples["evaluation"].observations, readouts) if in_context else None
    return pd.concat(frames, ignore_index=True), measured


def _both_splits(model: Transformer, samples: Mapping[str, Sample]) -> tuple[pd.DataFrame, Probes]:
    """Errors of both splits, and the probes that were scored on other sequences."""
    fitted, scored = samples["probe_fit"], samples["probe_score"]
    probes = fit(activations(model, fitted.observations), fitted)
    held_out = score(activations(model, scored.observations), scored, probes).assign(split="held_out")
    return pd.concat([_in_sample(model, samples["evaluation"]), held_out], ignore_index=True), probes


def _in_sample(model: Transformer, sample: Sample) -> pd.DataFrame:
    """Errors on the sequences that the probes are fitted on: few, so that their activations are kept for both."""
    streams = list(activations(model, sample.observations))
    return score(streams, sample, fit(streams, sample)).assign(split="in_sample")


def _on_shared_batches(model: Transformer, run: Run, size: int, preconditioner: Preconditioned) -> Iterator[pd.DataFrame]:
    """In-sample errors on each test batch of `size` sequences."""
    for number, observations in shared_batches(run.task, size):
        sample = _sample(run, observations, preconditioner).controlled()
        yield _in_sample(model, sample).assign(model="trained", batch=number)


def _read(run: Run, sequences: File, split: str) -> Float[Tensor, "batch time_plus_1 n_obs"]:
    observations = read_observations(sequences, split, run.task.n_obs)
    return observations[:IN_SAMPLE] if split == "evaluation" else observations


def _sample(run: Run, observations: Float[Tensor, "batch time_plus_1 n_obs"], preconditioner: Preconditioned) -> Sample:
    return Sample(observations, make_targets(run.task.kind, observations, preconditioner))
