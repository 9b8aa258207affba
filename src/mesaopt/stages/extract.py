"""Tables of what trained weights are made of: the products of every head, and how sparse and block-structured they are.

The statistics of the same model before its training, from the same initialisation, show what is chance.

Statistics of one head's product (table `structure`), with slots counted from 1 in the order of the token:

* `max_abs`, `norm`: largest entry by size, and Frobenius norm
* `above_1pct`, `above_5pct`, `above_10pct`: share of entries larger than that part of the largest; `negligible_...` is the rest.
  (The paper's "under 1 % of the weights" states no threshold.)
* `entries_90pct_energy`: smallest share of the entries that holds 90 % of the squared norm
* `block_energy`: share of the squared norm that survives compression, 1 for exact multiples of the identity in every block
* `block_strength`: largest mean of a block's diagonal by size, over the standard deviation of all entries off such diagonals
* `diag_mean_{i}_{j}`, `diag_std_{i}_{j}`, `offdiag_std_{i}_{j}`: the block in row slot i and column slot j
* `lam` (product `lam`): a mesa-layer's regularisation
* `joint_block_energy` (head 0: all heads together; linear layers): `block_energy` of what the heads compute together
* `eta` (head 0: all heads together; models of one linear layer): the learning rate of the gradient step that the layer performs;
  `eta_all_slots`: that with which all slots together, past and present, act on sequences that have come to rest
"""

import os
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.models.matching import inner
from mesaopt.models.products import Products, blocks, compress, diagonal_means, layer_products
from mesaopt.models.transformer import initialise
from mesaopt.models.weights import load_model
from mesaopt.spec.run import Run, read_run
from mesaopt.store.tables import write_table

THRESHOLDS = (1, 5, 10)

File = str | os.PathLike[str]


def sparsity(product: Float[Tensor, "rows cols"]) -> dict[str, float]:
    """Size, shares of entries above and below thresholds, and concentration of a product."""
    sizes = product.double().abs().flatten()
    largest, energy = sizes.max().item(), sizes.square().sum().item()
    above = {p: (sizes > p / 100 * largest).double().mean().item() for p in THRESHOLDS}
    held = sizes.square().sort(descending=True).values.cumsum(0)
    needed = int((held < 0.9 * energy).sum()) + 1 if energy > 0 else 0
    return (
        {"max_abs": largest, "norm": energy**0.5, "entries_90pct_energy": needed / len(sizes)}
        | {f"above_{p}pct": share for p, share in above.items()}
        | {f"negligible_{p}pct": 1 - share for p, share in above.items()}
    )


def block_structure(product: Float[Tensor, "rows cols"], n: int) -> dict[str, float]:
    """How far the n x n blocks of a product are multiples of the identity, as a whole and block by block."""
    product = product.double()
    off_diagonal = ~torch.eye(n, dtype=torch.bool)
    parts, means = blocks(product, n), diagonal_means(product, n)
    rest = parts[..., off_diagonal]
    energy, deviation = product.square().sum().item(), rest.std(correction=0).item()
    statistics = {
        "block_energy": compress(product, n).square().sum().item() / energy if energy > 0 else 0.0,
        "block_strength": means.abs().max().item() / deviation if deviation > 0 else 0.0,
    }
    diagonals = parts.diagonal(dim1=-2, dim2=-1)
    for i, j in np.ndindex(*means.shape):
        statistics[f"diag_mean_{i + 1}_{j + 1}"] = means[i, j].item()
        statistics[f"diag_std_{i + 1}_{j + 1}"] = diagonals[i, j].std(correction=0).item()
        statistics[f"offdiag_std_{i + 1}_{j + 1}"] = rest[i, j].std(correction=0).item()
    return statistics


def joint_block_energy(products: Products, n: int) -> float:
    """`block_energy` of the sum over heads of OV (x) QK: all that a linear layer does with its tokens. What one head has besides
    multiples of the identity counts only as far as other heads do not undo it.
    """
    whole = Products(products.QK.double(), products.OV.double())
    kept = Products(compress(whole.QK, n), compress(whole.OV, n))
    energy = inner(whole, whole).sum().item()
    return inner(kept, kept).sum().item() / energy if energy > 0 else 0.0


