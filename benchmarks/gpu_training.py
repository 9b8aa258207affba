"""Training speed on a GPU: `python benchmarks/gpu_training.py [--rounds N] [--seconds S] [--minutes M] [--out TABLE.parquet]`.

Every model of `make bench`, of one seed and of five stacked ones: PyTorch's steps replayed as a CUDA graph, the CUDA kernel's
with batches that the CPU draws and with batches that it draws itself, in turn in every round; then JAX where it is installed
(here, or as the Python that $JAX_PYTHON names), a call a step and a hundred steps a call. Optimiser included. What does not fit
into so many minutes is left out and named. Writes a tidy table, and beside it a JSON with machine, commit, settings and the
measured peak; prints the table of docs/speed.md.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

import pandas as pd  # noqa: E402
import torch  # noqa: E402
from gpu_peak import peak  # noqa: E402
from models import NAMES, SIZES, counts, make_run, operations  # noqa: E402
from rounds import WARM_UP  # noqa: E402
from speed_table import JAX, gpu_table  # noqa: E402

from mesaopt.backends import choose as backends  # noqa: E402
from mesaopt.backends.cuda.backend import CudaBackend  # noqa: E402
from mesaopt.backends.torch import TorchBackend  # noqa: E402
from mesaopt.spec.run import Run  # noqa: E402
from mesaopt.store.provenance import provenance, write_json  # noqa: E402
from mesaopt.store.tables import atomic_path  # noqa: E402
from mesaopt.training.captured import CapturedStep  # noqa: E402
from mesaopt.training.fused import FusedStep  # noqa: E402
from mesaopt.training.state import TrainingState  # noqa: E402

PACKS = (1, 5)
VARIANTS = ("captured", "cuda", "philox")


class Clock:
    """What time is left, and what was left out for want of it."""

    def __init__(self, minutes: float) -> None:
        self.end, self.left_out = time.monotonic() + 60 * minutes, list[str]()

    def allows(self, what: str, seconds: float) -> bool:
        if self.left() > seconds:
            return True
        self.left_out.append(what)
        return False

    def left(self) -> float:
        return self.end - time.monotonic()


class Arm:
    """One way to make steps of one model, ready to be measured: steps of one seed per second, summed over seeds."""

    def __init__(self, run: Run, seeds: int, variant: str) -> None:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.seeds, self.variant = list(range(1, seeds + 1)), variant
        if variant == "philox":
            run = replace(run, training=replace(run.training, generator="philox"))
        state = TrainingState.initial(run, self.seeds, "cuda")
        plain = backends.choose("auto", run, "cuda")
        assert isinstance(plain, TorchBackend)
        if variant == "captured":
            self.step = CapturedStep(run, self.seeds, state, plain)
        else:
            self.step = FusedStep(run, self.seeds, state, CudaBackend(plain.compiled_batches))
        for _ in range(WARM_UP):
            self.step()
        torch.cuda.synchronize()
        if self.step.replay == self.step._compute:
            sys.exit(f"gpu_training.py: {run.name}: the step was not captured")
        self.megabytes = (torch.cuda.max_memory_allocated() - before) / 2**20

    def measure(self, seconds: float) -> dict[str, Any]:
        """One row."""
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            for _ in range(10):
                self.step()
            torch.cuda.synchronize()
            count += 10
        elapsed = (time.perf_counter() - start) / count
        row = {"variant": self.variant, "seeds": len(self.seeds), "megabytes": self.megabytes}
        return row | {"steps_per_second": len(self.seeds) / elapsed}


def rows_of(name: str, rounds: int, seconds: float, clock: Clock) -> Iterator[dict[str, Any]]:
    """All rounds of one model, without JAX."""
    if not clock.allows(name, len(PACKS) * len(VARIANTS) * (rounds * seconds + 2)):
        return
    arms = [Arm(make_run(name), seeds, variant) for seeds in PACKS for variant in VARIANTS]
    for number in range(rounds):
        for arm in arms:
            yield {"model": name, "round": number} | arm.measure(seconds)
    print(f"{name}: measured, {clock.left():.0f} s left", file=sys.stderr, flush=True)


def rows_of_jax(name: str, variant: str, seeds: int, rounds: int, seconds: float, clock: Clock) -> Iterator[dict[str, Any]]:
    """The same of JAX in a process of its own, which is ended where it takes longer than there is time."""
    what = f"{name} ({variant}, {seeds} seeds)"
    if not clock.allows(what, rounds * seconds + 20):
        return
    python = os.environ.get("JAX_PYTHON") or sys.executable
    words = ["--model", name, "--seeds", seeds, "--steps", 1 if variant == "jax step" else 100]
    command = [python, HERE / "jax_scan.py", *map(str, [*words, "--rounds", rounds, "--seconds", seconds])]
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=clock.left())
    except subprocess.TimeoutExpired:
        clock.left_out.append(what)
        return
    if done.returncode:
        sys.exit(f"gpu_training.py: {what}: {done.stderr.strip().splitlines()[-1]}")
    for number, speed in enumerate(json.loads(done.stdout.splitlines()[-1])):
        yield {"model": name, "round": number, "variant": variant, "seeds": seeds, "steps_per_second": speed}


def measured(models: list[str], rounds: int, seconds: float, clock: Clock) -> Iterator[dict[str, Any]]:
    """Kernel and PyTorch first, then JAX, five seeds in one call first."""
    for name in models:
        yield from rows_of(name, rounds, seconds, clock)
    if os.environ.get("JAX_PYTHON") or importlib.util.find_spec("jax"):
        for seeds in reversed(PACKS):
            for variant in reversed(JAX):
                for name in models:
                    yield from rows_of_jax(name, variant, seeds, rounds, seconds, clock)
    else:
        clock.left_out.append("JAX, which is not installed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one measurement")
    parser.add_argument("--minutes", type=float, default=4.8, help="for everything")
    parser.add_argument("--models", nargs="+", choices=NAMES, default=[name for name in NAMES if name not in SIZES])
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/gpu.parquet"))
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu_training.py: no GPU that this PyTorch can use")
    started, clock = time.time(), Clock(args.minutes)
    torch.set_num_threads(1)  # as trainings do
    facts: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "rounds": args.rounds,
        "seconds": args.seconds,
        "peak": peak(),
    }
    facts |= {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    frame = pd.DataFrame(measured(args.models, args.rounds, args.seconds, clock))
    facts["operations"] = {name: operations(make_run(name)) for name in args.models if counts(make_run(name))}
    facts = provenance(started=started, left_out=clock.left_out, **facts)
    with atomic_path(args.out) as temporary:
        frame.to_parquet(temporary, index=False)
    write_json(args.out.with_suffix(".json"), facts)
    print(gpu_table(frame, facts))


if __name__ == "__main__":
    main()
