"""The hypothesis, and the one number that measures it directly."""

from mesaopt.figures import contents
from mesaopt.figures.parts import Figure, Panel


def hypothesis() -> Figure:
    """Figure 1: a schematic, and the in-context loss that falls from layer to layer."""
    schematic = Panel("schematic", "schematic", "The hypothesis", letter="A")
    panels = (schematic, contents.in_context_descent("B"), contents.in_context_late())
    return Figure("Mesa-optimisation inside a Transformer", panels, (("schematic", "in_context"),), 0.38, width_ratios=(2.3, 1.0))
