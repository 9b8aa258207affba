"""The Transformer of the paper: a residual stream, attention layers, no biases; `pack` seeds stacked in one module."""

import functools
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mesaopt.data.random import generator
from mesaopt.errors import InputError
from mesaopt.models.block import Block
from mesaopt.spec.run import Model


class Transformer(nn.Module):
    """Predicts s_{t+1} at every t, for `pack` independent models with the same shapes.

    Constructed tokens are the residual stream themselves and the first `n_obs` channels are the prediction; raw tokens pass
    through a linear embedding and unembedding. Weights start at zero (`initialise` draws them). Every parameter has a leading
    `pack` dimension: per layer W_Q, W_K (heads, d_head, d_in), W_V (heads, d_head, d_model), W_O (heads, d_model, d_head), and
    lam (heads), W_1, W_2 where the layer has them.
    """

    def __init__(self, model: Model, n_obs: int, pack: int = 1) -> None:
        super().__init__()
        self.model, self.n_obs, self.pack = model, n_obs, pack
        if model.tokens == "raw":
            self.embedding = nn.Parameter(torch.zeros(pack, model.d_model, n_obs))
            self.unembedding = nn.Parameter(torch.zeros(pack, n_obs, model.d_model))
        self.layers = nn.ModuleList(Block(model, index, pack) for index in range(len(model.layers)))

    def blocks(self) -> list[Block]:
        """The layers, first to last."""
        return cast(list[Block], list(self.layers))

    def forward(self, tokens: Float[Tensor, "pack batch time token"]) -> Float[Tensor, "pack batch time n_obs"]:
        """Predictions of the next observation."""
        return self.activations(tokens)[0]

    def activations(
        self, tokens: Float[Tensor, "pack batch time token"], inner: Sequence[str] = ()
    ) -> tuple[Float[Tensor, "pack batch time n_obs"], dict[str, Float[Tensor, "pack batch ..."]]]:
        """Predictions, and the residual stream: `layer_0` enters the first layer, `layer_i` leaves the i-th (clipped).

        `inner` names what else is wanted of every layer (`block.INNER`), which is then `layer_i.NAME`.
        """
        e = self.embed(tokens)
        stream = {"layer_0": e}
        positions = kept_encoding(e.shape[2], self.model.d_pe, e.dtype, e.device) if self.model.d_pe else None
        for index, layer in enumerate(self.blocks()):
            stream |= {f"layer_{index + 1}.{name}": layer.inner(name, e, positions) for name in inner}
            e, positions = layer(e, positions), None  # which the first layer alone reads
            stream[f"layer_{index + 1}"] = e
        return self.read_out(e), stream

    def embed(self, tokens: Float[Tensor, "pack batch time token"]) -> Float[Tensor, "pack batch time d_model"]:
        """The residual stream before the first layer."""
        return tokens @ self.embedding.mT[:, None] if self.model.tokens == "raw" else tokens

    def read_out(self, e: Float[Tensor, "pack batch time d_model"]) -> Float[Tensor, "pack batch time n_obs"]:
        """The prediction that a residual stream stands for."""
        return e @ self.unembedding.mT[:, None] if self.model.tokens == "raw" else e[..., : self.n_obs]

    def seed_weights(self, index: int) -> dict[str, Tensor]:
        """The weights of one member of the pack, by parameter name, without the pack dimension."""
        return {name: parameter.detach()[index].clone() for name, parameter in self.named_parameters()}

    @torch.no_grad()
    def load_seeds(self, weights: Sequence[Mapping[str, Tensor]]) -> None:
        """Set every member of the pack from its `seed_weights`; raises `InputError` when names or shapes differ."""
        expected = {name: parameter.shape[1:] for name, parameter in self.named_parameters()}
        if len(weights) != self.pack:
            raise InputError(f"weights of {len(weights)} seeds for a pack of {self.pack}")
        for one in weights:
            check_weights({name: tensor.shape for name, tensor in one.items()}, expected)
        for name, parameter in self.named_parameters():
            parameter.copy_(torch.stack([one[name] for one in weights]))


def check_weights(found: Mapping[str, torch.Size], expected: Mapping[str, torch.Size]) -> None:
    """Raise `InputError` at the first parameter that is missing, unknown or of another shape."""
    for name in sorted(set(found) ^ set(expected)):
        raise InputError(f"weights of another model: {'unknown' if name in found else 'missing'} parameter {name}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise InputError(f"weights of another model: {name} has shape {tuple(found[name])}, expected {tuple(shape)}")


def initialise(model: Model, n_obs: int, seeds: Sequence[int]) -> Transformer:
    """A pack with one member per seed: N(0, init_std^2) weights, and what kinds of layers fix (lam = 1); in any pack the same."""
    transformer = Transformer(model, n_obs, pack=len(seeds))
    shapes = {name: parameter.shape[1:] for name, parameter in transformer.named_parameters()}
    starts = {f"layers.{i}.{name}": own.start for i, layer in enumerate(transformer.blocks()) for name, own in layer.own.items()}
    fixed = {name: torch.full(shapes[name], start) for name, start in starts.items() if start is not None}
    transformer.load_seeds([_draw(shapes, model.init_std, seed) | fixed for seed in seeds])
    return transformer


def _draw(shapes: Mapping[str, torch.Size], std: float, seed: int) -> dict[str, Tensor]:
    """All weights of a seed; drawn for those with a fixed start as well, which are put in their place."""
    rng = generator(seed, "init")
    draws = {name: rng.standard_normal(tuple(shape), dtype=np.float32) for name, shape in shapes.items()}
    return {name: torch.from_numpy(np.float32(std) * draw) for name, draw in draws.items()}


def positional_encoding(time: int, d_pe: int) -> Float[Tensor, "time d_pe"]:
    """Sinusoids of Vaswani et al.: positions from 0, even channels sin, odd channels cos; float64."""
    even = torch.arange(0, d_pe, 2, dtype=torch.float64)
    angles = torch.arange(time, dtype=torch.float64)[:, None] * 10000.0 ** (-even / d_pe)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :d_pe]


@functools.lru_cache(maxsize=8)
def kept_encoding(time: int, d_pe: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "time d_pe"]:
    """`positional_encoding` made once; a GPU need not wait for it in every step."""
    with torch._C._DisableFuncTorch():  # the tensors of a transform are worthless after it
        return positional_encoding(time, d_pe).to(device, dtype)
