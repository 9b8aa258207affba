"""The step that a GPU replays: on the CPU all of it but the capture, and all of it where there is a GPU."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_runs import MODELS, NEEDS_GPU, SCHEDULE, SEEDS, make_run, without_graph

from mesaopt.backends.choose import choose
from mesaopt.backends.torch import TorchBackend
from mesaopt.models.weights import load_weights
from mesaopt.training.captured import CapturedStep
from mesaopt.training.loop import Options, Trainer, train
from mesaopt.training.state import TrainingState
from mesaopt.training.step import update


def refused(step: Callable[[], None]) -> Callable[[], None]:
    step()
    raise RuntimeError("operation not permitted when stream is capturing\nand more")


def same(a: TrainingState, b: TrainingState) -> bool:
    return a.step == b.step and all(torch.equal(x, b.optimizer.state()[name]) for name, x in a.optimizer.state().items())


def addresses(state: TrainingState) -> list[int]:
    return [x.data_ptr() for p in state.model.parameters() for x in (p, p.grad)]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("capture", [without_graph, refused])
@pytest.mark.parametrize("backend", [TorchBackend(), TorchBackend(compiled_batches=True)], ids=["plain", "compiled"])
@pytest.mark.parametrize("model", MODELS)
def test_it_is_the_eager_step_bit_for_bit(
    model: str, backend: TorchBackend, capture: Callable, capsys: pytest.CaptureFixture[str]
):
    run = make_run(model, **SCHEDULE)
    state, eager = (TrainingState.initial(run, SEEDS, "cpu") for _ in range(2))
    step, places = CapturedStep(run, SEEDS, state, backend, capture=capture), addresses(state)
    for _ in range(7):
        losses = step()
        assert torch.equal(losses, update(run, SEEDS, eager, backend)) and torch.equal(losses, state.train_losses)
        assert same(state, eager) and addresses(state) == places
    error = capsys.readouterr().err
    expected = f"mesaopt: tiny/{model}: steps are not captured as a graph: operation not permitted when stream is capturing\n"
    assert error == (expected if capture is refused else "")


def test_it_goes_on_from_a_checkpoint():
    run = make_run("hybrid", **SCHEDULE)
    state, eager = (TrainingState.initial(run, SEEDS, "cpu") for _ in range(2))
    step = CapturedStep(run, SEEDS, state, TorchBackend(), without_graph)
    for _ in range(5):
        update(run, SEEDS, eager, TorchBackend())
    values, tensors = eager.to_checkpoint()
    step()
    state.restore(values, {name: tensor.clone() for name, tensor in tensors.items()})
    for _ in range(2):
        step()
        update(run, SEEDS, eager, TorchBackend())
    assert same(state, eager)


def test_it_waits_for_the_step_before_the_last():
    class Event:
        waited = 0

        def synchronize(self) -> None:
            self.waited += 1

    run = make_run()
    step = CapturedStep(run, SEEDS, TrainingState.initial(run, SEEDS, "cpu"), TorchBackend(), without_graph)
    older, newer = step.under_way[:] = [Event(), Event()]
    step()
    assert (older.waited, newer.waited, step.under_way) == (1, 0, [newer])
    step()  # one step under way: nothing to wait for
    assert newer.waited == 0


def test_a_cpu_captures_nothing(tmp_path: Path):
    assert Trainer(make_run(), [1], [tmp_path], Options(tmp_path, backend="torch", progress="none")).captured is None


# --- on a GPU ------------------------------------------------------------------------------------------------------------------
@NEEDS_GPU
@pytest.mark.parametrize("model", MODELS)
def test_the_replayed_step_is_the_eager_one(model: str, capsys: pytest.CaptureFixture[str]):
    """Norm-relative 1e-4 after 20 steps: libraries may choose other kernels while a graph is captured."""
    run = make_run(model, **SCHEDULE)
    state, eager = (TrainingState.initial(run, SEEDS, "cuda") for _ in range(2))
    backend = choose("auto", run, "cuda")
    step = CapturedStep(run, SEEDS, state, backend)
    for _ in range(20):
        losses = step().clone()
        torch.testing.assert_close(losses, update(run, SEEDS, eager, backend), rtol=1e-4, atol=0)
    assert capsys.readouterr().err == "" and step.replay != step._compute
    for name, value in eager.optimizer.state().items():
        assert (state.optimizer.state()[name] - value).norm() <= 1e-4 * value.norm(), name


@NEEDS_GPU
@pytest.mark.parametrize("model", ["linear", "mesa", "hybrid"])
def test_stacked_seeds_are_separate_runs_and_those_of_a_cpu(model: str, tmp_path: Path):
    """Norm-relative 1e-4 after 20 steps, each seed's weights; in float32 throughout."""
    run = make_run(model, **SCHEDULE | {"steps": 20})

    def weights(name: str, seeds: list[int], device: str) -> dict[int, torch.Tensor]:
        folders = {seed: tmp_path / name / f"seed-{seed}" for seed in seeds}
        train(run, folders, Options(tmp_path / "checkpoints", device=device, backend="torch", progress="none"))
        loaded = {seed: load_weights(folder / "weights.safetensors") for seed, folder in folders.items()}
        return {seed: torch.cat([x.flatten() for _, x in sorted(one.items())]) for seed, one in loaded.items()}

    stacked = weights("stacked", SEEDS, "cuda")
    for seed in SEEDS:
        for name in ("cuda", "cpu"):
            alone = weights(name, [seed], name)[seed]
            assert (stacked[seed] - alone).norm() <= 1e-4 * alone.norm(), (seed, name)
    assert (stacked[SEEDS[0]] - stacked[SEEDS[1]]).norm() > 0.1 * stacked[SEEDS[0]].norm()
