"""Linear layers distilled all at once, against one layer at a time in float64; where they start; checkpoints."""

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from mesaopt.backends.native.frozen import FrozenModel
from mesaopt.data.sequences import training_batch
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer, initialise, positional_encoding
from mesaopt.spec.analysis import Distil
from mesaopt.spec.run import Model, Run, Task, Training
from mesaopt.training import distillation
from mesaopt.training.distillation import NAMES, Distillation, distil, make_groups, recorded
from mesaopt.training.fitting import Kept

N, TIME = 3, 7
TASK = Task("linear", n_state=N, n_obs=N, context_length=TIME)
RAW = {"tokens": "raw", "d_model": 8, "n_heads": 2, "d_head": 4, "init_std": 0.5}
MODELS = {
    "raw": Model(("softmax",) * 3, **RAW, d_pe=6),
    "clipped": Model(("softmax",) * 2, **RAW, d_pe=6, clip=0.8),
    "constructed": Model(("softmax",) * 2, "constructed", d_model=4 * N, n_heads=1, d_head=5, init_std=0.3),
    "one": Model(("softmax",), **RAW, d_pe=6),
}
SETTINGS = Distil(steps=3, batch=6, lr=0.01, weight_decay=0.1, init_std=0.3, recorded=9)


def run(kind: str) -> Run:
    return Run(f"linear/{kind}", TASK, MODELS[kind], Training(lr=1e-3, steps=1))


def model(kind: str) -> Transformer:
    return initialise(MODELS[kind], N, [1]).requires_grad_(False)


def problem(kind: str, settings: Distil = SETTINGS, backend: str = "torch") -> Distillation:
    native = FrozenModel(model(kind), TIME) if backend == "native" else None
    found = Distillation(run(kind), 1, model(kind), settings, make_groups(model(kind), settings.starts), native)
    found.start()
    return found


def linear_output(weights: dict[str, Tensor], e: Tensor, positions: Tensor | None) -> Tensor:
    """sum_h W_O sum_{t'<=t} v_{t'} (k_{t'}^T q_t) of one sequence e (time, d_model), by loops over heads and positions."""
    beside = e if positions is None else torch.cat([e, positions], dim=-1)
    rows = []
    for t in range(len(e)):
        total = torch.zeros(weights["W_O"].shape[1]).to(e)
        for W_Q, W_K, W_V, W_O in zip(*(weights[name] for name in NAMES), strict=True):
            answer = sum((W_V @ e[s]) * ((W_K @ beside[s]) @ (W_Q @ beside[t])) for s in range(t + 1))
            total = total + W_O @ answer
        rows.append(total)
    return torch.stack(rows)


