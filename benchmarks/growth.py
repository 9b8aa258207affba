"""Time and memory of a training step against context length, depth, size of the state, and stacked seeds."""

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from models import make_run
from rounds import together

HERE = Path(__file__).resolve().parent
BATCH, DEPTH = 64, 2
#: (name in the table, values): everything else stays at T 50, two layers, n_s 10, one seed
SWEEPS: dict[str, tuple[int, ...]] = {
    "time": (50, 100, 200, 400, 800),
    "depth": (1, 2, 4, 8, 12),
    "n_state": (4, 10, 20, 40, 60),
    "seeds": (1, 2, 4, 8),
}


def measure_growth(environment: dict[str, str], seconds: float, rounds: int) -> Iterator[dict[str, Any]]:
    """Rows of one process each, every point once in every round.

    Stacked seeds are PyTorch's; the kernel takes a process per seed, so nothing grows there.
    """
    points = [(sweep, value) for sweep, values in SWEEPS.items() for value in values]
    for number, (sweep, value) in product(range(rounds), points):
        change = {} if sweep == "seeds" else {sweep: value}
        run, seeds = make_run("LSA-6", **({"batch": BATCH, "depth": DEPTH} | change)), value if sweep == "seeds" else 1
        for variant in ("torch",) if sweep == "seeds" else ("torch", "native"):
            job = {"variant": variant, "spec": run.to_json(), "seconds": seconds, "seeds": seeds}
            (found,) = together([sys.executable, str(HERE / "worker.py")], [job], environment)
            yield {
                "model": f"LSA, batch {BATCH}",
                "variant": variant,
                "processes": 1,
                "sweep": sweep,
                "value": value,
                "round": number,
                "steps_per_second": 1 / found["seconds_per_step"],
                "megabytes": found["megabytes"],
                "data_share": found["data_seconds"] / found["seconds_per_step"],
            }
            print(f"growth, round {number + 1}: {sweep} {value}, {variant}", file=sys.stderr, flush=True)
