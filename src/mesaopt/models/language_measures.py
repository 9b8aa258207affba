"""What is measured of a language model: loss by position, perplexity, and the in-context-learning score.

A loss is in nats, a position t = 1..T the number of tokens that the prediction could look at. The score is the loss late in the
context less that early in it (Olsson et al. 2022), here means over positions 450 to 550 and 40 to 60, because single ones
(500, 50) are noisy. Negative is good. Contexts shorter than 550 have the same positions scaled down, as if 1024 were their end.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mesaopt.models.language import LanguageTransformer
from mesaopt.spec.words import module

EARLY, LATE, SINGLE = (40, 60), (450, 550), (50, 500)
_PUBLISHED = 1024


@dataclass(frozen=True)
class Positions:
    """First and last positions of the early and the late window, and the two single positions, all from 1."""

    early: tuple[int, int]
    late: tuple[int, int]
    single: tuple[int, int]

    @classmethod
    def of(cls, length: int) -> "Positions":
        """As published where the context is long enough, or else scaled."""
        scale = 1.0 if length >= LATE[1] else length / _PUBLISHED
        early, late, single = (tuple(max(1, round(scale * t)) for t in of) for of in (EARLY, LATE, SINGLE))
        return cls(early, late, single)  # type: ignore[arg-type]


def score(curve: np.ndarray) -> float:
    """Of a loss by position."""
    places = Positions.of(len(curve))
    early, late = (float(curve[first - 1 : last].mean()) for first, last in (places.early, places.late))
    return late - early


def single_score(curve: np.ndarray) -> float:
    """The same of two positions alone."""
    early, late = Positions.of(len(curve)).single
    return float(curve[late - 1] - curve[early - 1])


def perplexity(curve: np.ndarray) -> float:
    """exp of the mean over positions."""
    return float(np.exp(curve.mean()))


def loss_curve(
    model: LanguageTransformer, windows: Int64[Tensor, "batch time_plus_1"], together: int, half: bool = False
) -> np.ndarray:
    """Mean loss by position in float64, `together` sequences at a time; with `half` in bfloat16 where that is no loss of form."""
    device = model.tokens.device
    total = torch.zeros(windows.shape[1] - 1, dtype=torch.float64, device=device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        for part in windows.split(together):
            total += _losses(model, part.to(device)).double().sum(0)
    found: Float64[np.ndarray, " time"] = (total / len(windows)).cpu().numpy()
    return found


def _losses(model: LanguageTransformer, windows: Int64[Tensor, "batch time_plus_1"]) -> Tensor:
    objective = module("objective", "cross_entropy")
    inputs, targets = objective.examples(model.model, windows)
    found: Tensor = objective.losses(model(inputs), targets)
    return found
