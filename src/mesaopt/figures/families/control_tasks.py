"""The panels of figures 2 and 3 on tasks other than the main one."""

import dataclasses
from itertools import product

from mesaopt.figures import contents, controls
from mesaopt.figures.families.shared import grid, lettered, probes
from mesaopt.figures.parts import Figure, Panel


def contracting() -> Figure:
    """Figure 11: systems that contract, where the claims should hold."""
    return _panels("contracting", "Contracting systems")


def fixed_teacher() -> Figure:
    """Figure 12: one system for all sequences, which can simply be memorised."""
    return _panels("fixed_teacher", "One system for all sequences")


#: of the teachers besides that of figure 12, which are in `ext/teachers`: what their panels add to the names of that figure's
TEACHERS = (1, 2)


def of_teacher(number: int) -> str:
    """What a panel of `ext/teachers` adds to the name of that of figure 12."""
    return f"_teacher_{number}"


def other_teachers() -> Figure:
    """Prediction of one layer and probes of six for two more systems, each the one system of all its sequences."""
    panels = [panel for letter, number in zip(("AB", "CD"), TEACHERS, strict=True) for panel in _of_one_teacher(number, letter)]
    layout = tuple((f"mse_1{of_teacher(number)}", f"preconditioning_probe{of_teacher(number)}") for number in TEACHERS)
    return Figure("Other teachers", tuple(panels), layout, 0.76)


def _of_one_teacher(number: int, letters: str) -> list[Panel]:
    """The panels that claims on figure 12 read, named after the teacher."""
    task = f"teacher-{number}"
    curve = contents.positions_one_layer(letters[0], task)
    target = [dataclasses.replace(panel, kind="table") for panel in contents.target_probe("", f"{task}/lsa-d6")]
    preconditioning = contents.preconditioning_probe(letters[1], f"{task}/lsa-d6")
    panels = (curve, *controls.sampling(curve), *target, *preconditioning, *controls.structure(f"{task}/lsa-d1"))
    suffix = of_teacher(number)
    return [
        dataclasses.replace(
            panel, name=f"{panel.name}{suffix}", title=f"{panel.title}, teacher {number}", slot=f"{panel.place}{suffix}"
        )
        for panel in panels
    ]


def _panels(task: str, title: str) -> Figure:
    """The panels of figures 2 and 3 on a task other than the main one."""
    curves = (contents.positions_one_layer("A", task), contents.positions_depth("B", task))
    heads = [contents.weights(f"{task}/lsa-d1", contents.USED_SLOTS, h, p) for h, p in product((1, 2), ("QK", "OV"))]
    structure = (*controls.structure(f"{task}/lsa-d1"), *controls.structure(f"{task}/lsa-d6"))
    sampled = [panel for curve in curves for panel in controls.sampling(curve)]
    measured = (*map(controls.on_test_batches, curves), *sampled, contents.positions_published_form(task))
    beside = (*measured, *structure, controls.eta(task))
    panels = (*curves, *probes("C", "D", f"{task}/lsa-d6"), *lettered(heads, "E"), *beside)
    rows = (("mse_1", "mse_depth"), ("target_probe", "preconditioning_probe"))
    layout = (*(tuple(place for place in row for _ in range(2)) for row in rows), *grid(heads, 4))
    return Figure(title, panels, layout, 1.02, height_ratios=(1.9, 1.9, 1.0))
