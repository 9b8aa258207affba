"""What native code gives of frozen models, against PyTorch in float64: gradients by their inputs, streams of their layers."""

import math

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from native_models import lsa
from native_reference import TOLERANCE, batch, clip_is_ambiguous, drawn_models, relative_error

from mesaopt.backends.native import build, frozen
from mesaopt.backends.native.backend import KINDS
from mesaopt.backends.native.frozen import FrozenModel, frozen_model
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer, initialise, positional_encoding
from mesaopt.spec.run import Model

pytestmark = pytest.mark.usefixtures("kernels")

#: (tokens, time, d_head, d_model, n_obs, d_mlp, normalise); heads of 11 are merged where all layers are linear
SHAPES = (
    ("raw", 13, 7, 11, 5, 67, "qk"),
    ("raw", 9, 3, 6, 3, 0, "none"),
    ("constructed", 13, 11, 8, 2, 5, "none"),
    ("constructed", 5, 12, 4, 1, 0, "none"),
)
#: the gradient runs through the recursion of mesa-layers and through norms
GRADIENT_TOLERANCE = 2e-5


def double(weights: Transformer) -> Transformer:
    found = Transformer(weights.model, weights.n_obs).double()
    found.load_state_dict(weights.state_dict())
    return found


@settings(deadline=None, max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
@given(drawn_models(st.sampled_from(SHAPES), KINDS, st.integers(1, 3), st.integers(0, 7)))
def test_streams_equal_float64(case):
    """Of every layer what it reads, and its output before the clip: so the next layer, or the prediction, is the clipped one."""
    changes, n_obs, time, size = case
    model = Model(**changes)
    weights = initialise(model, n_obs, [time])
    tokens, _ = batch(model, n_obs, time, size)
    entered, left = FrozenModel(weights, time).streams(tokens[0])
    assert entered.shape == left.shape == (len(model.layers), size, time, model.d_model)
    exact = double(weights).requires_grad_(False)
    _, stream = exact.activations(tokens.double(), inner=["attention_output"])
    for number, layer in enumerate(exact.blocks()):
        assert relative_error(entered[number], stream[f"layer_{number}"][0]) < TOLERANCE
        if not layer.has_mlp:
            added = stream[f"layer_{number}"] + stream[f"layer_{number + 1}.attention_output"]
            assert relative_error(left[number], added[0]) < TOLERANCE
        bound = math.inf if layer.clip is None else layer.clip
        assert relative_error(left[number].clamp(-bound, bound), stream[f"layer_{number + 1}"][0]) < TOLERANCE


@settings(deadline=None, max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
@given(drawn_models(st.sampled_from(SHAPES[:2]), KINDS, st.integers(1, 3), st.integers(0, 7)), st.data())
def test_error_and_gradient_by_the_stream_equal_float64(case, data):
    changes, n_obs, time, size = case
    model = Model(**changes)
    weights = initialise(model, n_obs, [time])
    tokens, targets = batch(model, n_obs, time, size)
    if model.clip is not None:
        assume(not clip_is_ambiguous(weights, (tokens, targets)))
    scored = sorted(data.draw(st.sets(st.integers(0, time - 1), min_size=1)))
    labels = targets[0][:, scored]
    error, gradient = FrozenModel(weights, time).stream_gradient(tokens[0], labels, scored)
    exact = double(weights)
    with torch.no_grad():  # so that what embeds to the stream is the identity
        read = exact.embed(tokens.double())
    read.requires_grad_()
    stream, positions = read, frozen_positions(exact, time)
    for layer in exact.blocks():
        stream, positions = layer(stream, positions), None
    expected = (exact.read_out(stream)[0][:, scored] - labels.double()).square().sum() / 2
    expected.backward()
    assert error == pytest.approx(expected.item(), rel=TOLERANCE)
    assert relative_error(gradient, read.grad[0].sum(0)) < GRADIENT_TOLERANCE


def frozen_positions(model: Transformer, time: int) -> torch.Tensor | None:
    return positional_encoding(time, model.model.d_pe) if model.model.d_pe else None


def raw(**changes) -> Transformer:
    model = Model(**{"layers": ("softmax",), "tokens": "raw", "d_model": 6, "n_heads": 1, "d_head": 3, "init_std": 0.3} | changes)
    return initialise(model, 3, [1])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_come_through(bad):
    tokens, labels = torch.zeros(2, 9, 3), torch.zeros(2, 1, 3)
    tokens[1, 4] = bad
    error, gradient = FrozenModel(raw(), 9).stream_gradient(tokens, labels, [5])
    assert not math.isfinite(error) and not gradient.isfinite().all()


def test_what_does_not_fit_is_one_line():
    model = FrozenModel(raw(), 9)
    with pytest.raises(InputError, match=r"tokens \(2, 8, 3\) do not fit the model"):
        model.streams(torch.zeros(2, 8, 3))
    constructed = FrozenModel(initialise(lsa(d_head=3), 10, [1]), 13)
    with pytest.raises(InputError, match="no gradient by tokens that are not embedded"):
        constructed.stream_gradient(torch.zeros(2, 13, 40), torch.zeros(2, 1, 10), [0])


@pytest.mark.parametrize("pack", [1, 2])
def test_who_computes(pack, capsys, monkeypatch):
    """Native code where it can, said in one line where not; an error where it was asked for; PyTorch where that was."""
    model = initialise(raw().model, 3, list(range(pack)))
    assert frozen_model(model, 9, "torch", "x") is None and capsys.readouterr().err == ""
    if pack == 1:
        assert isinstance(frozen_model(model, 9, "auto", "x"), FrozenModel) and capsys.readouterr().err == ""
        return
    assert frozen_model(model, 9, "auto", "my run") is None
    assert capsys.readouterr().err == "mesaopt: my run: PyTorch takes over: the native backend takes one seed at a time, not 2\n"
    with pytest.raises(InputError, match=r"my run: backend native: .* one seed at a time, not 2; choose auto or torch"):
        frozen_model(model, 9, "native", "my run")


def test_a_library_follows_the_kernel_that_it_includes(monkeypatch, tmp_path):
    used = []

    def library(source, definitions):
        used.append((source, definitions))
        return build.library(source, definitions)

    monkeypatch.setattr(frozen, "library", library)
    shape = build.Shape(5, 2, 4, 2, raw=True)
    frozen.frozen_library(shape)
    frozen._kernel_digest.cache_clear()
    (tmp_path / "kernel.cpp").write_text("another")
    monkeypatch.setattr(frozen, "FOLDER", tmp_path)
    frozen.frozen_library(shape)
    monkeypatch.undo()
    frozen._kernel_digest.cache_clear()
    (source, before), (_, after) = used
    assert source == "frozen.cpp" and before[:-1] == after[:-1] and before[-1] != after[-1]
