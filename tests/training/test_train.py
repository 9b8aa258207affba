"""The training loop: what it leaves behind, and that interruptions change nothing."""

import json
import re
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import DEVICES, make_run

from mesaopt.backends import choose as backends
from mesaopt.backends.torch import TorchBackend
from mesaopt.data.test_sets import fixed_test_batches
from mesaopt.data.tokens import tokenise
from mesaopt.errors import DivergenceError
from mesaopt.process.checkpoint import exclusive
from mesaopt.spec.run import Run
from mesaopt.store.tables import read_table
from mesaopt.training import loop as training_module
from mesaopt.training.loop import Options, train, update
from mesaopt.training.state import TrainingState


def options(tmp_path: Path, **changes: object) -> Options:
    return Options(**({"checkpoints": tmp_path / "checkpoints", "backend": "torch", "progress": "none"} | changes))


def weights_of(run: Run, seeds: list[int], folder: Path, settings: Options) -> dict[int, bytes]:
    """Train; the bytes of the final weights by seed."""
    train(run, {seed: folder / f"seed-{seed}" for seed in seeds}, settings)
    return {seed: (folder / f"seed-{seed}" / "weights.safetensors").read_bytes() for seed in seeds}


# --- what is left behind -------------------------------------------------------------------------------------------------------
def test_outputs_of_a_training(tmp_path: Path):
    run = make_run(snapshot_every=2)
    train(run, {1: tmp_path / "seed-1", 11: tmp_path / "seed-11"}, options(tmp_path))
    names = ["history.parquet", "provenance.json", "snapshots.safetensors", "spec.json", "weights.safetensors"]
    digests = [f".{name}.sha256" for name in names if not name.endswith(".json")]
    for index, seed in enumerate((1, 11)):
        folder = tmp_path / f"seed-{seed}"
        assert sorted(path.name for path in folder.iterdir()) == digests + names
        spec = json.loads((folder / "spec.json").read_text())
        assert spec.pop("seed") == seed and Run.from_dict(spec) == run
        facts = json.loads((folder / "provenance.json").read_text())
        assert (facts["backend"], facts["sampler"], facts["device"]) == ("torch", "plain", "cpu")
        weights, snapshots = load_file(folder / "weights.safetensors"), load_file(folder / "snapshots.safetensors")
        assert {key.partition("/")[0] for key in snapshots} == {f"step-{step}" for step in (0, 2, 4, 6, 7)}
        initial = TrainingState.initial(run, [1, 11], "cpu").model.seed_weights(index)
        for name, value in weights.items():
            assert torch.equal(snapshots[f"step-7/{name}"], value)
            assert torch.equal(snapshots[f"step-0/{name}"], initial[name])
    assert not list((tmp_path / "checkpoints").rglob("seed-*"))


def test_history_records_losses_before_the_steps(tmp_path: Path):
    run = make_run()
    train(run, {5: tmp_path}, options(tmp_path))
    history = read_table(tmp_path / "history.parquet", "history")
    assert history["step"].tolist() == [0, 3, 6, 7]
    assert history["train_loss"].isna().tolist() == [True, False, False, False]
    state, tests = TrainingState.initial(run, [5], "cpu"), fixed_test_batches(run, [5])
    assert tests.shape == (2, 1, 4, 7, 3)
    for _, row in history.iterrows():
        while state.step < row["step"]:
            losses = update(run, [5], state, TorchBackend())
            assert state.step < row["step"] or losses.item() == pytest.approx(row["train_loss"], rel=1e-6)
        expected = [
            TorchBackend().loss(state.model, tokenise(b[..., :-1, :], "constructed"), b[..., 1:, :]).item() for b in tests
        ]
        assert row["test_loss"] == pytest.approx(sum(expected) / 2, rel=1e-6)


# --- interruptions -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", ["linear", "mesa", "hybrid"])
def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path: Path, model: str, device: str, monkeypatch: pytest.MonkeyPatch):
    """Stopped after every second step, so at steps with and without test loss and snapshot."""
    run, settings = make_run(model, snapshot_every=4), options(tmp_path, device=device)
    whole = weights_of(run, [1, 11], tmp_path / "whole", settings)

    class StopsSoon(training_module.StopRequest):
        steps = 0

        @property
        def signal(self) -> int | None:
            self.steps += 1
            return 15 if self.steps > 2 else None

        @signal.setter
        def signal(self, value: int | None) -> None:
            pass

    monkeypatch.setattr(training_module, "StopRequest", StopsSoon)
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            weights_of(run, [1, 11], tmp_path / "parts", settings)
        assert stopped.value.code == 143
        assert not (tmp_path / "parts").exists()
    monkeypatch.undo()
    assert weights_of(run, [1, 11], tmp_path / "parts", settings) == whole
    for name in ("history.parquet", "snapshots.safetensors"):
        assert (tmp_path / "parts/seed-11" / name).read_bytes() == (tmp_path / "whole/seed-11" / name).read_bytes()


