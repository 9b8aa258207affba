"""Few-shot regression: models trained to predict next elements, asked for labels, with and without tuned tokens."""

from mesaopt.figures import contents
from mesaopt.figures.parts import Axes, Figure, Panel, Source

#: pairs that the paper shows
LAST = 59
#: least squares with few more or fewer pairs than channels goes far beyond
TOP = 3.0
#: of the series of a model: predictor, name, line
MODELS = (
    ("model", "{label}", ""),
    ("model_eos", "{label} + EOS", "dashed"),
    ("model_eos_prefix", "{label} + EOS + P", "dashdot"),
)
#: predictor and token of which there are no rows where no prefix is tuned (`prefix: 0`)
WITH_PREFIX = ("model_eos_prefix", "prefix")
#: predictor, name, family, line
ALGORITHMS = (
    ("lsq", "LSQ", "lsq", ""),
    ("lsq_searched", "LSQ, searched", "lsq", "dashed"),
    ("lsq_pairs", "LSQ, pairs alone", "lsq", "dotted"),
    ("zero", "zero", "compression", "dotted"),
)


def _labels(run: str, tasks: str) -> tuple[Source, ...]:
    """Errors of labels by pair, of a model and of what stands beside it."""

    def of(predictor: str, series: str, line: str, family: str = "") -> Source:
        select = (("predictor", predictor), ("tasks", tasks))
        optional = predictor in WITH_PREFIX
        return Source(run, "few_shot", series, "pair", "mse", select=select, family=family, line=line, optional=optional)

    models = (of(predictor, series, line) for predictor, series, line in MODELS)
    return (*models, *(of(predictor, series, line, family) for predictor, series, family, line in ALGORITHMS))


def _by_pair(letter: str, run: str, tasks: str, title: str) -> Panel:
    name = {"one": "labels", "two": "labels_switch"}[tasks]
    label = f"error of the label, {contents.LOSS}"
    axes = Axes("pairs seen before $k$", label, x_range=(0, LAST), y_top=TOP, legend=tasks == "one")
    return Panel(name, "curves", title, _labels(run, tasks), axes, letter=letter)


def _ascent(run: str, column: str) -> Panel:
    """How the error rises before it falls: after how many pairs (x), and how far or for how many pairs; in the table alone."""
    sources = tuple(
        Source(
            run, "early_ascent", series, "place", column, select=(("predictor", predictor),), optional=predictor in WITH_PREFIX
        )
        for predictor, series, _ in MODELS
    )
    return Panel(f"early_ascent_{column}", "table", f"Early ascent: {column}", sources)


def _tuning(run: str) -> Panel:
    """How the tuning of the tokens went; in the table alone."""
    names = {"separator": "EOS", "prefix": "P"}
    sources = tuple(
        Source(run, "tuning", name, "step", "loss", select=(("token", token),), optional=token in WITH_PREFIX)
        for token, name in names.items()
    )
    return Panel("tuning", "table", "Tuning of the tokens", sources)


def _few_shot(run: str, model: str) -> Figure:
    curves = (_by_pair("A", run, "one", "One task"), _by_pair("B", run, "two", "Two tasks, one after the other"))
    beside = (_ascent(run, "height"), _ascent(run, "width"), _tuning(run))
    return Figure(f"Few-shot regression by {model}", (*curves, *beside), (tuple(panel.name for panel in curves),), 0.42)


def softmax() -> Figure:
    """Figure 8: few-shot regression by Softmax-7, of one task and where the task changes."""
    return _few_shot("linear-long/softmax-d7", "Softmax-7")


def hybrid() -> Figure:
    """Figure 18: the same by Hybrid-mesa."""
    return _few_shot("linear-long/hybrid", "Hybrid-mesa")
