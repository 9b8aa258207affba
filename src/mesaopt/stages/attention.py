"""Attention maps of the first layer of a trained model, and as they were before its training and on shared test batches."""

import os

import pandas as pd

from mesaopt.analyses.attention_maps import attention_table, check_softmax, lag_table, mean_weights
from mesaopt.analyses.trained import Trained
from mesaopt.data.files import read_observations
from mesaopt.data.test_sets import OWN, shared_batches
from mesaopt.spec.analysis import Attention
from mesaopt.store.tables import write_table

File = str | os.PathLike[str]


def attention_stage(
    weights: File,
    sequences: File,
    out: File,
    lags: File,
    controls: bool = False,
    settings: Attention = Attention(),
    device: str = "cpu",
) -> None:
    """Write tables `attention` and `attention_lags`, on the `probe_score` split of `sequences`.

    Raises `InputError` when files are missing or do not fit, and for models that do not begin with softmax attention.
    """
    trained = Trained.read(weights, device)
    check_softmax(trained.run.model)
    task = trained.run.task
    own = read_observations(sequences, "probe_score", task.n_obs)[: settings.sequences].to(trained.device)
    maps = {("trained", OWN): mean_weights(trained.model, own)}
    if controls:
        maps["untrained", OWN] = mean_weights(trained.untrained(), own)
        shared = shared_batches(task, len(own), settings.test_batches, settings.test_batch)
        maps |= {("trained", number): mean_weights(trained.model, batch.to(trained.device)) for number, batch in shared}
    for table, made, path in (("attention", attention_table, out), ("attention_lags", lag_table, lags)):
        frames = [made(one).assign(model=model, batch=batch) for (model, batch), one in maps.items()]
        write_table(pd.concat(frames, ignore_index=True), table, path)
