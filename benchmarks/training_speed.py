"""Training speed, measured: `make bench`, or `python benchmarks/training_speed.py [--quick] [--out TABLE.parquet]`.

Each round runs every implementation of every model in turn, so that all of them meet the same state of the machine. Processes of
one measurement start together; their steps per second add up. Drawing the data and the optimiser are included. Writes a tidy
table, and beside it a JSON with machine, commit and settings; prints the table of docs/speed.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

import pandas as pd  # noqa: E402
from growth import measure_growth  # noqa: E402
from models import NAMES, counts, make_run, operations  # noqa: E402
from rounds import together  # noqa: E402
from speed_table import speed_table  # noqa: E402

from mesaopt.process.threads import one_thread  # noqa: E402
from mesaopt.stages.train import KEEP_MEMORY  # noqa: E402
from mesaopt.store.provenance import provenance, write_json  # noqa: E402
from mesaopt.store.tables import atomic_path  # noqa: E402

JAX = HERE.parent / "build/jax-venv/bin/python"
#: largest norm-relative difference of JAX's loss and gradients from PyTorch's, both in float32
AGREEMENT = 1e-4


def single_threaded(keeps_memory: bool = True) -> dict[str, str]:
    """Environment of a process as the workflow starts its trainings; the naive loop leaves memory as it comes."""
    environment = {"PYTHONPATH": str(HERE.parent / "src")} | (KEEP_MEMORY if keeps_memory else {})
    one_thread(environment)
    return environment


def measure(variant: str, processes: int, name: str, seconds: float) -> dict[str, Any]:
    """One row: `processes` workers of a variant at once. A lone JAX process has all cores, several are bound to one each."""
    job = {"variant": variant, "spec": make_run(name).to_json(), "seconds": seconds, "seeds": 1}
    if variant == "jax":
        cores = sorted(os.sched_getaffinity(0)) if processes > 1 else [None]
        command, jobs, environment = [str(JAX), str(HERE / "jax_training.py")], [job | {"core": core} for core in cores], {}
    else:
        command, jobs = [sys.executable, str(HERE / "worker.py")], [job] * processes
        environment = single_threaded(keeps_memory=variant != "naive")
    found = together(command, jobs, environment)
    shares = [one["data_seconds"] / one["seconds_per_step"] for one in found if "data_seconds" in one]
    return {
        "model": name,
        "variant": variant,
        "processes": processes,
        "steps_per_second": sum(1 / one["seconds_per_step"] for one in found),
        "megabytes": max(one["megabytes"] for one in found),
        "data_share": statistics.mean(shares) if shares else None,
    }


def measure_peak(cores: int) -> float:
    """Operations per second of all cores together, making nothing but fused multiply-adds."""
    found = together([sys.executable, str(HERE / "peak.py")], [{}] * cores)
    return sum(one["operations_per_second"] for one in found)


def check_jax(models: Sequence[str]) -> dict[str, float]:
    """How far JAX's loss and gradients are from PyTorch's, by model; raises `RuntimeError` beyond `AGREEMENT`."""
    errors = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in models:
            file = Path(folder) / f"{name}.npz"
            write = [sys.executable, str(HERE / "worker.py"), "--check", str(file), make_run(name).to_json()]
            subprocess.run(write, check=True, env=os.environ | single_threaded())
            command = [str(JAX), str(HERE / "jax_training.py"), "--check", str(file)]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            errors[name] = json.loads(found)["error"]
            if not errors[name] < AGREEMENT:
                raise RuntimeError(f"JAX does not train {name}: loss or gradients differ by {errors[name]:.1g}")
    return errors


def needed_operations(models: Sequence[str]) -> dict[str, float]:
    """Of one training step, by model, where they can be counted."""
    return {name: operations(run) for name in models if counts(run := make_run(name))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round, without growth: about two minutes")
    parser.add_argument("--rounds", type=int, help="default 3, quick 1")
    parser.add_argument("--seconds", type=float, help="length of one measurement; default 2, quick 0.5")
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/speed.parquet"))
    args = parser.parse_args()
    rounds, seconds = args.rounds or (1 if args.quick else 3), args.seconds or (0.5 if args.quick else 2.0)
    cores, started = len(os.sched_getaffinity(0)), time.time()
    arms = [("naive", cores), ("torch", cores), ("native", cores), ("native", 1)]
    arms += [("jax", 1), ("jax", cores)] if JAX.exists() else []
    facts: dict[str, Any] = {"cores": cores, "rounds": rounds, "seconds": seconds, "load_before": os.getloadavg()[0]}
    facts["jax_error"] = check_jax(args.models) if JAX.exists() else None
    rows, peaks = [], []
    for number in range(rounds):
        peaks.append(measure_peak(cores))
        for name in args.models:
            for variant, processes in arms:
                rows.append({"kind": "speed", "round": number} | measure(variant, processes, name, seconds))
                print(f"round {number + 1}: {name} {variant} x {processes}", file=sys.stderr, flush=True)
    if not args.quick:
        rows += [{"kind": "growth"} | row for row in measure_growth(single_threaded(), 1.0, rounds)]
    facts |= {"peak_operations_per_second": peaks, "operations": needed_operations(args.models)}
    frame = pd.DataFrame(rows)
    with atomic_path(args.out) as temporary:
        frame.to_parquet(temporary, index=False)
    facts = provenance(started=started, **facts)
    write_json(args.out.with_suffix(".json"), facts)
    print(speed_table(frame, facts))


if __name__ == "__main__":
    main()