def test_a_kept_checkpoint_writes_the_outputs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, settings = make_run(), options(tmp_path, keep_checkpoint=True)
    first = weights_of(run, [1], tmp_path / "a", settings)
    monkeypatch.setattr(training_module, "update", None)  # no step may be needed
    assert weights_of(run, [1], tmp_path / "b", settings) == first
    assert (tmp_path / "a/seed-1/history.parquet").read_bytes() == (tmp_path / "b/seed-1/history.parquet").read_bytes()


def test_a_checkpoint_of_other_settings_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fresh = weights_of(make_run(lr=2e-3), [1], tmp_path / "fresh", options(tmp_path))
    weights_of(make_run(), [1], tmp_path / "other", options(tmp_path, keep_checkpoint=True))
    assert weights_of(make_run(lr=2e-3), [1], tmp_path / "again", options(tmp_path)) == fresh
    assert "another spec" in capsys.readouterr().err


@pytest.mark.usefixtures("kernels")
def test_a_checkpoint_of_batches_drawn_otherwise_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    weights_of(make_run(), [1], tmp_path / "plain", options(tmp_path, keep_checkpoint=True))
    monkeypatch.setattr(backends, "choose", lambda *_: TorchBackend(compiled_batches=True))
    weights_of(make_run(), [1], tmp_path / "compiled", options(tmp_path))
    assert "another sampler" in capsys.readouterr().err
    assert json.loads((tmp_path / "compiled/seed-1/provenance.json").read_text())["sampler"] == "compiled"


def test_one_trainer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A second trainer waits for the first, and takes what it finished instead of training it again."""
    run, folder, settings = make_run(), tmp_path / "seed-1", options(tmp_path)
    home = tmp_path / "checkpoints/tiny/linear/seed-1"
    with exclusive(home, "first"):
        second = threading.Thread(target=train, args=(run, {1: folder}, settings))
        second.start()
        while "waiting for it" not in capsys.readouterr().err:
            time.sleep(0.05)
        assert not folder.exists()
        train(run, {1: folder}, options(tmp_path / "elsewhere"))
        finished = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    second.join()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == finished


def test_an_unfinished_training_that_was_waited_for_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run, settings = make_run(), options(tmp_path)
    expected = weights_of(run, [1], tmp_path / "expected", options(tmp_path / "elsewhere"))
    with exclusive(tmp_path / "checkpoints/tiny/linear/seed-1", "first"):
        second = threading.Thread(target=train, args=(run, {1: tmp_path / "a/seed-1"}, settings))
        second.start()
        while "waiting for it" not in capsys.readouterr().err:
            time.sleep(0.05)
    second.join()
    assert {1: (tmp_path / "a/seed-1/weights.safetensors").read_bytes()} == expected


# --- divergence ----------------------------------------------------------------------------------------------------------------
def test_divergence_stops_once_and_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, home = make_run("calm", lr=30.0, steps=50), tmp_path / "checkpoints/tiny/calm/seed-11"
    with pytest.raises(DivergenceError, match=r"tiny/calm seed 11 diverged at step \d+: loss") as error:
        train(run, {11: tmp_path / "seed-11"}, options(tmp_path, checkpoint_every=0.0))
    message = str(error.value)
    assert "\n" not in message and str(home) in message
    assert sorted(path.name for path in home.glob("[!.]*")) == ["diverged.json", "history.parquet"]
    assert read_table(home / "history.parquet", "history")["step"].iloc[0] == 0
    with monkeypatch.context() as patch, pytest.raises(DivergenceError, match=re.escape(message)):
        patch.setattr(training_module, "update", None)  # refused before any step
        train(run, {11: tmp_path / "seed-11"}, options(tmp_path))
    assert not (tmp_path / "seed-11").exists()
    train(make_run("calm", steps=2), {11: tmp_path / "seed-11"}, options(tmp_path))
    assert not home.exists()


def test_a_loss_that_is_not_a_number_names_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Broken(TorchBackend):
        def loss_and_gradients(self, *arguments: object) -> torch.Tensor:
            return torch.where(torch.tensor([False, True]), float("nan"), super().loss_and_gradients(*arguments))

    monkeypatch.setattr(backends, "choose", lambda *arguments: Broken())
    with pytest.raises(DivergenceError, match="tiny/linear seed 11 diverged at step 1: loss nan"):
        train(make_run(), {1: tmp_path / "seed-1", 11: tmp_path / "seed-11"}, options(tmp_path))
