"""The stage `learn`: from the spec of a hand-written algorithm to its table of parameters."""

import os
import time

from mesaopt.spec.algorithm import Theory
from mesaopt.store.tables import write_table
from mesaopt.training.learning import learn


def learn_stage(theory: Theory, seed: int, out: str | os.PathLike[str]) -> None:
    """Learn the parameters and write the table `parameters` at `out`; one line on standard output says how it went."""
    start = time.perf_counter()
    frame, history = learn(theory, seed)
    write_table(frame, "parameters", out)
    course = f"loss {history[0]:.4f} -> {history[-1]:.4f} in {len(history)} steps" if history else "line-searched"
    print(f"{theory.name} seed {seed}: {course}, {time.perf_counter() - start:.1f} s", flush=True)
