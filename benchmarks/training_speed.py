"""Training speed, measured: `make bench`, or `python benchmarks/training_speed.py [--seconds 6] [--rounds 3]`.

Each round runs every variant of every model in turn, so that all of them meet the same state of the machine. A variant runs as
one single-threaded process per core, as the workflow would run it; steps per second add up over the processes. Data generation
and optimiser are included. The baseline is a naive eager loop, written here on its own: whole batches, one module per head's
projection, plain automatic differentiation, for the mesa-layer through one Sherman-Morrison update after another.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = {"LSA-1": "linear/lsa-d1", "LSA-6": "linear/lsa-d6", "Mesa-1": "linear/mesa-d1"}
VARIANTS = ("naive", "torch", "native")


def worker(variant: str, name: str, seconds: float) -> None:
    """Train for about `seconds` and print steps per second and peak memory (MB) as JSON."""
    import torch

    torch.set_num_threads(1)
    from mesaopt import config
    from mesaopt.experiments import resolve

    experiments, scales, settings = (
        config.read_yaml(ROOT / "config" / f"{part}.yaml") for part in ("experiments", "scales", "config")
    )
    run = resolve(experiments, scales, settings, "paper").run(MODELS[name])
    step = _naive_step(run) if variant == "naive" else _project_step(run, variant)
    for index in range(2):
        step(index)
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds or count < 2:
        step(2 + count)
        count += 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"steps_per_second": count / elapsed, "megabytes": memory}))


def _project_step(run, variant: str) -> Callable[[int], None]:
    import torch

    from mesaopt import backends
    from mesaopt.train import update
    from mesaopt.training_state import TrainingState

    torch.set_flush_denormal(True)  # as trainings do
    state, backend = TrainingState.initial(run, [1], "cpu"), backends.choose(variant, run, "cpu")
    return lambda index: update(run, [1], state, backend)


def _naive_step(run) -> Callable[[int], None]:
    import torch

    from mesaopt.data.random import generator
    from mesaopt.data.sequences import generate

    model = _NaiveModel(run.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.training.lr, weight_decay=run.training.weight_decay, foreach=False)

    def step(index: int) -> None:
        observations = generate(run.task, run.training.batch, generator(1, "train", index)).observations
        s = observations[:, :-1]
        previous = torch.cat([torch.zeros_like(s[:, :1]), s[:, :-1]], dim=1)
        second = torch.zeros_like(s) if run.model.tokens == "constructed_bare" else s
        tokens = torch.cat([torch.zeros_like(s), second, s, previous], dim=-1)
        loss = (model(tokens) - observations[:, 1:]).square().sum() / (2 * s.shape[0] * s.shape[1])
        optimizer.zero_grad()
        loss.backward()
        for parameter in model.parameters():
            if parameter.grad is not None:  # lambda where no layer is a mesa-layer
                parameter.grad.clamp_(-1, 1)
        optimizer.step()

    return step


def _NaiveModel(spec):
    import torch
    from torch import nn

    def sherman_morrison(q, k, lam):
        R = torch.eye(q.shape[-1]) * lam
        out = []
        for t in range(q.shape[1]):
            u = R @ k[:, t, :, None]
            R = R - u @ u.mT / (1 + k[:, t, None, :] @ u)
            out.append((R @ q[:, t, :, None])[..., 0])
        return torch.stack(out, 1)

    class Naive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            shape = (spec.d_head, spec.d_model)
            self.weights = nn.ParameterList(
                nn.Parameter(torch.randn(shape if part < 3 else shape[::-1]) * spec.init_std)
                for _ in spec.layers
                for _ in range(spec.n_heads)
                for part in range(4)
            )
            self.lam = nn.Parameter(torch.ones(len(spec.layers), spec.n_heads))

        def forward(self, e):
            mask = torch.ones(e.shape[1], e.shape[1]).tril()
            for layer, kind in enumerate(spec.layers):
                out = 0
                for head in range(spec.n_heads):
                    start = 4 * (layer * spec.n_heads + head)
                    W_Q, W_K, W_V, W_O = (self.weights[start + part] for part in range(4))
                    q, k, v = e @ W_Q.T, e @ W_K.T, e @ W_V.T
                    if kind == "mesa":
                        q = sherman_morrison(q, k, self.lam[layer, head])
                    out = out + ((q @ k.mT) * mask) @ v @ W_O.T
                e = (e + out).clamp(-spec.clip, spec.clip)
            return e[..., :10]

    return Naive()


def measure(variant: str, name: str, seconds: float, processes: int) -> tuple[float, float]:
    """Steps per second of all processes together, and the largest one's peak memory in MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    environment |= {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**34)} if variant != "naive" else {}
    command = [sys.executable, __file__, "--worker", variant, name, "--seconds", str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(processes)]
    results = [json.loads(process.communicate()[0]) for process in running]
    return sum(r["steps_per_second"] for r in results), max(r["megabytes"] for r in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--worker", nargs=2, metavar=("VARIANT", "MODEL"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(*args.worker, args.seconds)
        return
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(args.rounds):
        for name in MODELS:
            for variant in VARIANTS:
                found.setdefault((name, variant), []).append(measure(variant, name, args.seconds, args.processes))
    print(f"batch 256, T 50, {args.processes} single-threaded processes, {args.rounds} rounds of {args.seconds:g} s\n")
    print("| model | variant | steps/s, all cores: median (range) | times naive | MB per process |")
    print("|---|---|---|---|---|")
    for (name, variant), rounds in found.items():
        speeds, ratios = (
            [speed for speed, _ in rounds],
            [a / b for (a, _), (b, _) in zip(rounds, found[name, "naive"], strict=True)],
        )
        spread = f"{statistics.median(speeds):.1f} ({min(speeds):.1f} to {max(speeds):.1f})"
        print(f"| {name} | {variant} | {spread} | {statistics.median(ratios):.1f} | {max(mb for _, mb in rounds):.0f} |")


if __name__ == "__main__":
    main()
