"""Probes and their controls: one way for everything that is decoded from trained models.

Split `in_sample` is the published way (fitted and scored on the first `evaluation` sequences), `held_out` is fitted on
`probe_fit` and scored on `probe_score`. Controls: the same of the untrained model, for targets of other sequences, and in sample
on test batches that all seeds share.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.analyses.linear_probes import Probes, Streams, fit, score
from mesaopt.analyses.probe_targets import Sample
from mesaopt.analyses.trained import Trained
from mesaopt.data.files import read_observations
from mesaopt.data.test_sets import OWN, shared_batches
from mesaopt.models.transformer import Transformer
from mesaopt.spec.analysis import Probe, Samples, Tokens
from mesaopt.spec.run import Task

SPLITS = ("evaluation", "probe_fit", "probe_score")

Settings = Probe | Tokens | Samples
Observations = Float[Tensor, "batch time_plus_1 n_obs"]


@dataclass(frozen=True)
class Probing:
    """What is decoded from what: `sample` gives sequences their targets, `streams` the activations of a model on them.

    Controls are made for the targets `controlled`, those of the paper's figures.
    """

    sample: Callable[[Observations], Sample]
    streams: Callable[[Transformer, Observations], Streams]
    controlled: tuple[str, ...]

    def table(
        self, trained: Trained, splits: Mapping[str, Observations], controls: bool, settings: Settings
    ) -> tuple[pd.DataFrame, Probes]:
        """Columns model, split, batch, target, layer, t, mse, r2; and the probes that were scored on other sequences."""
        samples = {split: self.sample(observations) for split, observations in splits.items()}
        probed = {split: one.with_shuffled(self.controlled) for split, one in samples.items()} if controls else samples
        table, held_out = self._both_splits(trained.model, probed)
        frames = [table.assign(model="trained", batch=OWN)]
        if controls:
            few = {split: sample.only(self.controlled) for split, sample in samples.items()}
            frames.append(self._both_splits(trained.untrained(), few)[0].assign(model="untrained", batch=OWN))
            frames += self._on_shared_batches(trained, len(splits["evaluation"]), settings)
        return pd.concat(frames, ignore_index=True), held_out

    def _both_splits(self, model: Transformer, samples: Mapping[str, Sample]) -> tuple[pd.DataFrame, Probes]:
        fitted, scored = samples["probe_fit"], samples["probe_score"]
        probes = fit(self.streams(model, fitted.observations), fitted)
        held_out = score(self.streams(model, scored.observations), scored, probes).assign(split="held_out")
        return pd.concat([self._in_sample(model, samples["evaluation"]), held_out], ignore_index=True), probes

    def _in_sample(self, model: Transformer, sample: Sample) -> pd.DataFrame:
        """Errors on the sequences that the probes are fitted on: few, so that their activations are kept for both."""
        streams = list(self.streams(model, sample.observations))
        return score(streams, sample, fit(streams, sample)).assign(split="in_sample")

    def _on_shared_batches(self, trained: Trained, size: int, settings: Settings) -> Iterator[pd.DataFrame]:
        """In-sample errors on each test batch of `size` sequences."""
        for number, batch in shared_batches(trained.run.task, size, settings.test_batches, settings.test_batch):
            sample = self.sample(batch.to(trained.device)).only(self.controlled)
            yield self._in_sample(trained.model, sample).assign(model="trained", batch=number)


def read_splits(
    task: Task, sequences: str | os.PathLike[str], in_sample: int, device: torch.device | str = "cpu"
) -> dict[str, Observations]:
    """The sequences of all splits, `in_sample` of the evaluation ones, on `device`; raises `InputError` unless they fit."""
    found = {split: read_observations(sequences, split, task.n_obs).to(device) for split in SPLITS}
    return found | {"evaluation": found["evaluation"][:in_sample]}
