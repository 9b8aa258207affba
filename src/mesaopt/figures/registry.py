"""Which figures there are and what each one shows: a closed list, read by the workflow as well (so no heavy imports).

Numbers follow the first version of arXiv:2309.05858, `v2/fig4` its second one, which composes the same panels.
"""

import dataclasses
from collections.abc import Sequence
from itertools import product

from mesaopt.errors import InputError, unknown
from mesaopt.figures import contents, controls
from mesaopt.figures.names import label
from mesaopt.figures.parts import Figure, Layout, Panel, Seeds
from mesaopt.spec import stages

__all__ = ["FIGURES", "algorithms", "analyses", "figure", "inputs", "label", "runs"]


def _lettered(panels: Sequence[Panel], letter: str) -> tuple[Panel, ...]:
    """A group of panels under one letter, which stands at the first."""
    return (dataclasses.replace(panels[0], letter=letter), *panels[1:])


def _grid(panels: Sequence[Panel], columns: int) -> Layout:
    names = [panel.name for panel in panels]
    return tuple(tuple(names[start : start + columns]) for start in range(0, len(names), columns))


def _fig1() -> Figure:
    schematic = Panel("schematic", "schematic", "The hypothesis", letter="A")
    panels = (schematic, contents.in_context_descent("B"))
    return Figure(
        "fig1", "Mesa-optimisation inside a Transformer", panels, (("schematic", "in_context"),), 0.38, width_ratios=(2.3, 1.0)
    )


def _fig2() -> Figure:
    heads = [contents.weights("linear/lsa-d1-weights", contents.USED_SLOTS, 1, h, p) for h, p in product((1, 2), ("QK", "OV"))]
    curves = (contents.training("B", 1, "Proposition 1", 1300), contents.positions_one_layer("C"))
    structure = (*controls.structure("linear/lsa-d1-weights", "first"), *controls.structure("linear/lsa-d1"))
    spread = (controls.training_on_test_batches(curves[0], 1), controls.on_test_batches(curves[1]))
    beside = (*spread, *structure, controls.eta(), controls.eta_large_batches())
    panels = (*_lettered(heads, "A"), *curves, *beside)
    below = tuple(panel.name for panel in curves for _ in range(2))
    layout = (*_grid(heads, 4), below)
    return Figure("fig2", "One linear self-attention layer", panels, layout, 0.64, height_ratios=(1.0, 1.9))


def _fig3() -> Figure:
    curves = (contents.training("A", 6, "CompressedAlg-6", 3500), contents.positions_depth("B"))
    structure = (*controls.structure("linear/lsa-d6"), *controls.structure("linear/lsa-d6-extract"))
    spread = (controls.training_on_test_batches(curves[0], 6), controls.on_test_batches(curves[1]))
    panels = (*curves, *_probes("C", "D"), contents.positions_published_form(), *spread, *structure)
    layout = (("training_loss_6", "mse_depth"), ("target_probe", "preconditioning_probe"))
    return Figure("fig3", "Deep linear self-attention", panels, layout, 0.76)


def _probes(first: str, second: str, task: str = "linear") -> tuple[Panel, ...]:
    """Both probes under their letters, and their controls."""
    target, preconditioning = contents.target_probe(first, task), contents.preconditioning_probe(second, task)
    return (*target, *preconditioning, *controls.probe_controls(target), *controls.probe_controls(preconditioning))


def _fig9() -> Figure:
    panels = [
        contents.weights("linear/lsa-d6", contents.FOUR_SLOTS, layer, head, name)
        for layer, name, head in product((1, 2, 4), ("QK", "OV"), (1, 2, 3, 4))
    ]
    beside = controls.structure("linear/lsa-d6", "first")
    return Figure("fig9", "Weight products of LSA-6: layers 1, 2 and 4", (*panels, *beside), _grid(panels, 4), 1.36)


def _control_task(name: str, task: str, title: str) -> Figure:
    """The panels of figures 2 and 3 on a task other than the main one."""
    curves = (contents.positions_one_layer("A", task), contents.positions_depth("B", task))
    heads = [contents.weights(f"{task}/lsa-d1", contents.USED_SLOTS, 1, h, p) for h, p in product((1, 2), ("QK", "OV"))]
    structure = (*controls.structure(f"{task}/lsa-d1"), *controls.structure(f"{task}/lsa-d6"))
    beside = (*map(controls.on_test_batches, curves), *structure, controls.eta(task))
    panels = (*curves, *_probes("C", "D", task), *_lettered(heads, "E"), *beside)
    rows = (("mse_1", "mse_depth"), ("target_probe", "preconditioning_probe"))
    layout = (*(tuple(place for place in row for _ in range(2)) for row in rows), *_grid(heads, 4))
    return Figure(name, title, panels, layout, 1.02, height_ratios=(1.9, 1.9, 1.0))


