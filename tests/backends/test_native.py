"""The native kernel computes what the PyTorch model computes in float64, for every shape it claims to support."""

import math
import platform
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_models import lsa, run
from native_reference import (
    MESA_TOLERANCE,
    TOLERANCE,
    batch,
    check_against_float64,
    gradient_errors,
    reference,
    relative_error,
)

from mesaopt.backends.native import build
from mesaopt.backends.native import sequences as native_sequences
from mesaopt.backends.native.backend import KINDS, NORMALISE, NativeBackend, available
from mesaopt.backends.native.merged import merges, products
from mesaopt.backends.protocol import Backend
from mesaopt.backends.torch import TorchBackend
from mesaopt.data.sampler import PLAIN
from mesaopt.data.sequences import inputs_targets, training_batch
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.transformer import initialise
from mesaopt.spec.run import Model, Task

LAYERS = tuple(KINDS)

pytestmark = pytest.mark.usefixtures("kernels")
#: (time, d_head, d_model, n_obs): what is compiled in the ordinary tests; 67 is longer than one inner block of the kernel, and
#: heads of 11 in a model of 8 are merged where all layers are linear
CONSTRUCTED = ((1, 1, 4, 1), (50, 20, 40, 10), (13, 11, 8, 2))
RAW = ((13, 7, 11, 5), (67, 4, 6, 3))


@st.composite
def models(draw, shapes=None):
    """Settings of a model, n_obs, context length and batch size; any mix of layers, heads, clip, positions and initial scale."""
    raw = draw(st.booleans())
    time, d_head, d_model, n_obs = draw(st.sampled_from(RAW if raw else CONSTRUCTED) if shapes is None else shapes)
    d_model = d_model if raw else 4 * n_obs
    model = {
        "layers": tuple(draw(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=3))),
        "tokens": "raw" if raw else "constructed",
        "d_model": d_model,
        "n_heads": draw(st.integers(1, 3)),
        "d_head": d_head,
        "init_std": draw(st.sampled_from([2e-4, 0.05])),
        "clip": draw(st.sampled_from([None, 0.06 if raw else 0.7])),
        "d_pe": draw(st.integers(0, 6)) if raw else 0,
    }
    return model, n_obs, time, draw(st.integers(1, 19))


PAPER_MODELS = {
    "LSA-1": {"layers": ("linear",), "n_heads": 2, "clip": 4.0},
    "LSA-6": {"layers": ("linear",) * 6, "n_heads": 4, "clip": 4.0},
    "LSA-6 of the compression": {"layers": ("linear",) * 6, "n_heads": 4, "clip": 4.0, "d_head": 40},
    "Mesa-1": {"layers": ("mesa",), "n_heads": 4, "clip": 4.0},
    "Softmax-7": {"layers": ("softmax",) * 7, "n_heads": 4, "d_pe": 40},
    "Hybrid-mesa": {"layers": ("softmax", "mesa"), "n_heads": 4, "d_pe": 40, "clip": 1.0},
}


@pytest.mark.parametrize("name", PAPER_MODELS)
def test_models_of_the_paper_equal_float64(name):
    settings = PAPER_MODELS[name]
    raw = "d_pe" in settings
    widths = {"d_model": 40, "d_head": 20, "init_std": 0.05 if raw else 2e-4}
    model = Model(tokens="raw" if raw else "constructed", **widths | settings)
    weights, data = initialise(model, 10, [1]), batch(model, 10, 50, 37)
    errors = gradient_errors(NativeBackend(), weights, data, reference(weights, data)[1])
    assert max(errors.values()) < (MESA_TOLERANCE if "mesa" in model.layers else TOLERANCE), errors


@settings(deadline=None, max_examples=80, derandomize=True, suppress_health_check=list(HealthCheck))
@given(models())
def test_loss_and_gradients_equal_float64(case):
    check_against_float64(*case)


