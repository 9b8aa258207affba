"""Colours, lines and type of all figures."""

import re
from typing import Any

from matplotlib import colormaps

from mesaopt.figures.options import Style

#: fixed series; linear models are green by depth (see `line`), mesa models red
_LINES: dict[str, dict[str, Any]] = {
    "GD-1": {"color": "#b06a30", "linestyle": (0, (1, 1.2)), "zorder": 3},
    "Proposition 1": {"color": "#7f7f7f", "linestyle": (0, (4, 1.5))},
    "Proposition 2": {"color": "#f0a30a", "linestyle": (0, (1, 1.2)), "zorder": 3},
    "Proposition 2 (published form)": {"color": "#c7820a", "linestyle": (0, (1, 1.2)), "zorder": 3},
    "LSQ": {"color": "#303030", "linestyle": (0, (3, 1, 1, 1))},
}
_FAMILIES: dict[str, dict[str, Any]] = {
    "Mesa": {"color": "#d1232b"},
    "CompressedAlg": {"color": "#7f7f7f", "linestyle": (0, (4, 1.5))},
    "Interpolation": {"color": "#7d3c98", "linestyle": "--", "zorder": 3},
}
#: negative blue, zero white, positive red
MATRIX_COLOURS = "RdBu_r"
DEEPEST = 7


def line(series: str) -> dict[str, Any]:
    """Line properties of a series by its name. Linear models are the darker the deeper; an unknown name raises `KeyError`."""
    if series in _LINES:
        return _LINES[series]
    family, _, depth = series.rpartition("-")
    if family == "LSA":
        return {"color": green((int(depth) - 1) / (DEEPEST - 1), lightest=0.42)}
    return _FAMILIES[family]


def layer_line(series: str, deepest: int) -> dict[str, Any]:
    """Line properties of `layer k` among 0..deepest: light to dark."""
    return {"color": green(layer_number(series) / max(deepest, 1), lightest=0.32)}


def layer_number(series: str) -> int:
    match = re.fullmatch(r"layer (\d+)", series)
    if match is None:
        raise KeyError(series)
    return int(match[1])


def green(share: float, lightest: float) -> tuple[float, float, float, float]:
    """A green: `share` 0 the lightest, 1 the darkest."""
    return colormaps["Greens"](lightest + (1 - lightest) * min(max(share, 0.0), 1.0))


def settings(style: Style) -> dict[Any, Any]:
    """matplotlib settings: sizes for print, fonts embedded as TrueType in PDF, as outlines in SVG."""
    size = style.font_size
    return {
        "font.family": "DejaVu Sans",
        "mathtext.fontset": "dejavusans",
        "font.size": size,
        "axes.titlesize": size + 0.5,
        "axes.labelsize": size,
        "xtick.labelsize": size - 0.5,
        "ytick.labelsize": size - 0.5,
        "legend.fontsize": size - 0.8,
        "legend.title_fontsize": size - 0.8,
        "legend.frameon": False,
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
