"""Prompts of few-shot regression: pairs x, y with tuned tokens between and before them, of one task or of two one after the other
(paper, section on few-shot regression).

    plain       x_1 y_1 x_2 y_2 ...
    separators  x_1 y_1 EOS x_2 y_2 EOS ...
    prefix      P_1 ... P_20 x_1 y_1 EOS x_2 y_2 EOS ...

Every form is cut at the context length. Scored is what is predicted at the positions of x: the label y.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.errors import InputError

Kind = Literal["x", "y", "separator", "prefix"]


class Place(NamedTuple):
    """What stands at a position: x or y of pair `number` of a task, or tuned token `number`; all count from 0."""

    kind: Kind
    number: int
    task: int = 0


@dataclass(frozen=True)
class Form:
    """How many tuned tokens stand before the pairs of a task, and after every pair."""

    prefix: int = 0
    separators: int = 0

    @property
    def pair(self) -> int:
        """Positions that a pair takes."""
        return 2 + self.separators


def one_task(form: Form, length: int, task: int = 0) -> list[Place]:
    """The first `length` positions of a prompt of a single task."""
    found = [Place("prefix", number) for number in range(form.prefix)]
    pairs = -(-max(length - form.prefix, 0) // form.pair)
    for pair in range(pairs):
        separators = [Place("separator", number) for number in range(form.separators)]
        found += [Place("x", pair, task), Place("y", pair, task), *separators]
    return found[:length]


def two_tasks(form: Form, length: int, first_pairs: int, first_tokens: int | None = None) -> list[Place]:
    """A prompt whose task changes: `first_pairs` pairs of the first task, or its first `first_tokens` positions (as published,
    80), then the second task from its beginning, prefix included.

    Raises `InputError` where that leaves no pair of either task.
    """
    cut = form.prefix + first_pairs * form.pair if first_tokens is None else first_tokens
    if not form.prefix + 2 <= cut <= length - form.prefix - 2:
        raise InputError(f"a first task of {cut} positions leaves no room for a pair of each task in {length}")
    return one_task(form, cut) + one_task(form, length - cut, task=1)


@dataclass(frozen=True)
class Prompt:
    """A prompt's positions, and what they make of pairs and tuned tokens."""

    places: Sequence[Place]

    @property
    def scored(self) -> list[int]:
        """Positions of x, where the label is predicted."""
        return [position for position, place in enumerate(self.places) if place.kind == "x"]

    @property
    def asked(self) -> list[Place]:
        """What stands there: which pair of which task is predicted; `number` is how many pairs of it were seen before."""
        return [self.places[position] for position in self.scored]

    def inputs(
        self, tasks: Float[Tensor, "tasks batch elements n"], tokens: dict[str, Float[Tensor, "_ n"]]
    ) -> Float[Tensor, "batch time n"]:
        """What a model reads. `tasks` are sequences x_1, y_1, x_2, ... of each task; `tokens` the tuned ones, by kind."""
        n_tasks, batch, elements, _ = tasks.shape
        pairs = tasks.transpose(0, 1).flatten(1, 2)
        tuned = [tokens[kind] for kind in sorted(tokens)]
        rows = torch.cat([pairs, *(of.expand(batch, *of.shape) for of in tuned)], dim=1)
        starts: dict[str, int] = {}
        start = n_tasks * elements
        for kind in sorted(tokens):
            starts[kind], start = start, start + len(tokens[kind])
        return rows[:, [self._row(place, elements, starts) for place in self.places]]

    def labels(self, tasks: Float[Tensor, "tasks batch elements n"]) -> Float[Tensor, "batch scored n"]:
        """What shall be predicted at the scored positions."""
        return torch.stack([tasks[place.task, :, 2 * place.number + 1] for place in self.asked], dim=1)

    def questions(self, tasks: Float[Tensor, "tasks batch elements n"]) -> Float[Tensor, "batch scored n"]:
        """What stands at the scored positions: x."""
        return torch.stack([tasks[place.task, :, 2 * place.number] for place in self.asked], dim=1)

    @staticmethod
    def _row(place: Place, elements: int, starts: dict[str, int]) -> int:
        """Where a place's vector is among those of all tasks, and then of all tuned tokens."""
        if place.kind in ("x", "y"):
            return place.task * elements + 2 * place.number + (place.kind == "y")
        return starts[place.kind] + place.number
