"""The training loop: what one step computes, what is recorded, and that nothing else changes the numbers."""

import json
import re
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mesaopt import backends
from mesaopt import train as training_module
from mesaopt.backends import TorchBackend
from mesaopt.checkpoint import exclusive
from mesaopt.data.sequences import inputs_targets, training_batch
from mesaopt.data.tokens import tokenise
from mesaopt.errors import DivergenceError, InputError
from mesaopt.models.transformer import Transformer
from mesaopt.optimizer import AdamW
from mesaopt.progress import Progress
from mesaopt.schedule import learning_rate
from mesaopt.spec import Model, Run, Task, Training
from mesaopt.tables import read_table
from mesaopt.train import Options, fixed_test_batches, train, update
from mesaopt.training_state import TrainingState

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


def options(tmp_path: Path, **changes: object) -> Options:
    return Options(**({"checkpoints": tmp_path / "checkpoints", "backend": "torch", "progress": "none"} | changes))


def weights_of(run: Run, seeds: list[int], folder: Path, settings: Options) -> dict[int, bytes]:
    """Train; the bytes of the final weights by seed."""
    train(run, {seed: folder / f"seed-{seed}" for seed in seeds}, settings)
    return {seed: (folder / f"seed-{seed}" / "weights.safetensors").read_bytes() for seed in seeds}


# --- one step ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", MODELS)
def test_updates_equal_the_formula_in_float64(model: str):
    """Three steps of AdamW with elementwise clipping, written out; to 1e-3 of the distance AdamW goes in a step."""
    run = make_run(model, lr=0.01, weight_decay=0.3, warmup=2, horizon=7, final_lr=0.001)
    state = TrainingState.initial(run, [5], "cpu")
    naive = TrainingState.initial(run, [5], "cpu").model.double()
    first, second = ({name: torch.zeros_like(p) for name, p in naive.named_parameters()} for _ in range(2))
    clipped = 0.0
    for step in range(3):
        losses = update(run, [5], state, TorchBackend())
        inputs, targets = inputs_targets(training_batch(TASK, [5], 8, "train", step).double())
        loss = (naive(tokenise(inputs, run.model.tokens)) - targets).square().sum(-1).mean() / 2
        naive.zero_grad()
        loss.backward()
        assert losses.item() == pytest.approx(loss.item(), rel=1e-4)
        for name, p in naive.named_parameters():
            clipped = max(clipped, p.grad.abs().max().item())
            gradient = p.grad.clamp(-1, 1)
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            m, v = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.999 ** (step + 1))
            p.data -= learning_rate(step, 0.01, 2, 7, 0.001) * (m / (v.sqrt() + 1e-8) + 0.3 * p.data)
    assert (clipped > 1) == (model == "steep")
    for (name, ours), expected in zip(state.model.named_parameters(), naive.parameters(), strict=True):
        assert (ours - expected).norm() <= 1e-3 * 0.01 * ours.numel() ** 0.5, name


def test_the_optimizer_follows_that_of_pytorch():
    """Fifty updates with changing rates and gradients over many orders of magnitude; to 1e-6 of the distance gone."""
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.arange(300.0).div(100).clone()) for _ in range(2))
    mine = AdamW([ours], weight_decay=0.2)
    reference = torch.optim.AdamW([theirs], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.2, foreach=False)
    for step in range(50):
        theirs.grad = torch.randn(300) * torch.logspace(-9, 3, 300)
        ours.grad.copy_(theirs.grad)
        reference.param_groups[0]["lr"] = 0.01 * (step % 7)
        mine.update(step, 0.01 * (step % 7))
        reference.step()
    assert (ours - theirs).abs().max() <= 1e-6 * 50 * 0.03


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_micro_batches_add_up_to_the_batch(model: str, size: int):
    """Norm-relative 1e-5 in float32, whether or not the size divides the batch."""
    run = make_run(model)
    inputs, targets = inputs_targets(training_batch(TASK, [1, 11], 8, "train", 0))
    tokens = tokenise(inputs, run.model.tokens)
    transformer = TrainingState.initial(run, [1, 11], "cpu").model
    whole = TorchBackend(8).loss_and_gradients(transformer, tokens, targets)
    gradients = [p.grad.clone() for p in transformer.parameters()]
    # a second call replaces gradients, it does not add to them
    losses = TorchBackend(size).loss_and_gradients(transformer, tokens, targets)
    assert torch.allclose(losses, whole, rtol=1e-5)
    assert torch.allclose(TorchBackend(size).loss(transformer, tokens, targets), whole, rtol=1e-5)
    for p, expected in zip(transformer.parameters(), gradients, strict=True):
        assert (p.grad - expected).norm() <= 1e-5 * expected.norm()


