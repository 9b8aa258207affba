"""How linear trained softmax layers are: losses with distilled linear layers in their places, and weights of both."""

import dataclasses
from itertools import product

from mesaopt.figures import contents
from mesaopt.figures.families import regression
from mesaopt.figures.families.shared import grid, lettered
from mesaopt.figures.parts import Axes, Figure, Kind, Panel, Seeds, Source
from mesaopt.spec.grid import spelled

#: standard deviation of the noise of a step
NOISE = 0.01
LAYERS = range(1, 8)
#: dimensions of the state whose models are trained where a GPU is at hand, of the first seed alone
LARGE = (40, 60)
RATES = (1e-3, 2e-3, 4e-3, 6e-3)
PAIR = "unclipped-n20-noise0p01/softmax-d2-constructed"
SIZE = "dimensions of the state $n_s$"


def _run(size: int, name: str = "softmax-d7") -> str:
    return f"unclipped-n{size}-noise{spelled(NOISE)}/{name}"


def _point(size: int, layer: int, column: str, start: str) -> Source:
    """A value of a layer (0: all at once) at the size of the state."""
    series = f"layer {layer}" if layer else "all layers"
    line = "" if layer else "dashed"
    select = (("start", start), ("layer", layer))
    seeds: Seeds | None = "first" if size in LARGE else None
    return Source(
        _run(size), "linearisation", series, "layer", column, select=select, line=line, at=float(size), seeds=seeds, optional=True
    )


def _by_layer(letter: str, start: str = "softmax", column: str = "normalised", kind: Kind = "shades") -> Panel:
    sources = tuple(_point(size, layer, column, start) for layer in (*LAYERS, 0) for size in regression.SIZES)
    axes = Axes(SIZE, "test loss by that of the model", y_bottom=1.0)
    name = "_".join(("linearisation", *((start,) if start != "softmax" else ()), *((column,) if column != "normalised" else ())))
    return Panel(name, kind, "A linear layer for a softmax layer", sources, axes, letter=letter)


def by_size() -> Figure:
    """Figure 5: linearisation of trained softmax layers, kernel regression beside least squares, over the size of the state."""
    beside = [
        _by_layer("", start, column, "table")
        for start, column in (("softmax", "error"), ("plain", "normalised"), ("plain", "error"))
    ]
    kernel = dataclasses.replace(regression.by_size("B", NOISE), title="Least squares and kernel regression")
    layout = (("linearisation", kernel.name),)
    return Figure("How linear softmax layers are", (_by_layer("A"), kernel, *beside), layout, 0.46)


def rates() -> Figure:
    """The search for the learning rates of the models of figure 5: loss at the end of a training, on validation sequences."""
    sources = tuple(
        Source(
            _run(size, f"rate{spelled(rate)}-softmax-d7"),
            "history",
            f"$n_s$ = {size}",
            "step",
            "test_loss",
            select=(("step", "last"),),
            at=rate,
            per=size,
            optional=True,
        )
        for size in regression.SIZES
        for rate in RATES
    )
    axes = Axes("peak learning rate", "validation loss per channel at the end", y_bottom=0.02)
    panel = Panel("rates", "shades", "Learning rates", sources, axes, seeds="first")
    return Figure("A search for learning rates", (panel,), (("rates",),), 0.6)


def weights() -> Figure:
    """Figure 19: weight products of two softmax layers, and of the linear layers distilled from them."""
    panels: list[Panel] = []
    for letter, layer in zip("AB", (1, 2), strict=True):
        row = [_product(layer, start, name) for start, name in product(("trained", "softmax"), ("QK", "OV"))]
        panels += lettered(row, letter)
    plain = [_product(layer, "plain", name, "table") for layer, name in product((1, 2), ("QK", "OV"))]
    return Figure("Two softmax layers and their linear ones", (*panels, *plain), grid(panels, 4), 0.5)


def _product(layer: int, start: str, name: str, kind: Kind = "matrix") -> Panel:
    """One product of the only head of a layer."""
    select = (("start", start), ("layer", layer), ("head", 1), ("product", name))
    source = Source(PAIR, "linear_weights", x="col", y="row", value="value", select=select)
    what = {"trained": "softmax", "softmax": "linear", "plain": "linear from random"}[start]
    title, slots = f"{contents.PRODUCTS[name]}, {what} {layer}", contents.FOUR_SLOTS
    axes = Axes(*contents.CONVENTION[name])
    return Panel(f"layer_{layer}_{start}_{name}", kind, title, (source,), axes, slots, "first")
