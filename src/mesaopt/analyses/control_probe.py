"""Control of the probes: what the preconditioned input alone tells about the next element.

Were it as much as the layers of a model tell, decoding both would not be two things. No model is part of it.
"""

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from mesaopt.analyses.linear_probes import fit, score
from mesaopt.analyses.probe_targets import PUBLISHED, TEXTBOOK, Sample, Target


def control_table(fitted: Sample, scored: Sample) -> pd.DataFrame:
    """Columns source, t, mse and r2: least squares from each approximation of the preconditioned input (`source`)
    to s_{t+1}, on its kept sequences, in the units of the probes; scored on the same sequences, or on others.
    """
    return pd.concat([_of(name, fitted, scored).assign(source=name) for name in (PUBLISHED, TEXTBOOK)], ignore_index=True)


def _of(source: str, fitted: Sample, scored: Sample) -> pd.DataFrame:
    probes = fit([_stream(source, fitted)], _next(source, fitted))
    return score([_stream(source, scored)], _next(source, scored), probes)[["t", "mse", "r2"]]


def _stream(source: str, sample: Sample) -> tuple[slice, Float[Tensor, "1 time batch width"]]:
    """In the place of a layer's activations."""
    return slice(None), sample.targets[source].values.transpose(0, 1)[None]


def _next(source: str, sample: Sample) -> Sample:
    values, kept = sample.targets["next_token"].values, sample.targets[source].kept
    return Sample(sample.observations, {"next_token": Target(values, kept)})
