"""Linear Transformers given by the products of their weights, which can be compressed and averaged.

Factors of a head are not unique, their products are: QK = W_K^T W_Q (row: key channel, column: query channel) and
OV = W_O W_V (row: output channel, column: input channel), so that a head adds sum_{t'<=t} OV e_{t'} (e_{t'}^T QK e_t) to e_t.
The paper (section on linear self-attention, and its appendix) replaces each block of n_obs x n_obs entries by the mean of its
diagonal times the identity, and averages trained and compressed products.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.attention import causal_mask
from mesaopt.spec.run import Model


@dataclass(frozen=True)
class Products:
    """Products of all heads of one layer. Only the first layer of a raw-token model has more QK than OV channels."""

    QK: Float[Tensor, "heads key query"]
    OV: Float[Tensor, "heads output input"]


def layer_products(weights: Mapping[str, Tensor], n_layers: int) -> list[Products]:
    """Products of every layer, from the weights of one seed named as in `Transformer.seed_weights`.

    Raises `InputError` when a layer's weights are missing.
    """

    def of(layer: int, name: str) -> Tensor:
        key = f"layers.{layer}.{name}"
        if key not in weights:
            raise InputError(f"weights of another model: missing parameter {key}")
        return weights[key]

    return [Products(of(i, "W_K").mT @ of(i, "W_Q"), of(i, "W_O") @ of(i, "W_V")) for i in range(n_layers)]


def blocks(product: Float[Tensor, "*heads rows cols"], n: int) -> Float[Tensor, "*heads row_slots col_slots n n"]:
    """The n x n blocks of a product; raises `InputError` when n does not divide its width and height."""
    rows, cols = product.shape[-2:]
    if rows % n or cols % n:
        raise InputError(f"a {rows} x {cols} product has no blocks of {n} x {n} entries")
    return product.unflatten(-1, (cols // n, n)).unflatten(-3, (rows // n, n)).transpose(-3, -2)


def diagonal_means(product: Float[Tensor, "*heads rows cols"], n: int) -> Float[Tensor, "*heads row_slots col_slots"]:
    """Mean of the diagonal of every n x n block: all that compression keeps."""
    return blocks(product, n).diagonal(dim1=-2, dim2=-1).mean(-1)


def compress(product: Float[Tensor, "*heads rows cols"], n: int) -> Float[Tensor, "*heads rows cols"]:
    """Every n x n block replaced by the mean of its diagonal times the identity."""
    return torch.kron(diagonal_means(product, n), torch.eye(n).to(product))


@dataclass(frozen=True)
class ProductModel:
    """A linear Transformer on constructed tokens as products; a predictor like any other."""

    layers: tuple[Products, ...]
    n_obs: int
    tokens: str
    clip: float | None

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor], model: Model, n_obs: int) -> "ProductModel":
        """The same function as the Transformer with these weights.

        Raises `InputError` for models that their products do not determine (softmax, mesa, MLP) or with raw tokens.
        """
        if set(model.layers) != {"linear"} or model.d_mlp or model.tokens == "raw" or model.normalise != "none":
            raise InputError("compression and interpolation are for linear layers on constructed tokens")
        return cls(tuple(layer_products(weights, len(model.layers))), n_obs, model.tokens, model.clip)

    def compress(self) -> "ProductModel":
        """One number per block: 16 + 16 per head for tokens of four slots."""
        layers = (Products(compress(layer.QK, self.n_obs), compress(layer.OV, self.n_obs)) for layer in self.layers)
        return replace(self, layers=tuple(layers))

    def __call__(self, inputs: Float[Tensor, "batch time n_obs"]) -> Float[Tensor, "batch time n_obs"]:
        e = tokenise(inputs, self.tokens)
        for layer in self.layers:
            e = e + attention(e, layer)
            e = e if self.clip is None else e.clamp(-self.clip, self.clip)
        return e[..., : self.n_obs]


def average(a: ProductModel, b: ProductModel) -> ProductModel:
    """The model half way between two of the same shape: means of their products; raises `InputError` if shapes differ."""
    if [layer.QK.shape for layer in a.layers] != [layer.QK.shape for layer in b.layers]:
        raise InputError("only models with the same layers, heads and channels can be averaged")
    pairs = zip(a.layers, b.layers, strict=True)
    return replace(a, layers=tuple(Products((x.QK + y.QK) / 2, (x.OV + y.OV) / 2) for x, y in pairs))


def attention(e: Float[Tensor, "batch time d_model"], layer: Products) -> Float[Tensor, "batch time d_model"]:
    """sum_h OV_h sum_{t'<=t} e_{t'} (e_{t'}^T QK_h e_t), in few large matrix products."""
    (_, time, width), heads = e.shape, len(layer.QK)
    # every head's queries in the keys' own channels, so that the tokens themselves serve as keys and values of all heads
    queries = (e @ layer.QK.flatten(0, 1).mT).unflatten(2, (heads, width)).flatten(1, 2)
    scores = (queries @ e.mT).unflatten(1, (time, heads))
    scores *= causal_mask(time, e)[:, None]
    gathered = (scores.flatten(1, 2) @ e).unflatten(1, (time, heads)).flatten(2)
    return gathered @ layer.OV.mT.flatten(0, 1)
