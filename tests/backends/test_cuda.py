"""The CUDA kernel computes what the PyTorch model computes in float64: its source compiled for the CPU, and on a GPU where there
is one.
"""

import math

import pytest
import torch
from cuda_emulation import GpuBackend, emulated_backend, emulated_kernels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_models import lsa, run
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
from tiny_runs import NEEDS_GPU

from mesaopt.backends.cuda import backend as cuda_backend
from mesaopt.backends.cuda.fused import TOKENS, groups_of, optimise
from mesaopt.backends.cuda.layout import layout
from mesaopt.backends.cuda.shape import KINDS, unsupported_run
from mesaopt.backends.protocol import Backend
from mesaopt.backends.torch import TorchBackend
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer, initialise
from mesaopt.spec.run import Model, Run, Task, Training
from mesaopt.training.optimizer import BETAS, EPSILON, AdamW

pytestmark = pytest.mark.usefixtures("kernels_of_cpus")
EMULATED = emulated_backend()


@pytest.fixture(scope="module")
def made() -> dict[str, Backend]:
    """Backends by where they compute, made when they are wanted."""
    return {"emulated": EMULATED}


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=NEEDS_GPU)])
def backend(request: pytest.FixtureRequest, made: dict[str, Backend]) -> Backend:
    if request.param not in made:
        made[request.param] = GpuBackend()
    return made[request.param]


_CONSTRUCTED = {"tokens": "constructed", "d_model": 40, "n_heads": 4, "clip": 4.0, "init_std": 2e-4}
_RAW = {"tokens": "raw", "d_model": 40, "d_pe": 40, "n_heads": 4, "init_std": 0.05}
_NONLINEAR = _RAW | {"d_model": 60, "d_pe": 60, "d_mlp": 300}
_PARTIAL = _RAW | {"n_heads": 12, "clip": 1.0, "layers": ("softmax", "mesa")}
#: the paper's kinds of models, with n_obs
PAPER_MODELS = {
    "LSA-1": (_CONSTRUCTED | {"layers": ("linear",), "n_heads": 2}, 10),
    "LSA-6": (_CONSTRUCTED | {"layers": ("linear",) * 6}, 10),
    "Mesa-1": (_CONSTRUCTED | {"layers": ("mesa",)}, 10),
    "Softmax-7": (_RAW | {"layers": ("softmax",) * 7}, 10),
    "Hybrid-mesa": (_RAW | {"layers": ("softmax", "mesa"), "clip": 1.0}, 10),
    "Linear-mesa": (_RAW | {"layers": ("linear", "mesa")}, 10),
    "Hybrid-mesa nonlinear": (_NONLINEAR | {"layers": ("softmax", "mesa"), "clip": 15.0, "normalise": "qk"}, 10),
    "partial, width 5": (_PARTIAL | {"d_model": 5, "d_pe": 5, "d_head": 5}, 5),
    "partial, width 15": (_PARTIAL | {"d_model": 15, "d_pe": 15, "d_head": 15}, 5),
}
LONG_MODELS = {
    "LSA-6 of the compression": (_CONSTRUCTED | {"layers": ("linear",) * 6, "d_head": 40}, 10),
    "Softmax-7 nonlinear": (_NONLINEAR | {"layers": ("softmax",) * 7, "normalise": "qk"}, 10),
    "nonlinear as published": (_NONLINEAR | {"layers": ("softmax", "mesa"), "clip": 15.0, "normalise": "qv"}, 10),
    "n_s 60": (_CONSTRUCTED | {"layers": ("linear", "linear"), "d_model": 240, "d_head": 120}, 60),
    **{f"partial, width {d}": (_PARTIAL | {"d_model": d, "d_pe": d, "d_head": min(20, d)}, 5) for d in (10, 20, 30, 50, 80)},
}
ALL_MODELS = [*PAPER_MODELS, *(pytest.param(name, marks=pytest.mark.long) for name in LONG_MODELS)]


def check(backend: Backend, weights: Transformer, data: tuple) -> None:
    """The CPU kernel's tolerances, or five times the error of PyTorch in float32 where that is more."""
    loss, double = reference(weights, data)
    assert relative_error(backend.loss(weights, *data)[0], loss) < TOLERANCE
    allowed = 5 * max(gradient_errors(TorchBackend(), weights, data, double).values())
    allowed = max(allowed, MESA_TOLERANCE if "mesa" in weights.model.layers else TOLERANCE)
    errors = gradient_errors(backend, weights, data, double)
    assert {name: error for name, error in errors.items() if not error < allowed} == {}


@pytest.mark.parametrize("name", ALL_MODELS)
def test_models_of_the_paper_equal_float64(backend, name):
    values, n_obs = (PAPER_MODELS | LONG_MODELS)[name]
    model = Model(**{"d_head": 20} | values)
    check(backend, initialise(model, n_obs, [1]), batch(model, n_obs, 50, 7))


