"""What is claimed, in a form that can be refuted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mesaopt.agreement.intervals import Bound
from mesaopt.agreement.statistics import STATISTICS, Statistic

#: what the claims of one topic amount to, and how the page says it
OUTCOMES = {
    "reproduced": "reproduced",
    "in_part": "reproduced in part",
    "not_reproduced": "not reproduced",
    "undecided": "undecided",
}


@dataclass(frozen=True)
class Topic:
    """A section of the page, with what is thought of it (`views`) by outcome; what was asked, what would change our mind, and the
    figure that shows it, where they are said.
    """

    title: str
    views: Mapping[str, str]
    question: str = ""
    doubt: str = ""
    figure: str = ""


@dataclass(frozen=True)
class Selection:
    """Curves of a figure's table: series of a panel, over the positions x from `x[0]` to `x[1]`, at the last one, or over all."""

    figure: str
    panel: str
    series: tuple[str, ...]
    x: tuple[float, float] | Literal["last"] | None = None


@dataclass(frozen=True)
class Published:
    """The value of the same statistic in the paper or its published numbers, and which."""

    value: float
    source: str


@dataclass(frozen=True)
class Claim:
    """One claim: what is measured, where it must lie, and what is thought of it (`views`) by verdict."""

    name: str
    topic: str
    sentence: str
    source: str
    statistic: str
    of: Selection
    against: Selection | None
    bound: Bound
    scales: tuple[str, ...]
    published: Published | None = None
    reason: str = ""
    views: Mapping[str, str] = field(default_factory=dict)

    @property
    def selections(self) -> tuple[Selection, ...]:
        return (self.of,) if self.against is None else (self.of, self.against)

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures whose tables it reads."""
        return tuple(dict.fromkeys(selection.figure for selection in self.selections))

    @property
    def measured(self) -> Statistic:
        return STATISTICS[self.statistic]


@dataclass(frozen=True)
class Change:
    """An edit of one or more claims after the first evaluation on recorded tables."""

    claims: tuple[str, ...]
    date: str
    what: str
    why: str


@dataclass(frozen=True)
class Claims:
    """All claims in their order, their topics, and the edits."""

    topics: Mapping[str, Topic]
    claims: tuple[Claim, ...]
    changes: tuple[Change, ...]

    def at(self, scale: str) -> tuple[Claim, ...]:
        """Those meant for a scale; recorded tables are of paper settings, but for some whose record says otherwise."""
        return tuple(claim for claim in self.claims if settings_of(scale) in claim.scales)

    def figures(self, scale: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for claim in self.at(scale) for name in claim.figures))


def settings_of(scale: str) -> str:
    return "paper" if scale == "recorded" else scale
