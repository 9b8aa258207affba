"""The control probe of a run's task and preconditioner: in sample, held out, and on the test batches that all seeds share."""

import os

import pandas as pd

from mesaopt.analyses.control_probe import control_table
from mesaopt.analyses.probe_targets import Sample, make_targets
from mesaopt.analyses.probing import Observations, read_splits
from mesaopt.data.test_sets import OWN, shared_batches
from mesaopt.process.device import choose_device
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.analysis import Samples
from mesaopt.stages.probe import read_preconditioners
from mesaopt.store.tables import write_table

File = str | os.PathLike[str]


def control_probe_stage(
    sequences: File,
    parameters: File,
    published_parameters: File,
    theory: Theory,
    published_theory: Theory,
    out: File,
    settings: Samples = Samples(),
    device: str = "cpu",
) -> None:
    """Write table `control_probe`; raises `InputError` when files are missing or do not fit."""
    preconditioners = read_preconditioners(theory, parameters, published_theory, published_parameters)

    def sample(observations: Observations) -> Sample:
        return Sample(observations, make_targets(theory.task, observations, preconditioners))

    device = choose_device(device)
    samples = {split: sample(one) for split, one in read_splits(theory.task, sequences, settings.in_sample, device).items()}
    own, size = samples["evaluation"], len(samples["evaluation"].observations)
    held_out = control_table(samples["probe_fit"], samples["probe_score"])
    frames = [control_table(own, own).assign(split="in_sample", batch=OWN), held_out.assign(split="held_out", batch=OWN)]
    for number, batch in shared_batches(theory.task, size, settings.test_batches, settings.test_batch):
        shared = sample(batch.to(device))
        frames.append(control_table(shared, shared).assign(split="in_sample", batch=number))
    write_table(pd.concat(frames, ignore_index=True), "control_probe", out)