#: (tokens, time, d_head, d_model, n_obs, d_mlp, normalise): what the ordinary tests compile
SHAPES = (
    ("raw", 13, 7, 11, 5, 67, "qk"),
    ("raw", 9, 3, 6, 3, 0, "qv"),
    ("constructed", 16, 11, 8, 2, 5, "none"),
    ("constructed", 1, 1, 4, 1, 0, "none"),
)


def models(shapes=None):
    shapes = st.sampled_from(SHAPES) if shapes is None else shapes
    return drawn_models(shapes, KINDS, st.integers(1, 5), st.sampled_from([0, 5]), lambda plain: 0.06 if plain else 0.7)


@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
@given(models())
def test_loss_and_gradients_equal_float64(backend, case):
    check_against_float64(*case, backend=backend)


@pytest.mark.long
@settings(deadline=None, max_examples=25, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    models(
        st.tuples(
            st.sampled_from(["raw", "constructed"]),
            st.integers(1, 70),
            st.integers(2, 24),
            st.integers(1, 45),
            st.integers(1, 9),
            st.integers(0, 150),
            st.sampled_from(["none", "qk", "qv"]),
        )
    )
)
def test_any_shape(backend, case):
    check_against_float64(*case, backend=backend)


@pytest.mark.long
@pytest.mark.parametrize("time", [16, 224, 240])
def test_contexts_from_short_to_long(backend, time):
    """The scores of the long ones do not fit into shared memory."""
    model = Model(**_RAW | {"layers": ("softmax", "mesa", "linear"), "d_head": 20})
    check(backend, initialise(model, 10, [1]), batch(model, 10, time, 2))


def stacked(model: Model, seeds: list[int], size: int = 7) -> tuple[Transformer, tuple[torch.Tensor, torch.Tensor]]:
    """A pack, every seed of which has sequences of its own."""
    tokens, targets = batch(model, 10, 50, size * len(seeds))
    parts = (x.view(len(seeds), size, *x.shape[2:]) for x in (tokens, targets))
    return initialise(model, 10, seeds), tuple(parts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_equals_its_seeds(backend, kind):
    """Gradients to 1e-6 of their norm: they are summed in other groups; and the weights after a step of AdamW as much."""
    model = Model(**_RAW | {"layers": (kind, "linear"), "d_head": 20})
    pack, (tokens, targets) = stacked(model, [1, 11, 111])
    optimiser = AdamW(pack.parameters(), 0.1)
    losses = backend.loss_and_gradients(pack, tokens, targets)
    optimiser.update(0, 1e-3)
    for index, seed in enumerate([1, 11, 111]):
        alone = initialise(model, 10, [seed])
        single = AdamW(alone.parameters(), 0.1)
        loss = backend.loss_and_gradients(alone, tokens[index : index + 1], targets[index : index + 1])
        single.update(0, 1e-3)
        assert relative_error(losses[index], loss[0].double()) < 1e-6
        for (name, ours), theirs in zip(pack.named_parameters(), alone.parameters(), strict=True):
            assert relative_error(ours.grad[index], theirs.grad[0].double()) < 1e-6, name
            # an update is the sign of a gradient at first: where that is rounding, so is the sign
            assert relative_error(ours[index].detach(), theirs[0].detach().double()) < 1e-6, name


def test_gradients_are_replaced_and_repeat_bit_for_bit(backend):
    weights = initialise(lsa(layers=("linear", "mesa")), 10, [1])
    data = batch(weights.model, 10, 50, 11)
    losses = backend.loss_and_gradients(weights, *data)
    first = [parameter.grad.clone() for parameter in weights.parameters()]
    assert torch.equal(backend.loss_and_gradients(weights, *data), losses)
    assert all(torch.equal(old, new.grad) for old, new in zip(first, weights.parameters(), strict=True))


def test_lam_below_its_floor(backend):
    weights = initialise(lsa(layers=("mesa",)), 10, [1])
    weights.layers[0].lam.data = torch.tensor([[-0.3, 0.5]])
    check(backend, weights, batch(weights.model, 10, 50, 8))


@pytest.mark.parametrize("zero", ["W_Q", "W_K"])
def test_queries_or_keys_that_are_zero(backend, zero):
    weights = initialise(lsa(layers=("linear", "linear"), d_head=3, normalise="qk", init_std=0.3), 10, [1])
    with torch.no_grad():
        getattr(weights.layers[1], zero)[0, 0] = 0
    check(backend, weights, batch(weights.model, 10, 13, 9))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_hidden_units_of_any_size(backend, scale):
    weights = initialise(lsa(layers=("linear", "softmax"), d_head=11, d_mlp=5, clip=None), 10, [1])
    with torch.no_grad():
        for layer in weights.layers:
            layer.W_1.copy_(scale * torch.randn(layer.W_1.shape, generator=torch.Generator().manual_seed(1)))
    check(backend, weights, batch(weights.model, 10, 13, 9))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("layer", KINDS)
def test_nan_and_infinity_come_through(backend, bad, layer):
    weights = initialise(lsa(layers=(layer, "linear"), clip=None), 10, [1])
    tokens, targets = batch(weights.model, 10, 50, 9)
    tokens[0, 8, 20, 3] = bad
    assert not torch.isfinite(backend.loss_and_gradients(weights, tokens, targets)).any()
    assert any(not torch.isfinite(parameter.grad).all() for parameter in weights.parameters())
    clipped = initialise(lsa(layers=(layer,)), 10, [1])
    clipped.layers[0].W_V.data[0, 0, 0, 0] = math.nan
    assert backend.loss(clipped, *batch(clipped.model, 10, 50, 9)).isnan().all()


@pytest.mark.parametrize("tokens", TOKENS)
def test_tokens_that_the_kernel_makes_of_observations(tokens):
    raw = tokens == "raw"
    model = lsa(tokens=tokens, d_pe=4) if raw else lsa(tokens=tokens)
    weights, observations = initialise(model, 10, [1, 11]), torch.rand(2, 3, 51, 10, generator=torch.Generator().manual_seed(1))
    values = torch.cat([p.detach().flatten() for p in weights.parameters()])
    losses = EMULATED.fused(weights, 3, 50).losses_of(values, observations, observations[:, :, 1:], TOKENS[tokens])
    given = tokenise(observations[:, :, :-1], tokens), observations[:, :, 1:]
    assert torch.equal(losses, EMULATED.loss(weights, *given))


def test_the_layout_names_every_parameter_once():
    weights = initialise(Model(**_RAW | {"layers": ("softmax", "mesa"), "d_head": 7, "d_mlp": 9}), 10, [1, 11])
    at, apart = layout(weights, hidden=12)
    starts = torch.cat([at[at >= 0], (at + apart)[at >= 0]])
    assert sorted(starts.tolist()) == list(range(sum(p.numel() for p in weights.parameters())))
    assert (apart[at < 0] == 0).all()


def test_the_optimiser_is_that_of_pytorch_trainings():
    """Fifty updates with gradients over many orders of magnitude, clipped; to 1e-6 of the distance gone."""
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.arange(300.0).div(100).clone()) for _ in range(2))
    mine, reference_ = AdamW([ours], weight_decay=0.2), AdamW([theirs], weight_decay=0.2)
    kernels = EMULATED.fused(initialise(lsa(), 10, [1]), 1, 50).kernels
    for step in range(50):
        gradients = torch.randn(300) * torch.logspace(-9, 3, 300)
        mine.gradients.copy_(gradients), reference_.gradients.copy_(gradients.clamp(-1, 1))
        vectors = {"values": mine.values, "gradients": mine.gradients, "mean": mine.mean, "square": mine.square}
        optimise(kernels, mine.factors(step, 0.01 * (step % 7)), 1.0, BETAS, EPSILON, **vectors)
        reference_.update(step, 0.01 * (step % 7))
    assert torch.equal(mine.gradients, reference_.gradients)
    assert (ours - theirs).abs().max() <= 1e-6 * 50 * 0.03


