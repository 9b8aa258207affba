"""Attention of the first layer of a language model: mean maps, and how steadily a head looks at one fixed distance."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mesaopt.models.language import LanguageTransformer

#: distances at which a head that copies may look
OFFSETS = 3


def first_layer_weights(
    model: LanguageTransformer, windows: Int64[Tensor, "batch time_plus_1"], length: int, together: int = 16
) -> Iterator[Float[Tensor, "part heads length length"]]:
    """Weights of the first layer over the first `length` tokens, `together` sequences at a time."""
    for part in windows[:, :length].split(together):
        with torch.no_grad():
            yield model.blocks()[0].attention_weights(model.embed(part.to(model.tokens.device))).double().cpu()


def mean_map(parts: list[Float[Tensor, "_ heads length length"]]) -> Float[Tensor, "heads length length"]:
    """Over all sequences."""
    return torch.cat(parts).mean(0)


def map_table(mean: Float[Tensor, "heads length length"]) -> pd.DataFrame:
    """Table `language_attention`: head, position t and earlier token, all from 1, and the weight; later tokens have no row."""
    head, t, token = (axis.ravel() for axis in np.indices(mean.shape))
    rows = pd.DataFrame({"head": head + 1, "t": t + 1, "token": token + 1, "weight": mean.numpy().ravel()})
    return rows[token <= t].reset_index(drop=True)


def copy_table(parts: list[Float[Tensor, "_ heads length length"]]) -> pd.DataFrame:
    """Table `copy_heads`: of every head the distance up to `OFFSETS` with the largest weight, that weight (mean over positions
    with so many before them, and over sequences) and its standard deviation over sequences. Head 0 is the best of them.
    """
    weights = torch.cat(parts)
    last = min(OFFSETS, weights.shape[-1] - 1)
    # (distance, sequence, head): distance 0 is the token itself, which is no copy of an earlier one
    by_offset = torch.stack([weights.diagonal(-offset, 2, 3)[..., last - offset :].mean(-1) for offset in range(1, last + 1)])
    mean, deviation = by_offset.mean(1), by_offset.std(1) if by_offset.shape[1] > 1 else torch.zeros_like(by_offset[:, 0])
    best = mean.argmax(0)
    rows = [
        (head + 1, int(offset) + 1, float(mean[offset, head]), float(deviation[offset, head])) for head, offset in enumerate(best)
    ]
    rows.insert(0, (0, *max(rows, key=lambda row: row[2])[1:]))
    return pd.DataFrame(rows, columns=["head", "offset", "weight", "deviation"])
