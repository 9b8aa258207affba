"""The stage `learn`: from the spec of a hand-written algorithm to its table of parameters."""

import contextlib
import os
import time
from pathlib import Path

from mesaopt.process.checkpoint import exclusive
from mesaopt.process.device import choose_device
from mesaopt.spec.algorithm import Theory
from mesaopt.store.tables import read_table, write_table
from mesaopt.training.learning import CHECKPOINT, Options, learn

File = str | os.PathLike[str]


def learn_stage(
    theory: Theory,
    seed: int,
    out: File,
    scalars: File | None = None,
    *,
    checkpoints: Path | None = None,
    checkpoint_every: float = 20.0,
    device: str = "cpu",
    backend: str = "auto",
) -> None:
    """Learn the parameters and write the table `parameters` at `out`; one line on standard output says how it went.

    `scalars` is such a table of the algorithm whose alpha and beta are taken, if `theory` names one. With a folder of
    `checkpoints` an interrupted learning goes on from the last one, at most so many seconds old.
    """
    start = time.perf_counter()
    options = Options(checkpoints, checkpoint_every, choose_device(device), backend)
    home = options.home(theory, seed)
    with contextlib.nullcontext() if home is None else exclusive(home, f"{theory.name} seed {seed}"):
        frame, history = learn(theory, seed, None if scalars is None else read_table(scalars, "parameters"), options)
        write_table(frame, "parameters", out)
        if home is not None:
            (home / CHECKPOINT).unlink(missing_ok=True)
    course = f"loss {history[0]:.4f} -> {history[-1]:.4f} in {len(history)} steps" if history else "no descent"
    print(f"{theory.name} seed {seed}: {course}, {time.perf_counter() - start:.1f} s", flush=True)
