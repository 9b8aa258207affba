"""Training speed on a GPU: `python benchmarks/gpu_training.py [--rounds N] [--seconds S] [--out TABLE.parquet]`.

Every model of `make bench`, its steps made kernel by kernel (the baseline) and replayed as a CUDA graph, of one seed and of five
stacked ones, in turn in every round; and, in the same rounds, the compiled kernel with a process on every core of the machine.
Drawing the data and the optimiser are included. Writes a tidy table, and beside it a JSON with machine, commit and settings;
prints the table of docs/speed.md.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

import pandas as pd  # noqa: E402
import torch  # noqa: E402
from models import NAMES, make_run  # noqa: E402
from rounds import WARM_UP  # noqa: E402
from speed_table import gpu_table  # noqa: E402
from training_speed import measure  # noqa: E402

from mesaopt.backends import choose as backends  # noqa: E402
from mesaopt.spec.run import Run  # noqa: E402
from mesaopt.store.provenance import provenance, write_json  # noqa: E402
from mesaopt.store.tables import atomic_path  # noqa: E402
from mesaopt.training.captured import CapturedStep  # noqa: E402
from mesaopt.training.state import TrainingState  # noqa: E402
from mesaopt.training.step import update  # noqa: E402

PACKS = (1, 5)


class Arm:
    """One way to make steps of one model, ready to be measured: steps of one seed per second, summed over seeds."""

    def __init__(self, run: Run, seeds: int, captured: bool) -> None:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.run, self.seeds, self.captured = run, list(range(1, seeds + 1)), captured
        self.backend = backends.choose("auto", run, "cuda")
        state = TrainingState.initial(run, self.seeds, "cuda")
        replayed = CapturedStep(run, self.seeds, state, self.backend)
        self.step: Callable[[], Any] = replayed if captured else lambda: update(run, self.seeds, state, self.backend)
        self.draw = replayed.draw
        for _ in range(WARM_UP):
            self.step()
        torch.cuda.synchronize()
        if captured and replayed.replay == replayed._compute:
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
        start = time.perf_counter()
        for _ in range(10):
            list(self.draw())
        drawing = (time.perf_counter() - start) / 10
        row = {"variant": "captured" if self.captured else "eager", "seeds": len(self.seeds), "megabytes": self.megabytes}
        return row | {"steps_per_second": len(self.seeds) / elapsed, "data_share": drawing / elapsed}


def rows_of(name: str, rounds: int, seconds: float, cores: int) -> Iterator[dict[str, Any]]:
    """All rounds of one model."""
    arms = [Arm(make_run(name), seeds, captured) for seeds in PACKS for captured in (False, True)]
    for number in range(rounds):
        of_cpu = measure("native", cores, name, seconds)
        yield {"model": name, "round": number, "seeds": 1} | of_cpu
        for arm in arms:
            yield {"model": name, "round": number} | arm.measure(seconds)
        print(f"{name}: round {number + 1}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/gpu.parquet"))
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu_training.py: no GPU that this PyTorch can use")
    started, cores = time.time(), len(os.sched_getaffinity(0))
    torch.set_num_threads(1)  # as trainings do
    rows = [row for name in args.models for row in rows_of(name, args.rounds, args.seconds, cores)]
    facts: dict[str, Any] = {"cores": cores, "rounds": args.rounds, "seconds": args.seconds}
    facts |= {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    run = make_run(args.models[0])
    facts["sampler"] = backends.choose("auto", run, "cuda").sampler(run.task).name
    frame, facts = pd.DataFrame(rows), provenance(started=started, **facts)
    with atomic_path(args.out) as temporary:
        frame.to_parquet(temporary, index=False)
    write_json(args.out.with_suffix(".json"), facts)
    print(gpu_table(frame, facts))


if __name__ == "__main__":
    main()
