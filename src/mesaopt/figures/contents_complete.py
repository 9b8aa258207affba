"""The panels that are drawn of complete Transformers: what their first layer does, and predictions beside hand-written controls.

Token probes, attention maps and sensitivities are of the first layer, at the last position or over all of them.
"""

import dataclasses
from collections.abc import Sequence

from mesaopt.figures.contents import CONVENTION, PRODUCTS, by_split, positions
from mesaopt.figures.parts import Axes, Kind, Panel, Source

#: positions of the paper's sequences: the last one, and those from which on the last elements are followed one by one
LAST, FOLLOWED = 50, 45
_TRAINED = (("model", "trained"), ("batch", 0))


def _tokens(run: str, split: str, value: str, series: str = "{label}", line: str = "") -> Source:
    select = (("target", "token"), ("split", split), *_TRAINED)
    return Source(run, "token_probes", series, "token", value, select=select, line=line)


def token_probe(
    letter: str, name: str, title: str, runs: Sequence[tuple[str, str, str]], kind: Kind = "curves"
) -> tuple[Panel, ...]:
    """How well each of the last elements is decoded from the first layer's output at the last position, in sample and held out.

    `runs` are (run, series, line).
    """
    axes = Axes("decoded element $t'$", "probe error, $(\\hat s - s)^2$ per channel")

    def sources(split: str) -> tuple[Source, ...]:
        return tuple(_tokens(run, split, "mse", series, line) for run, series, line in runs)

    return by_split(name, kind, title, letter, axes, sources)


def token_probe_r2(letter: str, name: str, title: str, run: str) -> tuple[Panel, ...]:
    """The same as a share of variance, which is what the published axis says."""
    axes = Axes("decoded element $t'$", "$R^2$")
    return by_split(name, "curves", title, letter, axes, lambda split: (_tokens(run, split, "r2"),))


def feature_probe(letter: str, name: str, title: str, run: str) -> tuple[Panel, ...]:
    """How well MLP*(s_t) is decoded from what each layer of `run` leaves at t, the input included."""
    axes = Axes("observed tokens $t$", "probe error, $(\\hat f - f)^2$ per channel", x_range=(1, LAST), log=True)

    def sources(split: str) -> tuple[Source, ...]:
        select = (("target", "features"), ("split", split), *_TRAINED)
        return (Source(run, "feature_probes", "layer {layer}", select=select),)

    return by_split(name, "layers", title, letter, axes, sources)


def attention_map(letter: str, run: str, head: int = 0, title: str = "") -> Panel:
    """With what weight each position of the first layer reads each earlier one; head 0 is the mean over heads."""
    source = Source(run, "attention", x="token", y="t", value="weight", select=(("head", head), *_TRAINED))
    axes = Axes("column: position $t'$ that is read", "row: position $t$ of the query")
    title = title or (f"head {head}" if head else "First layer, mean over heads")
    return Panel(f"attention_{head or 'mean'}", "map", title, (source,), axes, letter=letter, seeds="first")


def attention_by_lag(run: str, heads: Sequence[int]) -> Panel:
    """The mean weight on the element `lag` steps back, over positions, per head; in the table alone."""
    sources = [
        Source(
            run,
            "attention_lags",
            f"head {head}" if head else "mean over heads",
            "lag",
            "weight",
            select=(("head", head), *_TRAINED),
        )
        for head in heads
    ]
    return Panel(f"attention_by_lag_{run.rpartition('/')[2]}", "table", "Attention by distance", tuple(sources))


def sensitivity(letter: str, name: str, title: str, run: str) -> Panel:
    """How much the first layer's output at the last position depends on each of the last elements, along training."""
    one_by_one = [
        Source(run, "sensitivity", f"$t'$ = {t}", "step", "sensitivity", select=(("first", t), ("last", t), ("batch", 0)))
        for t in range(FOLLOWED, LAST + 1)
    ]
    earlier = (("first", 1), ("last", FOLLOWED - 1), ("batch", 0))
    rest = Source(run, "sensitivity", f"$t'$ < {FOLLOWED}", "step", "sensitivity", select=earlier, line="dashed")
    axes = Axes("training step", f"$\\Vert \\partial f^{{(1)}}_{{{LAST}}} / \\partial s_{{t'}} \\Vert$ per channel")
    return Panel(name, "shades", title, (*one_by_one, rest), axes, letter=letter)


def predictions(
    letter: str, name: str, title: str, runs: Sequence[str], algorithms: Sequence[str], top: float | None = None
) -> Panel:
    """Next-token MSE over t of runs and hand-written algorithms; `top` is the published end of the y axis."""
    panel = positions(letter, name, title, runs, algorithms)
    assert panel.axes is not None
    return dataclasses.replace(panel, axes=dataclasses.replace(panel.axes, y_top=top))


def whole_product(run: str, layer: int, head: int, product: str) -> Panel:
    """One product of one head, all channels of the residual stream."""
    select = (("layer", layer), ("head", head), ("product", product))
    source = Source(run, "weights", x="col", y="row", value="value", select=select)
    title = f"{PRODUCTS[product]}, layer {layer}, head {head}"
    return Panel(f"layer_{layer}_head_{head}_{product}", "matrix", title, (source,), Axes(*CONVENTION[product]), seeds="first")
