"""Colours, lines and type of all figures. Palettes and theme are seaborn's, which is imported when something is drawn."""

import contextlib
import functools
import re
import sys
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib.colors import Colormap

from mesaopt.figures.options import Style
from mesaopt.spec.look import Look

DOTTED, DASHED = (0, (1, 1.2)), (0, (4, 1.5))
_WORDS = {"solid": "-", "dashed": "--", "dotted": DOTTED, "dashdot": "-."}
#: families that have one line whatever the depth
_LINES: dict[str, dict[str, Any]] = {
    "gd": {"color": "#b06a30", "linestyle": DOTTED, "zorder": 3},
    "proposition2": {"color": "#f0a30a", "linestyle": DOTTED, "zorder": 3},
    "proposition2-nonlinear": {"color": "#6ec1e4", "linestyle": DOTTED, "zorder": 3},
    "lsq": {"color": "#303030", "linestyle": (0, (3, 1, 1, 1))},
    "compression": {"color": "#7f7f7f", "linestyle": DASHED},
    "interpolation": {"color": "#7d3c98", "linestyle": "--", "zorder": 3},
}
#: families that are the darker the deeper: a palette (or its two ends), and where the shade of one layer lies in it
_SHADES: dict[str, tuple[str | tuple[str, str], float]] = {
    "linear": ("Greens", 0.42),
    "softmax": ("Blues", 0.42),
    "mesa": (("#d1232b", "#67000d"), 0.0),
    "hybrid": (("#e8604c", "#8c1a1a"), 0.0),
    "linear-mesa": (("#2a9d8f", "#0b4f4a"), 0.0),
    "full-mesa": (("#9460bd", "#43116b"), 0.0),
    "other": (("#8d99ae", "#2b2d42"), 0.0),
}
#: palettes of the layers of one model, by its family
_LAYERS = {"softmax": "Blues", "mesa": "Reds", "hybrid": "Reds", "linear-mesa": "BuGn", "full-mesa": "Purples", "other": "Greys"}
#: negative blue, zero white, positive red
MATRIX_COLOURS = "RdBu_r"
DEEPEST = 7


def line(look: Look) -> dict[str, Any]:
    """Line properties by family, depth (the deeper, the darker), and the entry's own colour and line."""
    found = dict(_LINES.get(look.family) or {"color": _by_depth(look)})
    found |= {"color": look.colour} if look.colour else {}
    return found | ({"linestyle": _WORDS[look.line]} if look.line else {})


def _by_depth(look: Look) -> tuple[float, ...]:
    palette, lightest = _SHADES.get(look.family, _SHADES["other"])
    return _shade(palette, (look.depth - 1) / (DEEPEST - 1), lightest)


def layer_line(series: str, deepest: int, family: str = "linear") -> dict[str, Any]:
    """Line properties of `layer k` among 0..deepest: light to dark in the colour of the model's family."""
    return {"color": shade(layer_number(series) / max(deepest, 1), lightest=0.32, family=family)}


def layer_number(series: str) -> int:
    match = re.fullmatch(r"layer (\d+)", series)
    if match is None:
        raise KeyError(series)
    return int(match[1])


def shade(share: float, lightest: float, family: str = "linear") -> tuple[float, ...]:
    """A colour of the layers of a family: `share` 0 the lightest, 1 the darkest."""
    return _shade(_LAYERS.get(family, "Greens"), share, lightest)


def palette(family: str) -> Colormap:
    """White to the family's darkest, for values from 0 to 1."""
    return _palette(_LAYERS.get(family, "Greens"))


def _shade(palette: str | tuple[str, str], share: float, lightest: float) -> tuple[float, ...]:
    return _palette(palette)(lightest + (1 - lightest) * min(max(share, 0.0), 1.0))


@functools.cache
def _palette(palette: str | tuple[str, str]) -> Colormap:
    import seaborn as sns

    return sns.color_palette(palette, as_cmap=True) if isinstance(palette, str) else sns.blend_palette(palette, as_cmap=True)


def import_seaborn() -> None:
    """Import seaborn as it is without scipy, which it takes for densities alone where there is one: half a second a redraw."""
    if "scipy" in sys.modules or "seaborn" in sys.modules:
        return
    sys.modules["scipy"] = None  # type: ignore[assignment]
    try:
        import seaborn  # noqa: F401
    finally:
        del sys.modules["scipy"]


@contextlib.contextmanager
def applied(options: Style) -> Iterator[None]:
    """Draw in this style, whatever matplotlib was told before: a user's matplotlibrc must not change a figure."""
    import_seaborn()
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings(options))
        yield


def settings(style: Style) -> dict[Any, Any]:
    """matplotlib settings: seaborn's theme with ticks, sizes for print, fonts embedded as TrueType in PDF, as outlines in SVG."""
    import seaborn as sns

    size = style.font_size
    return sns.axes_style("ticks") | {
        "font.family": "DejaVu Sans",
        "mathtext.fontset": "dejavusans",
        "font.size": size,
        "axes.titlesize": size + 0.5,
        "axes.labelsize": size,
        "xtick.labelsize": size - 0.5,
        "ytick.labelsize": size - 0.5,
        "legend.fontsize": size - 0.8,
        "legend.title_fontsize": size - 0.8,
        # white and without an edge, so that a line behind names leaves them legible
        "legend.frameon": True,
        "legend.facecolor": "white",
        "legend.edgecolor": "none",
        "legend.framealpha": 0.8,
        "lines.linewidth": style.line_width,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": style.grid,
        "axes.axisbelow": True,
        "grid.color": "0.9",
        "grid.linewidth": 0.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "xtick.minor.size": 1.5,
        "ytick.minor.size": 1.5,
        "savefig.dpi": style.dpi,
        "pdf.fonttype": 42,
        "svg.fonttype": "path",
        "svg.hashsalt": "mesaopt",
        "image.interpolation": "none",
    }
