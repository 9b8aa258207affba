"""What trainings cost: operations against PyTorch's own count, expected durations, and what a dry run says of them."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from workflow_folder import ROOT, copy_workflow, snakemake

from mesaopt.data.random import generator
from mesaopt.data.sequences import generate, inputs_targets
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.transformer import initialise
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.analysis import Distil, Prompts
from mesaopt.spec.cost import Rates, duration, expectation, fit_flops, makespan, step_flops, training_flops
from mesaopt.spec.run import Model, Run, Task, Training

TASK = Task("linear", 5, 5, 12)
TRAINING = Training(lr=1e-3, steps=100, batch=4)
MODELS = {
    "linear": Model(("linear", "linear"), "constructed", 20, 2, 6, 0.2),
    "softmax": Model(("softmax",) * 3, "raw", 16, 4, 4, 0.2, d_pe=16),
    "mlp": Model(("softmax",), "raw", 16, 4, 4, 0.2, d_mlp=30),
}


@pytest.mark.parametrize("name", MODELS)
def test_operations_of_a_forward_pass_are_those_that_pytorch_counts(name: str) -> None:
    """PyTorch computes all of the scores and answers, of which those of the future are not counted here."""
    run = Run("a/b", TASK, MODELS[name], TRAINING)
    model = run.model
    tokens = tokenise(inputs_targets(generate(TASK, 4, generator(1, "train")).observations)[0], model.tokens)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        initialise(model, TASK.n_obs, [1])(tokens[None])
    time = TASK.context_length
    future = 2 * time * (time - 1) * model.n_heads * model.d_head * len(model.layers) * 4
    assert counter.get_total_flops() - future == sum(step_flops(run, {}).values()) / 3


def test_recursions_are_counted_beside_that() -> None:
    model = dataclasses.replace(MODELS["linear"], layers=("mesa", "linear"))
    run = Run("a/b", TASK, model, TRAINING)
    flops = step_flops(run, {"mesa": 8.0})
    assert flops["mesa"] - flops["linear"] == 3 * 4 * 8 * 6**2 * 12 * 2
    assert training_flops(run, {"mesa": 8.0}) == 100 * sum(flops.values())


def test_workers_share_jobs() -> None:
    assert makespan([3.0, 1.0, 1.0, 1.0], 2) == 3 and makespan([], 4) == 0 and makespan([5.0], 0) == 5
    assert [duration(seconds) for seconds in (0.4, 89.0, 3600.0, 7199.0, 12000.0)] == [
        "0 s",
        "89 s",
        "60 min",
        "2 h 0 min",
        "3 h 20 min",
    ]


def test_what_is_expected_follows_the_rates() -> None:
    rates = Rates.read(ROOT)
    run = Run("a/b", TASK, MODELS["linear"], TRAINING)
    theory = Theory("a/p", TASK, "chebyshev", steps=90_000, lr=0.1, n_steps=6)
    cores, card = expectation(rates, {run: 3}, [theory], 4)
    assert cores == "4 x CPU core: about 2 min; seeds to train: 3, algorithms to learn: 1"
    assert card.startswith("one H100: about ") and "(by a prototype's rates, not measured yet); seeds" in card
    longer = dataclasses.replace(run, training=dataclasses.replace(TRAINING, steps=200))
    one, two = (rates.device("CPU core").seconds(r, {}) for r in (run, longer))
    assert two == pytest.approx(2 * one) and one > 0
    with pytest.raises(InputError, match=r"rates\.yaml: no device 'H101': CPU core, H100"):
        rates.device("H101")


def test_fits_count_the_frozen_model_and_what_is_fitted() -> None:
    run = Run("a/b", dataclasses.replace(TASK, context_length=50), MODELS["softmax"], TRAINING)
    of_sequence = sum(step_flops(run, {}).values()) / TRAINING.batch
    assert fit_flops(run, Distil(("plain",), steps=10, batch=8), {}) == pytest.approx(10 * 8 * of_sequence * 4 / 3)
    assert fit_flops(run, Distil(steps=10, batch=8), {}) == pytest.approx(10 * 8 * of_sequence * 7 / 3)
    both = Prompts(steps=10, separator_batch=3, prefix_batch=5)
    assert fit_flops(run, both, {}) == pytest.approx(10 * 8 * of_sequence * 2 / 3)
    assert fit_flops(run, dataclasses.replace(both, prefix=0), {}) == pytest.approx(10 * 3 * of_sequence * 2 / 3)
    cores = expectation(Rates.read(ROOT), {}, [], 2, [(run, Distil())])[0]
    assert cores.endswith("; seeds to train: 0, algorithms to learn: 0, layers and prompts to fit: 1")


def test_a_dry_run_says_what_is_expected(tmp_path: Path) -> None:
    folder = copy_workflow(tmp_path / "clone")
    plan = ("-n", "--quiet", "rules", "--cores", "2", "figures/fig3.pdf", "--config", "scale=paper", "seeds=[1]")
    assert "expected (config/rates.yaml):\n  2 x CPU core: about " in snakemake(folder, *plan)
    rates = folder / "config/rates.yaml"
    rates.write_text(rates.read_text().replace("runs_on: cuda", "runs_in: cuda"))
    failed = snakemake(folder, *plan, succeed=False)
    assert "mesaopt: error: rates.yaml" in failed and "runs_in" in failed
