"""The panels of figures 2 and 3 on tasks other than the main one."""

from itertools import product

from mesaopt.figures import contents, controls
from mesaopt.figures.families.shared import grid, lettered, probes
from mesaopt.figures.parts import Figure


def contracting() -> Figure:
    """Figure 11: systems that contract, where the claims should hold."""
    return _panels("contracting", "Contracting systems")


def fixed_teacher() -> Figure:
    """Figure 12: one system for all sequences, which can simply be memorised."""
    return _panels("fixed_teacher", "One system for all sequences")


def _panels(task: str, title: str) -> Figure:
    """The panels of figures 2 and 3 on a task other than the main one."""
    curves = (contents.positions_one_layer("A", task), contents.positions_depth("B", task))
    heads = [contents.weights(f"{task}/lsa-d1", contents.USED_SLOTS, h, p) for h, p in product((1, 2), ("QK", "OV"))]
    structure = (*controls.structure(f"{task}/lsa-d1"), *controls.structure(f"{task}/lsa-d6"))
    beside = (*map(controls.on_test_batches, curves), *structure, controls.eta(task))
    panels = (*curves, *probes("C", "D", f"{task}/lsa-d6"), *lettered(heads, "E"), *beside)
    rows = (("mse_1", "mse_depth"), ("target_probe", "preconditioning_probe"))
    layout = (*(tuple(place for place in row for _ in range(2)) for row in rows), *grid(heads, 4))
    return Figure(title, panels, layout, 1.02, height_ratios=(1.9, 1.9, 1.0))
