"""What the native kernel is compared with: PyTorch's model and automatic differentiation in float64."""

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st

from mesaopt.backends.native.backend import NativeBackend
from mesaopt.backends.protocol import Backend
from mesaopt.backends.torch import TorchBackend
from mesaopt.data.sequences import generate, inputs_targets
from mesaopt.data.tokens import tokenise
from mesaopt.models.transformer import Transformer, initialise
from mesaopt.spec.run import Model, Task

#: norm-relative errors against float64
TOLERANCE, MESA_TOLERANCE = 1e-6, 1e-5


def batch(model: Model, n_obs: int, time: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and targets of the linear task."""
    task = Task(name="linear", n_state=n_obs, n_obs=n_obs, context_length=time)
    inputs, targets = inputs_targets(generate(task, size, np.random.default_rng(time + size)).observations)
    return tokenise(inputs, model.tokens)[None], targets[None].contiguous()


def reference(weights: Transformer, data: tuple) -> tuple[torch.Tensor, Transformer]:
    """Loss and gradients by automatic differentiation in float64."""
    double = Transformer(weights.model, weights.n_obs).double()
    double.load_state_dict(weights.state_dict())
    return gradients(double, *data), double


def gradients(model: Transformer, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    loss = (model(tokens.double()) - targets.double()).square().sum() / (2 * tokens.shape[1] * tokens.shape[2])
    loss.backward()
    return loss.detach()


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm()) if expected.norm() > 0 else float(found.norm())


def gradient_errors(backend: Backend, weights: Transformer, data: tuple, double: Transformer) -> dict[str, float]:
    backend.loss_and_gradients(weights, *data)
    pairs = zip(weights.named_parameters(), double.parameters(), strict=True)
    return {name: relative_error(found.grad, parameter.grad) for (name, found), parameter in pairs}


def clip_is_ambiguous(weights: Transformer, data: tuple) -> bool:
    """Whether rounding decides if some channel is clipped, as for one that enters a layer at the clip and hardly moves there.

    Then the gradient depends on a slight change of one layer's clip against the next one's.
    """

    def shifted(shift: float) -> Transformer:
        double = Transformer(weights.model, weights.n_obs).double()
        double.load_state_dict(weights.state_dict())
        for index, layer in enumerate(double.layers):
            layer.clip *= 1 + shift * (-1) ** index
        gradients(double, *data)
        return double

    pairs = zip(shifted(-5e-7).parameters(), shifted(5e-7).parameters(), strict=True)
    return max(relative_error(low.grad, high.grad) for low, high in pairs) > 1e-5


@st.composite
def drawn_models(draw, shapes, kinds, heads, positions, clip=lambda plain: 0.7):
    """Settings of a model, n_obs, context length and batch size; any mix of layers, heads, clip, positions and initial scale.

    `shapes` draws (tokens, time, d_head, d_model, n_obs, d_mlp, normalise); `clip` is told whether a model is of raw elements and
    without an MLP.
    """
    tokens, time, d_head, d_model, n_obs, d_mlp, normalise = draw(shapes)
    raw = tokens == "raw"
    model = {
        "layers": tuple(draw(st.lists(st.sampled_from(tuple(kinds)), min_size=1, max_size=3))),
        "tokens": tokens,
        "d_model": d_model if raw else 4 * n_obs,
        "n_heads": draw(heads),
        "d_head": d_head,
        "init_std": draw(st.sampled_from([2e-3, 0.05])),
        "clip": draw(st.sampled_from([None, clip(raw and not d_mlp)])),
        "d_pe": draw(positions) if raw else 0,
        "d_mlp": d_mlp,
        "normalise": normalise,
    }
    return model, n_obs, time, draw(st.integers(1, 19))


def check_against_float64(settings: dict, n_obs: int, time: int, size: int, backend: Backend | None = None) -> None:
    """Of the native backend, or another. Where the gradient cancels so much that PyTorch in float32 misses the tolerance too, ten
    times its error is allowed.
    """
    model, backend = Model(**settings), backend or NativeBackend()
    weights = initialise(model, n_obs, [time])
    data = batch(model, n_obs, time, size)
    if model.clip is not None:
        assume(not clip_is_ambiguous(weights, data))
    expected, double = reference(weights, data)
    losses = backend.loss(weights, *data)
    assert relative_error(losses[0], expected) < TOLERANCE
    allowed = 10 * max(gradient_errors(TorchBackend(), weights, data, double).values())
    allowed = max(allowed, MESA_TOLERANCE if "mesa" in model.layers else TOLERANCE)
    errors = gradient_errors(backend, weights, data, double)
    assert {name: error for name, error in errors.items() if error > allowed} == {}
    assert torch.equal(backend.loss_and_gradients(weights, *data), losses)
