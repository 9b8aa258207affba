"""How busy the GPU is while a command runs: `python benchmarks/gpu_busy.py COMMAND ...`, such as `snakemake --cores 16 all`.

Asks nvidia-smi five times a second whether a kernel was running, and prints the share of the time from the first to the last
that was, beside the whole time of the command. What is missing to 1 within is the card waiting between trainings.
"""

import subprocess
import sys
import time
from collections.abc import Sequence

QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200")


def shares(samples: Sequence[float]) -> tuple[float, float]:
    """Mean share (0 to 1) of busy time of samples in percent: of all, and from the first to the last that is not zero."""
    busy = [i for i, value in enumerate(samples) if value > 0]
    if not busy:
        return 0.0, 0.0
    within = samples[busy[0] : busy[-1] + 1]
    return sum(samples) / len(samples) / 100, sum(within) / len(within) / 100


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 2
    with subprocess.Popen(QUERY, stdout=subprocess.PIPE, text=True) as watching:
        started = time.perf_counter()
        status = subprocess.run(sys.argv[1:]).returncode
        seconds = time.perf_counter() - started
        watching.terminate()
        samples = [float(line) for line in watching.stdout.read().splitlines() if line.strip().isdigit()]
    whole, within = shares(samples)
    print(f"{seconds:.0f} s; the GPU was busy for {whole:.0%} of them, {within:.0%} between its first and its last work")
    return status


if __name__ == "__main__":
    sys.exit(main())
