"""The stage `distil`: from a trained model of softmax layers to linear layers, each distilled from one of them."""

import os
from pathlib import Path

from mesaopt.analyses.linearisation import write_linear_layers
from mesaopt.analyses.trained import Trained
from mesaopt.process.checkpoint import exclusive
from mesaopt.spec.analysis import Distil
from mesaopt.store.tables import write_table
from mesaopt.training.distillation import distil
from mesaopt.training.fitting import Kept

File = str | os.PathLike[str]


def distil_stage(
    weights: File,
    checkpoints: Path,
    linear_layers: File,
    distillation: File,
    settings: Distil = Distil(),
    checkpoint_every: float = 20.0,
    device: str = "cpu",
    backend: str = "auto",
) -> None:
    """Write the weights of all linear layers and the table `distillation`; one line on standard output says how it went.

    `checkpoints` is the folder for all checkpoints: an interrupted distillation goes on from the last one. Raises `InputError`
    when files are missing or the model has other layers.
    """
    trained = Trained.read(weights, device)
    settings.check(trained.run)
    home = checkpoints / "distil" / trained.run.name / f"seed-{trained.seed}"
    what = f"{trained.run.name} seed {trained.seed}"
    with exclusive(home, f"{what}: its linear layers"):
        found, history = distil(trained.run, trained.seed, trained.model, settings, Kept(home, checkpoint_every), backend)
        write_table(history, "distillation", distillation)
        write_linear_layers(found, linear_layers)
        (home / "distillation").unlink(missing_ok=True)
    first, last = history["loss"].iloc[0], history["loss"].iloc[-1]
    print(f"{what}: {len(found)} linear layers, loss {first:.4f} -> {last:.4f}", flush=True)
