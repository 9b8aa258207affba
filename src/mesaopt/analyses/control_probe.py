"""Control of the probes: what the preconditioned input alone tells about the next element.

Were it as much as the layers of a model tell, decoding both would not be two things. No model is part of it.
"""

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from mesaopt.analyses.linear_probes import fit, score
from mesaopt.analyses.probe_targets import Sample, Target


def control_table(fitted: Sample, scored: Sample) -> pd.DataFrame:
    """Columns t, mse and r2: least squares from the target `preconditioned_input` to s_{t+1}, on its kept sequences, in the units
    of the probes; scored on the same sequences, or on others.
    """
    probes = fit([_stream(fitted)], _next(fitted))
    return score([_stream(scored)], _next(scored), probes)[["t", "mse", "r2"]]


def _stream(sample: Sample) -> tuple[slice, Float[Tensor, "1 time batch width"]]:
    """In the place of a layer's activations."""
    return slice(None), sample.targets["preconditioned_input"].values.transpose(0, 1)[None]


def _next(sample: Sample) -> Sample:
    values, kept = sample.targets["next_token"].values, sample.targets["preconditioned_input"].kept
    return Sample(sample.observations, {"next_token": Target(values, kept)})
