"""Language models: perplexity and in-context-learning score along the training, and the attention of a first layer.

A scale may do without runs (`without` in config/scales.yaml); what is drawn are the others.
"""

from collections.abc import Sequence

from mesaopt.figures.families.shared import grid, lettered
from mesaopt.figures.parts import Axes, Figure, Panel, Source

SHIFTED = (
    "text/shift-softmax",
    *(f"text/shift-{kind}-nu{nu}" for kind in ("linear", "mesa") for nu in range(4)),
)
CONTROLS = ("text/one-softmax", "text/shift-delta")
TWO, FOUR = (tuple(f"text/{depth}-{kind}" for kind in ("softmax", "linear", "mesa")) for depth in ("two", "four"))
COPYING = "text/two-softmax"
HEADS = range(1, 13)
SEEN = "tokens seen"
PERPLEXITY = Axes(SEEN, "test perplexity", log=True)
SCORE = Axes(SEEN, "in-context-learning score, nats")


def key_shift() -> Figure:
    """Figure 26: one layer whose keys are those of the token before, by its kind and its features."""
    return _figure("One layer with shifted keys", ("A", "B"), {"": SHIFTED}, CONTROLS)


def hybrids() -> Figure:
    """Figure 27: a layer of softmax attention, then others of one kind."""
    return _figure("Two and four layers, the first of softmax", ("A", "B", "C", "D"), {"_2": TWO, "_4": FOUR})


def first_layer() -> Figure:
    """Figure 28: attention maps of the twelve heads of the first layer of two."""
    maps = [_map(head) for head in HEADS]
    copies = _beside("copy_heads", "Weight at one distance", "copy_heads", (COPYING,), x="head", y="weight")
    spread = _beside("copy_deviation", "Its deviation over sequences", "copy_heads", (COPYING,), x="head", y="deviation")
    offsets = _beside("copy_offset", "That distance", "copy_heads", (COPYING,), x="head", y="offset")
    # each of the others copies, too
    best = _beside("copy_best", "The best head of every model", "copy_heads", (*TWO, *FOUR), (("head", 0),), x="head", y="weight")
    steady = _beside("copy_best_deviation", "Its deviation", "copy_heads", (*TWO, *FOUR), (("head", 0),), x="head", y="deviation")
    return Figure(
        "First-layer attention of two layers of softmax attention",
        (*lettered(maps, "A"), copies, spread, offsets, best, steady),
        grid(maps, 4),
        0.82,
    )


def _figure(title: str, letters: Sequence[str], groups: dict[str, tuple[str, ...]], controls: tuple[str, ...] = ()) -> Figure:
    """Perplexity and score of every group of runs side by side, in two panels a row; the measures at the end beside them."""
    panels, layout = [], []
    for row, (suffix, runs) in enumerate(groups.items()):
        depth = {"_2": ", two layers", "_4": ", four layers"}.get(suffix, "")
        pair = (
            _along(f"perplexity{suffix}", f"Perplexity{depth}", runs, "perplexity", PERPLEXITY, letters[2 * row]),
            _along(f"score{suffix}", f"In-context learning{depth}", runs, "score", SCORE, letters[2 * row + 1]),
        )
        layout.append(tuple(panel.name for panel in pair))
        panels += [*pair, *_controls(suffix, (*runs, *controls))]
    return Figure(title, tuple(panels), tuple(layout), 0.42 * len(groups) + 0.06)


def _along(name: str, title: str, runs: Sequence[str], column: str, axes: Axes, letter: str) -> Panel:
    sources = tuple(Source(run, "language_history", x="tokens", y=column, optional=True) for run in runs)
    return Panel(name, "measured", title, sources, axes, letter=letter)


def _controls(suffix: str, runs: tuple[str, ...]) -> tuple[Panel, ...]:
    """What is in the table alone: test loss and both scores along the training, loss by position, and the induction test."""
    along = [
        _beside(f"{column}_all{suffix}", title, "language_history", runs, x="tokens", y=column)
        for column, title in (("test_loss", "Test loss"), ("score", "Score"), ("single_score", "Score of single positions"))
    ]
    positions = _beside(f"by_position{suffix}", "Loss by position", "language_loss", runs, x="t", y="loss")
    measures = [
        _beside(f"{name}{suffix}", title, "language_measures", runs, (("measure", measure),), at=1.0, y="value", x="value")
        for name, measure, title in (
            ("loss", "loss", "Loss after the training"),
            ("final_score", "score", "Score after the training"),
            ("final_single_score", "single_score", "Score of single positions after the training"),
            ("repeated_first", "repeated_first", "Loss on random tokens"),
            ("repeated_second", "repeated_second", "Loss on the same tokens once more"),
        )
    ]
    return (*along, positions, *measures)


def _beside(
    name: str,
    title: str,
    table: str,
    runs: Sequence[str],
    select: tuple[tuple[str, str | int | tuple[str, ...]], ...] = (),
    *,
    x: str,
    y: str,
    at: float | None = None,
) -> Panel:
    """A panel that is in the table alone, its series called by their runs."""
    sources = (
        Source(run, table, run.partition("/")[2], x, y, select=select, at=at, optional=True) for run in dict.fromkeys(runs)
    )
    return Panel(name, "table", title, tuple(sources))


def _map(head: int) -> Panel:
    source = Source(COPYING, "language_attention", x="token", y="t", value="weight", select=(("head", head),), optional=True)
    return Panel(f"head_{head}", "map", f"head {head}", (source,), Axes("token $t'$", "query $t$"), seeds="first")
