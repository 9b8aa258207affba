"""Tuned tokens: gradients against a loop in float64, frozen models, checkpoints."""

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from mesaopt.backends.native.frozen import FrozenModel
from mesaopt.data.prompts import Form, Prompt, one_task
from mesaopt.data.sequences import training_batch
from mesaopt.models.transformer import Transformer, initialise
from mesaopt.spec.analysis import Prompts
from mesaopt.spec.run import Model, Run, Task, Training
from mesaopt.training import prompts
from mesaopt.training.fitting import ALONE, Kept, history
from mesaopt.training.prompts import Tuning, label_errors, tune

N = 3
PAIRS = Task("few-shot", n_state=N, n_obs=N, context_length=14, kind="few_shot")
TASK = Task("linear", n_state=N, n_obs=N, context_length=14)
RAW = {"tokens": "raw", "d_model": 8, "n_heads": 2, "d_head": 4, "init_std": 0.5, "d_pe": 4}
MODELS = {
    "softmax": Model(("softmax", "softmax"), **RAW),
    "hybrid": Model(("softmax", "mesa"), **RAW, clip=1.0),
    "constructed": Model(("linear",), "constructed", d_model=4 * N, n_heads=2, d_head=4, init_std=0.3),
}
SETTINGS = Prompts(separators=2, prefix=3, steps=6, lr=0.1, separator_batch=5, prefix_batch=4)


def run(kind: str) -> Run:
    return Run(f"linear/{kind}", TASK, MODELS[kind], Training(lr=1e-3, steps=1))


def model(kind: str) -> Transformer:
    return initialise(MODELS[kind], N, [1])


def naive(of: Transformer, batch: int, step: int, tokens: dict[str, Tensor], prefix: int) -> Tensor:
    """The loss of tokens in float64: every prompt put together by hand, one sequence at a time."""
    kind = "prefix" if prefix else "separator"
    pairs = training_batch(PAIRS, [1], batch, f"prompt_{kind}", step)[0].double()
    errors = []
    for sequence in pairs:
        elements, labels, places = [*tokens.get("prefix", [])], [], []
        for x, y in zip(sequence[0::2], sequence[1::2], strict=False):
            places.append(len(elements))
            labels.append(y)
            elements += [x, y, *tokens["separator"]]
        places = [place for place in places if place < PAIRS.context_length]
        read = torch.stack(elements[: PAIRS.context_length])
        zero, before = torch.zeros_like(read), torch.cat([torch.zeros(1, N).double(), read[:-1]])
        token = read if of.model.tokens == "raw" else torch.cat([zero, read, read, before], dim=-1)
        predictions = of(token[None, None])[0, 0]
        errors += [0.5 * (predictions[place] - label).square().sum() for place, label in zip(places, labels, strict=False)]
    return torch.stack(errors).mean()


