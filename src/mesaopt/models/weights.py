"""Trained weights as files: one seed per safetensors file, parameter names as in `Transformer`, no pack dimension."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer
from mesaopt.spec.run import Run
from mesaopt.store.tables import atomic_path


def save_weights(weights: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Write named tensors atomically; the same tensors give the same bytes."""
    ordered = {name: weights[name].detach().cpu().contiguous() for name in sorted(weights)}
    with atomic_path(path) as temporary:
        save_file(ordered, temporary)


def load_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read named tensors; raises `InputError` in one line when the file is missing or damaged."""
    path = Path(path)
    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected trained weights") from None
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a readable weights file ({reason}); delete it and run again") from None


def load_model(run: Run, path: str | os.PathLike[str]) -> Transformer:
    """The trained model of `run` as a pack of one; raises `InputError` naming the file when the weights are of another model."""
    transformer, weights = Transformer(run.model, run.task.n_obs), load_weights(path)
    try:
        transformer.load_seeds([weights])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return transformer
