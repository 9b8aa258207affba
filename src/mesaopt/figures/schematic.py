"""The drawn half of figure 1: how a Transformer is thought to optimise while it predicts."""

from matplotlib.axes import Axes as Canvas
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from mesaopt.figures import style

TOKENS = ("$s_1$", "$s_2$", r"$\cdots$", "$s_{t-1}$", "$s_t$")
COPIED = ("$(s_1, 0)$", "$(s_2, s_1)$", r"$\cdots$", "$(s_{t-1}, s_{t-2})$", "$(s_t, s_{t-1})$")


STEPS = (r"layer 2: $\Phi \leftarrow \Phi - \eta\,\nabla L_t(\Phi)$", r"$\cdots$", r"layer $d$: $L_t(\Phi)$ lower still")
#: height and text of what stands on the right
NOTES = (
    (0.3, "sequence from a system\nnever seen before"),
    (1.56, "creates the mesa-dataset:"),
    (2.8, "inputs $s_{t'}$, targets $s_{t'+1}$"),
    (5.42, "mesa-optimisation: minimise"),
    (4.8, r"$L_t(\Phi)=\frac{1}{2}\sum_{t'<t}\Vert s_{t'+1}-\Phi s_{t'}\Vert^2$"),
    (4.08, "layer by layer"),
)


def draw_schematic(canvas: Canvas, size: float | int) -> None:
    """Token stream, copying layer, optimising layers and prediction, from bottom to top; `size` is the font size in points."""
    canvas.set(xlim=(0, 10.6), ylim=(-0.75, 6.5))
    canvas.axis("off")
    last = _centres()[-1]
    _tokens(canvas, TOKENS, 0, 0.6, size)
    _box(canvas, (0.2, 1.25, 7.4, 0.62), "copying layer: binds neighbours into one token", style.shade(0.05, 0.2), size)
    _tokens(canvas, COPIED, 2.5, 0.6, size - 1)
    for index, text in enumerate(STEPS):
        _box(canvas, (0.2, 3.75 + 0.6 * index, 7.4, 0.52), text, style.shade(0.2 + 0.14 * index, 0.2), size)
    for centre in _centres():
        for low, high in ((0.65, 1.2), (1.92, 2.45), (3.15, 3.7)):
            _arrow(canvas, (centre, low), (centre, high))
    _arrow(canvas, (last, 5.5), (last, 5.9))
    canvas.text(last, 6.15, r"$\hat s_{t+1} = \Phi\, s_t$", ha="center", va="center", fontsize=size + 1)
    _arrow(canvas, (0.3, -0.35), (7.5, -0.35))
    canvas.text(3.9, -0.62, "time", ha="center", va="center", fontsize=size - 0.5, color="0.25")
    for height, text in NOTES:
        canvas.text(7.85, height, text, va="center", ha="left", fontsize=size - 0.5, color="0.25", linespacing=1.3)


def _centres() -> list[float]:
    return [0.2 + 7.4 * (index + 0.5) / len(TOKENS) for index in range(len(TOKENS))]


def _tokens(canvas: Canvas, labels: tuple[str, ...], bottom: float | int, height: float, size: float | int) -> None:
    for centre, text in zip(_centres(), labels, strict=True):
        if "cdots" in text:
            canvas.text(centre, bottom + height / 2, text, ha="center", va="center", fontsize=size)
        else:
            _box(canvas, (centre - 0.72, bottom, 1.44, height), text, "white", size)


def _box(canvas: Canvas, place: tuple[float | int, ...], text: str, colour: object, size: float | int) -> None:
    """`place` is left, bottom, width, height in the units of the axes."""
    left, bottom, width, height = place
    shape = "round,pad=0,rounding_size=0.12"
    canvas.add_patch(FancyBboxPatch((left, bottom), width, height, shape, facecolor=colour, edgecolor="0.35", linewidth=0.7))
    canvas.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", fontsize=size)


def _arrow(canvas: Canvas, start: tuple[float | int, float | int], end: tuple[float | int, float | int]) -> None:
    canvas.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=6, linewidth=0.7, color="0.35", shrinkA=0, shrinkB=0)
    )
