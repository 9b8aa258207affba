"""Linear probes: least squares without intercept from the residual stream to a target, after every layer, at every position.

Activations stay in float32 and are made in chunks of sequences; sums over sequences are float64. Errors are half the squared
error summed over channels, mean over kept sequences. Split `in_sample` is the published way (fitted and scored on the
first 256 `evaluation` sequences), `held_out` is fitted on `probe_fit` and scored on `probe_score`.

Controls: the same of the untrained model, for targets of other sequences, and in sample on test batches that all seeds share.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from mesaopt.algorithms.learned import from_parameters
from mesaopt.algorithms.preconditioning import Preconditioned
from mesaopt.analyses.in_context import check_measurable, in_context_table
from mesaopt.analyses.linear_probes import Probes, activations, fit, score
from mesaopt.analyses.probe_targets import Sample, make_targets
from mesaopt.data.files import read_observations
from mesaopt.data.test_sets import OWN, shared_batches
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer, initialise
from mesaopt.models.weights import load_model
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.analysis import Probe
from mesaopt.spec.run import Run, read_run
from mesaopt.store.tables import read_table, write_table

SEQUENCES = ("evaluation", "probe_fit", "probe_score")

File = str | os.PathLike[str]


def read_preconditioner(theory: Theory, parameters: File) -> Preconditioned:
    """The iteration behind target `preconditioned_input`; raises `InputError` when the parameters are of another algorithm."""
    if theory.algorithm != "chebyshev":
        raise InputError(f"{theory.name}: probes need the parameters of a chebyshev algorithm, not of {theory.algorithm}")
    learned = from_parameters(theory, read_table(parameters, "parameters"))
    assert isinstance(learned, Preconditioned)
    # targets use all t - 1 pairs, whatever the curves do
    return dataclasses.replace(learned, lag=0)


def probe_stage(
    weights: File,
    sequences: File,
    parameters: File,
    theory: Theory,
    controls: bool,
    settings: Probe,
    probes: File,
    in_context: File | None,
) -> None:
    """Write table `probes` of a trained model and, if there is a path for it, table `in_context`; see `probe_run`."""
    preconditioner = read_preconditioner(theory, parameters)
    table, measured = probe_run(weights, sequences, preconditioner, controls, in_context is not None, settings)
    write_table(table, "probes", probes)
    if in_context is not None and measured is not None:
        write_table(measured, "in_context", in_context)


def probe_run(
    weights: File,
    sequences: File,
    preconditioner: Preconditioned,
    controls: bool = False,
    in_context: bool = False,
    settings: Probe = Probe(),
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Table `probes` of a trained model, and table `in_context` if asked for; its spec.json lies beside the weights.

    `controls` adds targets of other sequences, the untrained model, and the shared test batches. Raises `InputError` when files
    are missing or do not fit.
    """
    run, seed = read_run(weights)
    if in_context:
        check_measurable(run.model.tokens, run.task.context_length)
    model = load_model(run, weights)
    samples = {split: _sample(run, _read(run, sequences, split, settings.in_sample), preconditioner) for split in SEQUENCES}
    probed = {split: sample.with_shuffled() for split, sample in samples.items()} if controls else samples
    table, held_out = _both_splits(model, probed)
    frames = [table.assign(model="trained", batch=OWN)]
    if controls:
        untrained = initialise(run.model, run.task.n_obs, [seed])
        table, _ = _both_splits(untrained, {split: sample.controlled() for split, sample in samples.items()})
        frames.append(table.assign(model="untrained", batch=OWN))
        frames += _on_shared_batches(model, run, len(samples["evaluation"].observations), preconditioner, settings)
    readouts = held_out["next_token"][:, -1]
    measured = (
        in_context_table(model, samples["evaluation"].observations[: settings.in_context], readouts) if in_context else None
    )
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


def _on_shared_batches(
    model: Transformer, run: Run, size: int, preconditioner: Preconditioned, settings: Probe
) -> Iterator[pd.DataFrame]:
    """In-sample errors on each test batch of `size` sequences."""
    for number, observations in shared_batches(run.task, size, settings.test_batches, settings.test_batch):
        sample = _sample(run, observations, preconditioner).controlled()
        yield _in_sample(model, sample).assign(model="trained", batch=number)


def _read(run: Run, sequences: File, split: str, in_sample: int) -> Float[Tensor, "batch time_plus_1 n_obs"]:
    observations = read_observations(sequences, split, run.task.n_obs)
    return observations[:in_sample] if split == "evaluation" else observations


def _sample(run: Run, observations: Float[Tensor, "batch time_plus_1 n_obs"], preconditioner: Preconditioned) -> Sample:
    return Sample(observations, make_targets(run.task, observations, preconditioner))
