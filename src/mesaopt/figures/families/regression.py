"""Regression in context without a trained model: what a layer of softmax attention could compute, and least squares."""

import dataclasses

from mesaopt.figures import contents
from mesaopt.figures.parts import Axes, Figure, Panel, Source
from mesaopt.spec.grid import spelled

SIZES = (4, 6, 10, 20, 40, 60)
#: standard deviations of the noise of a step; the paper calls them variances
NOISES = (0.1, 0.25, 0.5)


def _point(algorithm: str, size: int, noise: float) -> Source:
    """The mean loss over positions and channels, at the size of the state."""
    by_position = contents.theory(f"unclipped-n{size}-noise{spelled(noise)}/{algorithm}")
    return dataclasses.replace(by_position, at=float(size), per=size)


def by_size(letter: str, noise: float) -> Panel:
    """Mean losses of both over the size of the state, at one level of noise."""
    sources = tuple(_point(algorithm, size, noise) for algorithm in ("lsq", "kernel") for size in SIZES)
    axes = Axes("dimensions of the state $n_s$", "loss per channel, mean over $t$")
    return Panel(
        f"noise_{spelled(noise)}", "sweep", f"Noise: std {noise:g}, variance {noise**2:.3g}", sources, axes, letter=letter
    )


def by_noise() -> Figure:
    """Figure 20: least squares and softmax kernel regression over the size of the state, at three levels of noise."""
    panels = tuple(by_size(letter, noise) for letter, noise in zip("ABC", NOISES, strict=True))
    return Figure("Least squares and softmax kernel regression", panels, (tuple(panel.name for panel in panels),), 0.36)