@pytest.mark.long
@settings(deadline=None, max_examples=15, derandomize=True, suppress_health_check=list(HealthCheck))
@given(models(st.tuples(st.integers(1, 70), st.integers(1, 24), st.integers(1, 45), st.integers(1, 12))))
def test_any_shape(case):
    check_against_float64(*case)


@pytest.mark.long
def test_context_too_long_to_keep_the_scores():
    model = {"layers": LAYERS, "tokens": "raw", "d_model": 6, "n_heads": 2, "d_head": 4, "init_std": 0.05, "d_pe": 4}
    check_against_float64(model, 3, 300, 9)


@pytest.mark.long
@pytest.mark.parametrize("layer", ["linear", "mesa"])
def test_training_follows_pytorch(layer):
    """500 steps of AdamW: the two loss curves part by rounding alone, which training does not amplify here."""
    task = Task(name="linear")
    model = Model(layers=(layer,), tokens="constructed_bare", d_model=40, n_heads=2, d_head=20, init_std=2e-4, clip=4.0)

    def curve(backend: Backend) -> torch.Tensor:
        weights = initialise(model, 10, [1])
        optimiser = torch.optim.AdamW(weights.parameters(), lr=1e-3, weight_decay=0.1)
        losses = []
        for step in range(500):
            inputs, targets = inputs_targets(training_batch(task, [1], 32, "train", step))
            losses.append(backend.loss_and_gradients(weights, tokenise(inputs, model.tokens), targets.contiguous()))
            torch.nn.utils.clip_grad_value_(weights.parameters(), 1.0)
            optimiser.step()
        return torch.cat(losses)

    native, pytorch = curve(NativeBackend()), curve(TorchBackend())
    assert native[-50:].mean() < 0.7 * native[0]
    assert ((native - pytorch).abs() / pytorch).max() < 1e-4


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the targets are named as on x86-64")
@pytest.mark.parametrize("changes", [{}, {"d_mlp": 67, "normalise": "qk"}], ids=["attention", "mlp"])
@pytest.mark.parametrize(("target", "needs"), [("x86-64", "sse2"), ("x86-64-v3", "avx2"), ("x86-64-v4", "avx512vl")])
def test_every_instruction_set_of_this_processor(target, needs, changes, monkeypatch):
    if needs not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip(f"this processor has no {needs}")
    monkeypatch.setitem(build.TARGET_FLAGS, "x86_64", (f"-march={target}",))
    for module in (build, native_sequences):
        monkeypatch.setattr(module, "library", build.library.__wrapped__)  # which keeps those of the other tests
    model = Model(layers=LAYERS, tokens="raw", d_model=11, n_heads=2, d_head=7, init_std=0.05, d_pe=4, **changes)
    weights, data = initialise(model, 5, [1]), batch(model, 5, 13, 19)
    errors = gradient_errors(NativeBackend(), weights, data, reference(weights, data)[1])
    assert max(errors.values()) < MESA_TOLERANCE, errors
    drawn = [
        training_batch(Task("linear"), [1], 21, "train", 0, sampler=s) for s in (PLAIN, NativeBackend().sampler(Task("linear")))
    ]
    assert (drawn[0] - drawn[1]).abs().median() < 1e-5


def test_gradients_are_replaced_and_repeat_bit_for_bit():
    weights = initialise(lsa(layers=("linear", "mesa")), 10, [1])
    tokens, targets = batch(weights.model, 10, 50, 11)
    NativeBackend().loss_and_gradients(weights, tokens, targets)
    first = [parameter.grad.clone() for parameter in weights.parameters()]
    NativeBackend().loss_and_gradients(weights, tokens, targets)
    assert all(torch.equal(old, new.grad) for old, new in zip(first, weights.parameters(), strict=True))