@pytest.mark.parametrize(
    ("kind", "backend"), [*((kind, "torch") for kind in MODELS), ("softmax", "native"), ("hybrid", "native")]
)
@pytest.mark.parametrize("prefix", [0, 3], ids=["separator", "prefix"])
def test_loss_and_gradients_against_a_loop_in_float64(
    kind: str, backend: str, prefix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1e-4 of the largest; by PyTorch in parts of two sequences, by native code of 19, which leave lanes empty."""
    monkeypatch.setattr(prompts, "_PAIRS", 2 * PAIRS.context_length**2)
    monkeypatch.setattr(prompts, "_LEAST_WITH_RECURSION", 2)
    fast, slow = model(kind).requires_grad_(False), model(kind).double().requires_grad_(False)
    tuned = "prefix" if prefix else "separator"
    frozen = {"separator": torch.randn(2, N, generator=torch.Generator().manual_seed(3))} if prefix else {}
    native = FrozenModel(fast, PAIRS.context_length) if backend == "native" else None
    batch = 19 if native else 5
    problem = Tuning(fast, PAIRS, 1, tuned, Form(prefix, 2), batch, frozen, native)
    tokens = Parameter(problem.start())
    loss = problem.loss(7, tokens)
    wanted = tokens.detach().double().requires_grad_()
    expected = naive(slow, batch, 7, {**{name: of.double() for name, of in frozen.items()}, tuned: wanted}, prefix)
    expected.backward()
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-5, atol=0)
    assert (tokens.grad - wanted.grad).abs().max() < 1e-4 * wanted.grad.abs().max() and wanted.grad.abs().max() > 1e-4


@pytest.mark.parametrize("backend", ["torch", "native"])
@pytest.mark.parametrize("kind", ["softmax", "hybrid"])
def test_no_weight_changes_by_a_bit_and_the_loss_falls(kind: str, backend: str) -> None:
    trained = model(kind)
    before = {name: of.detach().clone() for name, of in trained.named_parameters()}
    settings = Prompts(separators=1, prefix=2, steps=40, lr=0.1, separator_batch=16, prefix_batch=16)
    tokens, course = tune(run(kind), 1, trained, PAIRS, settings, backend=backend)
    assert {name: of.shape for name, of in tokens.items()} == {"separator": (1, N), "prefix": (2, N)}
    assert all(torch.equal(before[name], of) for name, of in trained.named_parameters())
    assert all(of.grad is None for of in trained.parameters())
    assert all(rows["step"].tolist() == list(range(1, 41)) for _, rows in course.groupby("token"))
    prompt = Prompt(one_task(Form(2, 1), PAIRS.context_length))
    start = {kind: Tuning(trained, PAIRS, 1, kind, Form(2, 1), 1, {}).start() for kind in tokens}
    pairs = training_batch(PAIRS, [1], 512, "fresh", 0)
    first, last = (label_errors(trained, prompt, pairs, of).mean().item() for of in (start, tokens))
    assert last < 0.99 * first


def test_the_prefix_is_tuned_with_the_separators_in_place() -> None:
    """Alone, the second descent gives what it gives after the first."""
    of = run("softmax")
    tokens, _ = tune(of, 1, model("softmax"), PAIRS, SETTINGS)
    without, course = tune(of, 1, model("softmax"), PAIRS, Prompts(**{**SETTINGS.to_dict(), "prefix": 0}))
    assert without.keys() == {"separator"} and set(course["token"]) == {"separator"}
    assert torch.equal(tokens["separator"], without["separator"])
    prompt = Prompt(one_task(Form(3, 2), PAIRS.context_length))
    pairs = training_batch(PAIRS, [1], 4, "prompt_prefix", 0)
    start = Tuning(model("softmax"), PAIRS, 1, "prefix", Form(3, 2), 4, {}).start()
    first = label_errors(model("softmax"), prompt, pairs, {"prefix": start, "separator": tokens["separator"]}).mean()
    _, whole = tune(of, 1, model("softmax"), PAIRS, SETTINGS)
    assert whole[whole["token"] == "prefix"]["loss"].iloc[0] == pytest.approx(first.item(), rel=1e-5)


@pytest.mark.parametrize(("stop", "backend"), [("separator", "native"), ("prefix", "native"), ("prefix", "torch")])
def test_an_interrupted_tuning_goes_on_to_the_same_bits(
    stop: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, course = tune(run("softmax"), 1, model("softmax"), PAIRS, SETTINGS, backend=backend)
    loss = Tuning.loss

    def interrupted(self: Tuning, step: int, tokens: Parameter) -> Tensor:
        if (self.kind, step) == (stop, 3):
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, step, tokens)

    monkeypatch.setattr(Tuning, "loss", interrupted)
    with pytest.raises(SystemExit):
        tune(run("softmax"), 1, model("softmax"), PAIRS, SETTINGS, Kept(tmp_path, 1e9), backend)
    seen = []
    monkeypatch.setattr(Tuning, "loss", lambda self, step, tokens: seen.append((self.kind, step)) or loss(self, step, tokens))
    found, again = tune(run("softmax"), 1, model("softmax"), PAIRS, SETTINGS, Kept(tmp_path, 1e9), backend)
    assert (stop, 4) in seen and (stop, 3) not in seen
    assert all(torch.equal(found[name], of) for name, of in expected.items()) and again.equals(course)


def test_a_checkpoint_of_other_weights_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = Prompts(separators=1, prefix=0, steps=2, separator_batch=2)
    tune(run("softmax"), 1, model("softmax"), PAIRS, small, Kept(tmp_path, 0.0))
    assert (tmp_path / "separator").exists()
    tune(run("softmax"), 1, initialise(MODELS["softmax"], N, [2]), PAIRS, small, Kept(tmp_path, 0.0))
    assert "belongs to another tensors" in capsys.readouterr().err


def test_a_history_has_at_most_a_hundred_rows() -> None:
    frame = history([float(i) for i in range(250)])
    assert frame["step"].tolist() == [*range(3, 250, 3), 250] and frame["loss"].tolist()[:2] == [1.0, 4.0]
    assert frame["loss"].iloc[-1] == 249.0 and history([3.0]).values.tolist() == [[1, 3.0]]
    assert ALONE.checkpoints("x", {}, []) is None
