"""The panels that figures draw, with the runs that stand behind them.

Training panels show the pair of runs that is compressed and interpolated, curves over positions and probes the runs at learning
rate 1e-4, weight pictures of one layer the run with large batches where there is one. What stands beside these panels in a
figure's table without being drawn is in `controls`.
"""

from mesaopt.figures.names import label
from mesaopt.figures.parts import Axes, Panel, Slots, Source

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


def run_file(run: str, name: str) -> str:
    """Path of a table of a run, relative to results/{scale}/."""
    return f"runs/{run}/seed-{{seed}}/{name}.parquet"


def _trained(run: str) -> Source:
    return Source(label(run), run_file(run, "history"), "history", "step", "test_loss")


def along(series: str, run: str, predictor: str) -> Source:
    """Test loss of one of the three predictors that are followed along the training `run`."""
    select = (("predictor", predictor), *_OWN)
    behind = (run.replace("-second", "-extract"),)
    return Source(series, run_file(run, "interpolation"), "interpolation", "step", "test_loss", select=select, behind=behind)


def _by_position(run: str) -> Source:
    return Source(label(run), run_file(run, "loss"), "loss", select=_OWN)


def _theory(name: str) -> Source:
    return Source(label(name), f"theory/{name}/loss/seed-{{seed}}.parquet", "loss", select=_OWN)


def training(letter: str, depth: int, compressed: str, until: int) -> Panel:
    """Test loss along the second training of `depth` layers; `compressed` names the flat line of the compressed weights."""
    second = f"linear/lsa-d{depth}-second"
    sources = (
        _trained(second),
        along(f"Interpolation-{depth}", second, "interpolation"),
        along(compressed, second, "compressed"),
        _trained("linear/mesa-d1"),
    )
    title = "Training, one layer" if depth == 1 else f"Training, {depth} layers"
    axes = Axes("training step", f"test loss, {LOSS}", x_range=(0, until))
    return Panel(f"training_loss_{depth}", "curves", title, sources, axes, letter=letter)


def _positions(letter: str, name: str, title: str, sources: tuple[Source, ...]) -> Panel:
    axes = Axes("observed tokens $t$", f"next-token MSE, {LOSS}", x_range=(1, 50))
    return Panel(name, "curves", title, sources, axes, letter=letter)


def positions_one_layer(letter: str, task: str = "linear") -> Panel:
    """Next-token MSE over t of one linear layer and one step of gradient descent."""
    return _positions(letter, "mse_1", "Prediction, one layer", (_by_position(f"{task}/lsa-d1"), _theory(f"{task}/gd1")))


def positions_depth(letter: str, task: str = "linear") -> Panel:
    """Next-token MSE over t for growing depth, Proposition 2 and one mesa-layer."""
    models = tuple(_by_position(f"{task}/lsa-d{depth}") for depth in (1, 2, 4, 6))
    others = (_theory(f"{task}/proposition2"), _by_position(f"{task}/mesa-d1"))
    return _positions(letter, "mse_depth", "Prediction, by depth", models + others)


def positions_published_form() -> Panel:
    """Next-token MSE over t of Proposition 2 as its published curve was made; in the table alone."""
    source, axes = _theory("linear/proposition2-published"), Axes("observed tokens $t$", f"next-token MSE, {LOSS}", (1, 50))
    return Panel("mse_depth_published_form", "table", "Proposition 2, published form", (source,), axes)


def _probe(letter: str, task: str, target: str, name: str, title: str, unit: str) -> tuple[Panel, Panel]:
    """The panel of probes scored as published, and its twin for held-out sequences."""

    def panel(split: str, name_of_twin: str, title_of_twin: str) -> Panel:
        select = (("target", target), ("split", split), ("model", "trained"), *_OWN)
        source = Source("layer {layer}", run_file(f"{task}/lsa-d6", "probes"), "probes", select=select)
        axes = Axes("observed tokens $t$", f"probe error, {unit}", x_range=(1, 50), log=True)
        return Panel(name_of_twin, "layers", title_of_twin, (source,), axes, letter=letter, slot=name, split=split)

    return panel("in_sample", name, title), panel("held_out", f"{name}_held_out", f"{title}, held-out")


def target_probe(letter: str, task: str = "linear") -> tuple[Panel, Panel]:
    return _probe(letter, task, "next_token", "target_probe", "Target probe", LOSS)


def preconditioning_probe(letter: str, task: str = "linear") -> tuple[Panel, Panel]:
    unit = r"$\frac{1}{2}\Vert\hat x-x\Vert^2$"
    return _probe(letter, task, "preconditioned_input", "preconditioning_probe", "Preconditioning probe", unit)


def in_context_descent(letter: str) -> Panel:
    """The model's own objective, measured on what is read out after each layer."""
    source = Source("LSA-6", run_file("linear/lsa-d6", "in_context"), "in_context", "layer", "loss", select=(("t", "last"),))
    axes = Axes("after layer", r"in-context loss $L_t(\Phi)/(t-1)$")
    return Panel("in_context", "descent", "Measured", (source,), axes, letter=letter)


def weights(run: str, slots: Slots, layer: int, head: int, product: str) -> Panel:
    """One product of one head, of the first seed."""
    select = (("layer", layer), ("head", head), ("product", product))
    source = Source(label(run), run_file(run, "weights"), "weights", "col", "row", "value", select)
    place = f"head {head}" if label(run) == "LSA-1" else f"layer {layer}, head {head}"
    name = f"layer_{layer}_head_{head}_{product}"
    return Panel(name, "matrix", f"{PRODUCTS[product]}, {place}", (source,), Axes(*CONVENTION[product]), slots, "first")
