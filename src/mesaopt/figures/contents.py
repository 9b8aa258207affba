"""The panels that figures draw, with the runs and tables that stand behind them.

Training panels show the pair of runs that is compressed and interpolated, curves over positions and probes the runs at learning
rate 1e-4, weight pictures of one layer the run with large batches where there is one. What stands beside these panels in a
figure's table without being drawn is in `controls`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from mesaopt.figures.parts import Axes, Kind, Panel, Slots, Source

#: unit of losses: half the squared error, summed over channels, of the prediction of s_{t+1}
LOSS = r"$\frac{1}{2}\Vert\hat s-s\Vert^2$"
PRODUCTS = {"QK": r"$W_K^\top W_Q$", "OV": r"$W_O W_V$"}
#: how to read a picture of a product: x label, y label
CONVENTION = {"QK": ("column: query channel", "row: key channel"), "OV": ("column: input channel", "row: output channel")}
FUTURE, STATE, PAST = r"$\hat s_{t+1}$", "$s_t$", "$s_{t-1}$"
FOUR_SLOTS = Slots((FUTURE, STATE, STATE, PAST), (0, 1, 2, 3))
#: the one-layer model's tokens leave the second slot empty: nothing there is ever used
ONE_LAYER_SLOTS = Slots((FUTURE, "empty", STATE, PAST), (0, 1, 2, 3), means=True)
USED_SLOTS = Slots(ONE_LAYER_SLOTS.labels, (0, 2, 3))


#: loss on the sequences of the seed itself
_OWN = (("batch", 0),)


def _trained(run: str) -> Source:
    return Source(run, "history", x="step", y="test_loss")


def along(run: str, predictor: str, series: str = "{label}", family: str = "") -> Source:
    """Test loss of one of the three predictors that are followed along the training `run`."""
    select = (("predictor", predictor), *_OWN)
    behind = (run.replace("-second", "-extract"),)
    return Source(run, "interpolation", series, "step", "test_loss", select=select, behind=behind, family=family)


def _by_position(run: str) -> Source:
    return Source(run, "loss", select=_OWN)


def theory(name: str) -> Source:
    """Loss by position of a hand-written algorithm on the sequences of the seed itself."""
    return Source(name, "loss", select=_OWN, algorithm=True)


def training(letter: str, depth: int, compressed: str, until: int) -> Panel:
    """Test loss along the second training of `depth` layers; `compressed` names the flat line of the compressed weights."""
    second = f"linear/lsa-d{depth}-second"
    sources = (
        _trained(second),
        along(second, "interpolation", f"Interpolation-{depth}", "interpolation"),
        along(second, "compressed", compressed, "compression"),
        _trained("linear/mesa-d1"),
    )
    title = "Training, one layer" if depth == 1 else f"Training, {depth} layers"
    axes = Axes("training step", f"test loss, {LOSS}", x_range=(0, until))
    return Panel(f"training_loss_{depth}", "curves", title, sources, axes, letter=letter)


def positions(letter: str, name: str, title: str, runs: Sequence[str], algorithms: Sequence[str] = (), last: str = "") -> Panel:
    """Next-token MSE over t of trained runs, then of hand-written algorithms, then of the run `last`."""
    sources = (*map(_by_position, runs), *map(theory, algorithms), *map(_by_position, [last] if last else []))
    axes = Axes("observed tokens $t$", f"next-token MSE, {LOSS}", x_range=(1, 50))
    return Panel(name, "curves", title, sources, axes, letter=letter)


def positions_one_layer(letter: str, task: str = "linear") -> Panel:
    """Next-token MSE over t of one linear layer and one step of gradient descent."""
    return positions(letter, "mse_1", "Prediction, one layer", [f"{task}/lsa-d1"], [f"{task}/gd1"])


def positions_depth(letter: str, task: str = "linear") -> Panel:
    """Next-token MSE over t for growing depth, Proposition 2 and one mesa-layer."""
    runs = [f"{task}/lsa-d{depth}" for depth in (1, 2, 4, 6)]
    return positions(letter, "mse_depth", "Prediction, by depth", runs, [f"{task}/proposition2"], last=f"{task}/mesa-d1")


def positions_published_form(task: str = "linear") -> Panel:
    """Next-token MSE over t of Proposition 2 as its published curve was made; in the table alone."""
    panel = positions("", "mse_depth_published_form", "Proposition 2, published form", (), [f"{task}/proposition2-published"])
    return dataclasses.replace(panel, kind="table")


#: of the ways in which probes are scored: what they add to a panel's name and title
SPLITS = {"in_sample": ("", ""), "held_out": ("_held_out", ", held-out")}


def by_split(
    name: str, kind: Kind, title: str, letter: str, axes: Axes, sources: Callable[[str], tuple[Source, ...]]
) -> tuple[Panel, ...]:
    """The panel of probes scored as published, and its twin for held-out sequences, in one place."""
    return tuple(
        Panel(f"{name}{suffix}", kind, title + words, sources(split), axes, letter=letter, slot=name, split=split)
        for split, (suffix, words) in SPLITS.items()
    )


def _probe(letter: str, run: str, target: str, name: str, title: str, unit: str) -> tuple[Panel, ...]:
    axes = Axes("observed tokens $t$", f"probe error, {unit}", x_range=(1, 50), log=True)

    def sources(split: str) -> tuple[Source, ...]:
        select = (("target", target), ("split", split), ("model", "trained"), *_OWN)
        return (Source(run, "probes", "layer {layer}", select=select),)

    return by_split(name, "layers", title, letter, axes, sources)


def target_probe(letter: str, run: str = "linear/lsa-d6") -> tuple[Panel, ...]:
    """What of s_{t+1} is decoded linearly from what each layer of `run` leaves."""
    return _probe(letter, run, "next_token", "target_probe", "Target probe", LOSS)


#: of the recursions that make the preconditioned input: the probe's target, and what it adds to a panel's name and title
FORMS = {
    "published": ("preconditioned_input_published", "", ""),
    "textbook": ("preconditioned_input", "_textbook", ", textbook form"),
}


def both_forms(panels: Iterable[str]) -> bool:
    """Whether a figure's table, by the names of its panels, holds both; one made before there were both holds the text's alone.

    That form then stands under the name of the published one.
    """
    return any(FORMS["textbook"][1] in name for name in panels)


def preconditioning_probe(letter: str, run: str = "linear/lsa-d6", form: str = "published") -> tuple[Panel, ...]:
    """The same of the preconditioned input, made by the recursion of that form; all forms have one place."""
    name, (target, suffix, words) = "preconditioning_probe", FORMS[form]
    unit = r"$\frac{1}{2}\Vert\hat x-x\Vert^2$"
    panels = _probe(letter, run, target, f"{name}{suffix}", f"Preconditioning probe{words}", unit)
    return tuple(dataclasses.replace(panel, slot=name, form=form) for panel in panels)


def in_context_descent(letter: str, run: str = "linear/lsa-d6") -> Panel:
    """The model's own objective, measured on what is read out after each layer."""
    source = Source(run, "in_context", x="layer", y="loss", select=(("t", "last"),))
    axes = Axes("after layer", r"in-context loss $L_t(\Phi)/(t-1)$")
    return Panel("in_context", "descent", "Measured", (source,), axes, letter=letter)


def in_context_late(run: str = "linear/lsa-d6") -> Panel:
    """The same at several late positions, a curve over them for every layer; in the table alone."""
    return Panel("in_context_late", "table", "Measured, late positions", (Source(run, "in_context", "layer {layer}", y="loss"),))


def weights(run: str, slots: Slots, head: int, product: str, layer: int | None = None) -> Panel:
    """One product of one head, of the first seed; of a model of a single layer none need be named."""
    place = f"head {head}" if layer is None else f"layer {layer}, head {head}"
    select = (("layer", layer or 1), ("head", head), ("product", product))
    source = Source(run, "weights", x="col", y="row", value="value", select=select)
    name = f"layer_{layer or 1}_head_{head}_{product}"
    return Panel(name, "matrix", f"{PRODUCTS[product]}, {place}", (source,), Axes(*CONVENTION[product]), slots, "first")