def seen_by(kind: str, layer: int, observations: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Input and attention output (batch, time, d_model) of one layer of the model in float64, and what it reads of positions."""
    double = model(kind).double()
    tokens = tokenise(observations[:, :-1].double(), MODELS[kind].tokens)[None]
    _, stream = double.activations(tokens, inner=["attention_output"])
    positions = positional_encoding(TIME, MODELS[kind].d_pe) if layer == 0 and MODELS[kind].d_pe else None
    return stream[f"layer_{layer}"][0], stream[f"layer_{layer + 1}.attention_output"][0], positions


@pytest.mark.parametrize("kind", MODELS)
def test_one_pass_records_what_every_layer_reads_and_says(kind: str) -> None:
    tokens = tokenise(training_batch(TASK, [1], 4, "any", 0)[:, :, :-1], MODELS[kind].tokens)
    _, stream = model(kind).activations(tokens, inner=["attention_output"])
    for layer, (inputs, output) in enumerate(recorded(model(kind), tokens)):
        torch.testing.assert_close(inputs, stream[f"layer_{layer}"])
        torch.testing.assert_close(output, stream[f"layer_{layer + 1}.attention_output"])


@pytest.mark.parametrize("backend", ["torch", "native"])
@pytest.mark.parametrize("kind", MODELS)
def test_losses_and_gradients_against_loops_in_float64(kind: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1e-4 of the largest entry; every layer and start by itself, by PyTorch in parts of two sequences."""
    found = problem(kind, backend=backend)
    members = max(len(list(group.members())) for group in found.groups)
    monkeypatch.setattr(distillation, "_PAIRS", 2 * TIME**2 * members)
    total, observations = found.loss(5).item(), training_batch(TASK, [1], SETTINGS.batch, "distil", 5)[0]
    expected = 0.0
    for group in found.groups:
        for (_, number), place in group.members():
            weights = {name: getattr(group.block, name).detach()[place].double().requires_grad_() for name in NAMES}
            inputs, outputs, positions = seen_by(kind, number, observations)
            loss = sum((linear_output(weights, e, positions) - a).square().sum() for e, a in zip(inputs, outputs, strict=True))
            loss = loss / (2 * SETTINGS.batch * TIME)
            loss.backward()
            expected += loss.item()
            for name, wanted in weights.items():
                gradient = getattr(group.block, name).grad[place]
                assert (gradient - wanted.grad).abs().max() < 1e-4 * wanted.grad.abs().max(), (kind, number, name)
    assert total == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_all_at_once_is_one_at_a_time(backend: str) -> None:
    """The updates of a layer in float64 by PyTorch's own AdamW, from the same start, on the same sequences: 1e-4."""
    settings = Distil(**{**SETTINGS.to_dict(), "steps": 12})
    layers, course = distil(run("raw"), 1, model("raw"), settings, backend=backend)
    starts = problem("raw", settings).linear_layers()
    assert layers.keys() == starts.keys() == {(start, n) for start in ("softmax", "plain") for n in range(3)}
    for key in (("softmax", 0), ("plain", 2)):
        parameters = {name: Parameter(of.double()) for name, of in starts[key].items()}
        optimizer = torch.optim.AdamW(parameters.values(), lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
        for step in range(12):
            observations = training_batch(TASK, [1], settings.batch, "distil", step)[0]
            inputs, outputs, positions = seen_by("raw", key[1], observations)
            optimizer.zero_grad()
            errors = [linear_output(parameters, e, positions) - a for e, a in zip(inputs, outputs, strict=True)]
            (torch.stack(errors).square().sum() / (2 * settings.batch * TIME)).backward()
            for parameter in parameters.values():
                parameter.grad.clamp_(-1, 1)
            optimizer.step()
        for name, parameter in parameters.items():
            torch.testing.assert_close(layers[key][name].double(), parameter.detach(), rtol=0, atol=1e-4)
    assert course["step"].tolist() == list(range(1, 13)) and course["loss"].iloc[-1] < course["loss"].iloc[0]


@pytest.mark.parametrize("kind", ["raw", "constructed"])
def test_starts(kind: str) -> None:
    """That of the softmax layer, whose W_O leaves an error that no other one could make smaller; that of random weights."""
    found, of = problem(kind).linear_layers(), model(kind)
    observations = training_batch(TASK, [1], SETTINGS.recorded, "distil_record", 0)[0]
    for number, layer in enumerate(of.blocks()):
        softmax, plain = found["softmax", number], found["plain", number]
        torch.testing.assert_close(softmax["W_Q"] * math.sqrt(of.model.d_head), layer.W_Q[0])
        assert torch.equal(softmax["W_K"], layer.W_K[0]) and torch.equal(softmax["W_V"], layer.W_V[0])
        deviation = torch.cat([tensor.flatten() for tensor in plain.values()]).std().item()
        assert deviation == pytest.approx(SETTINGS.init_std, rel=0.15) and not torch.equal(plain["W_K"], softmax["W_K"])
        inputs, outputs, positions = seen_by(kind, number, observations)
        weights = {name: tensor.double().requires_grad_(name == "W_O") for name, tensor in softmax.items()}
        loss = sum((linear_output(weights, e, positions) - a).square().sum() for e, a in zip(inputs, outputs, strict=True))
        loss.backward()
        zero = sum(a.square().sum() for a in outputs)
        assert loss < zero and weights["W_O"].grad.abs().max() < 1e-3 * zero, "the least squares are solved"


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_an_interrupted_distillation_goes_on_to_the_same_bits(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, course = distil(run("raw"), 1, model("raw"), SETTINGS, backend=backend)
    loss = Distillation.loss

    def interrupted(self: Distillation, step: int) -> Tensor:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, step)

    monkeypatch.setattr(Distillation, "loss", interrupted)
    with pytest.raises(SystemExit):
        distil(run("raw"), 1, model("raw"), SETTINGS, Kept(tmp_path, 1e9), backend)
    seen = []
    monkeypatch.setattr(Distillation, "loss", lambda self, step: seen.append(step) or loss(self, step))
    found, again = distil(run("raw"), 1, model("raw"), SETTINGS, Kept(tmp_path, 1e9), backend)
    assert seen == [2] and again.equals(course)
    assert all(torch.equal(found[key][name], of[name]) for key, of in expected.items() for name in NAMES)


def test_the_trained_model_is_left_as_it_was() -> None:
    of = model("raw")
    before = {name: tensor.clone() for name, tensor in of.named_parameters()}
    distil(run("raw"), 1, of, SETTINGS)
    assert all(torch.equal(before[name], tensor) for name, tensor in of.named_parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ("softmax", "mesa")}, "only models of softmax layers alone are distilled"),
        ({"d_mlp": 4}, "only models without MLPs and norms are distilled"),
        ({"normalise": "qk"}, "only models without MLPs and norms are distilled"),
    ],
)
def test_models_that_cannot_be_distilled_are_one_line(changes: dict, message: str) -> None:
    other = Run("linear/other", TASK, Model(**{"layers": ("softmax",), **RAW, "d_pe": 6} | changes), Training(lr=1e-3, steps=1))
    with pytest.raises(InputError, match=f"linear/other: {message}"):
        SETTINGS.check(other)


def test_starts_that_are_none_are_one_line() -> None:
    for starts, message in ((("mine",), "unknown start 'mine'"), ((), "at least one"), (("plain", "plain"), "must differ")):
        with pytest.raises(InputError, match=message):
            Distil(starts=starts)
