"""Sensitivity of the first layer along a training: at every snapshot of it, on a batch of the seed's own and on shared ones."""

import os
from collections.abc import Iterator, Mapping

import pandas as pd
from torch import Tensor

from mesaopt.analyses.probing import Observations
from mesaopt.analyses.sensitivity import sensitivities, sensitivity_table
from mesaopt.analyses.snapshots import read_snapshots
from mesaopt.data.files import read_observations
from mesaopt.data.test_sets import OWN, shared_batches
from mesaopt.models.transformer import Transformer
from mesaopt.process.device import choose_device
from mesaopt.spec.analysis import Sensitivity
from mesaopt.spec.run import read_run
from mesaopt.store.tables import write_table

File = str | os.PathLike[str]


def sensitivity_stage(
    snapshots: File, sequences: File, out: File, settings: Sensitivity = Sensitivity(), device: str = "cpu"
) -> None:
    """Write table `sensitivity`, on the first `evaluation` sequences and on batches that all seeds share.

    The spec.json of the training lies beside its snapshots. Raises `InputError` when files are missing or do not fit.
    """
    run, _ = read_run(snapshots)
    settings.check(run)
    own = read_observations(sequences, "evaluation", run.task.n_obs)[: settings.sequences]
    batches = {OWN: own, **dict(shared_batches(run.task, len(own), settings.test_batches, settings.sequences))}
    where = choose_device(device)
    model = Transformer(run.model, run.task.n_obs).to(where)
    moved = {number: batch.to(where) for number, batch in batches.items()}
    kept = {step: weights for step, weights in read_snapshots(snapshots).items() if step <= settings.until}
    write_table(pd.concat(_along(model, kept, moved, settings), ignore_index=True), "sensitivity", out)


def _along(
    model: Transformer,
    snapshots: Mapping[int, Mapping[str, Tensor]],
    batches: Mapping[int, Observations],
    settings: Sensitivity,
) -> Iterator[pd.DataFrame]:
    """The rows of every step and batch; the model gets the weights of one step after the other."""
    for step, weights in snapshots.items():
        model.load_seeds([weights])
        for number, observations in batches.items():
            rows = sensitivity_table(sensitivities(model, observations), settings.tokens)
            yield rows.assign(step=step, batch=number)
