"""The weights that a training kept on its way."""

import os
import re

from torch import Tensor

from mesaopt.errors import InputError
from mesaopt.models.weights import load_weights


def read_snapshots(path: str | os.PathLike[str]) -> dict[int, dict[str, Tensor]]:
    """Weights by step, in order; raises `InputError` when a name is not of the form step-N/PARAMETER."""
    steps: dict[int, dict[str, Tensor]] = {}
    for key, tensor in load_weights(path).items():
        match = re.fullmatch(r"step-(\d+)/(.+)", key)
        if match is None:
            raise InputError(f"{path}: not the snapshots of a training: found {key!r}, expected step-N/PARAMETER")
        steps.setdefault(int(match[1]), {})[match[2]] = tensor
    return dict(sorted(steps.items()))
