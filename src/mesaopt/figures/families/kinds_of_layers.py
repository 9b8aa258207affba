"""Kinds of layers side by side: an addition of this project, which any run joins by its entry."""

from mesaopt.figures import contents
from mesaopt.figures.parts import Axes, Figure, Panel, Source


def side_by_side() -> Figure:
    """One layer of every kind that the paper has, and whatever else says `panels: [ext/layers/mse, ext/layers/training]`."""
    known = ["linear/lsa-d1", "linear/mesa-d1"]
    axes = Axes("training step", f"test loss, {contents.LOSS}")
    sources = tuple(Source(run, "history", x="step", y="test_loss") for run in known)
    training = Panel("training", "curves", "Training", sources, axes, letter="A")
    positions = contents.positions("B", "mse", "Prediction", known, ["linear/gd1", "linear/proposition2"])
    return Figure("One layer of every kind", (training, positions), (("training", "mse"),), 0.42)
