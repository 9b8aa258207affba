"""Complete Transformers in the native kernel, with MLPs and normalised queries, keys or values, against PyTorch in float64."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_models import lsa
from native_reference import (
    MESA_TOLERANCE,
    TOLERANCE,
    batch,
    check_against_float64,
    drawn_models,
    gradient_errors,
    reference,
    relative_error,
)

from mesaopt.backends.native.backend import KINDS, NativeBackend
from mesaopt.backends.torch import TorchBackend
from mesaopt.models.transformer import Transformer, initialise
from mesaopt.spec.run import Model

pytestmark = pytest.mark.usefixtures("kernels")

_SOFTMAX_7, _HYBRID = {"layers": ("softmax",) * 7}, {"layers": ("softmax", "mesa")}
_NONLINEAR = {"d_model": 60, "d_pe": 60, "d_mlp": 300, "normalise": "qk"}
_LINEAR = {"d_model": 40, "d_pe": 40, "clip": 1.0}
#: the paper's, but for its embedding widths of partial observability; n_obs is 10
PAPER_MODELS = {
    "Softmax-7 nonlinear": _SOFTMAX_7 | _NONLINEAR,
    "Hybrid-mesa nonlinear": _HYBRID | _NONLINEAR | {"clip": 15.0},
    "Hybrid-mesa nonlinear as published": _HYBRID | _NONLINEAR | {"clip": 15.0, "normalise": "qv"},
    "Full-mesa": _LINEAR | {"layers": ("mesa", "mesa")},
    "Linear-mesa": _LINEAR | {"layers": ("linear", "mesa")},
}


def check(weights: Transformer, data: tuple, times: float = 2) -> None:
    """The tolerance of all layers, or so many `times` the error of PyTorch in float32 if that is more: where gradients cancel."""
    loss, double = reference(weights, data)
    assert relative_error(NativeBackend().loss(weights, *data)[0], loss) < TOLERANCE
    allowed = times * max(gradient_errors(TorchBackend(), weights, data, double).values())
    allowed = max(allowed, MESA_TOLERANCE if "mesa" in weights.model.layers else TOLERANCE)
    errors = gradient_errors(NativeBackend(), weights, data, double)
    assert {name: error for name, error in errors.items() if not error < allowed} == {}


def check_model(settings: dict, n_obs: int) -> None:
    """19 sequences are a full group of lanes and a partly filled one on every processor."""
    model = Model(**{"tokens": "raw", "n_heads": 4, "d_head": 20, "init_std": 0.05} | settings)
    check(initialise(model, n_obs, [1]), batch(model, n_obs, 50, 19), times=0)


@pytest.mark.parametrize("name", PAPER_MODELS)
def test_models_of_the_paper_equal_float64(name):
    check_model(PAPER_MODELS[name], 10)


@pytest.mark.parametrize("layers", [_SOFTMAX_7, _HYBRID | {"clip": 1.0}], ids=["Softmax-7", "Hybrid-mesa"])
@pytest.mark.parametrize("d_model", [5, 15, 80, *(pytest.param(width, marks=pytest.mark.long) for width in (10, 20, 30, 50))])
def test_models_of_partial_observability_equal_float64(layers, d_model):
    check_model(layers | {"n_heads": 12, "d_model": d_model, "d_pe": d_model, "d_head": min(20, d_model)}, 5)


#: (tokens, time, d_head, d_model, n_obs, d_mlp, normalise): MLPs of one chunk of hidden units and of two; heads of 11 are merged
#: in a model of 8 where all layers are linear and nothing is normalised
SHAPES = (
    ("raw", 13, 7, 11, 5, 67, "qk"),
    ("raw", 9, 3, 6, 3, 0, "qv"),
    ("constructed", 13, 11, 8, 2, 5, "none"),
    ("constructed", 5, 2, 4, 1, 1, "qk"),
)


def models(shapes=None):
    return drawn_models(st.sampled_from(SHAPES) if shapes is None else shapes, KINDS, st.integers(1, 3), st.integers(0, 7))


@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
@given(models())
def test_loss_and_gradients_equal_float64(case):
    check_against_float64(*case)


@pytest.mark.long
@settings(deadline=None, max_examples=15, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    models(
        st.tuples(
            st.sampled_from(["raw", "constructed"]),
            st.integers(1, 70),
            st.integers(
                2, 24
            ),  # a normalised head of one channel is 1 or -1: its gradient is zero, and what is found is rounding
            st.integers(1, 45),
            st.integers(1, 9),
            st.integers(0, 150),
            st.sampled_from(["none", "qk", "qv"]),
        )
    )
)
def test_any_shape(case):
    check_against_float64(*case)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_hidden_units_of_any_size(scale):
    """The gelu from its linear middle to where it is 0 or its argument."""
    weights = initialise(lsa(layers=("linear", "softmax"), d_head=11, d_mlp=5, clip=None), 10, [1])
    with torch.no_grad():
        for layer in weights.layers:
            layer.W_1.copy_(scale * torch.randn(layer.W_1.shape, generator=torch.Generator().manual_seed(1)))
    check(weights, batch(weights.model, 10, 13, 9))


@pytest.mark.parametrize("zero", ["W_Q", "W_K"])
def test_queries_or_keys_that_are_zero(zero):
    """They stay zero, and their norm's gradient is zero as in PyTorch."""
    weights = initialise(lsa(layers=("linear", "linear"), d_head=3, normalise="qk", init_std=0.3), 10, [1])
    with torch.no_grad():
        getattr(weights.layers[1], zero)[0, 0] = 0
    check(weights, batch(weights.model, 10, 13, 19))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "changes", [{"d_mlp": 5, "d_head": 11}, {"normalise": "qk", "d_head": 3}, {"normalise": "qv", "d_head": 3}]
)
def test_nan_and_infinity_come_through(bad, changes):
    weights = initialise(lsa(layers=("linear", "softmax"), clip=None, **changes), 10, [1])
    tokens, targets = batch(weights.model, 10, 13, 9)
    tokens[0, 8, 2, 3] = bad
    assert not torch.isfinite(NativeBackend().loss_and_gradients(weights, tokens, targets)).any()
    assert any(not torch.isfinite(parameter.grad).all() for parameter in weights.parameters())


@pytest.mark.parametrize("name", ["W_1", "W_2"])
def test_nan_of_an_mlp_comes_through(name):
    clipped = initialise(lsa(d_mlp=5, d_head=11), 10, [1])
    getattr(clipped.layers[0], name).data[0, 0, 0] = math.nan
    assert NativeBackend().loss(clipped, *batch(clipped.model, 10, 13, 9)).isnan().all()
