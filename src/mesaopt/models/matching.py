"""Two models of the same shape, compared head by head: which head of the one is which of the other.

A head adds OV_h sum_{t'<=t} e_{t'} (e_{t'}^T QK_h e_t): it is the tensor OV_h x QK_h, whatever its sign is laid on. So a model is
the same when its heads change places, when both products of a head change signs, and, on tokens with two copies of s_t in slots 2
and 3, when these slots change places in all layers at once. Averages of products are not the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.errors import InputError
from mesaopt.models.products import ProductModel, Products

#: permutations are tried one by one; so many heads have 5040
MOST_HEADS = 7


@dataclass(frozen=True)
class Match:
    """For every layer, which head of the second model stands for each of the first, and with which sign; `swapped`: with the two
    copies of s_t exchanged in all layers.
    """

    heads: tuple[tuple[int, ...], ...]
    signs: tuple[tuple[int, ...], ...]
    swapped: bool

    @classmethod
    def none(cls, model: ProductModel) -> "Match":
        """Every head stands for itself."""
        counts = [len(layer.QK) for layer in model.layers]
        return cls(tuple(tuple(range(n)) for n in counts), tuple((1,) * n for n in counts), False)


def inner(a: Products, b: Products) -> Float[Tensor, "heads heads"]:
    """Of the heads of a (rows) with those of b: the inner product of the tensors OV x QK, that of OV times that of QK."""
    return _dots(a.QK, b.QK) * _dots(a.OV, b.OV)


def _dots(x: Float[Tensor, "heads rows cols"], y: Float[Tensor, "heads rows cols"]) -> Float[Tensor, "heads heads"]:
    return x.double().flatten(1) @ y.double().flatten(1).mT


def best_order(gain: Float[Tensor, "heads heads"]) -> tuple[int, ...]:
    """The column for every row, each taken once, with the largest sum: exact, by trying all.

    Raises `InputError` for more heads than `MOST_HEADS`.
    """
    if len(gain) > MOST_HEADS:
        raise InputError(f"heads are matched by trying all orders: at most {MOST_HEADS}, not {len(gain)}")
    rows = range(len(gain))
    table = gain.tolist()
    return max(permutations(rows), key=lambda order: sum(table[i][order[i]] for i in rows))


def match(first: ProductModel, second: ProductModel) -> Match:
    """The heads, signs and order of the slots in which `second` is most like `first`; in doubt as they stand.

    Raises `InputError` for models of other shapes, or with more heads than can be tried.
    """
    if [layer.QK.shape for layer in first.layers] != [layer.QK.shape for layer in second.layers]:
        raise InputError("only models with the same layers, heads and channels can be matched")
    tried = [_as_it_stands(first, second, swapped) for swapped in ((False, True) if _has_copies(second) else (False,))]
    return max(tried, key=lambda found: found[0])[1]


def _as_it_stands(first: ProductModel, second: ProductModel, swapped: bool) -> tuple[float, Match]:
    """How alike the models are in the best order of heads, and that order."""
    other = swap(second) if swapped else second
    total, heads, signs = 0.0, [], []
    for a, b in zip(first.layers, other.layers, strict=True):
        gain = inner(a, b)
        order = best_order(gain)
        rows = range(len(order))
        total += sum(gain[i, order[i]].item() for i in rows)
        alike = _dots(a.QK, b.QK) + _dots(a.OV, b.OV)
        heads.append(order)
        signs.append(tuple(1 if alike[i, order[i]] >= 0 else -1 for i in rows))
    return total, Match(tuple(heads), tuple(signs), swapped)


def _has_copies(model: ProductModel) -> bool:
    return model.tokens == "constructed"


def swap(model: ProductModel) -> ProductModel:
    """The same function with the two copies of s_t, slots 2 and 3 of 4, exchanged in every layer."""
    n, width = model.n_obs, model.layers[0].OV.shape[-1]
    order = torch.arange(width)
    order[n : 3 * n] = torch.cat([order[2 * n : 3 * n], order[n : 2 * n]])
    layers = (Products(layer.QK[:, order][:, :, order], layer.OV[:, order][:, :, order]) for layer in model.layers)
    return replace(model, layers=tuple(layers))


def matched(model: ProductModel, found: Match) -> ProductModel:
    """The same function as `model`, its heads in the order and with the signs that were found."""
    model = swap(model) if found.swapped else model
    layers = []
    for layer, order, signs in zip(model.layers, found.heads, found.signs, strict=True):
        sign = torch.tensor(signs).to(layer.QK)[:, None, None]
        layers.append(Products(sign * layer.QK[list(order)], sign * layer.OV[list(order)]))
    return replace(model, layers=tuple(layers))


def distances(first: ProductModel, second: ProductModel) -> Iterator[tuple[int, int, float]]:
    """Layer and head, both from 1, and how far that head's two products are apart: the norm of the difference by the root mean
    square of both norms (0: the same, sqrt 2: unrelated, 2: the opposite).
    """
    for number, (a, b) in enumerate(zip(first.layers, second.layers, strict=True), 1):
        x, y = (torch.cat([one.QK.flatten(1), one.OV.flatten(1)], dim=1).double() for one in (a, b))
        apart = (x - y).norm(dim=1)
        size = ((x.square().sum(1) + y.square().sum(1)) / 2).sqrt()
        for head, value in enumerate((apart / size.clamp_min(1e-300)).tolist(), 1):
            yield number, head, value


def mean(values: Sequence[float]) -> float:
    """Of at least one."""
    return sum(values) / len(values)
