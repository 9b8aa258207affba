"""One process that trains with PyTorch: the naive loop, or this project with one of its backends.

`--check FILE.npz SPEC` writes a batch, weights, their loss and gradients instead, for other implementations to compare with.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from naive_training import naive_step
from rounds import serve

from mesaopt.backends import choose as backends
from mesaopt.backends.torch import TorchBackend
from mesaopt.data.sequences import training_batch
from mesaopt.models.transformer import initialise
from mesaopt.spec.run import Run
from mesaopt.training.state import TrainingState
from mesaopt.training.step import tokens_targets, update

DATA_REPEATS = 20


def project_step(run: Run, backend: str, seeds: list[int]) -> Callable[[int], None]:
    """A function that makes a training step of this project, of all `seeds` stacked."""
    torch.set_flush_denormal(True)  # as trainings do
    state, chosen = TrainingState.initial(run, seeds, "cpu"), backends.choose(backend, run, "cpu")
    return lambda index: update(run, seeds, state, chosen)


def data_seconds(run: Run, backend: str, seeds: list[int]) -> dict[str, float]:
    """Wall time of drawing one step's batch."""
    sampler = backends.choose(backend, run, "cpu").sampler(run.task)
    start = time.perf_counter()
    for index in range(DATA_REPEATS):
        training_batch(run.task, seeds, run.training.batch, "train", index, sampler=sampler)
    return {"data_seconds": (time.perf_counter() - start) / DATA_REPEATS}


def write_check(run: Run, path: Path) -> None:
    """Weights a little away from their initial values, a small batch, and its loss and gradients in float32."""
    import numpy as np

    model = initialise(run.model, run.task.n_obs, [1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    observations = training_batch(run.task, [1], 8, "train", 0)
    loss = TorchBackend().loss_and_gradients(model, *tokens_targets(run, observations))
    content = {"spec": run.to_json(), "observations": observations[0], "loss": loss[0]}
    for name, parameter in model.named_parameters():
        content |= {f"value/{name}": parameter.detach()[0], f"grad/{name}": parameter.grad[0]}
    np.savez(path, **content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--job", metavar="JSON")
    parser.add_argument("--check", nargs=2, metavar=("FILE", "JSON"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.check:
        write_check(Run.from_json(args.check[1]), Path(args.check[0]))
        return
    job = json.loads(args.job)
    run, seeds = Run.from_json(job["spec"]), list(range(1, job["seeds"] + 1))
    if job["variant"] == "naive":
        serve(naive_step(run), job["seconds"])
    else:
        serve(project_step(run, job["variant"], seeds), job["seconds"], lambda: data_seconds(run, job["variant"], seeds))


if __name__ == "__main__":
    main()
