"""What a figure is made of: panels, their axes and the files behind their curves."""

import re
from dataclasses import dataclass
from typing import Literal

#: a `table` panel is never drawn: its values are in the figure's table, beside those that they are compared with
Kind = Literal["curves", "layers", "descent", "matrix", "schematic", "table"]
Seeds = Literal["all", "first"]


@dataclass(frozen=True)
class Source:
    """Columns of one table that become one series, or one per value of a column when `series` holds its name, like `{layer}`.

    `path` is relative to results/{scale}/ and holds `{seed}` unless all seeds share the file; `table` names the kind of table
    there (tables.TABLES). Curves have their values in `y`; where `value` names a column, `x` and `y` are its coordinates. Rows
    are those where every column of `select` has the given value, one of several, its largest one for "last", or any but 0 for
    "nonzero". `behind` names further runs that the file was computed from.
    """

    series: str
    path: str
    table: str
    x: str = "t"
    y: str = "mse"
    value: str = ""
    select: tuple[tuple[str, str | int | tuple[str, ...]], ...] = ()
    behind: tuple[str, ...] = ()

    def has(self, series: str) -> bool:
        """Whether it gives such a series: `{column}` stands for the values that it selects of the column, or for any number."""
        chosen = {f"{{{column}}}": wanted for column, wanted in self.select if isinstance(wanted, tuple)}
        options = {place: "|".join(re.escape(str(value)) for value in values) for place, values in chosen.items()}
        parts = re.split(r"(\{\w+\})", self.series)
        pattern = "".join(f"({options.get(part, r'[0-9]+')})" if part.startswith("{") else re.escape(part) for part in parts)
        return re.fullmatch(pattern, series) is not None


@dataclass(frozen=True)
class Axes:
    """Labels with units. `x_range` is the published one: it holds where the data reach that far."""

    x_label: str
    y_label: str
    x_range: tuple[int, int] | None = None
    log: bool = False


@dataclass(frozen=True)
class Slots:
    """Blocks of n_obs channels that the rows and columns of a weight product consist of; `shown` picks some of them.

    With `means` the mean of each block's diagonal is written into it.
    """

    labels: tuple[str, ...]
    shown: tuple[int, ...]
    means: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel. `slot` is its place in the layout (default: its name); `split` ties it to the style option `probe_split`."""

    name: str
    kind: Kind
    title: str
    sources: tuple[Source, ...] = ()
    axes: Axes | None = None
    slots: Slots | None = None
    seeds: Seeds = "all"
    letter: str = ""
    slot: str = ""
    split: str = ""

    @property
    def place(self) -> str:
        return self.slot or self.name


#: rows of places
Layout = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """Panels and where they stand; `aspect` is height over width."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    layout: Layout
    aspect: float
    height_ratios: tuple[float, ...] = ()
    width_ratios: tuple[float, ...] = ()

    def drawn(self, split: str) -> tuple[Panel, ...]:
        """The panels on the page when probes of `split` are wanted; the table holds the others as well."""
        return tuple(panel for panel in self.panels if panel.kind != "table" and panel.split in ("", split))