def implied_eta(products: Products, n: int, tokens: str) -> float:
    """Learning rate of the gradient step eta sum_{t'<=t} s_{t'} s_{t'-1}^T s_t inside one linear layer on constructed tokens.

    Keys that carry s_{t'-1} (slot 4) meet queries that carry s_t, and values s_{t'} go to the prediction (slot 1). s_t stands in
    slots 2 and 3, in bare tokens only in slot 3. The means of these blocks multiply; heads add.
    """
    qk, ov = diagonal_means(products.QK.double(), n), diagonal_means(products.OV.double(), n)
    current = [2] if tokens == "constructed_bare" else [1, 2]
    return (ov[:, 0, current].sum(-1) * qk[:, 3, current].sum(-1)).sum().item()


def eta_of_all_slots(products: Products, n: int, tokens: str) -> float:
    """What `implied_eta` is for a layer that tells s_t from s_{t-1} by nothing: every filled slot serves as key, query and value.

    Where s_t = s_{t-1}, as in systems at rest, only this number matters, and a layer may spread its step over slots.
    """
    qk, ov = diagonal_means(products.QK.double(), n), diagonal_means(products.OV.double(), n)
    filled = slice(2 if tokens == "constructed_bare" else 1, 4)
    return (ov[:, 0, filled].sum(-1) * qk[:, filled, filled].sum((-2, -1))).sum().item()


def weights_table(layers: list[Products]) -> pd.DataFrame:
    """Table `weights`: layers and heads from 1, rows and columns (channels) from 0."""
    frames = []
    for number, layer in enumerate(layers, 1):
        for name, product in (("QK", layer.QK), ("OV", layer.OV)):
            head, row, col = (axis.ravel() for axis in np.indices(product.shape))
            values = {"head": head + 1, "row": row, "col": col, "value": product.numpy().ravel()}
            frames.append(pd.DataFrame(values).assign(layer=number, product=name))
    return pd.concat(frames, ignore_index=True)


def structure_table(run: Run, models: Mapping[str, Mapping[str, Tensor]]) -> pd.DataFrame:
    """Table `structure` of the weights of one seed, `trained` and `untrained`."""
    columns = ["layer", "head", "product", "statistic", "value"]
    frames = [
        pd.DataFrame(list(_structure_rows(run, weights)), columns=columns).assign(model=name) for name, weights in models.items()
    ]
    return pd.concat(frames, ignore_index=True)


def _structure_rows(run: Run, weights: Mapping[str, Tensor]) -> Iterator[tuple[int, int, str, str, float]]:
    layers = layer_products(weights, len(run.model.layers))
    n, sliced = run.task.n_obs, run.model.tokens != "raw"
    for number, (kind, layer) in enumerate(zip(run.model.layers, layers, strict=True), 1):
        for name, product in (("QK", layer.QK), ("OV", layer.OV)):
            for head, one in enumerate(product, 1):
                statistics = sparsity(one) | (block_structure(one, n) if sliced else {})
                yield from ((number, head, name, statistic, value) for statistic, value in statistics.items())
        if sliced and kind == "linear":
            yield number, 0, "OV", "joint_block_energy", joint_block_energy(layer, n)
        lam = weights.get(f"layers.{number - 1}.lam", torch.empty(0))
        yield from ((number, head, "lam", "lam", value) for head, value in enumerate(lam.tolist(), 1))
    if sliced and run.model.layers == ("linear",):
        yield 1, 0, "OV", "eta", implied_eta(layers[0], n, run.model.tokens)
        yield 1, 0, "OV", "eta_all_slots", eta_of_all_slots(layers[0], n, run.model.tokens)


def extract_run(weights: File, out: File, structure: File) -> None:
    """Write tables `weights` and `structure` of a trained model; its spec.json lies beside the weights."""
    run, seed = read_run(weights)
    trained, untrained = load_model(run, weights), initialise(run.model, run.task.n_obs, [seed])
    models = {"trained": trained.seed_weights(0), "untrained": untrained.seed_weights(0)}
    write_table(weights_table(layer_products(models["trained"], len(run.model.layers))), "weights", out)
    write_table(structure_table(run, models), "structure", structure)