def _fig13() -> Figure:
    slots = contents.ONE_LAYER_SLOTS
    panels = [contents.weights("linear/lsa-d1-weights", slots, 1, h, p) for h, p in product((1, 2), ("QK", "OV"))]
    beside = controls.structure("linear/lsa-d1-weights", "first")
    return Figure("fig13", "Weight products of LSA-1", (*panels, *beside), _grid(panels, 2), 0.96)


def _v2_fig4() -> Figure:
    curves = (
        contents.training("A", 1, "Proposition 1", 1300),
        contents.training("B", 6, "CompressedAlg-6", 3500),
        contents.positions_one_layer("C"),
        contents.positions_depth("D"),
    )
    of_training = (controls.training_on_test_batches(panel, depth) for panel, depth in zip(curves, (1, 6), strict=False))
    panels = (*curves, *_probes("E", "F"), *of_training, *map(controls.on_test_batches, curves[2:]))
    layout = (("training_loss_1", "training_loss_6", "mse_1"), ("mse_depth", "target_probe", "preconditioning_probe"))
    return Figure("v2/fig4", "Linear self-attention, one layer and deep", panels, layout, 0.64)


_FIG11 = _control_task("fig11", "contracting", "Contracting systems")
_FIG12 = _control_task("fig12", "fixed_teacher", "One system for all sequences")

#: every figure by name
FIGURES: dict[str, Figure] = {
    figure.name: figure for figure in (_fig1(), _fig2(), _fig3(), _fig9(), _FIG11, _FIG12, _fig13(), _v2_fig4())
}


def figure(name: str) -> Figure:
    """Raises `InputError` in one line when there is no such figure."""
    if name not in FIGURES:
        raise InputError(unknown(name, "figure", list(FIGURES)))
    return FIGURES[name]


def inputs(name: str, seeds: Sequence[int]) -> list[str]:
    """Files behind figure `name`, relative to results/{scale}/: its tables, and spec.json and provenance.json of its runs.

    Panels that show one seed use the first of `seeds`.
    """
    sources = [(source.path, panel.seeds) for panel in figure(name).panels for source in panel.sources]
    records = [(f"{run}/{file}", which) for run, which in _folders(name).items() for file in ("spec.json", "provenance.json")]
    files = [path.format(seed=seed) for path, which in sources + records for seed in chosen(which, seeds)]
    return list(dict.fromkeys(files))


def runs(name: str) -> dict[str, Seeds]:
    """The trained runs behind figure `name`, such as linear/lsa-d6, and whether all seeds are needed or the first alone."""
    return {_run(folder): which for folder, which in _folders(name).items()}


def algorithms(name: str) -> list[str]:
    """The hand-written algorithms behind figure `name`, such as linear/gd1."""
    paths = (source.path.split("/") for panel in figure(name).panels for source in panel.sources)
    return list(dict.fromkeys("/".join(parts[1:3]) for parts in paths if parts[0] == "theory"))


def _run(folder: str) -> str:
    return folder.removeprefix("runs/").removesuffix("/seed-{seed}")


def analyses() -> dict[tuple[str, ...], list[str]]:
    """Runs by the analyses that figures want of them and that one job makes."""
    wanted: dict[str, set[str]] = {}
    for panel in (panel for figure in FIGURES.values() for panel in figure.panels):
        for source in panel.sources:
            folder, stage = source.path.rpartition("/")[0], stages.writer(source.table)
            if folder.startswith("runs/") and stage is not None:
                wanted.setdefault(_run(folder), set()).add(stage.name)
    return stages.jobs(wanted)


def chosen(which: Seeds, seeds: Sequence[int]) -> list[int]:
    return list(seeds) if which == "all" else list(seeds[:1])


def _folders(name: str) -> dict[str, Seeds]:
    """Folders (with `{seed}`) of the runs behind a figure; all seeds of a run win over the first one."""
    found: dict[str, Seeds] = {}
    for panel in figure(name).panels:
        for source in panel.sources:
            folders = [source.path.rpartition("/")[0], *(f"runs/{run}/seed-{{seed}}" for run in source.behind)]
            for folder in folders:
                if folder.startswith("runs/"):
                    found[folder] = "all" if "all" in (panel.seeds, found.get(folder)) else "first"
    return found
