"""Trainings by the CUDA kernel: on the CPU all of it but the GPU, by the kernel's source compiled for the CPU."""

import functools
import json
from pathlib import Path

import pytest
import torch
from cuda_emulation import emulated_backend, emulated_kernels
from tiny_runs import MODELS, NEEDS_GPU, SCHEDULE, SEEDS, make_run, without_graph

from mesaopt.backends.cuda.backend import CudaBackend
from mesaopt.backends.torch import TorchBackend
from mesaopt.data.counted import training_batch
from mesaopt.errors import InputError
from mesaopt.models.weights import load_weights
from mesaopt.stages.train import train_stage
from mesaopt.training import extended, loop
from mesaopt.training.fused import FusedStep
from mesaopt.training.loop import Options
from mesaopt.training.state import TrainingState
from mesaopt.training.step import update

pytestmark = pytest.mark.usefixtures("kernels_of_cpus")


@pytest.mark.parametrize("model", MODELS)
def test_a_fused_step_is_the_step_of_pytorch(model: str):
    """Losses to 1e-5 and weights to 1e-4 of their norm after seven steps."""
    run = make_run(model, **SCHEDULE)
    state, plain = (TrainingState.initial(run, SEEDS, "cpu") for _ in range(2))
    step = FusedStep(run, SEEDS, state, emulated_backend(), without_graph)
    for _ in range(7):
        losses = step()
        torch.testing.assert_close(losses, update(run, SEEDS, plain, TorchBackend()), rtol=1e-5, atol=0)
        assert state.train_losses is losses and state.step == plain.step
    for name, value in plain.optimizer.state().items():
        assert (state.optimizer.state()[name] - value).norm() <= 1e-4 * value.norm(), name


