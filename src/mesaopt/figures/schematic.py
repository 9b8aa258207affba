"""The drawn half of figure 1: how a Transformer is thought to optimise while it predicts."""

from matplotlib.axes import Axes as Canvas
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from mesaopt.figures import style

TOKENS = ("$s_1$", "$s_2$", r"$\cdots$", "$s_{t-1}$", "$s_t$")
COPIED = ("$(s_1, 0)$", "$(s_2, s_1)$", r"$\cdots$", "$(s_{t-1}, s_{t-2})$", "$(s_t, s_{t-1})$")


def draw_schematic(canvas: Canvas, size: float) -> None:
    """Token stream, copying layer, optimising layers and prediction, from bottom to top; `size` is the font size in points."""
    canvas.set(xlim=(0, 10), ylim=(0, 6.4))
    canvas.axis("off")
    _tokens(canvas, TOKENS, 0.1, 0.62, size)
    _box(canvas, (0.2, 1.45, 7.6, 0.72), "copying layer: binds neighbours into tokens", style.green(0.05, 0.2), size)
    _tokens(canvas, COPIED, 2.55, 0.62, size)
    _optimiser(canvas, size)
    for centre in _centres():
        _arrow(canvas, (centre, 0.8), (centre, 1.4))
        _arrow(canvas, (centre, 2.2), (centre, 2.5))
        _arrow(canvas, (centre, 3.25), (centre, 3.65))
    _arrow(canvas, (_centres()[-1], 5.5), (_centres()[-1], 5.85))
    canvas.text(_centres()[-1], 6.1, r"$\hat s_{t+1} = \Phi_t\, s_t$", ha="center", va="center", fontsize=size + 1)
    _side_notes(canvas, size)


def _optimiser(canvas: Canvas, size: float) -> None:
    steps = (r"layer 2: $\Phi \leftarrow \Phi - \eta\,\nabla L_t(\Phi)$", r"$\cdots$", r"layer $d$: improve again")
    for index, text in enumerate(steps):
        _box(canvas, (0.2, 3.7 + 0.61 * index, 7.6, 0.53), text, style.green(0.2 + 0.14 * index, 0.2), size)


def _side_notes(canvas: Canvas, size: float) -> None:
    notes = (
        (0.4, "sequence of a system\nnever seen before"),
        (1.8, "creates the\nmesa-dataset"),
        (2.85, "inputs $s_{t'-1}$,\ntargets $s_{t'}$"),
        (
            4.6,
            "mesa-optimisation:\nminimise\n"
            + r"$L_t(\Phi)=\sum_{t'<t}\frac{1}{2}\Vert s_{t'+1}-\Phi s_{t'}\Vert^2$"
            + "\nlayer by layer",
        ),
    )
    for height, text in notes:
        canvas.text(8.05, height, text, va="center", ha="left", fontsize=size - 0.5, color="0.25", linespacing=1.25)


def _centres() -> list[float]:
    return [0.2 + 7.6 * (index + 0.5) / len(TOKENS) for index in range(len(TOKENS))]


def _tokens(canvas: Canvas, labels: tuple[str, ...], bottom: float, height: float, size: float) -> None:
    for centre, text in zip(_centres(), labels, strict=True):
        if "cdots" in text:
            canvas.text(centre, bottom + height / 2, text, ha="center", va="center", fontsize=size)
        else:
            _box(canvas, (centre - 0.7, bottom, 1.4, height), text, "white", size)


def _box(canvas: Canvas, place: tuple[float, float, float, float], text: str, colour: object, size: float) -> None:
    """`place` is left, bottom, width, height in the units of the axes."""
    left, bottom, width, height = place
    shape = "round,pad=0,rounding_size=0.12"
    canvas.add_patch(FancyBboxPatch((left, bottom), width, height, shape, facecolor=colour, edgecolor="0.35", linewidth=0.7))
    canvas.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", fontsize=size)


def _arrow(canvas: Canvas, start: tuple[float, float], end: tuple[float, float]) -> None:
    canvas.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=6, linewidth=0.7, color="0.35", shrinkA=0, shrinkB=0)
    )