@pytest.mark.parametrize(
    ("sequences", "pack", "places", "expected"),
    [(256, 1, 396, 256), (256, 5, 396, 64), (256, 5, 264, 52), (7, 1, 2, 2), (3, 9, 2, 1), (1, 1, 1, 1)],
)
def test_groups_are_as_few_as_take_no_longer(sequences, pack, places, expected):
    assert groups_of(sequences, pack, places) == expected


@pytest.mark.parametrize(
    ("time", "found"),
    [(50, None), (120, "the arrays of a sequence do not fit into the GPU's shared memory")],
)
def test_what_does_not_fit_into_shared_memory_is_left_to_pytorch(time, found, monkeypatch):
    monkeypatch.setattr(cuda_backend, "gpu_kernels", emulated_kernels)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    wide = Run("test/wide", Task("linear", 20, 20, time), lsa(d_model=80, d_head=5), Training(lr=1e-3, steps=1))
    assert cuda_backend.available(wide) == found
    assert cuda_backend.available(wide, spilling=True) is None
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert cuda_backend.available(wide) == "the CUDA kernel is for GPUs of compute capability 8.0 and later"


def test_unsupported_models_and_tensors_are_refused(backend):
    assert unsupported_run(run(lsa(d_head=3, normalise="qv"))) is None
    assert unsupported_run(run(lsa(layers=("delta",)))) == "the CUDA kernel has no delta layer"
    assert unsupported_run(run(lsa(layers=("linear",) * 25))) == "the CUDA kernel has at most 24 layers"
    weights = initialise(lsa(), 10, [1])
    tokens, targets = batch(weights.model, 10, 50, 2)
    with pytest.raises(InputError, match="float32"):
        backend.loss(weights, tokens.double(), targets)
    with pytest.raises(InputError, match="do not fit"):
        backend.loss(weights, tokens[..., :39], targets)
    with pytest.raises(InputError, match="do not fit"):
        backend.loss(initialise(lsa(), 10, [1, 11]), tokens, targets)
    with pytest.raises(InputError, match="no delta layer"):
        backend.loss(initialise(lsa(layers=("delta",)), 10, [1]), tokens, targets)
