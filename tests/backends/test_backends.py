"""What computes a step: PyTorch part by part, and the choice between it and the kernel."""

import pytest
import torch
from tiny_runs import MODELS, TASK, make_run

from mesaopt.backends import choose as backends
from mesaopt.backends.native.build import BuildError
from mesaopt.backends.torch import TorchBackend
from mesaopt.data.sequences import inputs_targets, training_batch
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer
from mesaopt.spec.run import Model
from mesaopt.training.state import TrainingState


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_micro_batches_add_up_to_the_batch(model: str, size: int):
    """Norm-relative 1e-5 in float32, whether or not the size divides the batch."""
    run = make_run(model)
    inputs, targets = inputs_targets(training_batch(TASK, [1, 11], 8, "train", 0))
    tokens = tokenise(inputs, run.model.tokens)
    transformer = TrainingState.initial(run, [1, 11], "cpu").model
    whole = TorchBackend(micro_batch=8).loss_and_gradients(transformer, tokens, targets)
    gradients = [p.grad.clone() for p in transformer.parameters()]
    # a second call replaces gradients, it does not add to them
    losses = TorchBackend(micro_batch=size).loss_and_gradients(transformer, tokens, targets)
    assert torch.allclose(losses, whole, rtol=1e-5)
    assert torch.allclose(TorchBackend(micro_batch=size).loss(transformer, tokens, targets), whole, rtol=1e-5)
    for p, expected in zip(transformer.parameters(), gradients, strict=True):
        assert (p.grad - expected).norm() <= 1e-5 * expected.norm()


def test_long_contexts_are_split_into_smaller_micro_batches(monkeypatch: pytest.MonkeyPatch):
    """No more pairs of positions at a time than fit, whatever the batch; a mesa-layer needs none of them in memory."""
    sizes = {}
    for layers in (("linear",), ("softmax", "mesa"), ("mesa",)):
        model = Transformer(Model(layers, "constructed", 4, 1, 1, 0.1), n_obs=1)
        seen = []
        model.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].shape[1]))
        written_out = lambda *data, seen=seen, **more: seen.append(data[3]) or torch.zeros(1)  # noqa: E731
        monkeypatch.setattr("mesaopt.backends.torch.stack_loss", written_out)
        for length in (50, 400):
            TorchBackend().loss(model, torch.zeros(1, 130, length, 4), torch.zeros(1, 130, length, 1))
            sizes[layers, length] = max(seen)
            seen.clear()
    assert list(sizes.values()) == [16, 2, 128, 2, 128, 128]


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
    with pytest.raises(InputError, match="for CPUs"):
        backends.choose("native", make_run(), "cuda")


@pytest.mark.usefixtures("kernels")
def test_a_gpu_gets_compiled_batches_where_it_can(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    run = make_run()
    backend = backends.choose("auto", run, "cuda")
    assert backend.name == "torch" and backend.sampler(run.task).name == "compiled"
    assert backends.choose("torch", run, "cuda").sampler(run.task).name == "plain"
    assert capsys.readouterr().err == ""

    def fails(n_state: int) -> None:
        raise BuildError("no C++ compiler")

    monkeypatch.setattr(backends, "sequences_library", fails)
    assert backends.choose("auto", run, "cuda").sampler(run.task).name == "plain"
    assert capsys.readouterr().err == "mesaopt: tiny/linear: batches are drawn without compiled code: no C++ compiler\n"
