"""Linear self-attention on the main task: one layer, several, and their weights."""

from itertools import product

from mesaopt.figures import contents, controls
from mesaopt.figures.families.shared import grid, lettered, probes
from mesaopt.figures.parts import Figure


def one_layer() -> Figure:
    """Figure 2: weights, training and prediction of one layer."""
    heads = [contents.weights("linear/lsa-d1-weights", contents.USED_SLOTS, h, p) for h, p in product((1, 2), ("QK", "OV"))]
    curves = (contents.training("B", 1, "Proposition 1", 1300), contents.positions_one_layer("C"))
    structure = (*controls.structure("linear/lsa-d1-weights", "first"), *controls.structure("linear/lsa-d1"))
    spread = (controls.training_on_test_batches(curves[0], 1), controls.on_test_batches(curves[1]), *controls.sampling(curves[1]))
    beside = (*spread, *structure, controls.eta(), controls.eta_large_batches())
    panels = (*lettered(heads, "A"), *curves, *beside)
    below = tuple(panel.name for panel in curves for _ in range(2))
    layout = (*grid(heads, 4), below)
    return Figure("One linear self-attention layer", panels, layout, 0.64, height_ratios=(1.0, 1.9))


def deep() -> Figure:
    """Figure 3: training, prediction by depth, and probes of LSA-6."""
    curves = (contents.training("A", 6, "CompressedAlg-6", 3500), contents.positions_depth("B"))
    structure = (*controls.structure("linear/lsa-d6"), *controls.structure("linear/lsa-d6-extract"))
    published = contents.positions_published_form()
    sampled = (*controls.sampling(curves[1]), *controls.sampling(published))
    spread = (controls.training_on_test_batches(curves[0], 6), controls.on_test_batches(curves[1]), *sampled)
    panels = (*curves, *probes("C", "D"), published, *spread, *structure)
    layout = (("training_loss_6", "mse_depth"), ("target_probe", "preconditioning_probe"))
    return Figure("Deep linear self-attention", panels, layout, 0.76)


def weights_of_deep() -> Figure:
    """Figure 9: all heads of layers 1, 2 and 4."""
    panels = [
        contents.weights("linear/lsa-d6", contents.FOUR_SLOTS, head, name, layer)
        for layer, name, head in product((1, 2, 4), ("QK", "OV"), (1, 2, 3, 4))
    ]
    beside = controls.structure("linear/lsa-d6", "first")
    return Figure("Weight products of LSA-6: layers 1, 2 and 4", (*panels, *beside), grid(panels, 4), 1.36, one_scale=True)


def weights_of_one_layer() -> Figure:
    """Figure 13: all slots of the one-layer model."""
    slots = contents.ONE_LAYER_SLOTS
    panels = [contents.weights("linear/lsa-d1-weights", slots, h, p) for h, p in product((1, 2), ("QK", "OV"))]
    beside = (*controls.structure("linear/lsa-d1-weights"), controls.heads_together("linear/lsa-d1-weights"))
    return Figure("Weight products of LSA-1", (*panels, *beside), grid(panels, 2), 0.96)


def one_layer_and_deep() -> Figure:
    """Figure 4 of the second version, which composes the curves of figures 2 and 3."""
    curves = (
        contents.training("A", 1, "Proposition 1", 1300),
        contents.training("B", 6, "CompressedAlg-6", 3500),
        contents.positions_one_layer("C"),
        contents.positions_depth("D"),
    )
    of_training = (controls.training_on_test_batches(panel, depth) for panel, depth in zip(curves, (1, 6), strict=False))
    panels = (*curves, *probes("E", "F"), *of_training, *map(controls.on_test_batches, curves[2:]))
    layout = (("training_loss_1", "training_loss_6", "mse_1"), ("mse_depth", "target_probe", "preconditioning_probe"))
    return Figure("Linear self-attention, one layer and deep", panels, layout, 0.64)
