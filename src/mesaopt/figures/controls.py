"""What stands in a figure's table beside its drawn panels: controls that the paper lacks, and numbers read off the weights.

All of it are `table` panels, which no page shows. Names of controls begin with those of the drawn panels that they belong to.
"""

import dataclasses
from collections.abc import Sequence
from itertools import product

from mesaopt.figures.contents import along
from mesaopt.figures.parts import Panel, Seeds, Source

#: statistics of a weight product; extract.py says what each one is
STATISTICS = (
    "max_abs",
    "norm",
    "above_1pct",
    "above_5pct",
    "above_10pct",
    "entries_90pct_energy",
    "block_energy",
    "block_strength",
)


def _other_rows(source: Source, **wanted: str) -> Source:
    """The source with other values wanted of columns that it selects by."""
    return dataclasses.replace(source, select=tuple((column, wanted.get(column, value)) for column, value in source.select))


def on_test_batches(panel: Panel, seeds: Seeds = "all") -> Panel:
    """The values of `panel` on each of several test batches, as cells: x as in the panel, y the batch.

    Those of losses and errors by position are shared by all seeds. So training seeds and test batches are crossed, and the spread
    over one can be had with the other fixed.
    """
    sources = (dataclasses.replace(_other_rows(source, batch="nonzero"), y="batch", value=source.y) for source in panel.sources)
    return Panel(f"{panel.name}_test_batches", "table", panel.title, tuple(sources), seeds=seeds)


#: what the tables hold of a loss by position beside its mean over sequences, and what it adds to a panel's name
SAMPLING = ("median", "error", "sequences")


def sampling(panel: Panel) -> tuple[Panel, ...]:
    """Of the losses of `panel`: median over sequences, standard error of the mean, and over how many sequences they are."""
    return tuple(
        Panel(
            f"{panel.name}_{name}", "table", panel.title, tuple(dataclasses.replace(source, y=name) for source in panel.sources)
        )
        for name in SAMPLING
    )


def training_on_test_batches(panel: Panel, depth: int) -> Panel:
    """The same for the training that `panel` follows, without the mesa-layer; the batches are the training's own, ten at the
    paper's settings, and the curves of `panel` are their means.
    """
    run = f"linear/lsa-d{depth}-second"
    followed = (along(run, "trained"), *(source for source in panel.sources if source.table == "interpolation"))
    return on_test_batches(dataclasses.replace(panel, sources=followed), "first")


def probe_controls(panels: Sequence[Panel]) -> tuple[Panel, ...]:
    """For probes scored in sample and held out (the two of `panels`): the untrained model, and the targets of other sequences.

    In sample, the first seed's errors on the shared batches as well.
    """
    found = [on_test_batches(panels[0], "first")]
    for panel in panels:
        target = dict(panel.sources[0].select)["target"]
        for name, wanted in (("untrained", {"model": "untrained"}), ("shuffled", {"target": f"shuffled_{target}"})):
            sources = tuple(_other_rows(source, **wanted) for source in panel.sources)
            found.append(Panel(f"{panel.name}_{name}", "table", panel.title, sources))
    return tuple(found)


def structure(run: str, seeds: Seeds = "all") -> tuple[Panel, ...]:
    """Statistics of every product of a run, trained and untrained, as cells: x is the layer, y the head."""

    def panel(model: str, name: str) -> Panel:
        select = (("model", model), ("product", name), ("statistic", STATISTICS))
        source = Source(run, "structure", "{statistic}", "layer", "head", "value", select)
        return Panel(f"structure_{run.rpartition('/')[2]}_{model}_{name}", "table", run, (source,), seeds=seeds)

    return tuple(panel(model, name) for model, name in product(("trained", "untrained"), ("QK", "OV")))


def heads_together(run: str) -> Panel:
    """How much of what the heads of a linear layer compute together are multiples of the identity, trained and untrained."""
    select = (("model", ("trained", "untrained")), ("statistic", "joint_block_energy"))
    source = Source(run, "structure", "{model}", "layer", "value", select=select)
    return Panel("heads_together", "table", "What heads compute together", (source,))


def _eta_of_layer(run: str, series: str = "{label}", statistic: str = "eta") -> Source:
    select = (("model", "trained"), ("statistic", statistic))
    return Source(run, "structure", series, "layer", "value", select=select)


def eta(task: str = "linear") -> Panel:
    """The learning rate of the gradient step that the trained layer performs, and the line-searched one of GD-1.

    The first is read off the compressed weights as Proposition 1 says, and for all slots of the token together; the second is
    learned once, so the same for every seed.
    """
    learned = (("parameter", "eta"),)
    line_searched = Source(f"{task}/gd1", "parameters", x="step", y="value", select=learned, algorithm=True)
    run = f"{task}/lsa-d1"
    read_off = (_eta_of_layer(run), _eta_of_layer(run, "{label}, all slots", "eta_all_slots"))
    return Panel("eta", "table", "Learning rate", (*read_off, line_searched))


def eta_large_batches() -> Panel:
    """The same of the layer whose weights are pictured, which was trained with large batches."""
    return Panel("eta_large_batches", "table", "Learning rate", (_eta_of_layer("linear/lsa-d1-weights"),), seeds="first")
