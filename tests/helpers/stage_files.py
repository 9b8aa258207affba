"""Small runs and sequence files for the tests of the stages that read them."""

from pathlib import Path

import torch

from mesaopt.data.files import write_sequences
from mesaopt.models.transformer import Transformer, initialise
from mesaopt.models.weights import save_weights
from mesaopt.spec.run import Model, Run, Task, Training
from mesaopt.training.run_folder import write_spec

N = 3
TASK = Task("linear", n_state=N, n_obs=N, context_length=8)
TRAINING = Training(lr=1e-3, steps=4, test_batches=2, test_batch=16)
MODELS = {
    "linear": Model(("linear", "linear"), "constructed", 4 * N, n_heads=2, d_head=5, init_std=0.3, clip=0.9),
    "bare": Model(("linear",), "constructed_bare", 4 * N, n_heads=2, d_head=5, init_std=0.3, clip=4.0),
    "mesa": Model(("mesa",), "constructed", 4 * N, n_heads=2, d_head=5, init_std=0.3, clip=4.0),
    "softmax": Model(("softmax", "softmax"), "raw", 6, n_heads=2, d_head=4, init_std=0.6, clip=0.6, d_pe=4),
    "full-mesa": Model(("mesa", "mesa"), "raw", 6, n_heads=2, d_head=4, init_std=0.6, d_pe=4),
    "raw": Model(("softmax", "linear"), "raw", 6, n_heads=2, d_head=4, init_std=0.3, d_pe=4),
}


def transformer(kind: str, seed: int = 1) -> Transformer:
    return initialise(MODELS[kind], N, [seed])


def run(kind: str) -> Run:
    return Run(f"linear/{kind}", TASK, MODELS[kind], TRAINING)


def trained(folder: Path, kind: str, seed: int = 1) -> Path:
    """Weights of a model as if just trained, with its spec.json beside; returns the path of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    write_spec(run(kind), seed, folder / "spec.json")
    save_weights(transformer(kind, seed).seed_weights(0), folder / "weights.safetensors")
    return folder / "weights.safetensors"


def sequences(folder: Path, task: Task = TASK, **counts: int) -> Path:
    counts = counts or {"evaluation": 12, "probe_fit": 80, "probe_score": 40}
    write_sequences(task, 1, counts, folder / "sequences.parquet", folder / "systems.parquet")
    return folder / "sequences.parquet"


def observations(count: int, seed: int = 0, task: Task = TASK) -> torch.Tensor:
    """Float64 sequences that need no file."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, task.context_length + 1, task.n_obs, generator=rng, dtype=torch.float64)
