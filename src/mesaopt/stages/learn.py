"""The stage `learn`: from the spec of a hand-written algorithm to its table of parameters."""

import os
import time

from mesaopt.spec.algorithm import Theory
from mesaopt.store.tables import read_table, write_table
from mesaopt.training.learning import learn

File = str | os.PathLike[str]


def learn_stage(theory: Theory, seed: int, out: File, scalars: File | None = None) -> None:
    """Learn the parameters and write the table `parameters` at `out`; one line on standard output says how it went.

    `scalars` is such a table of the algorithm whose alpha and beta are taken, if `theory` names one.
    """
    start = time.perf_counter()
    frame, history = learn(theory, seed, None if scalars is None else read_table(scalars, "parameters"))
    write_table(frame, "parameters", out)
    course = f"loss {history[0]:.4f} -> {history[-1]:.4f} in {len(history)} steps" if history else "no descent"
    print(f"{theory.name} seed {seed}: {course}, {time.perf_counter() - start:.1f} s", flush=True)
