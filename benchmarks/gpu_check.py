"""What only a GPU can say about the CUDA kernel, in at most ten minutes: `python benchmarks/gpu_check.py [--out FOLDER]`.

First the tests that compute on a GPU (the mark `gpu`), where a skipped one is a failure and those left when two fifths of the
time are over are given up; what is compiled for a CPU is tested where there is no GPU. Then whole trainings of five seeds by
PyTorch, by the kernel with the CPU's batches and by the kernel with its own, with their seconds and test losses; then
`gpu_training.py` for what time is left. Needs pytest, hypothesis and beartype; writes tests.txt, trainings.json and gpu.parquet
into the folder. Exit status 1 when a test fails or a loss is off by more than 2 %.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "src"))

import pandas as pd  # noqa: E402
from models import make_run  # noqa: E402

from mesaopt.training.extended import train  # noqa: E402
from mesaopt.training.loop import Options  # noqa: E402

SEEDS = (1, 11, 111, 1111, 11111)
TESTS = ("backends/test_cuda.py", "training/test_extended.py", "training/test_captured.py", "stages/test_device.py")
#: of these: not those that also compile the kernel as C++, which takes a minute each
CHOSEN = ("-m", "gpu and not long", "-k", "not emulat")
#: backend and generator of the trainings that are compared
WAYS = {"PyTorch": ("torch", "pcg64"), "kernel": ("cuda", "pcg64"), "kernel, own batches": ("cuda", "philox")}
#: steps and learning rate, as in the paper; warm-up and cosine are left out
TRAININGS = {"LSA-1": (2500, 2e-4), "Mesa-1": (1500, 2e-4), "LSA-6": (1000, 2e-4)}
MOST = 0.02


def tests(out: Path, seconds: float) -> str:
    """What is wrong with them: one failed, was skipped, or they took longer than so many seconds; "" if all passed.

    Their output is in tests.txt, as far as they came.
    """
    command = [sys.executable, "-m", "pytest", "-p", "no:benchmark", "-c", str(ROOT / "pyproject.toml"), *CHOSEN]
    command += [str(ROOT / "tests" / name) for name in TESTS]
    with open(out / "tests.txt", "w") as file:
        try:
            status = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=seconds).returncode
        except subprocess.TimeoutExpired:
            status = None
    text = (out / "tests.txt").read_text()
    print(text[-2000:])
    if status is None:
        return f"not finished in {seconds:.0f} s"
    skipped = text.count("\nSKIPPED [")
    return f"pytest ended with status {status}" if status else f"{skipped} skipped (tests.txt)" if skipped else ""


def training(name: str, way: str, out: Path) -> dict[str, Any]:
    """Seconds of a training of five seeds, with everything, and the mean test loss at its end."""
    (backend, generator), (steps, rate) = WAYS[way], TRAININGS[name]
    run = make_run(name)
    settings = replace(run.training, steps=steps, lr=rate, generator=generator, test_every=500)
    run = replace(run, training=settings, name=f"check/{name.lower()}-{list(WAYS).index(way)}")
    folders = {seed: out / run.name / f"seed-{seed}" for seed in SEEDS}
    started = time.perf_counter()
    train(run, folders, Options(out / "checkpoints", device="cuda", backend=backend, progress="none"))
    seconds = time.perf_counter() - started
    losses = [pd.read_parquet(folder / "history.parquet")["test_loss"].iloc[-1] for folder in folders.values()]
    row = {"model": name, "way": way, "seconds": round(seconds, 2), "test_loss": sum(losses) / len(losses)}
    print(row, flush=True)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/gpu-check"))
    parser.add_argument("--minutes", type=float, default=9.5)
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    wrong = tests(args.out, 60 * args.minutes * 0.4)
    rows = [training(name, way, args.out) for name in TRAININGS for way in WAYS]
    (args.out / "trainings.json").write_text(json.dumps(rows, indent=1))
    frame = pd.DataFrame(rows).pivot(index="model", columns="way", values="test_loss")
    agree = bool((frame.sub(frame["PyTorch"], axis=0).abs().div(frame["PyTorch"], axis=0) < MOST).all().all())
    print(f"tests {f'FAILED: {wrong}' if wrong else 'passed'}; losses {'agree' if agree else 'DISAGREE'}", flush=True)
    left = max(0.0, (end - time.monotonic()) / 60)
    bench = [sys.executable, HERE / "gpu_training.py", "--minutes", f"{min(5, left):.1f}", "--out", args.out / "gpu.parquet"]
    subprocess.run(bench)
    return 1 if wrong or not agree else 0


if __name__ == "__main__":
    sys.exit(main())
