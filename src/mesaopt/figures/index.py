"""Every figure: its name and the function that says what it shows.

Numbers follow the first version of arXiv:2309.05858, `v2/fig4` its second one, which composes the same panels; `ext/` are this
project's own.
"""

from collections.abc import Callable

from mesaopt.figures.families import control_tasks, kinds_of_layers, linear_layers, overview
from mesaopt.figures.parts import Figure

INDEX: dict[str, Callable[[], Figure]] = {
    "fig1": overview.hypothesis,
    "fig2": linear_layers.one_layer,
    "fig3": linear_layers.deep,
    "fig9": linear_layers.weights_of_deep,
    "fig11": control_tasks.contracting,
    "fig12": control_tasks.fixed_teacher,
    "fig13": linear_layers.weights_of_one_layer,
    "ext/layers": kinds_of_layers.side_by_side,
    "v2/fig4": linear_layers.one_layer_and_deep,
}
