"""What averaging two trainings of linear layers costs, as their heads stand and matched, and where the trainings part."""

import dataclasses

from mesaopt.figures import contents
from mesaopt.figures.parts import Axes, Figure, Panel, Source

#: second trainings whose heads are matched with those of the first
ONE, SIX = "linear/lsa-d1-second", "linear/lsa-d6-second"


def heads_matched() -> Figure:
    """Losses of averages along the second training of six layers, distances of both, and heads that are not themselves."""
    axes = Axes("training step", f"test loss, {contents.LOSS}")
    half = Panel("interpolation", "curves", "Half compressed, half trained", _losses(SIX, "interpolation", 6), axes, letter="A")
    between = Panel("between", "curves", "Half way between the trainings", _losses(SIX, "between", 6), axes, letter="B")
    one = Panel("interpolation_1", "table", "One layer", _losses(ONE, "interpolation", 1))
    layout = (("interpolation", "between"), ("distance", "moved"))
    panels = (half, between, _distance(), _moved(), _heads(), one)
    return Figure("Interpolation of six layers, heads matched", panels, layout, 0.76)


def _first(second: str) -> tuple[str, ...]:
    return (second.replace("-second", "-first"),)


def _losses(run: str, predictor: str, depth: int) -> tuple[Source, ...]:
    """The trained model, and the average as heads stand and matched."""
    trained = Source(run, "matched_loss", x="step", y="test_loss", select=_predicted("trained"), behind=_first(run))
    of = {"interpolation": f"Interpolation-{depth}", "between": "average"}[predictor]
    stands = dataclasses.replace(
        trained, select=_predicted(predictor), series=f"{of}, as heads stand", family="interpolation", line="dashed"
    )
    matched = dataclasses.replace(
        trained, select=_predicted(f"{predictor}_matched"), series=f"{of}, heads matched", family="softmax", line="solid"
    )
    return trained, stands, matched


def _predicted(predictor: str) -> tuple[tuple[str, str | int], ...]:
    return (("predictor", predictor), ("batch", 0))


def _over_heads(column: str, series: str, family: str, line: str) -> Source:
    """A mean or a number of all heads, by step."""
    every = (("layer", 0), ("head", 0))
    return Source(SIX, "matching", series, "step", column, select=every, behind=_first(SIX), family=family, line=line)


def _distance() -> Panel:
    sources = (
        _over_heads("distance", "as heads stand", "interpolation", "dashed"),
        _over_heads("matched", "heads matched", "softmax", "solid"),
    )
    axes = Axes("training step", "relative distance of products")
    return Panel("distance", "curves", "Distance of the trainings", sources, axes, letter="C")


def _moved() -> Panel:
    sources = (
        _over_heads("other", "like another head", "interpolation", "dashed"),
        _over_heads("sign", "of the other sign", "softmax", "solid"),
        _over_heads("swapped", "slots 2 and 3 exchanged (0 or 1)", "other", "dotted"),
    )
    return Panel("moved", "curves", "Heads that are not themselves", sources, Axes("training step", "of 24 heads"), letter="D")


def _heads() -> Panel:
    """Which head of the first training each head of a layer is most like, at every step, as cells: x the step, y the head."""
    sources = tuple(
        Source(SIX, "matching", f"layer {layer}", "step", "head", "other", (("layer", layer), ("head", "nonzero")), _first(SIX))
        for layer in range(1, 7)
    )
    return Panel("heads", "table", "Heads", sources)
