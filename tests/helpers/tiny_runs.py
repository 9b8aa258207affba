"""Runs of a few steps on tiny models, for the tests of training, and the devices to make them on."""

from collections.abc import Callable

import pytest
import torch

from mesaopt.spec.run import Model, Run, Task, Training
from mesaopt.training.captured import WARM_UP

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="TRAINING ON A GPU IS NOT TESTED: there is none")
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_GPU)]
TASK = Task("linear", n_state=3, n_obs=3, context_length=6)
CONSTRUCTED = {"tokens": "constructed", "d_model": 12, "n_heads": 2, "d_head": 4}
RAW = {"tokens": "raw", "d_model": 8, "n_heads": 2, "d_head": 4, "init_std": 0.3, "d_pe": 4}
MODELS = {
    "linear": Model(("linear", "linear"), **CONSTRUCTED, init_std=0.2, clip=4.0),
    "steep": Model(("linear", "linear"), **CONSTRUCTED, init_std=0.3),
    "calm": Model(("linear", "linear"), **CONSTRUCTED, init_std=0.1),
    "mesa": Model(("mesa",), **CONSTRUCTED, init_std=0.2, clip=4.0),
    "hybrid": Model(("softmax", "mesa"), **RAW),
}


def make_run(model: str = "linear", **training: object) -> Run:
    settings = {"lr": 1e-3, "steps": 7, "batch": 8, "test_every": 3, "test_batches": 2, "test_batch": 4} | training
    return Run(f"tiny/{model}", TASK, MODELS[model], Training(**settings))


#: of trainings on a GPU, and of what stands for one
SEEDS = [1, 11]
SCHEDULE = {"lr": 0.01, "weight_decay": 0.3, "warmup": 2, "horizon": 7, "final_lr": 0.001}


def without_graph(step: Callable[[], None]) -> Callable[[], None]:
    """What a capture does to the training state, and a call that computes anew instead of a replay."""
    for _ in range(WARM_UP):
        step()
    return step