def test_it_goes_on_from_a_checkpoint_bit_for_bit():
    run = make_run("hybrid", **SCHEDULE)
    state, other = (TrainingState.initial(run, SEEDS, "cpu") for _ in range(2))
    step = FusedStep(run, SEEDS, state, emulated_backend(), without_graph)
    for _ in range(3):
        step()
    values, tensors = state.to_checkpoint()
    other.restore(values, {name: tensor.clone() for name, tensor in tensors.items()})
    resumed = FusedStep(run, SEEDS, other, emulated_backend(), without_graph)
    for _ in range(3):
        assert torch.equal(step(), resumed())
    assert all(torch.equal(x, other.optimizer.state()[name]) for name, x in state.optimizer.state().items())


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is the CPU."""
    monkeypatch.setattr(extended, "DEVICE", "cpu")
    monkeypatch.setattr(extended, "available", lambda run, spilling: None)
    monkeypatch.setattr(extended, "CudaBackend", functools.partial(CudaBackend, kernels_of=emulated_kernels))
    monkeypatch.setattr(
        extended,
        "FusedStep",
        type("Emulated", (FusedStep,), {"__init__": functools.partialmethod(FusedStep.__init__, capture=without_graph)}),
    )


@pytest.mark.usefixtures("emulated")
def test_a_training_writes_what_that_of_pytorch_writes(tmp_path: Path):
    run = make_run("hybrid", **SCHEDULE)
    written = {}
    for name, train, backend in (("cuda", extended.train, "auto"), ("torch", loop.train, "torch")):
        folders = {seed: tmp_path / name / f"seed-{seed}" for seed in SEEDS}
        train(run, folders, Options(tmp_path / "checkpoints", backend=backend, progress="none"))
        written[name] = folders[11]
        assert json.loads((folders[11] / "provenance.json").read_text())["backend"] == name
    assert {path.name for path in written["cuda"].iterdir()} == {path.name for path in written["torch"].iterdir()}
    ours, theirs = (load_weights(folder / "weights.safetensors") for folder in written.values())
    assert all((ours[name] - x).norm() <= 1e-4 * x.norm() for name, x in theirs.items())
    assert not (tmp_path / "checkpoints").exists() or not list((tmp_path / "checkpoints").rglob("checkpoint"))


def trainer(tmp_path: Path, backend: str) -> extended.ExtendedTrainer:
    return extended.ExtendedTrainer(make_run(), [1], [tmp_path], Options(tmp_path, backend=backend, progress="none"))


@pytest.mark.usefixtures("emulated")
def test_backends_by_name(tmp_path: Path):
    assert trainer(tmp_path, "auto").computed == {"backend": "cuda", "sampler": "compiled"}
    assert trainer(tmp_path, "cuda").identity["backend"] == "cuda"
    assert trainer(tmp_path, "torch").computed == {"backend": "torch", "sampler": "plain"}


def test_where_there_is_no_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(extended, "DEVICE", "cpu")
    monkeypatch.setattr(extended, "available", lambda run, spilling: "no such GPU")
    assert trainer(tmp_path, "auto").captured is None
    assert capsys.readouterr().err == "mesaopt: tiny/linear: PyTorch takes over: no such GPU\n"
    with pytest.raises(InputError, match=r"^tiny/linear: backend cuda: no such GPU; choose auto or torch$"):
        trainer(tmp_path, "cuda")


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("fault", ["wrong", "raises"])
def test_a_kernel_that_disagrees_with_pytorch_on_the_machine_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
):
    """Where nobody asked for it by name; one gradient is planted one percent too long, or a launch fails."""
    right = CudaBackend.loss_and_gradients

    def planted(self, model, *batch):
        if fault == "raises":
            raise RuntimeError("CUDA error: misaligned address\nmore")
        losses = right(self, model, *batch)
        for parameter in model.parameters():
            parameter.grad.mul_(1.01)
        return losses

    monkeypatch.setattr(CudaBackend, "loss_and_gradients", planted)
    assert trainer(tmp_path, "auto").computed["backend"] != "cuda"
    said = capsys.readouterr().err
    words = {"wrong": "its gradients are 0.01 of their norm from PyTorch's on this device"}
    words["raises"] = "it failed on this device (CUDA error: misaligned address)"
    assert said == f"mesaopt: tiny/linear: PyTorch takes over: {words[fault]}\n"
    assert trainer(tmp_path, "cuda").computed["backend"] == "cuda"


COUNTED = SCHEDULE | {"generator": "philox"}


@pytest.mark.parametrize("model", MODELS)
def test_a_step_with_batches_of_the_device_is_that_with_batches_of_the_cpu(model: str, tmp_path: Path):
    """To 1e-4 of the norm after seven steps."""
    run = make_run(model, **COUNTED)
    state = TrainingState.initial(run, SEEDS, "cpu")
    step = FusedStep(run, SEEDS, state, emulated_backend(), without_graph)
    assert step.observations.numel() == 0  # nothing is sent
    other = extended.ExtendedTrainer(run, SEEDS, [tmp_path], Options(tmp_path, backend="torch", progress="none"))
    assert other.computed["sampler"] == "philox"
    for _ in range(7):
        torch.testing.assert_close(step(), other.step(), rtol=1e-5, atol=0)
    for name, value in other.state.optimizer.state().items():
        assert (state.optimizer.state()[name] - value).norm() <= 1e-4 * value.norm(), name
    assert state.step == other.state.step == 7


def test_pytorch_on_a_gpu_is_sent_batches_by_counter():
    run = make_run("mesa", **COUNTED)
    step = extended.CountedStep(run, SEEDS, TrainingState.initial(run, SEEDS, "cpu"), TorchBackend(), without_graph)
    assert torch.equal(torch.stack(list(step.draw())), training_batch(run, SEEDS, 0))


def test_a_stage_trains_by_counter_on_a_cpu(tmp_path: Path):
    run = make_run("mesa", **COUNTED)
    for name, seeds in (("pair", SEEDS), ("single", [11])):
        weights = [tmp_path / name / f"seed-{seed}" / "weights.safetensors" for seed in seeds]
        train_stage(run, weights, tmp_path / "checkpoints", device="cpu", backend="torch")
    folders = [tmp_path / name / "seed-11" for name in ("pair", "single")]
    assert json.loads((folders[0] / "provenance.json").read_text())["sampler"] == "philox"
    first, second = (load_weights(folder / "weights.safetensors") for folder in folders)
    assert all(torch.equal(x, second[name]) for name, x in first.items())


# --- on a GPU ------------------------------------------------------------------------------------------------------------------
@NEEDS_GPU
@pytest.mark.parametrize("model", MODELS)
def test_the_replayed_step_is_that_of_the_emulation(model: str, capsys: pytest.CaptureFixture[str]):
    """The same source on the GPU and on the CPU: to 1e-4 of the norm after 20 steps."""
    run = make_run(model, **SCHEDULE)
    state, emulated = TrainingState.initial(run, SEEDS, "cuda"), TrainingState.initial(run, SEEDS, "cpu")
    step, other = FusedStep(run, SEEDS, state, CudaBackend()), FusedStep(run, SEEDS, emulated, emulated_backend(), without_graph)
    for _ in range(20):
        torch.testing.assert_close(step().cpu(), other(), rtol=1e-4, atol=0)
    assert capsys.readouterr().err == "" and step.replay != step._compute
    for name, value in emulated.optimizer.state().items():
        assert (state.optimizer.state()[name].cpu() - value).norm() <= 1e-4 * value.norm(), name


@NEEDS_GPU
def test_a_training_on_a_gpu_takes_the_kernel_and_repeats_bit_for_bit(tmp_path: Path):
    run, weights = make_run("hybrid", **SCHEDULE), []
    for name in ("once", "again"):
        folders = {seed: tmp_path / name / f"seed-{seed}" for seed in SEEDS}
        extended.train(run, folders, Options(tmp_path / "checkpoints", device="cuda", progress="none"))
        assert json.loads((folders[1] / "provenance.json").read_text())["backend"] == "cuda"
        weights.append(load_weights(folders[1] / "weights.safetensors"))
    assert all(torch.equal(x, weights[1][name]) for name, x in weights[0].items())