def test_lam_below_its_floor():
    weights = initialise(lsa(layers=("mesa",)), 10, [1])
    weights.layers[0].lam.data = torch.tensor([[-0.3, 0.5]])
    tokens, targets = batch(weights.model, 10, 50, 8)
    losses = NativeBackend().loss_and_gradients(weights, tokens, targets)
    expected, double = reference(weights, (tokens, targets))
    assert relative_error(losses[0], expected) < TOLERANCE
    assert relative_error(weights.layers[0].lam.grad, double.layers[0].lam.grad) < MESA_TOLERANCE


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("size", [1, 16, 17, 40, 50])
def test_two_threads_change_no_bit(layer, size):
    """Halves have sums of their own; denormal numbers count for zero in both, or in neither."""
    weights = initialise(lsa(layers=(layer, layer)), 10, [1])
    weights.layers[0].W_V.data *= 1e-17
    tokens, targets = batch(weights.model, 10, 50, size)
    for flush in (False, True):
        torch.set_flush_denormal(flush)
        try:
            found = [
                gradients_by(NativeBackend(lambda threads=threads: threads), weights, tokens, targets) for threads in (1, 2, 7)
            ]
        finally:
            torch.set_flush_denormal(False)
        assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def gradients_by(backend, weights, tokens, targets):
    """The loss alone, the loss, and all gradients."""
    losses = backend.loss(weights, tokens, targets), backend.loss_and_gradients(weights, tokens, targets)
    return [*losses, *(parameter.grad.clone() for parameter in weights.parameters())]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("layer", LAYERS)
def test_nan_and_infinity_come_through(bad, layer):
    weights = initialise(lsa(layers=(layer, "linear"), clip=None), 10, [1])
    tokens, targets = batch(weights.model, 10, 50, 9)
    tokens[0, 8, 20, 3] = bad
    assert not torch.isfinite(NativeBackend().loss_and_gradients(weights, tokens, targets)).any()
    assert any(not torch.isfinite(parameter.grad).all() for parameter in weights.parameters())
    clipped = initialise(lsa(layers=(layer,)), 10, [1])
    clipped.layers[0].W_V.data[0, 0, 0, 0] = math.nan
    assert NativeBackend().loss(clipped, *batch(clipped.model, 10, 50, 9)).isnan().all()


def test_unsupported_models_and_tensors_are_refused(monkeypatch):
    assert available(run(lsa(d_head=3, normalise="qv"))) is None
    monkeypatch.delitem(NORMALISE, "qv")
    assert available(run(lsa(d_head=3, normalise="qv"))) == "the native kernel has no normalisation qv"
    weights = initialise(lsa(), 10, [1])
    tokens, targets = batch(weights.model, 10, 50, 2)
    with pytest.raises(InputError, match="float32"):
        NativeBackend().loss(weights, tokens.double(), targets)
    with pytest.raises(InputError, match="one seed"):
        NativeBackend().loss(initialise(lsa(), 10, [1, 11]), tokens, targets)
    with pytest.raises(InputError, match="do not fit"):
        NativeBackend().loss(weights, tokens[..., :39], targets)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"d_head": 40}, True),
        ({"d_head": 40, "layers": ("linear",) * 6}, True),
        ({"d_head": 20}, False),
        ({"d_head": 40, "layers": ("linear", "softmax")}, False),
        ({"d_head": 40, "layers": ("mesa",)}, False),
        ({"d_head": 40, "tokens": "raw", "d_pe": 40}, False),
        ({"d_head": 40, "normalise": "qk"}, False),
        ({"d_head": 40, "d_mlp": 9}, True),
    ],
)
def test_heads_are_merged_where_that_is_less_work(changes, expected):
    assert merges(lsa(**changes), 50) is expected


def test_products_of_merged_heads_have_their_shapes():
    layer = initialise(lsa(d_head=40), 10, [1]).layers[0]
    qk, ov = products(layer)
    assert qk.shape == ov.shape == (1, 2, 40, 40)
    k, q = layer.W_K[0, 1], layer.W_Q[0, 1]
    torch.testing.assert_close(qk[0, 1], k.T @ q)
    torch.testing.assert_close(ov[0, 1], layer.W_O[0, 1] @ layer.W_V[0, 1])
