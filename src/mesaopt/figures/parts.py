"""What a figure is made of: panels, their axes and the files behind their curves."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mesaopt.errors import InputError, unknown
from mesaopt.spec.look import Look, short_name

#: a `table` panel is never drawn: its values are in the figure's table, beside those that they are compared with
Kind = Literal["curves", "measured", "shades", "layers", "descent", "matrix", "map", "sweep", "schematic", "table"]
Seeds = Literal["all", "first"]


#: rows of a table: the column and the value that it must have, or one of several
Select = tuple[tuple[str, str | int | tuple[str, ...]], ...]


@dataclass(frozen=True)
class Source:
    """Columns of one table of a run (or hand-written `algorithm`) that become one series, or one per value of a column.

    `series` is text in which `{label}` stands for the run's label and `{column}`, like `{layer}`, for that column's values;
    `table` names the kind of table (tables.TABLES), from which its file follows. Curves have their values in `y`; where `value`
    names a column, `x` and `y` are its coordinates. Rows are those where every column of `select` has the given value, one of
    several, its largest one for "last", or any but 0 for "nonzero". `behind` names further runs that the file was computed from.
    `family` is that of the lines of a series that is not the run itself, `line` the line of one that shares its run's colour;
    `look` is there once labels are known (`with_looks`). Where a number is given for `at`, the mean of the rows, over `per`, is
    one point there. `seeds` are other ones than the panel's; an `optional` source may have no rows, and is not there where a
    scale does without its run.
    """

    run: str
    table: str
    series: str = "{label}"
    x: str = "t"
    y: str = "mse"
    value: str = ""
    select: Select = ()
    behind: tuple[str, ...] = ()
    algorithm: bool = False
    family: str = ""
    line: str = ""
    look: Look | None = None
    at: float | None = None
    per: int = 1
    seeds: Seeds | None = None
    optional: bool = False

    @property
    def path(self) -> str:
        """The file, relative to results/{scale}/, with `{seed}` unless all seeds share it."""
        if not self.algorithm:
            return f"{run_folder(self.run)}/{self.table}.parquet"
        shared = self.table == "parameters"  # learned once
        return f"theory/{self.run}/{self.table}{'' if shared else '/seed-{seed}'}.parquet"

    @property
    def runs(self) -> tuple[str, ...]:
        """The trained runs that the file comes from."""
        return () if self.algorithm else (self.run, *self.behind)

    def with_looks(self, looks: Mapping[str, Look]) -> "Source":
        """Its series named, and its lines known; a run of which nothing is said is called by its short name."""
        own = looks.get(self.run, Look(short_name(self.run)))
        look = dataclasses.replace(own, family=self.family, colour="", line="") if self.family else own
        look = dataclasses.replace(look, line=self.line) if self.line else look
        return dataclasses.replace(self, series=self.series.replace("{label}", own.label), look=look)

    def present(self, looks: Mapping[str, Look]) -> bool:
        """Whether it is there where `looks` are those of the runs of a scale."""
        return not self.optional or self.run in looks

    def columns(self, series: str) -> dict[str, str] | None:
        """The values of columns by which it gives such a series, None if it gives none.

        `{column}` stands for the values that it selects of the column, or for any number.
        """
        options = {column: "|".join(map(re.escape, wanted)) for column, wanted in self.select if isinstance(wanted, tuple)}
        parts = re.split(r"\{(\w+)\}", self.series)
        names = [f"(?P<{column}>{options.get(column, '[0-9]+')})" for column in parts[1::2]]
        texts = [re.escape(text) for text in parts[::2]]
        found = re.fullmatch("".join(text + name for text, name in zip(texts, [*names, ""], strict=True)), series)
        return None if found is None else found.groupdict()

    def has(self, series: str) -> bool:
        """Whether it gives such a series."""
        return self.columns(series) is not None

    def names(self) -> list[str]:
        """Its series, where all are known; a column that takes any value stays as it is, like `layer {layer}`."""
        columns = {
            column: wanted for column, wanted in self.select if isinstance(wanted, tuple) and f"{{{column}}}" in self.series
        }
        found = [self.series]
        for column, wanted in columns.items():
            found = [name.replace(f"{{{column}}}", value) for name in found for value in wanted]
        return found


def run_folder(run: str) -> str:
    """Folder of a run's files, relative to results/{scale}/."""
    return f"runs/{run}/seed-{{seed}}"


@dataclass(frozen=True)
class Axes:
    """Labels with units. `x_range` is the published one: it holds where the data reach that far; `y_top` is the end of the
    published range: it holds where every curve comes below it. Linear axes of curves begin at `y_bottom`, or lower where a curve
    does. Without a `legend` that of the panel beside it holds.
    """

    x_label: str
    y_label: str
    x_range: tuple[int, int] | None = None
    log: bool = False
    y_top: float | None = None
    legend: bool = True
    y_bottom: float = 0.0


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
    """One panel. `slot` is its place in the layout (default: its name); `split` and `form` tie it to the style options
    `probe_split` and `probe_form`.
    """

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
    form: str = ""
    #: of a matrix: the end of its colours' range, if not its own largest entry
    largest: float | None = None

    @property
    def place(self) -> str:
        return self.slot or self.name

    def look(self, series: str) -> Look:
        """How a series is drawn: as its source says, in colours of its own where no source is known to give it."""
        found = (source.look for source in self.sources if source.has(series))
        return next(filter(None, found), Look(series))


#: rows of places
Layout = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """Panels and where they stand; `aspect` is height over width.

    With `one_scale` the matrices of a row share their colours' range.
    """

    title: str
    panels: tuple[Panel, ...]
    layout: Layout
    aspect: float
    height_ratios: tuple[float, ...] = ()
    width_ratios: tuple[float, ...] = ()
    one_scale: bool = False

    def drawn(self, split: str, form: str = "published") -> tuple[Panel, ...]:
        """The panels on the page when probes of `split` and `form` are wanted; the table holds the others as well."""
        shown = (panel for panel in self.panels if panel.kind != "table")
        return tuple(panel for panel in shown if panel.split in ("", split) and panel.form in ("", form))

    def joined(self, name: str, looks: Mapping[str, Look]) -> "Figure":
        """With the runs whose entries say that they join panels of this figure, which is called `name`, after those of the panel.

        Raises `InputError` in one line for a panel that does not exist or shows no trained run.
        """
        panels = {panel.name: panel for panel in self.panels}
        wanted = [(run, of.removeprefix(f"{name}/")) for run, look in looks.items() for of in look.panels if of.startswith(name)]
        for run, of in (pair for pair in wanted if "/" not in pair[1]):
            panel = panels.get(of)
            like = next((source for source in panel.sources if not source.algorithm), None) if panel else None
            if panel is None or like is None:
                raise InputError(f"{run}: panels: {unknown(f'{name}/{of}', 'panel', [f'{name}/{one}' for one in panels])}")
            sources = (*panel.sources, dataclasses.replace(like, run=run, series="{label}", behind=(), family=""))
            panels[of] = dataclasses.replace(panel, sources=sources)
        return dataclasses.replace(self, panels=tuple(panels.values()))

    def with_looks(self, looks: Mapping[str, Look]) -> "Figure":
        """All its series with their names and lines; without optional sources whose runs have no look."""
        named = (
            dataclasses.replace(panel, sources=tuple(of.with_looks(looks) for of in panel.sources if of.present(looks)))
            for panel in self.panels
        )
        return dataclasses.replace(self, panels=tuple(named))