def test_long_contexts_are_split_into_smaller_micro_batches():
    """No more pairs of positions at a time than fit, whatever the batch; a mesa-layer needs none of them in memory."""
    sizes = {}
    for layers in (("linear",), ("softmax", "mesa"), ("mesa",)):
        model = Transformer(Model(layers, "constructed", 4, 1, 1, 0.1), n_obs=1)
        seen = []
        model.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].shape[1]))
        for length in (50, 400):
            TorchBackend().loss(model, torch.zeros(1, 130, length, 4), torch.zeros(1, 130, length, 1))
            sizes[layers, length] = max(seen)
            seen.clear()
    assert list(sizes.values()) == [64, 2, 128, 2, 128, 128]


@pytest.mark.parametrize("model", MODELS)
def test_a_stacked_pack_equals_separate_seeds_after_one_step(model: str):
    run, seeds = make_run(model, lr=0.01), [1, 11, 111]
    stacked = TrainingState.initial(run, seeds, "cpu")
    losses = update(run, seeds, stacked, TorchBackend())
    for index, seed in enumerate(seeds):
        alone = TrainingState.initial(run, [seed], "cpu")
        assert update(run, [seed], alone, TorchBackend()).item() == pytest.approx(losses[index].item(), rel=1e-6)
        for name, value in alone.model.seed_weights(0).items():
            assert (stacked.model.seed_weights(index)[name] - value).abs().max() <= 1e-6, name


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
        assert json.loads((folder / "provenance.json").read_text())["backend"] == "torch"
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


def test_the_stream_changes_the_training_but_not_the_test_batches():
    ours, other = make_run(stream="train"), make_run(stream="again")
    assert torch.equal(fixed_test_batches(ours, [1]), fixed_test_batches(other, [1]))
    weights = []
    for run in (ours, other):
        state = TrainingState.initial(run, [1], "cpu")
        update(run, [1], state, TorchBackend())
        weights.append(state.model.seed_weights(0)["layers.0.W_Q"])
    assert not torch.equal(*weights)


# --- interruptions -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", ["linear", "mesa", "hybrid"])
def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch):
    """Stopped after every second step, so at steps with and without test loss and snapshot."""
    run = make_run(model, snapshot_every=4)
    whole = weights_of(run, [1, 11], tmp_path / "whole", options(tmp_path))

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
            weights_of(run, [1, 11], tmp_path / "parts", options(tmp_path))
        assert stopped.value.code == 143
        assert not (tmp_path / "parts").exists()
    monkeypatch.undo()
    assert weights_of(run, [1, 11], tmp_path / "parts", options(tmp_path)) == whole
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


# --- backend and progress ------------------------------------------------------------------------------------------------------
def test_the_torch_backend_takes_over_and_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(backends, "available", lambda run: "no C++ compiler")
    assert backends.choose("auto", make_run(), "cpu").name == "torch"
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no C++ compiler" in error
    with pytest.raises(InputError, match="no C\\+\\+ compiler"):
        backends.choose("native", make_run(), "cpu")
    monkeypatch.setattr(backends, "available", lambda run: None)
    assert backends.choose("auto", make_run(), "cpu").name == "native"
    assert backends.choose("torch", make_run(), "cpu").name == "torch"
    assert backends.choose("auto", make_run(), "cuda").name == "torch"
    with pytest.raises(InputError, match="for CPUs"):
        backends.choose("native", make_run(), "cuda")


def test_progress_as_lines_and_as_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    for mode in ("auto", "bar", "none"):
        monkeypatch.setattr("mesaopt.progress.BAR_SECONDS", -1.0)
        progress = Progress("tiny/linear seed 1", 2500, mode)
        progress.start(500, "cpu", "torch")
        progress.test_loss(0.5)
        for step in (999, 1000, 1001, 2000):
            progress.update(step)
        progress.end(2500, "finished")
    lines, bar = capsys.readouterr().err.split("finished at step 2500", 1)
    assert [line.partition(",")[0] for line in lines.splitlines()] == [
        "tiny/linear seed 1: goes on at step 500 of 2500 on cpu",
        "tiny/linear seed 1: step 1000 of 2500",
        "tiny/linear seed 1: step 2000 of 2500",
        "tiny/linear seed 1: ",
    ]
    assert "steps/s, test loss 0.5000" in lines
    assert bar.count("\r") == 4 and "1001/2500" in bar
    assert bar.count("finished") == 1
